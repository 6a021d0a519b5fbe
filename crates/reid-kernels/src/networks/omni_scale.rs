//! The streams of an omni-scale block (Zhou et al., ICCV 2019, arXiv:1905.00953) for inference: chains of light
//! convolutions, each chain weighted by a gate, and their sum.
//!
//! A light convolution is a 1 x 1 convolution and a depthwise 3 x 3 one. The 1 x 1 convolution writes its
//! results where the depthwise one reads them, with the zeros around them. All feature maps of a stream are
//! computed by one thread and stay in its second cache. As operations of their own, the streams of one block
//! would be 20 convolutions and 40 operations of gates. Each would read and write all feature maps of the batch, and
//! most would take less time than waking another thread.
//!
//! With fewer images than threads, the streams of an image are computed by several threads. Results do not
//! depend on their number.

mod pass;

use rayon::prelude::*;

use self::pass::Pass;
use super::{
    convolution::{ConvEpilogue, area},
    sum::single,
    tile,
};
use crate::memory::zeros;

/// From this number of multiplications on, waking other threads pays off.
const MANY: usize = 1 << 18;

/// The streams of an omni-scale block.
///
/// ```text
/// y = Σₜ hₜ ⊙ σ(W₂ · relu(W₁ · mean(hₜ) + b₁) + b₂)        hₜ = the light convolutions of stream t, of x
/// ```
///
/// ```
/// use reid_kernels::{ChannelGate, ConvEpilogue, LightConvolution, OmniScale};
///
/// let sizes = OmniScale { batch: 1, channels: 1, size: [1, 3] };
/// // Twice each value, and then the sum of a value and its neighbours.
/// let light = LightConvolution {
///     pointwise: &[2.0],
///     depthwise: &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0],
///     epilogue: ConvEpilogue::default(),
/// };
/// // With weights of 0, every gate is σ(0) = 0.5.
/// let gate = ChannelGate { weights: [&[0.0], &[0.0]], biases: [&[0.0], &[0.0]] };
/// let sums = sizes.forward(&[1.0, 2.0, 3.0], &[&[light]], gate);
/// assert_eq!(sums, [3.0, 6.0, 5.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OmniScale {
    /// The number of images.
    pub batch: usize,
    /// The number of channels of every stream.
    pub channels: usize,
    /// The height and width of the feature maps.
    pub size: [usize; 2],
}

/// A 1 x 1 convolution, and a depthwise 3 x 3 convolution with an epilogue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LightConvolution<'a> {
    /// The weights of the 1 x 1 convolution, `[channels, channels]`.
    pub pointwise: &'a [f32],
    /// The weights of the depthwise convolution, `[channels, 3, 3]`.
    pub depthwise: &'a [f32],
    /// The epilogue of the depthwise convolution.
    pub epilogue: ConvEpilogue<'a>,
}

/// Squeeze-and-excitation (Hu et al., CVPR 2018): a gate for each channel, from the means of all channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelGate<'a> {
    /// `W₁` and `W₂`, `[hidden, channels]` and `[channels, hidden]`.
    pub weights: [&'a [f32]; 2],
    /// `b₁` and `b₂`, `[hidden]` and `[channels]`.
    pub biases: [&'a [f32]; 2],
}

impl ChannelGate<'_> {
    /// Computes the gates from the means.
    fn gates(&self, means: &[f32]) -> Vec<f32> {
        let [first, second] = self.weights;
        let hidden = layer(first, self.biases[0], means, |sum| {
            // Written so that NaN stays NaN.
            if sum < 0.0 { 0.0 } else { sum }
        });
        layer(second, self.biases[1], &hidden, |sum| {
            1.0 / (1.0 + (-sum).exp())
        })
    }
}

/// `y = f(W · x + b)`
fn layer(weights: &[f32], bias: &[f32], input: &[f32], f: impl Fn(f64) -> f64) -> Vec<f32> {
    let rows = weights.chunks_exact(input.len()).zip(bias);
    let value = |(row, bias): (&[f32], &f32)| {
        let products = row.iter().zip(input);
        let products = products.map(|(weight, value)| f64::from(*weight) * f64::from(*value));
        single(f(products.sum::<f64>() + f64::from(*bias)))
    };
    rows.map(value).collect()
}

