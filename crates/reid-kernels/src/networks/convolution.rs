//! Convolution of maps in single precision, and its gradients.

use std::borrow::Cow;

use rayon::prelude::*;

use super::{
    correlate::Target,
    sweep::{Phase, Sweep},
    transpose::transpose,
    weight_gradient::weight_gradient,
    window::Window,
};
use crate::memory::zeros;

/// The sizes of a convolution, and what it computes.
///
/// ```
/// use reid_kernels::{Convolution, ConvEpilogue};
///
/// let sum_of_three = Convolution {
///     batch: 1,
///     channels: [1, 1],
///     groups: 1,
///     input: [1, 5],
///     kernel: [1, 3],
///     stride: [1, 2],
///     padding: [0, 1],
/// };
/// let values = [1.0, 2.0, 3.0, 4.0, 5.0];
/// let sums = sum_of_three.forward(&values, &[1.0; 3], ConvEpilogue::default());
/// assert_eq!((sum_of_three.output(), sums), ([1, 3], vec![3.0, 9.0, 9.0]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Images.
    pub batch: usize,
    /// Channels of the input and of the output.
    pub channels: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Step down and across.
    pub stride: [usize; 2],
    /// Zeros around the input, above and below, left and right.
    pub padding: [usize; 2],
}

/// What becomes of the sums of a convolution, with numbers of one channel each.
///
/// ```text
/// y = a · sum + b        y = max(0, a · sum + b)
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ConvEpilogue<'a> {
    /// `a`; 1 where it is not given.
    pub scale: Option<&'a [f32]>,
    /// `b`; 0 where it is not given.
    pub bias: Option<&'a [f32]>,
    /// Whether negative results become 0.
    pub relu: bool,
}

impl ConvEpilogue<'_> {
    /// The same for the channels from one on.
    pub(crate) fn from(self, channel: usize) -> Self {
        Self {
            scale: self.scale.map(|scale| &scale[channel..]),
            bias: self.bias.map(|bias| &bias[channel..]),
            ..self
        }
    }
}

