//! The arithmetic of re-identification on slices of numbers in single precision: the products of many
//! vectors with many others and, with the feature `networks`, convolution, batch normalisation,
//! pooling, gates, mixing of maps and steps of Adam.
//!
//! Each runs on the machine's widest vectors, AVX2, AVX-512 or NEON, chosen when the program runs, and all but
//! the products on all threads of [rayon]'s pool. Sums go in an order that does not depend on the number of
//! threads, so results repeat to the last bit on one machine. There is no `unsafe` here, and nothing of
//! tensors: `reid-ops` makes operations of Burn's backend Flex of this, `reid-eval` distances between
//! descriptors.
//!
//! ```
//! // Two vectors against three, of two values each.
//! let (left, right) = ([1.0, 0.0, 0.0, 2.0], [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
//! let mut products = [0.0; 6];
//! reid_kernels::products(&left, &right, 2, &mut products);
//! assert_eq!(products, [3.0, 5.0, 7.0, 8.0, 12.0, 16.0]);
//! ```

#![doc(test(attr(deny(warnings))))]
#![expect(
    clippy::inline_always,
    reason = "what is not inlined into a function that is compiled for wide vectors does not use them"
)]

#[cfg(feature = "networks")]
mod memory;
#[cfg(feature = "networks")]
mod networks;
mod products;

#[cfg(feature = "networks")]
pub use memory::copied;
#[cfg(feature = "networks")]
pub use networks::{
    Adam, Broadcast, ConvEpilogue, Convolution, Gate, Mixing, Pooling, PowerMeans, add_relu,
    global_avg_pool, global_avg_pool_backward, normalisation, power_means, relu_backward,
};
pub use products::products;
