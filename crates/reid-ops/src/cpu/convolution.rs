//! Convolution of maps in single precision, and its gradients.

use rayon::prelude::*;

use super::{
    correlate::{Panels, Target},
    sweep::{Phase, Sweep},
    window::Window,
};

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Images.
    pub(crate) batch: usize,
    /// Channels of the input and of the output.
    pub(crate) channels: [usize; 2],
    /// Groups of channels that do not see each other.
    pub(crate) groups: usize,
    /// Height and width of the input.
    pub(crate) input: [usize; 2],
    /// Height and width of the kernel.
    pub(crate) kernel: [usize; 2],
    /// Step down and across.
    pub(crate) stride: [usize; 2],
    /// Zeros around the input, above and below, left and right.
    pub(crate) padding: [usize; 2],
}

impl Geometry {
    /// Height and width of the output: `⌊(size + 2·padding - kernel) / stride⌋ + 1`.
    #[must_use]
    pub(crate) fn output(&self) -> [usize; 2] {
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
}

pub(crate) fn area([height, width]: [usize; 2]) -> usize {
    height * width
}

/// The output, `[batch, channels, height, width]`, of an input, weights `[channels, channels per
/// group, height, width]` and a bias per channel; rectified or not.
pub(crate) fn forward(
    geometry: &Geometry,
    input: &[f32],
    weights: &[f32],
    bias: Option<&[f32]>,
    rectify: bool,
) -> Vec<f32> {
    let [from, to] = geometry.per_group();
    let terms = from * geometry.taps();
    let panels = |group: usize| {
        let weights = &weights[group * to * terms..];
        Panels::new(to, terms, |result, term| weights[result * terms + term])
    };
    let output = geometry.output();
    let phase = Phase {
        window: geometry.window(),
        panels: (0..geometry.groups).into_par_iter().map(panels).collect(),
        target: Target {
            width: output[1],
            begin: [0, 0],
            step: [1, 1],
        },
    };
    let sweep = Sweep {
        batch: geometry.batch,
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
/// With a stride, positions of the input that lie a stride apart are reached by the same taps, and the
/// others by others: for each such phase the gradient is a correlation of its own, without a stride.
pub(crate) fn input_gradient(geometry: &Geometry, weights: &[f32], gradient: &[f32]) -> Vec<f32> {
    let [from, to] = geometry.per_group();
    let begins = (0..geometry.stride[0].min(geometry.input[0]))
        .flat_map(|y| (0..geometry.stride[1].min(geometry.input[1])).map(move |x| [y, x]));
    let phases: Vec<Phase> = begins
        .filter_map(|begin| input_phase(geometry, weights, begin))
        .collect();
    let sweep = Sweep {
        batch: geometry.batch,
        channels: [to, from],
        source: gradient,
        phases: &phases,
        bias: None,
        floor: f32::NEG_INFINITY,
        positions: area(geometry.input),
    };
    sweep.run()
}

/// The phase of the input that begins at a position; `None` where no tap reaches it.
fn input_phase(geometry: &Geometry, weights: &[f32], begin: [usize; 2]) -> Option<Phase> {
    let [from, to] = geometry.per_group();
    let (taps, stride) = (geometry.taps(), geometry.stride);
    // The taps along one side that reach these positions, and where they read the output.
    let reaching = |axis: usize| {
        let (shifted, stride) = (begin[axis] + geometry.padding[axis], stride[axis]);
        (0..geometry.kernel[axis])
            .filter(move |tap| shifted % stride == tap % stride)
            .map(move |tap| {
                let step = (shifted.cast_signed() - tap.cast_signed()) / stride.cast_signed();
                (tap, step)
            })
    };
    let pairs: Vec<(usize, [isize; 2])> = reaching(0)
        .flat_map(|(down, y)| {
            reaching(1).map(move |(across, x)| (down * geometry.kernel[1] + across, [y, x]))
        })
        .collect();
    let grid = [0, 1].map(|axis| (geometry.input[axis] - begin[axis]).div_ceil(stride[axis]));
    let panels = |group: usize| {
        let weights = &weights[group * to * from * taps..];
        Panels::new(from, to * pairs.len(), |result, term| {
            let (channel, tap) = (term / pairs.len(), pairs[term % pairs.len()].0);
            weights[(channel * from + result) * taps + tap]
        })
    };
    (!pairs.is_empty()).then(|| Phase {
        window: Window::new(
            geometry.output(),
            grid,
            [1, 1],
            pairs.iter().map(|(_, tap)| *tap).collect(),
        ),
        panels: (0..geometry.groups).into_par_iter().map(panels).collect(),
        target: Target {
            width: geometry.input[1],
            begin,
            step: stride,
        },
    })
}