impl Convolution {
    /// Height and width of the output: `⌊(size + 2·padding - kernel) / stride⌋ + 1`.
    ///
    /// # Panics
    /// If the kernel does not fit the padded input.
    #[must_use]
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            (self.input[axis] + 2 * self.padding[axis] - self.kernel[axis]) / self.stride[axis] + 1
        })
    }

    /// Channels of the input and of the output that a group has.
    pub(crate) fn per_group(&self) -> [usize; 2] {
        self.channels.map(|channels| channels / self.groups)
    }

    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// The window that reads the input for the output.
    pub(crate) fn window(&self) -> Window {
        Window::new(self.input, self.output(), self.stride, &self.taps_read())
    }

    /// Where each tap reads for the result at 0, 0.
    fn taps_read(&self) -> Vec<[isize; 2]> {
        let [height, width] = self.kernel;
        let padding = self.padding.map(usize::cast_signed);
        (0..height)
            .flat_map(|y| (0..width).map(move |x| [y.cast_signed(), x.cast_signed()]))
            .map(|[y, x]| [y - padding[0], x - padding[1]])
            .collect()
    }

    /// The output, `[batch, channels, height, width]`, of an input, weights `[channels, channels per
    /// group, height, width]` and what becomes of the sums.
    ///
    /// ```text
    /// y[n, o, i, j] = a[o] · Σ_{c, k, l} w[o, c, k, l] · x[n, c, i·s + k - p, j·s + l - p] + b[o]
    /// ```
    ///
    /// # Panics
    /// If a slice has another length than these sizes say.
    #[must_use]
    pub fn forward(&self, input: &[f32], weights: &[f32], epilogue: ConvEpilogue<'_>) -> Vec<f32> {
        let phase = [self.phase(input, weights, epilogue)];
        self.sweep(input, &phase, epilogue).run()
    }

    /// The same in place of what is added before negative results become 0, as a residual block ends:
    /// `y[n, o, i, j] + shortcut[n, o, i, j]`.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn forward_onto(
        &self,
        input: &[f32],
        weights: &[f32],
        epilogue: ConvEpilogue<'_>,
        shortcut: &mut [f32],
    ) {
        self.expect("shortcut", shortcut, self.outputs());
        let phase = [self.phase(input, weights, epilogue)];
        let sweep = Sweep {
            onto: true,
            ..self.sweep(input, &phase, epilogue)
        };
        sweep.write(shortcut);
    }

    /// All positions of the output.
    fn phase<'a>(
        &self,
        input: &[f32],
        weights: &'a [f32],
        epilogue: ConvEpilogue<'_>,
    ) -> Phase<'a> {
        self.expect("input", input, self.inputs());
        self.expect("weights", weights, self.weights());
        for (what, values) in [("scale", epilogue.scale), ("bias", epilogue.bias)] {
            if let Some(values) = values {
                self.expect(what, values, self.channels[1]);
            }
        }
        let ([_, to], output) = (self.per_group(), self.output());
        Phase {
            window: Window::for_results(self.input, output, self.stride, &self.taps_read(), to),
            weights: Cow::Borrowed(weights),
            target: Target {
                width: output[1],
                begin: [0, 0],
                step: [1, 1],
            },
        }
    }

    /// The sums of the output.
    fn sweep<'a>(
        &self,
        input: &'a [f32],
        phases: &'a [Phase<'a>],
        epilogue: ConvEpilogue<'a>,
    ) -> Sweep<'a> {
        Sweep {
            batch: self.batch,
            groups: self.groups,
            channels: self.per_group(),
            source: input,
            phases,
            epilogue,
            onto: false,
            positions: area(self.output()),
        }
    }

    /// The gradient of a loss by the input, from that by the output.
    ///
    /// With a stride, positions of the input that lie a stride apart are reached by the same taps,
    /// and the others by others: for each such phase the gradient is a correlation of its own,
    /// without a stride.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    #[must_use]
    pub fn input_gradient(&self, weights: &[f32], gradient: &[f32]) -> Vec<f32> {
        self.expect("weights", weights, self.weights());
        self.expect("gradient", gradient, self.outputs());
        let [from, to] = self.per_group();
        let begins = (0..self.stride[0].min(self.input[0]))
            .flat_map(|y| (0..self.stride[1].min(self.input[1])).map(move |x| [y, x]));
        let phases: Vec<Phase> = begins
            .filter_map(|begin| input_phase(self, weights, begin))
            .collect();
        let sweep = Sweep {
            batch: self.batch,
            groups: self.groups,
            channels: [to, from],
            source: gradient,
            phases: &phases,
            epilogue: ConvEpilogue::default(),
            onto: false,
            positions: area(self.input),
        };
        sweep.run()
    }

    /// The gradient of a loss by the weights, from that by the output.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    #[must_use]
    pub fn weight_gradient(&self, input: &[f32], gradient: &[f32]) -> Vec<f32> {
        self.expect("input", input, self.inputs());
        self.expect("gradient", gradient, self.outputs());
        weight_gradient(self, input, gradient)
    }

    fn inputs(&self) -> usize {
        self.batch * self.channels[0] * area(self.input)
    }

    fn outputs(&self) -> usize {
        self.batch * self.channels[1] * area(self.output())
    }

    fn weights(&self) -> usize {
        self.channels[1] * self.per_group()[0] * self.taps()
    }

    fn expect(&self, what: &str, values: &[f32], count: usize) {
        assert_eq!(values.len(), count, "numbers of {what} for {self:?}");
    }
}

pub(crate) fn area([height, width]: [usize; 2]) -> usize {
    height * width
}

