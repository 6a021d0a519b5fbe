//! SIMD kernels for re-identification on `f32` slices.
//!
//! [`products`] computes the inner products of two sets of vectors, and [`code_products`] those with vectors of
//! one byte per value. The feature `networks` adds everything else: convolution, batch normalisation, pooling,
//! gates, feature `CutMix` and Adam steps.
//!
//! - **SIMD**: each kernel uses the widest vectors of the processor (AVX2, AVX-512 or NEON). The crate `pulp`
//!   selects them at run time, behind a safe interface.
//! - **Threads**: the kernels of networks run on [rayon]'s thread pool, and small inputs stay on the calling
//!   thread. [`products`] and [`code_products`] always run on the calling thread.
//! - **Reproducibility**: every sum is computed in an order that does not depend on the number of threads. On
//!   one machine, results are bit-identical from run to run.
//! - **Safety**: the crate contains no `unsafe` code.
//!
//! The crate depends neither on Burn nor on a tensor type. `reid-ops` builds operations of Burn's CPU backend
//! Flex from these kernels; `reid-eval` computes distances between embeddings with the first two.
//!
//! Use it for fast operations on plain slices, without a framework. With Burn, call `reid-ops`, which adds
//! gradients and GPUs. To search embeddings, call `Index` of `reid-eval`. There is no half precision and no
//! general matrix product here.
//!
//! Shapes such as `[batch, channels, positions]` give the row-major order of the values in a slice. A
//! *feature map* is the plane of one channel of one image; its *positions* are height × width.
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
    reason = "only code that is inlined into a function compiled for wide vectors uses wide vectors"
)]

mod code_products;
#[cfg(feature = "networks")]
mod heap;
#[cfg(feature = "networks")]
mod memory;
#[cfg(feature = "networks")]
mod networks;
mod products;
#[cfg(feature = "networks")]
mod threads;

pub use code_products::{Encoded, code_products, encode};
#[cfg(feature = "networks")]
pub use heap::HeldMemory;
#[cfg(feature = "networks")]
pub use memory::copied;
#[cfg(feature = "networks")]
pub use networks::{
    Adam, Broadcast, ChannelGate, ConvEpilogue, Convolution, Gate, InvertedResidual,
    InvertedWeights, LightConvolution, Mixing, OmniScale, Pooling, PowerMeans, WindowAverage,
    add_relu, global_avg_pool, global_avg_pool_backward, normalisation, power_means, relu_backward,
};
pub use products::products;
#[cfg(feature = "networks")]
pub use threads::on_workers;
