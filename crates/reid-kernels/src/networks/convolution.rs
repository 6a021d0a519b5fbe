//! Convolution of maps in single precision, and its gradients.

use rayon::prelude::*;

use super::{
    correlate::{Panels, Target},
    sweep::{Phase, Sweep},
    weight_gradient::weight_gradient,
    window::Window,
};

/// The sizes of a convolution, and what it computes.
///
/// ```
/// use reid_kernels::Convolution;
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
/// let sums = sum_of_three.forward(&[1.0, 2.0, 3.0, 4.0, 5.0], &[1.0; 3], None, false);
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
        let [height, width] = self.kernel;
        let padding = self.padding.map(usize::cast_signed);
        let taps = (0..height)
            .flat_map(|y| (0..width).map(move |x| [y.cast_signed(), x.cast_signed()]))
            .map(|[y, x]| [y - padding[0], x - padding[1]])
            .collect();
        Window::new(self.input, self.output(), self.stride, taps)
    }

    /// The output, `[batch, channels, height, width]`, of an input, weights `[channels, channels per
    /// group, height, width]` and a bias per channel; rectified or not.
    ///
    /// ```text
    /// y[n, o, i, j] = b[o] + Σ_{c, k, l} w[o, c, k, l] · x[n, c, i·s + k - p, j·s + l - p]
    /// ```
    ///
    /// # Panics
    /// If a slice has another length than these sizes say.
    #[must_use]
    pub fn forward(
        &self,
        input: &[f32],
        weights: &[f32],
        bias: Option<&[f32]>,
        rectify: bool,
    ) -> Vec<f32> {
        self.expect("input", input, self.inputs());
        self.expect("weights", weights, self.weights());
        if let Some(bias) = bias {
            self.expect("bias", bias, self.channels[1]);
        }
        let [from, to] = self.per_group();
        let terms = from * self.taps();
        let panels = |group: usize| {
            let weights = &weights[group * to * terms..];
            Panels::new(to, terms, |result, term| weights[result * terms + term])
        };
        let output = self.output();
        let phase = Phase {
            window: self.window(),
            panels: (0..self.groups).into_par_iter().map(panels).collect(),
            target: Target {
                width: output[1],
                begin: [0, 0],
                step: [1, 1],
            },
        };
        let sweep = Sweep {
            batch: self.batch,
            channels: [from, to],
            source: input,
            phases: &[phase],
            bias,
            floor: if rectify { 0.0 } else { f32::NEG_INFINITY },
            positions: area(output),
        };
        sweep.run()
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
            channels: [to, from],
            source: gradient,
            phases: &phases,
            bias: None,
            floor: f32::NEG_INFINITY,
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

    fn expect(&self, what: &str, numbers: &[f32], count: usize) {
        assert_eq!(numbers.len(), count, "numbers of {what} for {self:?}");
    }
}

pub(crate) fn area([height, width]: [usize; 2]) -> usize {
    height * width
}

/// The phase of the input that begins at a position; `None` where no tap reaches it.
fn input_phase(convolution: &Convolution, weights: &[f32], begin: [usize; 2]) -> Option<Phase> {
    let [from, to] = convolution.per_group();
    let (taps, stride) = (convolution.taps(), convolution.stride);
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
    let grid = [0, 1].map(|axis| (convolution.input[axis] - begin[axis]).div_ceil(stride[axis]));
    let panels = |group: usize| {
        let weights = &weights[group * to * from * taps..];
        Panels::new(from, to * pairs.len(), |result, term| {
            let (channel, tap) = (term / pairs.len(), pairs[term % pairs.len()].0);
            weights[(channel * from + result) * taps + tap]
        })
    };
    (!pairs.is_empty()).then(|| Phase {
        window: Window::new(
            convolution.output(),
            grid,
            [1, 1],
            pairs.iter().map(|(_, tap)| *tap).collect(),
        ),
        panels: (0..convolution.groups)
            .into_par_iter()
            .map(panels)
            .collect(),
        target: Target {
            width: convolution.input[1],
            begin,
            step: stride,
        },
    })
}
