//! Convolution of feature maps in single precision, and its gradients.
//!
//! # Forward pass
//! A convolution is computed as a sum of shifted, scaled feature maps. Four modules share the work:
//!
//! - `window` copies input positions with their zero padding, split by phase where there is a stride. Each
//!   tap of the kernel then reads the copy at a constant offset.
//! - `correlate` computes blocks of 256 output positions. The copy of a block holds as many channels as
//!   give about 128 terms, so it is contiguous in the second cache. The input itself would be spread over
//!   as many memory pages as there are channels. The patches of whole images (im2col, k² times the input)
//!   are never built.
//! - `tile` multiplies in registers: 6 output channels by 4 vectors of positions with AVX-512. Weights are
//!   read in place, six rows at a time.
//! - `sweep` divides images, groups, rows and output channels among the threads.
//! - `pointwise`, `omni_scale` and `inverted_residual` compute blocks of small networks with these tiles.
//!
//! Sums are scaled, biased and passed through a ReLU when they are written ([`ConvEpilogue`]). A batch
//! normalisation in evaluation mode therefore costs nothing, whether or not it is folded into the weights.
//!
//! A convolution with as many groups as input and output channels is depthwise; `depthwise` computes it and
//! its gradients.
//!
//! # Gradients
//! The gradient with respect to the input is the same kind of sum with other taps. The gradient with
//! respect to the weights is a sum of outer products over positions (`outer_products`). Where a group has
//! too few channels to fill vectors, it is computed as inner products of shifted feature maps instead
//! (`inner_products`).
//!
//! # Rejected
//! - The crate `gemm` on patches: it packs operands that are already packed, and its function is unsafe.
//! - Winograd: it needs fewer multiplications, but is less exact and covers only 3 x 3 kernels.
//! - Weights packed in panels: the innermost loop is faster, but they are packed anew in every pass.

mod input_phase;

use std::borrow::Cow;

use self::input_phase::input_phase;
use super::{
    correlate::Target,
    depthwise::{self, Depthwise},
    sweep::{Phase, Sweep},
    weight_gradient::weight_gradient,
    window::Window,
};

/// A convolution of given sizes.
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
///     dilation: [1, 1],
/// };
/// let values = [1.0, 2.0, 3.0, 4.0, 5.0];
/// let sums = sum_of_three.forward(&values, &[1.0; 3], ConvEpilogue::default());
/// assert_eq!((sum_of_three.output(), sums), ([1, 3], vec![3.0, 9.0, 9.0]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// The number of images.
    pub batch: usize,
    /// The numbers of input and output channels. Both must be multiples of `groups`.
    pub channels: [usize; 2],
    /// The number of groups, at least 1, as in a grouped convolution.
    pub groups: usize,
    /// The height and width of the input.
    pub input: [usize; 2],
    /// The height and width of the kernel.
    pub kernel: [usize; 2],
    /// The vertical and horizontal stride, each at least 1.
    pub stride: [usize; 2],
    /// The zero padding: rows above and below, columns left and right.
    pub padding: [usize; 2],
    /// The vertical and horizontal distance between the positions that a kernel reads, each at least 1.
    pub dilation: [usize; 2],
}

/// The affine map, per output channel, and the ReLU that are applied to the sums of a convolution.
///
/// ```text
/// y = a · sum + b        y = max(0, a · sum + b)
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ConvEpilogue<'a> {
    /// `a`, `[output channels]`; 1 if `None`.
    pub scale: Option<&'a [f32]>,
    /// `b`, `[output channels]`; 0 if `None`.
    pub bias: Option<&'a [f32]>,
    /// Whether a ReLU is applied to the result.
    pub relu: bool,
}

impl ConvEpilogue<'_> {
    /// The epilogue of the output channels from `channel` on.
    pub(crate) fn from(self, channel: usize) -> Self {
        Self {
            scale: self.scale.map(|scale| &scale[channel..]),
            bias: self.bias.map(|bias| &bias[channel..]),
            ..self
        }
    }
}

