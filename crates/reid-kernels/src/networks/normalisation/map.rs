//! The affine map of a normalisation, and its gradients.

use pulp::{Arch, Simd, WithSimd};

use super::{Sizes, Statistics, single, sums};
use crate::{
    memory::zeros,
    networks::relu::{relu, relu_backward},
};

/// The weight, bias and ε of a batch normalisation.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a> {
    /// γ, `[channels]`.
    pub weight: &'a [f32],
    /// β, `[channels]`.
    pub bias: &'a [f32],
    /// ε, added to the variance; above 0.
    pub epsilon: f64,
}

impl Parameters<'_> {
    pub(super) fn expect(&self, channels: usize) {
        let found = [self.weight.len(), self.bias.len()];
        assert_eq!(
            found, [channels; 2],
            "lengths of weight and bias for {channels} channels"
        );
    }
}

/// The operation applied to the normalised features.
#[derive(Clone, Copy, Debug)]
pub(super) enum Epilogue {
    None,
    Relu,
    /// Adds the values that the output holds, then applies a ReLU.
    AddRelu,
}

/// The affine map of one channel: `x ↦ (x - mean)·scale + bias`.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    mean: f32,
    /// `1/√(σ² + ε)`.
    inverse: f32,
    /// `γ/√(σ² + ε)`.
    scale: f32,
    bias: f32,
}

impl Affine {
    pub(super) fn new(
        mean: f32,
        variance: f32,
        parameters: Parameters<'_>,
        channel: usize,
    ) -> Self {
        let inverse = single(1.0 / (f64::from(variance) + parameters.epsilon).sqrt());
        Self {
            mean,
            inverse,
            scale: parameters.weight[channel] * inverse,
            bias: parameters.bias[channel],
        }
    }

    #[inline(always)]
    fn at(self, x: f32) -> f32 {
        (x - self.mean) * self.scale + self.bias
    }

    /// The gradient with respect to the value before the ReLU, if there is one: 0 where the ReLU gave 0.
    #[inline(always)]
    fn passed(self, x: f32, gradient: f32, relu: bool) -> f32 {
        if relu && self.at(x) <= 0.0 {
            0.0
        } else {
            gradient
        }
    }

    /// Writes the output of a channel.
    pub(super) fn write<'a>(
        self,
        inputs: impl Iterator<Item = &'a [f32]>,
        outputs: &mut [&mut [f32]],
        epilogue: Epilogue,
    ) {
        let arch = Arch::new();
        for (input, output) in inputs.zip(outputs) {
            arch.dispatch(Write {
                affine: self,
                epilogue,
                input,
                output,
            });
        }
    }

    /// Computes the gradients of a channel with respect to weight and bias. `gradients` holds the gradient
    /// with respect to the output and is overwritten with the gradient with respect to the input.
    fn backward(self, inputs: &[&[f32]], gradients: &mut [&mut [f32]], relu: bool) -> [f32; 2] {
        let arch = Arch::new();
        let (mut bias, mut along, mut count) = (0.0, 0.0, 0);
        for (input, gradient) in inputs.iter().zip(&*gradients) {
            let [more_bias, more_along] = arch.dispatch(Totals {
                affine: self,
                relu,
                input,
                gradient,
            });
            (bias, along, count) = (bias + more_bias, along + more_along, count + input.len());
        }
        let (inverse, count) = (f64::from(self.inverse), count as f64);
        for (input, gradient) in inputs.iter().zip(gradients) {
            arch.dispatch(InputGradient {
                affine: self,
                relu,
                level: bias / count,
                slope: inverse * inverse * along / count,
                input,
                gradient,
            });
        }
        [single(along * inverse), single(bias)]
    }
}

struct Write<'a> {
    affine: Affine,
    epilogue: Epilogue,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl WithSimd for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let affine = self.affine;
        let positions = self.output.iter_mut().zip(self.input);
        match self.epilogue {
            Epilogue::None => positions.for_each(|(y, x)| *y = affine.at(*x)),
            Epilogue::Relu => positions.for_each(|(y, x)| *y = relu(affine.at(*x))),
            Epilogue::AddRelu => positions.for_each(|(y, x)| *y = relu(affine.at(*x) + *y)),
        }
    }
}

/// The sums `Σ dy` and `Σ dy·(x - mean)` of a feature map.
struct Totals<'a> {
    affine: Affine,
    relu: bool,
    input: &'a [f32],
    gradient: &'a [f32],
}

impl WithSimd for Totals<'_> {
    type Output = [f64; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [f64; 2] {
        let (affine, relu) = (self.affine, self.relu);
        sums(self.input, self.gradient, |x, dy| {
            let dy = affine.passed(x, dy, relu);
            [dy, dy * (x - affine.mean)]
        })
    }
}

/// Computes `dx = scale·(dy - level - (x - mean)·slope)` in double precision. `level` and `slope` are the
/// same for all positions, so their rounding errors would add up in any sum of `dx` over positions.
struct InputGradient<'a> {
    affine: Affine,
    relu: bool,
    level: f64,
    slope: f64,
    input: &'a [f32],
    /// The gradient with respect to the output, overwritten with that with respect to the input.
    gradient: &'a mut [f32],
}

impl WithSimd for InputGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self {
            affine,
            relu,
            level,
            slope,
            ..
        } = self;
        let (mean, scale) = (f64::from(affine.mean), f64::from(affine.scale));
        for (gradient, x) in self.gradient.iter_mut().zip(self.input) {
            let dy = f64::from(affine.passed(*x, *gradient, relu));
            *gradient = single(scale * (dy - level - (f64::from(*x) - mean) * slope));
        }
    }
}

