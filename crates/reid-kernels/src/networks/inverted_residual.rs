//! The inverted residual block (Sandler et al., CVPR 2018, arXiv:1801.04381) for inference: a 1 x 1 convolution to
//! many channels, a depthwise 3 x 3 convolution, and a 1 x 1 convolution back to few.
//!
//! The hidden feature maps, of which there are six times as many as of the input, are never in memory all at once.
//! A thread computes some hidden channels, convolves them, adds their products to the output, and goes on with the
//! next ones. All of this stays in its second cache.
//!
//! The hidden channels are divided into four parts, whose sums are added at the end. With fewer images than
//! threads, several threads compute them. Results do not depend on the number of threads.

mod pass;

use rayon::prelude::*;

use self::pass::Pass;
use super::convolution::{ConvEpilogue, area};
use crate::memory::zeros;

/// From this number of multiplications on, waking other threads pays off.
const MANY: usize = 1 << 18;

/// An inverted residual block of given sizes.
///
/// ```text
/// h = relu6(a₁·(W₁ · x) + b₁)        d = relu6(a₂·(W₂ ⊛ h) + b₂)        y = a₃·(W₃ · d) + b₃  [+ x]
/// ```
///
/// ```
/// use reid_kernels::{ConvEpilogue, InvertedResidual, InvertedWeights};
///
/// let sizes = InvertedResidual {
///     batch: 1,
///     channels: [1, 2, 1],
///     size: [1, 3],
///     stride: 1,
///     residual: true,
/// };
/// let relu = ConvEpilogue { relu: true, ..ConvEpilogue::default() };
/// let centre = [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0];
/// let weights = InvertedWeights {
///     // x and -x
///     expand: Some((&[1.0, -1.0], relu)),
///     depthwise: (&[centre, centre].concat(), relu),
///     // their sum is |x|, but at most 6
///     project: (&[1.0, 1.0], ConvEpilogue::default()),
/// };
/// let sums = sizes.forward(&[-2.0, 3.0, 9.0], weights);
/// assert_eq!(sums, [0.0, 6.0, 15.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvertedResidual {
    /// The number of images.
    pub batch: usize,
    /// The numbers of input, hidden and output channels.
    pub channels: [usize; 3],
    /// The height and width of the input.
    pub size: [usize; 2],
    /// The stride of the depthwise convolution, at least 1.
    pub stride: usize,
    /// Whether the input is added to the output.
    pub residual: bool,
}

/// The weights of three convolutions, and what is applied to their sums. The ReLU of the first two also limits
/// values to 6.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InvertedWeights<'a> {
    /// The 1 x 1 convolution to the hidden channels, `[hidden, input]`; `None` if the input is what the depthwise
    /// convolution reads.
    pub expand: Option<(&'a [f32], ConvEpilogue<'a>)>,
    /// The depthwise convolution, `[hidden, 3, 3]`, padded by 1.
    pub depthwise: (&'a [f32], ConvEpilogue<'a>),
    /// The 1 x 1 convolution to the output channels, `[output, hidden]`.
    pub project: (&'a [f32], ConvEpilogue<'a>),
}

impl InvertedResidual {
    /// The height and width of the output: `⌈size / stride⌉`.
    ///
    /// # Panics
    /// If the stride is 0.
    #[must_use]
    pub fn output(&self) -> [usize; 2] {
        self.size.map(|side| side.div_ceil(self.stride))
    }