impl Convolution {
    /// The height and width of the output: `⌊(size + 2·padding - dilation·(kernel - 1) - 1) / stride⌋ + 1`.
    ///
    /// The dilated kernel must fit into the padded input; this is not checked.
    ///
    /// # Panics
    /// If a stride is 0, and, where overflow checks are on, if the kernel does not fit into the padded input.
    #[must_use]
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            (self.input[axis] + 2 * self.padding[axis] - reach) / self.stride[axis] + 1
        })
    }

    /// The numbers of input and output channels per group.
    pub(crate) fn per_group(&self) -> [usize; 2] {
        self.channels.map(|channels| channels / self.groups)
    }

    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Whether every channel has its own kernel.
    fn is_depthwise(&self) -> bool {
        self.channels == [self.groups; 2]
    }

    /// Whether every result reads one position, which has its own index.
    pub(crate) fn is_pointwise(&self) -> bool {
        (self.kernel, self.stride, self.padding) == ([1, 1], [1, 1], [0, 0])
    }

    /// The window through which the taps read the input.
    pub(crate) fn window(&self) -> Window {
        Window::new(self.input, self.output(), self.stride, &self.taps_read())
    }

    /// The input position that each tap reads for the output position (0, 0).
    pub(crate) fn taps_read(&self) -> Vec<[isize; 2]> {
        let [height, width] = self.kernel;
        let padding = self.padding.map(usize::cast_signed);
        let [down, across] = self.dilation.map(usize::cast_signed);
        (0..height)
            .flat_map(|y| (0..width).map(move |x| [y.cast_signed(), x.cast_signed()]))
            .map(|[y, x]| [y * down - padding[0], x * across - padding[1]])
            .collect()
    }

    /// The taps that read the input position `begin` and those a stride apart. For each tap, its index and the
    /// output position that reads `begin` through it, which may be outside the output.
    pub(crate) fn taps_reaching(&self, begin: [usize; 2]) -> Vec<(usize, [isize; 2])> {
        // Along one axis.
        let reaching = |axis: usize| {
            let (shifted, stride) = (begin[axis] + self.padding[axis], self.stride[axis]);
            (0..self.kernel[axis])
                .map(move |tap| (tap, tap * self.dilation[axis]))
                .filter(move |(_, read)| shifted % stride == read % stride)
                .map(move |(tap, read)| {
                    let step = (shifted.cast_signed() - read.cast_signed()) / stride.cast_signed();
                    (tap, step)
                })
        };
        reaching(0)
            .flat_map(|(down, y)| {
                reaching(1).map(move |(across, x)| (down * self.kernel[1] + across, [y, x]))
            })
            .collect()
    }

    /// Computes the output, `[batch, output channels, height out, width out]`.
    ///
    /// ```text
    /// y[n, o, i, j] = a[o] · Σ_{c, k, l} w[o, c, k, l] · x[n, c, i·s + k·d - p, j·s + l·d - p] + b[o]
    /// ```
    ///
    /// - `input`: `[batch, input channels, height, width]`
    /// - `weights`: `[output channels, input channels / groups, kernel height, kernel width]`
    ///
    /// # Panics
    /// If the length of a slice does not match these sizes.
    #[must_use]
    pub fn forward(&self, input: &[f32], weights: &[f32], epilogue: ConvEpilogue<'_>) -> Vec<f32> {
        self.expect_operands(input, weights, epilogue);
        if self.is_depthwise() {
            return Depthwise::forward(self, weights, epilogue).run(input);
        }
        let phase = [self.phase(weights)];
        self.sweep(input, &phase, epilogue).run()
    }

    /// Computes the output as [`forward`](Self::forward) does, adds it to `shortcut` and writes the sum
    /// there. This is the end of a residual block: the ReLU, if any, is applied after the addition.
    ///
    /// `shortcut` is `[batch, output channels, height out, width out]`, like the output.
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
        self.expect_operands(input, weights, epilogue);
        if self.is_depthwise() {
            return Depthwise::forward(self, weights, epilogue).add_to(input, shortcut);
        }
        let phase = [self.phase(weights)];
        let sweep = Sweep {
            onto: true,
            ..self.sweep(input, &phase, epilogue)
        };
        sweep.write(shortcut);
    }

    /// Whether the output can be written over the input, and the gradient with respect to the input over that
    /// with respect to the output: in a depthwise convolution of feature maps that keep their size.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        self.is_depthwise() && self.output() == self.input
    }

    /// As [`forward`](Self::forward), writing the output over the input.
    ///
    /// # Panics
    /// As [`forward`](Self::forward), and unless [`is_in_place`](Self::is_in_place).
    pub fn forward_in_place(&self, input: &mut [f32], weights: &[f32], epilogue: ConvEpilogue<'_>) {
        assert!(self.is_in_place(), "no convolution in place: {self:?}");
        self.expect_operands(input, weights, epilogue);
        Depthwise::forward(self, weights, epilogue).run_in_place(input);
    }

    /// As [`input_gradient`](Self::input_gradient), writing the result over the gradient with respect to the
    /// output.
    ///
    /// # Panics
    /// As [`forward`](Self::forward), and unless [`is_in_place`](Self::is_in_place).
    pub fn input_gradient_in_place(&self, weights: &[f32], gradient: &mut [f32]) {
        assert!(self.is_in_place(), "no convolution in place: {self:?}");
        self.expect("weights", weights, self.weights());
        self.expect("gradient", gradient, self.outputs());
        Depthwise::input_gradient(self, weights).run_in_place(gradient);
    }

    fn expect_operands(&self, input: &[f32], weights: &[f32], epilogue: ConvEpilogue<'_>) {
        self.expect("input", input, self.inputs());
        self.expect("weights", weights, self.weights());
        for (what, values) in [("scale", epilogue.scale), ("bias", epilogue.bias)] {
            if let Some(values) = values {
                self.expect(what, values, self.channels[1]);
            }
        }
    }

    /// The phase that covers all output positions.
    fn phase<'a>(&self, weights: &'a [f32]) -> Phase<'a> {
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

    /// The sweep that computes the output.
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

    /// Computes the gradient of a loss with respect to the input, `[batch, input channels, height, width]`, from
    /// the gradient with respect to the output, `[batch, output channels, height out, width out]`.
    ///
    /// Input positions a stride apart are read by the same taps; they form one phase. The gradient of each
    /// phase is a separate correlation without a stride.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    #[must_use]
    pub fn input_gradient(&self, weights: &[f32], gradient: &[f32]) -> Vec<f32> {
        self.expect("weights", weights, self.weights());
        self.expect("gradient", gradient, self.outputs());
        if self.is_depthwise() {
            return Depthwise::input_gradient(self, weights).run(gradient);
        }
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

    /// Computes the gradient of a loss with respect to the weights, in the shape of the weights, from the input
    /// and from the gradient with respect to the output, `[batch, output channels, height out, width out]`.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    #[must_use]
    pub fn weight_gradient(&self, input: &[f32], gradient: &[f32]) -> Vec<f32> {
        self.expect("input", input, self.inputs());
        self.expect("gradient", gradient, self.outputs());
        if self.is_depthwise() {
            return depthwise::weight_gradient(self, input, gradient);
        }
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
        assert_eq!(values.len(), count, "length of the {what} for {self:?}");
    }
}