/// The phase of the input that begins at a position; `None` where no tap reaches it.
fn input_phase(
    convolution: &Convolution,
    weights: &[f32],
    begin: [usize; 2],
) -> Option<Phase<'static>> {
    let [from, _] = convolution.per_group();
    let stride = convolution.stride;
    // The taps along one side that reach these positions, and where they read the output.
    let reaching = |axis: usize| {
        let (shifted, stride) = (begin[axis] + convolution.padding[axis], stride[axis]);
        (0..convolution.kernel[axis])
            .filter(move |tap| shifted % stride == tap % stride)
            .map(move |tap| {
                let step = (shifted.cast_signed() - tap.cast_signed()) / stride.cast_signed();
                (tap, step)
            })
    };
    let pairs: Vec<(usize, [isize; 2])> = reaching(0)
        .flat_map(|(down, y)| {
            reaching(1).map(move |(across, x)| (down * convolution.kernel[1] + across, [y, x]))
        })
        .collect();
    let taps: Vec<[isize; 2]> = pairs.iter().map(|(_, tap)| *tap).collect();
    let grid = [0, 1].map(|axis| (convolution.input[axis] - begin[axis]).div_ceil(stride[axis]));
    (!pairs.is_empty()).then(|| Phase {
        window: Window::for_results(convolution.output(), grid, [1, 1], &taps, from),
        weights: Cow::Owned(transposed(convolution, weights, &pairs)),
        target: Target {
            width: convolution.input[1],
            begin,
            step: stride,
        },
    })
}