    /// Computes the output, `[batch, output channels, height out, width out]`, from
    /// `[batch, input channels, height, width]`.
    ///
    /// # Panics
    /// If the length of a slice does not match these sizes, a size is 0, or the input is to be added and has another
    /// shape than the output.
    #[must_use]
    pub fn forward(&self, input: &[f32], weights: InvertedWeights<'_>) -> Vec<f32> {
        self.expect(input, weights);
        let [from, _, to] = self.channels;
        let (read, written) = (from * area(self.size), to * area(self.output()));
        let pass = Pass::new(self, weights);
        let mut output = zeros(self.batch * written);
        let threads = rayon::current_num_threads();
        if pass.multiplications() * self.batch < MANY {
            let images = output
                .chunks_exact_mut(written)
                .zip(input.chunks_exact(read));
            images.for_each(|(output, input)| pass.image(input, output));
            return output;
        }
        let images = output
            .par_chunks_exact_mut(written)
            .zip(input.par_chunks_exact(read));
        if self.batch >= 4 * threads || self.batch.is_multiple_of(threads) {
            images.for_each(|(output, input)| pass.image(input, output));
        } else {
            images.for_each(|(output, input)| pass.image_in_parts(input, output));
        }
        output
    }

    fn expect(&self, input: &[f32], weights: InvertedWeights<'_>) {
        let [from, hidden, to] = self.channels;
        assert!(
            self.stride > 0 && from * hidden * to * area(self.size) > 0,
            "the sizes of an inverted residual block must be above 0: {self:?}"
        );
        assert!(
            !self.residual || (from, self.size) == (to, self.output()),
            "the input can only be added to an output of the same shape: {self:?}"
        );
        assert!(
            weights.expand.is_some() || from == hidden,
            "without an expansion, there are as many hidden channels as input channels: {self:?}"
        );
        let expect = |what: &str, values: &[f32], count: usize| {
            assert_eq!(values.len(), count, "length of the {what} for {self:?}");
        };
        expect("input", input, self.batch * from * area(self.size));
        let expand = weights.expand.map(|of| ("expansion", of, hidden, from));
        let others = [
            ("depthwise weights", weights.depthwise, hidden, 9),
            ("projection", weights.project, to, hidden),
        ];
        for (what, (weights, epilogue), rows, terms) in expand.into_iter().chain(others) {
            expect(what, weights, rows * terms);
            for values in [epilogue.scale, epilogue.bias].into_iter().flatten() {
                expect(&format!("epilogue of the {what}"), values, rows);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Convolution;

    /// Small integers, so that every sum is exact in any order.
    fn values(count: usize, factor: usize) -> Vec<f32> {
        let value = |at: usize| (at * factor % 23 % 5) as f32 - 2.0;
        (0..count).map(value).collect()
    }

    /// The same as three convolutions.
    fn composed(sizes: InvertedResidual, input: &[f32], weights: InvertedWeights<'_>) -> Vec<f32> {
        let [from, hidden, to] = sizes.channels;
        let convolution = |channels, input, kernel, stride: usize, groups| Convolution {
            batch: sizes.batch,
            channels,
            groups,
            input,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 2],
            dilation: [1, 1],
        };
        let six = |mut values: Vec<f32>| -> Vec<f32> {
            for value in &mut values {
                *value = f32::min(*value, 6.0);
            }
            values
        };
        let wide = match weights.expand {
            Some((weights, epilogue)) => {
                let expand = convolution([from, hidden], sizes.size, 1, 1, 1);
                six(expand.forward(input, weights, epilogue))
            }
            None => input.to_vec(),
        };
        let depthwise = convolution([hidden; 2], sizes.size, 3, sizes.stride, hidden);
        let (kernels, epilogue) = weights.depthwise;
        let hidden_maps = six(depthwise.forward(&wide, kernels, epilogue));
        let project = convolution([hidden, to], sizes.output(), 1, 1, 1);
        let (weights, epilogue) = weights.project;
        let mut output = project.forward(&hidden_maps, weights, epilogue);
        if sizes.residual {
            output
                .iter_mut()
                .zip(input)
                .for_each(|(sum, value)| *sum += value);
        }
        output
    }

    #[test]
    fn results_equal_those_of_three_convolutions_for_any_number_of_threads() {
        for (batch, channels, size, stride, expands, residual) in [
            (1, [16, 96, 24], [64, 32], 2, true, false),
            (3, [24, 144, 24], [32, 16], 1, true, true),
            (8, [32, 32, 16], [33, 20], 1, false, false),
            (2, [7, 42, 5], [9, 5], 2, true, false),
            (1, [1, 3, 1], [1, 1], 1, true, true),
            (2, [13, 39, 13], [5, 33], 1, true, true),
            (1, [5, 11, 3], [70, 3], 3, true, false),
            (1, [48, 512, 48], [8, 4], 1, true, true),
        ] {
            let sizes = InvertedResidual {
                batch,
                channels,
                size,
                stride,
                residual,
            };
            let [from, hidden, to] = channels;
            let input = values(batch * from * area(size), 7);
            let [expand, depthwise, project] =
                [(hidden * from, 3), (hidden * 9, 5), (to * hidden, 11)]
                    .map(|(count, factor)| values(count, factor));
            let [scales, biases] = [13, 17].map(|factor| values(hidden.max(to), factor));
            let epilogue = |channels: usize, relu| ConvEpilogue {
                scale: Some(&scales[..channels]),
                bias: Some(&biases[..channels]),
                relu,
            };
            let weights = InvertedWeights {
                expand: expands.then(|| (&expand[..], epilogue(hidden, true))),
                depthwise: (&depthwise, epilogue(hidden, true)),
                project: (&project, epilogue(to, false)),
            };
            let expected = composed(sizes, &input, weights);
            for threads in [1, 2, 3, 8] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                let pool = pool.build().expect("a pool");
                let found = pool.install(|| sizes.forward(&input, weights));
                assert!(found == expected, "{sizes:?}, {threads} threads");
            }
        }
    }

    /// The sums of small integers do not depend on their order; those of fractions do.
    #[test]
    fn results_are_bit_identical_for_any_number_of_threads() {
        let (from, hidden, to, size) = (24, 150, 20, [33, 17]);
        let sizes = InvertedResidual {
            batch: 3,
            channels: [from, hidden, to],
            size,
            stride: 1,
            residual: false,
        };
        let fractions = |count, factor| -> Vec<f32> {
            let values = values(count, factor).into_iter().enumerate();
            values
                .map(|(at, value)| value / (3.0 + at as f32 % 7.0))
                .collect()
        };
        let input = fractions(3 * from * area(size), 7);
        let [expand, depthwise, project] = [(hidden * from, 3), (hidden * 9, 5), (to * hidden, 11)]
            .map(|(count, factor)| fractions(count, factor));
        let relu = ConvEpilogue {
            relu: true,
            ..ConvEpilogue::default()
        };
        let weights = InvertedWeights {
            expand: Some((&expand, relu)),
            depthwise: (&depthwise, relu),
            project: (&project, ConvEpilogue::default()),
        };
        let results = [1, 2, 3, 8].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().expect("a pool");
            pool.install(|| sizes.forward(&input, weights))
        });
        assert!(results.iter().all(|result| *result == results[0]));
    }

    #[test]
    fn nan_stays_nan() {
        let sizes = InvertedResidual {
            batch: 1,
            channels: [1, 1, 1],
            size: [1, 1],
            stride: 1,
            residual: false,
        };
        let relu = ConvEpilogue {
            relu: true,
            ..ConvEpilogue::default()
        };
        let weights = InvertedWeights {
            expand: Some((&[1.0], relu)),
            depthwise: (&[1.0; 9], relu),
            project: (&[1.0], ConvEpilogue::default()),
        };
        assert!(sizes.forward(&[f32::NAN], weights)[0].is_nan());
    }

    #[test]
    #[should_panic(expected = "length of the projection for InvertedResidual")]
    fn a_slice_of_another_length_panics() {
        let sizes = InvertedResidual {
            batch: 1,
            channels: [1, 1, 1],
            size: [1, 1],
            stride: 1,
            residual: false,
        };
        let none = ConvEpilogue::default();
        let weights = InvertedWeights {
            expand: None,
            depthwise: (&[1.0; 9], none),
            project: (&[], none),
        };
        let _ = sizes.forward(&[1.0], weights);
    }
}
