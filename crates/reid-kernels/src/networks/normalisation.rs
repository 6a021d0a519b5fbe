//! Batch normalisation (Ioffe and Szegedy, ICML 2015, arXiv:1502.03167) of feature maps in single precision, and
//! its gradients.
//!
//! Each channel is one task. In the forward pass a channel is normalised as soon as its statistics are
//! known; in the backward pass its input gradient is written as soon as the sums of the gradient are known.
//! Both happen while the channel is still in the cache, so each pass reads a feature map once from memory
//! instead of twice.
//!
//! ```
//! use reid_kernels::normalisation::{Parameters, Sizes, normalise, normalise_onto};
//!
//! // Two images with one channel of two positions.
//! let (sizes, input) = (Sizes::new(&[2, 1, 2]), [2.0, 2.0, 6.0, 6.0]);
//! let parameters = Parameters { weight: &[2.0], bias: &[0.0], epsilon: 0.0 };
//! let (relu, statistics) = normalise(sizes, &input, parameters, true);
//! assert_eq!((statistics.mean[0], statistics.variance[0]), (4.0, 4.0));
//! // 2·(x - 4)/√4
//! assert_eq!(relu, [0.0, 0.0, 2.0, 2.0]);
//!
//! let mut shortcut = [1.0, 3.0, 1.0, 3.0];
//! normalise_onto(sizes, &input, parameters, &mut shortcut);
//! assert_eq!(shortcut, [0.0, 1.0, 3.0, 5.0]);
//! ```

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::sum::single;
use crate::memory::zeros;

mod map;

use map::{Affine, Epilogue};
pub use map::{Gradients, Map, Parameters};

/// The number of values that the calling thread normalises in the time another thread needs to wake.
const SMALL: usize = 1 << 15;

/// The overhead of a feature map, expressed as a number of values.
const BEGINNING: usize = 32;

/// The number of partial sums, which the compiler keeps in SIMD vectors.
const LANES: usize = 32;

/// The sizes of features, `[batch, channels, positions]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The number of images.
    pub batch: usize,
    /// The number of channels.
    pub channels: usize,
    /// The number of positions of a feature map.
    pub positions: usize,
}

impl Sizes {
    /// The sizes of a tensor `[batch, channels, ...]`.
    ///
    /// # Panics
    /// If the shape has fewer than two dimensions.
    #[must_use]
    pub fn new(shape: &[usize]) -> Self {
        Self {
            batch: shape[0],
            channels: shape[1],
            positions: shape[2..].iter().product(),
        }
    }

    /// The feature maps of one channel, image by image.
    fn maps(self, channel: usize, values: &[f32]) -> impl Iterator<Item = &[f32]> {
        let image = self.channels * self.positions;
        let begin = channel * self.positions;
        values
            .chunks_exact(image)
            .map(move |image| &image[begin..begin + self.positions])
    }

    /// All feature maps as mutable slices, ordered by channel and then by image.
    fn maps_mut(self, values: &mut [f32]) -> Vec<&mut [f32]> {
        let images = values.chunks_exact_mut(self.channels * self.positions);
        let mut images: Vec<_> = images
            .map(|image| image.chunks_exact_mut(self.positions))
            .collect();
        let channels = 0..self.channels;
        let mut maps = Vec::with_capacity(self.channels * self.batch);
        channels.for_each(|_| maps.extend(images.iter_mut().filter_map(Iterator::next)));
        maps
    }

    /// Applies a function to each channel, in parallel unless there is little to do.
    fn each<T: Send, R: Send>(
        self,
        channels: impl IntoIterator<Item = T>,
        of: impl Fn((usize, T)) -> R + Send + Sync,
    ) -> Vec<R> {
        let channels = channels.into_iter().enumerate();
        if self.batch * self.channels * (BEGINNING + self.positions) <= SMALL {
            return channels.map(of).collect();
        }
        let channels: Vec<_> = channels.collect();
        channels.into_par_iter().map(of).collect()
    }

    /// Checks the length of a slice.
    fn expect(self, what: &str, values: &[f32]) {
        assert_eq!(
            values.len(),
            self.batch * self.channels * self.positions,
            "length of {what} for {self:?}"
        );
    }

    /// The number of values of a channel.
    fn count(self) -> f64 {
        (self.batch * self.positions) as f64
    }
}

/// The mean and the biased variance of each channel.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// The mean of each channel, `[channels]`.
    pub mean: Vec<f32>,
    /// The biased variance of each channel, `[channels]`.
    pub variance: Vec<f32>,
}

/// Sums `N` terms over pairs of values. Partial sums by lane come first, so the order is always the same.
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

/// The sum of a feature map, and the sum of squared distances from its mean.
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

/// Computes the mean and the biased variance of a channel; each value is read once from memory. Squares are
/// summed about the mean of each feature map, which is still in the cache, and then shifted to the mean of
/// the channel.
fn moments(sizes: Sizes, channel: usize, input: &[f32]) -> [f32; 2] {
    let arch = Arch::new();
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
    [single(mean), single(squares / sizes.count())]
}

/// Normalises features, `[batch, channels, positions]`, by the mean and variance of each channel, and
/// applies a ReLU if `relu` is true. Returns the output and the batch statistics.
///
/// # Panics
/// If the length of `input` does not match the sizes, or there is not one parameter per channel.
#[must_use]
pub fn normalise(
    sizes: Sizes,
    input: &[f32],
    parameters: Parameters<'_>,
    relu: bool,
) -> (Vec<f32>, Statistics) {
    let mut output = zeros(input.len());
    let epilogue = if relu { Epilogue::Relu } else { Epilogue::None };
    let statistics = write(sizes, input, parameters, (&mut output, epilogue));
    (output, statistics)
}

/// Computes `max(0, y + shortcut)` in place in `shortcut`, as at the end of a residual block. `y` are the
/// normalised features, and all are `[batch, channels, positions]`. Returns the batch statistics.
///
/// # Panics
/// As [`normalise`].
pub fn normalise_onto(
    sizes: Sizes,
    input: &[f32],
    parameters: Parameters<'_>,
    shortcut: &mut [f32],
) -> Statistics {
    write(sizes, input, parameters, (shortcut, Epilogue::AddRelu))
}

fn write(
    sizes: Sizes,
    input: &[f32],
    parameters: Parameters<'_>,
    (output, epilogue): (&mut [f32], Epilogue),
) -> Statistics {
    sizes.expect("the input", input);
    sizes.expect("the output", output);
    parameters.expect(sizes.channels);
    let of = |(channel, outputs): (usize, &mut [&mut [f32]])| {
        let [mean, variance] = moments(sizes, channel, input);
        let affine = Affine::new(mean, variance, parameters, channel);
        affine.write(sizes.maps(channel, input), outputs, epilogue);
        (mean, variance)
    };
    let mut outputs = sizes.maps_mut(output);
    let moments = sizes.each(outputs.chunks_mut(sizes.batch), of);
    let (mean, variance) = moments.into_iter().unzip();
    Statistics { mean, variance }
}