/// The gradients with respect to the parameters of a normalisation.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// The gradient with respect to γ, `[channels]`.
    pub weight: Vec<f32>,
    /// The gradient with respect to β, `[channels]`.
    pub bias: Vec<f32>,
}

impl Gradients {
    fn new(channels: Vec<[f32; 2]>) -> Self {
        let pairs = channels.into_iter().map(|[weight, bias]| (weight, bias));
        let (weight, bias) = pairs.unzip();
        Self { weight, bias }
    }
}

/// A batch normalisation by given statistics: an affine map of each channel.
#[derive(Clone, Copy, Debug)]
pub struct Map<'a> {
    statistics: &'a Statistics,
    parameters: Parameters<'a>,
}

impl<'a> Map<'a> {
    /// Creates the normalisation from statistics and parameters.
    ///
    /// # Panics
    /// If their lengths differ.
    #[must_use]
    pub fn new(statistics: &'a Statistics, parameters: Parameters<'a>) -> Self {
        let channels = statistics.mean.len();
        parameters.expect(channels);
        let variances = statistics.variance.len();
        assert_eq!(
            variances, channels,
            "number of variances for {channels} means"
        );
        Self {
            statistics,
            parameters,
        }
    }

    fn affine(&self, channel: usize) -> Affine {
        let Statistics { mean, variance } = self.statistics;
        Affine::new(mean[channel], variance[channel], self.parameters, channel)
    }

    /// The normalisation as `scale·x + shift`, both `[channels]`: `scale = γ/√(σ² + ε)`, `shift = β -
    /// μ·scale`.
    #[must_use]
    pub fn scale_and_shift(&self) -> (Vec<f32>, Vec<f32>) {
        let channels = (0..self.statistics.mean.len()).map(|channel| self.affine(channel));
        let pair = |map: Affine| (map.scale, map.bias - map.mean * map.scale);
        channels.map(pair).unzip()
    }

    /// Normalises features, `[batch, channels, positions]`, and applies a ReLU if `relu` is true.
    ///
    /// # Panics
    /// If the length of a slice does not match the sizes, or the number of channels does not match the
    /// statistics.
    #[must_use]
    pub fn apply(&self, sizes: Sizes, input: &[f32], relu: bool) -> Vec<f32> {
        sizes.expect("the input", input);
        self.parameters.expect(sizes.channels);
        let epilogue = if relu { Epilogue::Relu } else { Epilogue::None };
        let mut output = zeros(input.len());
        let mut outputs = sizes.maps_mut(&mut output);
        sizes.each(outputs.chunks_mut(sizes.batch), |(channel, outputs)| {
            let inputs = sizes.maps(channel, input);
            self.affine(channel).write(inputs, outputs, epilogue);
        });
        output
    }

    /// Computes the gradients of a loss with respect to weight and bias. `gradient` holds the gradient with
    /// respect to the output and is overwritten with the gradient with respect to the input. Both are
    /// `[batch, channels, positions]`.
    ///
    /// The statistics must be those of the batch: the gradient flows through them.
    ///
    /// ```text
    /// dβ = Σ dy     dγ = Σ dy·x̂     dx = γ/√(σ² + ε) · (dy - dβ/n - x̂·dγ/n)
    /// ```
    ///
    /// # Panics
    /// As [`apply`](Self::apply).
    #[must_use]
    pub fn gradients(
        &self,
        sizes: Sizes,
        input: &[f32],
        gradient: &mut [f32],
        relu: bool,
    ) -> Gradients {
        sizes.expect("the input", input);
        sizes.expect("the gradient", gradient);
        self.parameters.expect(sizes.channels);
        let mut gradients = sizes.maps_mut(gradient);
        let of = |(channel, gradients): (usize, &mut [&mut [f32]])| {
            let inputs: Vec<&[f32]> = sizes.maps(channel, input).collect();
            self.affine(channel).backward(&inputs, gradients, relu)
        };
        Gradients::new(sizes.each(gradients.chunks_mut(sizes.batch), of))
    }

    /// Computes the gradients of [`normalise_onto`](super::normalise_onto) with respect to the input,
    /// weight and bias. `output` is its result. `gradient` holds the gradient with respect to the output
    /// and is overwritten with the gradient with respect to the shortcut. All of them are
    /// `[batch, channels, positions]`.
    ///
    /// # Panics
    /// As [`apply`](Self::apply).
    #[must_use]
    pub fn add_relu_gradients(
        &self,
        sizes: Sizes,
        input: &[f32],
        output: &[f32],
        gradient: &mut [f32],
    ) -> (Vec<f32>, Gradients) {
        sizes.expect("the input", input);
        sizes.expect("the output", output);
        sizes.expect("the gradient", gradient);
        self.parameters.expect(sizes.channels);
        let mut result = zeros(input.len());
        let mut shortcuts = sizes.maps_mut(gradient);
        let mut results = sizes.maps_mut(&mut result);
        let channels = shortcuts
            .chunks_mut(sizes.batch)
            .zip(results.chunks_mut(sizes.batch));
        let gradients = sizes.each(channels, |(channel, (shortcuts, results))| {
            let outputs = sizes.maps(channel, output);
            let maps = shortcuts.iter_mut().zip(&mut *results).zip(outputs);
            for ((shortcut, result), output) in maps {
                relu_backward(output, shortcut);
                result.copy_from_slice(shortcut);
            }
            let inputs: Vec<&[f32]> = sizes.maps(channel, input).collect();
            self.affine(channel).backward(&inputs, results, false)
        });
        (result, Gradients::new(gradients))
    }
}