/// The weights of some taps, by the input's channels: `[groups · from, to, taps]`.
fn transposed(
    convolution: &Convolution,
    weights: &[f32],
    taps: &[(usize, [isize; 2])],
) -> Vec<f32> {
    /// Channels that are turned together, so that what is read lies together.
    const BLOCK: usize = 16;
    let [from, to] = convolution.per_group();
    let (terms, all) = (to * taps.len(), convolution.taps());
    let mut transposed = zeros(convolution.groups * from * terms);
    let groups = transposed
        .par_chunks_mut(from * terms)
        .zip(weights.par_chunks(to * from * all));
    groups.for_each(|(transposed, weights)| {
        if all == 1 {
            return transpose(weights, from, transposed);
        }
        let blocks = transposed.par_chunks_mut(BLOCK * terms).enumerate();
        blocks.for_each(|(block, transposed)| {
            for (result, weights) in weights.chunks_exact(from * all).enumerate() {
                let weights = weights[BLOCK * block * all..].chunks_exact(all);
                for (transposed, weights) in transposed.chunks_exact_mut(terms).zip(weights) {
                    let transposed = &mut transposed[result * taps.len()..][..taps.len()];
                    if taps.len() == all {
                        // In the order that they have.
                        transposed.copy_from_slice(weights);
                        continue;
                    }
                    for (to, (tap, _)) in transposed.iter_mut().zip(taps) {
                        *to = weights[*tap];
                    }
                }
            }
        });
    });
    transposed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers, so that every sum is exact in whatever order.
    fn values(count: usize, factor: usize) -> Vec<f32> {
        let number = |at: usize| (at * factor % 23 % 7) as f32 - 3.0;
        (0..count).map(number).collect()
    }

    /// By definition: the output, and the gradients by the input and by the weights.
    fn defined(
        sizes: &Convolution,
        input: &[f32],
        weights: &[f32],
        gradient: &[f32],
    ) -> [Vec<f32>; 3] {
        let ([from, to], [height, width]) = (sizes.per_group(), sizes.output());
        let mut found = [input.len(), weights.len(), gradient.len()].map(|count| vec![0.0; count]);
        let [by_input, by_weights, output] = &mut found;
        for at in 0..sizes.batch * sizes.channels[1] * height * width {
            let (x, y) = (at % width, at / width % height);
            let (result, image) = (
                at / area([height, width]) % sizes.channels[1],
                at / area([height, width]) / sizes.channels[1],
            );
            for term in 0..from * sizes.taps() {
                let (tap, channel) = (term % sizes.taps(), term / sizes.taps());
                let (down, across) = (tap / sizes.kernel[1], tap % sizes.kernel[1]);
                let row = (y * sizes.stride[0] + down).wrapping_sub(sizes.padding[0]);
                let column = (x * sizes.stride[1] + across).wrapping_sub(sizes.padding[1]);
                if row < sizes.input[0] && column < sizes.input[1] {
                    let map = image * sizes.channels[0] + result / to * from + channel;
                    let read = (map * sizes.input[0] + row) * sizes.input[1] + column;
                    let weight = result * from * sizes.taps() + term;
                    output[at] += weights[weight] * input[read];
                    by_input[read] += weights[weight] * gradient[at];
                    by_weights[weight] += gradient[at] * input[read];
                }
            }
        }
        let [by_input, by_weights, output] = found;
        [output, by_input, by_weights]
    }

    /// All that becomes of sums, in place of what is added to them.
    #[test]
    fn results_are_added_to_what_is_there() {
        let mut tried = 0;
        for (channels, groups, stride) in [([5, 7], 1, [1, 1]), ([70, 33], 2, [2, 1])] {
            for (kernel, padding) in [([1, 1], [0, 0]), ([3, 3], [1, 1])] {
                let sizes = Convolution {
                    batch: 3,
                    channels: channels.map(|channels| channels * groups),
                    groups,
                    input: [9, 8],
                    kernel,
                    stride,
                    padding,
                };
                let [input, weights] =
                    [(sizes.inputs(), 5), (sizes.weights(), 3)].map(|(n, by)| values(n, by));
                let [scale, bias] = [2, 3].map(|by| values(sizes.channels[1], by));
                let epilogue = ConvEpilogue {
                    scale: Some(&scale),
                    bias: Some(&bias),
                    relu: false,
                };
                let plain = sizes.forward(&input, &weights, epilogue);
                let shortcut = values(plain.len(), 11);
                for relu in [false, true] {
                    let mut found = shortcut.clone();
                    let epilogue = ConvEpilogue { relu, ..epilogue };
                    sizes.forward_onto(&input, &weights, epilogue, &mut found);
                    let sums = plain.iter().zip(&shortcut).map(|(y, other)| y + other);
                    let least = if relu { 0.0 } else { f32::NEG_INFINITY };
                    let expected: Vec<f32> = sums.map(|sum| sum.max(least)).collect();
                    assert_eq!(found, expected, "{sizes:?}");
                    tried += 1;
                }
            }
        }
        assert_eq!(tried, 8);
    }

    #[test]
    fn all_three_are_what_they_are_defined_as() {
        let mut tried = 0;
        for channels in [[1, 1], [3, 5], [8, 40], [70, 33], [96, 7]] {
            for (kernel, padding) in [
                ([1, 1], [0, 0]),
                ([3, 3], [1, 1]),
                ([2, 3], [1, 0]),
                ([5, 1], [2, 2]),
            ] {
                for stride in [[1, 1], [2, 2], [1, 3]] {
                    for (groups, batch, input) in [
                        (1, 3, [5, 4]),
                        (2, 1, [17, 18]),
                        (1, 5, [8, 8]),
                        (1, 2, [1, 9]),
                    ] {
                        let sizes = Convolution {
                            batch,
                            channels: channels.map(|channels| channels * groups),
                            groups,
                            input,
                            kernel,
                            stride,
                            padding,
                        };
                        let input = values(sizes.inputs(), 5);
                        let weights = values(sizes.weights(), 3);
                        let gradient = values(sizes.outputs(), 11);
                        let [output, by_input, by_weights] =
                            defined(&sizes, &input, &weights, &gradient);
                        assert_eq!(
                            sizes.forward(&input, &weights, ConvEpilogue::default()),
                            output,
                            "{sizes:?}"
                        );
                        assert_eq!(
                            sizes.input_gradient(&weights, &gradient),
                            by_input,
                            "{sizes:?}"
                        );
                        assert_eq!(
                            sizes.weight_gradient(&input, &gradient),
                            by_weights,
                            "{sizes:?}"
                        );
                        tried += 1;
                    }
                }
            }
        }
        assert_eq!(tried, 240);
    }
}
