//! The map of a normalisation, and its gradients.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{Sizes, Statistics, single, sums};
use crate::memory::zeros;

/// Numbers that the calling thread normalises before another has woken up.
const SMALL: usize = 1 << 15;

/// The map of a normalisation: `x ↦ (x - mean)·scale + bias`, rectified or not.
#[derive(Clone, Debug)]
pub struct Map<'a> {
    mean: &'a [f32],
    /// `1/√(σ² + ε)`.
    inverse: Vec<f32>,
    /// `γ/√(σ² + ε)`.
    scale: Vec<f32>,
    bias: &'a [f32],
    rectify: bool,
}

/// The map of one channel.
#[derive(Clone, Copy)]
struct Affine {
    mean: f32,
    scale: f32,
    bias: f32,
    rectify: bool,
}

impl Affine {
    #[inline(always)]
    fn at(self, x: f32) -> f32 {
        (x - self.mean) * self.scale + self.bias
    }

    /// What of a gradient passes back: nothing, where the result was rectified to 0.
    #[inline(always)]
    fn passed(self, x: f32, gradient: f32) -> f32 {
        if self.rectify && self.at(x) <= 0.0 {
            0.0
        } else {
            gradient
        }
    }
}

struct Apply<'a> {
    affine: Affine,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let affine = self.affine;
        let floor = if affine.rectify {
            0.0
        } else {
            f32::NEG_INFINITY
        };
        for (y, x) in self.output.iter_mut().zip(self.input) {
            let value = affine.at(*x);
            // Written so that what is not a number stays so.
            *y = if value < floor { floor } else { value };
        }
    }
}

/// `Σ dy` and `Σ dy·(x - mean)` of a map.
struct Totals<'a> {
    affine: Affine,
    input: &'a [f32],
    gradient: &'a [f32],
}

impl WithSimd for Totals<'_> {
    type Output = [f64; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [f64; 2] {
        let affine = self.affine;
        sums(self.input, self.gradient, |x, dy| {
            let dy = affine.passed(x, dy);
            [dy, dy * (x - affine.mean)]
        })
    }
}

/// `dx = scale·(dy - level - (x - mean)·slope)`, in double precision: what is subtracted is the same for
/// all positions, so that its rounding would add up in whatever sums them.
struct PullBack<'a> {
    affine: Affine,
    level: f64,
    slope: f64,
    input: &'a [f32],
    /// By the output, then by the input.
    gradient: &'a mut [f32],
}

impl WithSimd for PullBack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self {
            affine,
            level,
            slope,
            ..
        } = self;
        let (mean, scale) = (f64::from(affine.mean), f64::from(affine.scale));
        for (gradient, x) in self.gradient.iter_mut().zip(self.input) {
            let dy = f64::from(affine.passed(*x, *gradient));
            *gradient = single(scale * (dy - level - (f64::from(*x) - mean) * slope));
        }
    }
}

/// The gradients by what a normalisation learns.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// By the gain of each channel.
    pub gain: Vec<f32>,
    /// By the bias of each channel.
    pub bias: Vec<f32>,
}

impl<'a> Map<'a> {
    /// By given statistics, with a gain γ and a bias β for each channel.
    ///
    /// # Panics
    /// If there are not as many of them as channels.
    #[must_use]
    pub fn new(
        statistics: &'a Statistics,
        gain: &[f32],
        bias: &'a [f32],
        epsilon: f64,
        rectify: bool,
    ) -> Self {
        let channels = statistics.mean.len();
        assert_eq!(
            [statistics.variance.len(), gain.len(), bias.len()],
            [channels; 3],
            "variances, gains and biases of {channels} channels"
        );
        let inverse = |variance: &f32| single(1.0 / (f64::from(*variance) + epsilon).sqrt());
        let inverse: Vec<f32> = statistics.variance.iter().map(inverse).collect();
        Self {
            mean: &statistics.mean,
            scale: gain
                .iter()
                .zip(&inverse)
                .map(|(gain, inverse)| gain * inverse)
                .collect(),
            inverse,
            bias,
            rectify,
        }
    }

    /// What each channel is multiplied by.
    #[must_use]
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    /// What is added to each channel after it is multiplied: `bias - mean·scale`.
    #[must_use]
    pub fn shift(&self) -> Vec<f32> {
        let scaled = self.mean.iter().zip(&self.scale);
        let scaled = scaled.map(|(mean, scale)| mean * scale);
        self.bias.iter().zip(scaled).map(|(b, s)| b - s).collect()
    }

    fn affine(&self, channel: usize) -> Affine {
        Affine {
            mean: self.mean[channel],
            scale: self.scale[channel],
            bias: self.bias[channel],
            rectify: self.rectify,
        }
    }

    /// The normalised features.
    ///
    /// # Panics
    /// If there are not as many numbers as the sizes say, or channels as statistics.
    #[must_use]
    pub fn apply(&self, sizes: Sizes, input: &[f32]) -> Vec<f32> {
        sizes.expect("the input", input);
        let arch = Arch::new();
        let mut output = zeros(input.len());
        let map = |(index, (output, input)): (usize, (&mut [f32], &[f32]))| {
            let affine = self.affine(index % sizes.channels);
            arch.dispatch(Apply {
                affine,
                input,
                output,
            });
        };
        let positions = sizes.positions;
        if input.len() <= SMALL {
            let maps = output.chunks_mut(positions).zip(input.chunks(positions));
            maps.enumerate().for_each(map);
        } else {
            let maps = output.par_chunks_mut(positions);
            let maps = maps.zip(input.par_chunks(positions));
            maps.enumerate().for_each(map);
        }
        output
    }

    /// The gradients of a loss by gain and bias, from that by the output, and in place of that the one by
    /// the input.
    ///
    /// ```text
    /// dβ = Σ dy     dγ = Σ dy·x̂     dx = γ/√(σ² + ε) · (dy - dβ/n - x̂·dγ/n)
    /// ```
    ///
    /// # Panics
    /// As [`apply`](Self::apply).
    #[must_use]
    pub fn gradients(&self, sizes: Sizes, input: &[f32], gradient: &mut [f32]) -> Gradients {
        sizes.expect("the input", input);
        sizes.expect("the gradient", gradient);
        let arch = Arch::new();
        let of = |channel: usize| {
            let affine = self.affine(channel);
            let maps = sizes
                .maps(channel, input)
                .zip(sizes.maps(channel, gradient));
            maps.fold([0.0; 2], |[bias, gain], (input, gradient)| {
                let [more_bias, more_gain] = arch.dispatch(Totals {
                    affine,
                    input,
                    gradient,
                });
                [bias + more_bias, gain + more_gain]
            })
        };
        let totals: Vec<[f64; 2]> = (0..sizes.channels).into_par_iter().map(of).collect();
        let count = sizes.count();
        gradient
            .par_chunks_mut(sizes.positions)
            .zip(input.par_chunks(sizes.positions))
            .enumerate()
            .for_each(|(index, (gradient, input))| {
                let channel = index % sizes.channels;
                let [by_bias, along] = totals[channel];
                let inverse = f64::from(self.inverse[channel]);
                arch.dispatch(PullBack {
                    affine: self.affine(channel),
                    level: by_bias / count,
                    slope: inverse * inverse * along / count,
                    input,
                    gradient,
                });
            });
        let inverse = self.inverse.iter().copied().map(f64::from);
        let by_gain = totals
            .iter()
            .zip(inverse)
            .map(|([_, along], inverse)| single(along * inverse));
        Gradients {
            gain: by_gain.collect(),
            bias: totals.iter().map(|[by_bias, _]| single(*by_bias)).collect(),
        }
    }
}
