//! Batch normalisation of maps in single precision, and its gradients.
//!
//! ```
//! use reid_kernels::normalisation::{Map, Sizes, statistics};
//!
//! // Two images with one channel of two positions.
//! let (sizes, input) = (Sizes::new(&[2, 1, 2]), [2.0, 2.0, 6.0, 6.0]);
//! let statistics = statistics(sizes, &input);
//! assert_eq!((statistics.mean[0], statistics.variance[0]), (4.0, 4.0));
//! let rectified = Map::new(&statistics, &[2.0], &[0.0], 0.0, true).apply(sizes, &input);
//! // 2·(x - 4)/√4
//! assert_eq!(rectified, [0.0, 0.0, 2.0, 2.0]);
//! ```

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::sum::single;

mod map;

pub use map::{Gradients, Map};

/// Sums that run side by side, so that the compiler can add vectors.
const LANES: usize = 32;

/// The sizes of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Positions of a map.
    pub positions: usize,
}

impl Sizes {
    /// The sizes of a tensor `[batch, channels, ...]`.
    ///
    /// # Panics
    /// If the shape has no channels.
    #[must_use]
    pub fn new(shape: &[usize]) -> Self {
        Self {
            batch: shape[0],
            channels: shape[1],
            positions: shape[2..].iter().product(),
        }
    }

    /// The maps of one channel.
    fn maps(self, channel: usize, numbers: &[f32]) -> impl Iterator<Item = &[f32]> {
        let image = self.channels * self.positions;
        let begin = channel * self.positions;
        numbers
            .chunks_exact(image)
            .map(move |image| &image[begin..begin + self.positions])
    }

    /// Refuses features of another size.
    fn expect(self, what: &str, numbers: &[f32]) {
        assert_eq!(
            numbers.len(),
            self.batch * self.channels * self.positions,
            "numbers of {what} for {self:?}"
        );
    }

    /// The numbers of a channel.
    fn count(self) -> f64 {
        (self.batch * self.positions) as f64
    }
}

/// The mean and the biased variance of each channel.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// One number for each channel.
    pub mean: Vec<f32>,
    /// One number for each channel.
    pub variance: Vec<f32>,
}

/// Sums of terms of pairs of numbers: by lanes first, so that their order is always the same.
#[inline(always)]
fn sums<const N: usize>(
    left: &[f32],
    right: &[f32],
    term: impl Fn(f32, f32) -> [f32; N],
) -> [f64; N] {
    let mut lanes = [[0.0_f32; LANES]; N];
    let (left, last_left) = left.as_chunks::<LANES>();
    let (right, last_right) = right.as_chunks::<LANES>();
    for (left, right) in left.iter().zip(right) {
        for lane in 0..LANES {
            let terms = term(left[lane], right[lane]);
            for n in 0..N {
                lanes[n][lane] += terms[n];
            }
        }
    }
    for (lane, (left, right)) in last_left.iter().zip(last_right).enumerate() {
        let terms = term(*left, *right);
        for n in 0..N {
            lanes[n][lane] += terms[n];
        }
    }
    lanes.map(|lanes| f64::from(lanes.iter().sum::<f32>()))
}

/// The sum of a map, and the sum of squared distances from its mean.
struct Moments<'a>(&'a [f32]);

impl WithSimd for Moments<'_> {
    type Output = [f64; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [f64; 2] {
        let map = self.0;
        let [sum] = sums(map, map, |x, _| [x]);
        let mean = single(sum / map.len() as f64);
        let [squares] = sums(map, map, |x, _| [(x - mean) * (x - mean)]);
        [sum, squares]
    }
}

/// The statistics of features, `[batch, channels, positions]`, each read once: squares are summed
/// about the mean of each map, which is still in cache, and then moved to that of all.
///
/// # Panics
/// If there are not as many numbers as the sizes say.
#[must_use]
pub fn statistics(sizes: Sizes, input: &[f32]) -> Statistics {
    sizes.expect("the input", input);
    let arch = Arch::new();
    let of = |channel: usize| {
        let moments: Vec<[f64; 2]> = sizes
            .maps(channel, input)
            .map(|map| arch.dispatch(Moments(map)))
            .collect();
        let positions = sizes.positions as f64;
        let mean = moments.iter().map(|[sum, _]| sum).sum::<f64>() / sizes.count();
        let squares: f64 = moments
            .iter()
            .map(|[sum, squares]| squares + positions * (sum / positions - mean).powi(2))
            .sum();
        (single(mean), single(squares / sizes.count()))
    };
    let (mean, variance) = (0..sizes.channels).into_par_iter().map(of).unzip();
    Statistics { mean, variance }
}