impl OmniScale {
    /// Computes the sum of all gated streams, `[batch, channels, height, width]`.
    ///
    /// `input` has the same shape.
    ///
    /// # Panics
    /// If the length of a slice does not match these sizes, a size is 0, or there is no stream, or one without light
    /// convolutions.
    #[must_use]
    pub fn forward(
        &self,
        input: &[f32],
        streams: &[&[LightConvolution<'_>]],
        gate: ChannelGate<'_>,
    ) -> Vec<f32> {
        self.expect(input, streams, gate);
        let panels = tile::panels(self.channels);
        let pass = Pass::new(self, streams, gate, &panels);
        let size = self.channels * area(self.size);
        let mut output = zeros(input.len());
        let images = (input.chunks_exact(size)).zip(output.chunks_exact_mut(size));
        let threads = rayon::current_num_threads();
        if pass.multiplications() * self.batch < MANY {
            images.for_each(|(input, output)| pass.image(input, output));
        } else if self.batch >= 4 * threads || self.batch.is_multiple_of(threads) {
            let images = output
                .par_chunks_exact_mut(size)
                .zip(input.par_chunks_exact(size));
            images.for_each(|(output, input)| pass.image(input, output));
        } else {
            let images = output
                .par_chunks_exact_mut(size)
                .zip(input.par_chunks_exact(size));
            images.for_each(|(output, input)| pass.image_in_parts(input, output));
        }
        output
    }

    fn expect(&self, input: &[f32], streams: &[&[LightConvolution<'_>]], gate: ChannelGate<'_>) {
        let (channels, hidden) = (self.channels, gate.biases[0].len());
        let expect = |what: &str, values: &[f32], count: usize| {
            assert_eq!(values.len(), count, "length of the {what} for {self:?}");
        };
        assert!(
            channels * area(self.size) > 0,
            "the sizes of omni-scale streams must be above 0: {self:?}"
        );
        assert!(
            !streams.is_empty() && streams.iter().all(|stream| !stream.is_empty()),
            "expected at least 1 stream, and light convolutions in each, found {:?} of them",
            streams
                .iter()
                .map(|stream| stream.len())
                .collect::<Vec<_>>()
        );
        expect("input", input, self.batch * channels * area(self.size));
        for light in streams.iter().copied().flatten() {
            expect("1 x 1 weights", light.pointwise, channels * channels);
            expect("3 x 3 weights", light.depthwise, channels * 9);
            let ConvEpilogue { scale, bias, .. } = light.epilogue;
            for (what, values) in [("scale", scale), ("bias", bias)] {
                if let Some(values) = values {
                    expect(what, values, channels);
                }
            }
        }
        expect(
            "first weights of the gate",
            gate.weights[0],
            hidden * channels,
        );
        expect(
            "second weights of the gate",
            gate.weights[1],
            channels * hidden,
        );
        expect("second biases of the gate", gate.biases[1], channels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Broadcast, Convolution, Gate, global_avg_pool};

    fn values(count: usize, factor: usize) -> Vec<f32> {
        let value = |at: usize| (at * factor % 97 % 31) as f32 / 16.0 - 1.0;
        (0..count).map(value).collect()
    }

    /// The weights of a light convolution and of its normalisation.
    struct Weights {
        pointwise: Vec<f32>,
        depthwise: Vec<f32>,
        scale: Vec<f32>,
        bias: Vec<f32>,
    }

    impl Weights {
        fn new(channels: usize, factor: usize) -> Self {
            Self {
                pointwise: values(channels * channels, factor),
                depthwise: values(channels * 9, factor + 2),
                scale: values(channels, factor + 4),
                bias: values(channels, factor + 6),
            }
        }

        fn light(&self) -> LightConvolution<'_> {
            LightConvolution {
                pointwise: &self.pointwise,
                depthwise: &self.depthwise,
                epilogue: ConvEpilogue {
                    scale: Some(&self.scale),
                    bias: Some(&self.bias),
                    relu: true,
                },
            }
        }
    }

    /// The same as a sequence of convolutions, means and products.
    fn composed(
        sizes: OmniScale,
        input: &[f32],
        streams: &[Vec<LightConvolution<'_>>],
        gate: ChannelGate<'_>,
    ) -> Vec<f32> {
        let OmniScale {
            batch,
            channels,
            size,
        } = sizes;
        let convolution = |groups: usize, kernel: usize| Convolution {
            batch,
            channels: [channels; 2],
            groups,
            input: size,
            kernel: [kernel; 2],
            stride: [1, 1],
            padding: [kernel / 2; 2],
            dilation: [1, 1],
        };
        let mut total = vec![0.0; input.len()];
        for lights in streams {
            let mut features = input.to_vec();
            for light in lights {
                let none = ConvEpilogue::default();
                let hidden = convolution(1, 1).forward(&features, light.pointwise, none);
                let depthwise = convolution(channels, 3);
                features = depthwise.forward(&hidden, light.depthwise, light.epilogue);
            }
            let means = global_avg_pool(&features, area(size));
            let gates = means
                .chunks_exact(channels)
                .flat_map(|means| gate.gates(means));
            let gates: Vec<f32> = gates.collect();
            let product = Gate {
                batch,
                channels,
                positions: area(size),
                broadcast: Broadcast::Positions,
            };
            product.multiply(&mut features, &gates);
            total
                .iter_mut()
                .zip(&features)
                .for_each(|(sum, value)| *sum += value);
        }
        total
    }

    #[test]
    fn results_equal_those_of_single_operations_for_any_number_of_threads() {
        for (batch, channels, size) in [
            (1, 16, [64, 32]),
            (5, 24, [32, 16]),
            (8, 32, [16, 8]),
            (3, 7, [9, 5]),
            (2, 1, [1, 1]),
            (4, 13, [3, 33]),
        ] {
            let sizes = OmniScale {
                batch,
                channels,
                size,
            };
            let input = values(batch * channels * area(size), 7);
            let weights: Vec<Vec<Weights>> = (1..=4)
                .map(|depth| {
                    (0..depth)
                        .map(|at| Weights::new(channels, 5 * depth + at))
                        .collect()
                })
                .collect();
            let streams: Vec<Vec<LightConvolution<'_>>> = weights
                .iter()
                .map(|lights| lights.iter().map(Weights::light).collect())
                .collect();
            let hidden = channels.div_ceil(8);
            let [first, second] = [values(hidden * channels, 3), values(hidden * channels, 5)];
            let [b1, b2] = [values(hidden, 11), values(channels, 13)];
            let gate = ChannelGate {
                weights: [&first, &second],
                biases: [&b1, &b2],
            };
            let expected = composed(sizes, &input, &streams, gate);
            assert!(expected.iter().all(|value| value.is_finite()));
            let streams: Vec<&[LightConvolution<'_>]> = streams.iter().map(Vec::as_slice).collect();
            for threads in [1, 2, 3, 8] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                let pool = pool.build().expect("a pool");
                let found = pool.install(|| sizes.forward(&input, &streams, gate));
                assert_eq!(found, expected, "{sizes:?}, {threads} threads");
            }
        }
    }

    #[test]
    #[should_panic(expected = "length of the 3 x 3 weights for OmniScale")]
    fn a_slice_of_another_length_panics() {
        let sizes = OmniScale {
            batch: 1,
            channels: 1,
            size: [2, 2],
        };
        let light = LightConvolution {
            pointwise: &[1.0],
            depthwise: &[1.0],
            epilogue: ConvEpilogue::default(),
        };
        let gate = ChannelGate {
            weights: [&[0.0]; 2],
            biases: [&[0.0]; 2],
        };
        let _ = sizes.forward(&[1.0; 4], &[&[light]], gate);
    }
}