pub(crate) fn area([height, width]: [usize; 2]) -> usize {
    height * width
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers, so that every sum is exact in any order.
    fn values(count: usize, factor: usize) -> Vec<f32> {
        let value = |at: usize| (at * factor % 23 % 7) as f32 - 3.0;
        (0..count).map(value).collect()
    }

    /// The output and the gradients with respect to the input and the weights, by definition.
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
                let [down, across] = [down * sizes.dilation[0], across * sizes.dilation[1]];
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

    fn assert_equals_definition(sizes: &Convolution) {
        let (input, weights) = (values(sizes.inputs(), 5), values(sizes.weights(), 3));
        let gradient = values(sizes.outputs(), 11);
        let [output, by_input, by_weights] = defined(sizes, &input, &weights, &gradient);
        let found = sizes.forward(&input, &weights, ConvEpilogue::default());
        assert_eq!(found, output, "{sizes:?}");
        if sizes.is_in_place() {
            let [mut values, mut found] = [input.clone(), gradient.clone()];
            sizes.forward_in_place(&mut values, &weights, ConvEpilogue::default());
            assert_eq!(values, output, "{sizes:?}");
            sizes.input_gradient_in_place(&weights, &mut found);
            assert_eq!(found, by_input, "{sizes:?}");
        }
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
    }

    #[test]
    fn forward_onto_adds_the_shortcut_before_the_relu() {
        let mut tried = 0;
        let depthwise = ([1, 1], 7, [1, 1]);
        for (channels, groups, stride) in [([5, 7], 1, [1, 1]), ([70, 33], 2, [2, 1]), depthwise] {
            for (kernel, padding) in [([1, 1], [0, 0]), ([3, 3], [1, 1]), ([3, 3], [0, 2])] {
                let sizes = Convolution {
                    batch: 3,
                    channels: channels.map(|channels| channels * groups),
                    groups,
                    input: [9, 8],
                    kernel,
                    stride,
                    padding,
                    dilation: [1, 1],
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
        assert_eq!(tried, 18);
    }

    #[test]
    fn output_and_gradients_equal_their_definition() {
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
                            dilation: [1, 1],
                        };
                        assert_equals_definition(&sizes);
                        tried += 1;
                    }
                }
            }
        }
        assert_eq!(tried, 240);
    }

    /// Kernels whose rows and columns are apart, also beyond the feature map.
    #[test]
    fn dilated_convolutions_equal_their_definition() {
        let mut tried = 0;
        for (channels, groups) in [
            ([3, 5], 1),
            ([70, 33], 1),
            ([5, 200], 1),
            ([8, 6], 2),
            ([1, 1], 5),
        ] {
            for (kernel, padding, dilation) in [
                ([3, 3], [2, 2], [2, 2]),
                ([3, 3], [12, 12], [12, 12]),
                ([2, 3], [1, 0], [3, 1]),
                ([3, 1], [2, 0], [4, 5]),
                ([1, 3], [0, 1], [7, 2]),
            ] {
                for stride in [[1, 1], [2, 2], [3, 1]] {
                    for (batch, input) in [(3, [9, 8]), (1, [17, 18])] {
                        let sizes = Convolution {
                            batch,
                            channels: channels.map(|channels| channels * groups),
                            groups,
                            input,
                            kernel,
                            stride,
                            padding,
                            dilation,
                        };
                        assert_equals_definition(&sizes);
                        tried += 1;
                    }
                }
            }
        }
        assert_eq!(tried, 150);
    }

    /// Rows of whole vectors and others, kernels that reach beyond the feature map, and strides that leave out
    /// input positions.
    #[test]
    fn depthwise_convolutions_equal_their_definition() {
        let mut tried = 0;
        for input in [
            [5, 4],
            [9, 8],
            [6, 16],
            [5, 17],
            [6, 32],
            [3, 64],
            [2, 81],
            [1, 1],
            [4, 2],
            [11, 7],
        ] {
            for (kernel, padding) in [
                ([1, 1], [0, 0]),
                ([3, 3], [1, 1]),
                ([3, 3], [2, 1]),
                ([5, 5], [2, 2]),
                ([7, 7], [3, 3]),
                ([2, 3], [1, 1]),
                ([1, 9], [0, 4]),
                ([4, 1], [3, 0]),
            ] {
                for stride in [[1, 1], [2, 2], [1, 2], [2, 1], [3, 4]] {
                    let sizes = Convolution {
                        batch: 2,
                        channels: [3, 3],
                        groups: 3,
                        input,
                        kernel,
                        stride,
                        padding,
                        dilation: [1, 1],
                    };
                    assert_equals_definition(&sizes);
                    tried += 1;
                }
            }
        }
        assert_eq!(tried, 400);
    }

    /// Without padding, the results are narrower than the feature map. Many images are summed in parts. The
    /// last three are divided among the threads.
    #[test]
    fn many_depthwise_kernels_equal_their_definition() {
        let mut tried = 0;
        for (batch, channels, input, kernel, padding) in [
            (3, 2, [10, 18], [3, 3], [0, 0]),
            (70, 5, [10, 18], [5, 2], [0, 0]),
            (300, 1, [10, 18], [3, 4], [0, 0]),
            (4, 384, [16, 8], [3, 3], [1, 1]),
            (60, 1, [64, 33], [3, 3], [1, 1]),
            (9, 64, [32, 16], [5, 5], [2, 2]),
        ] {
            for stride in [[1, 1], [2, 2], [2, 3]] {
                let sizes = Convolution {
                    batch,
                    channels: [channels; 2],
                    groups: channels,
                    input,
                    kernel,
                    stride,
                    padding,
                    dilation: [1, 1],
                };
                assert_equals_definition(&sizes);
                tried += 1;
            }
        }
        assert_eq!(tried, 18);
    }
}
