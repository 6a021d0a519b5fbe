//! The computation of one image: its parts on one thread, or on several.

use std::{cell::RefCell, iter, ops::Range};

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{InvertedResidual, InvertedWeights};
use crate::{
    memory::zeros,
    networks::{
        convolution::{ConvEpilogue, Convolution, area},
        depthwise::Depthwise,
        pointwise::{Maps, Onto, Pointwise, aligned, pitch, spread},
        tile::{self, Write},
    },
};

/// The upper limit of the activation.
const LIMIT: f32 = 6.0;

/// The number of parts into which the hidden channels are divided.
const PARTS: usize = 4;

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
    /// The sums of a part. They are kept while other memory of the thread is used.
    static SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The scratch memory of a thread. It is kept between images, because fresh memory is slow to allocate.
#[derive(Debug, Default)]
struct Memory {
    /// What the expansion reads, `[input channels, pitch]`.
    features: Vec<f32>,
    /// What the expansion writes where the depthwise convolution reads another layout, `[hidden channels, positions]`.
    wide: Vec<f32>,
    /// What the depthwise convolution reads, `[hidden channels, frame]`.
    frames: Vec<f32>,
    /// What the projection reads, `[hidden channels, pitch]`.
    hidden: Vec<f32>,
}

/// The computation of one image.
pub(super) struct Pass<'a> {
    sizes: InvertedResidual,
    weights: InvertedWeights<'a>,
    depthwise: Depthwise<'a>,
    /// The output channels, split into tiles.
    panels: Vec<Range<usize>>,
    /// The number of hidden channels that are computed at once.
    at_once: usize,
}

impl<'a> Pass<'a> {
    pub(super) fn new(sizes: &InvertedResidual, weights: InvertedWeights<'a>) -> Self {
        /// The number of hidden values that are computed at once, so that they stay in the second cache.
        const VALUES: usize = 1 << 16;
        let [_, hidden, to] = sizes.channels;
        let depthwise = Convolution {
            batch: 1,
            channels: [hidden; 2],
            groups: hidden,
            input: sizes.size,
            kernel: [3, 3],
            stride: [sizes.stride; 2],
            padding: [1, 1],
            dilation: [1, 1],
        };
        let (kernels, epilogue) = weights.depthwise;
        Self {
            sizes: *sizes,
            weights,
            depthwise: Depthwise::forward(&depthwise, kernels, epilogue),
            panels: tile::panels(to),
            at_once: (VALUES / area(sizes.size)).clamp(6, 48),
        }
    }

    /// The number of multiplications of the three convolutions.
    pub(super) fn multiplications(&self) -> usize {
        let [from, hidden, to] = self.sizes.channels;
        let expand = if self.weights.expand.is_some() {
            from * area(self.sizes.size)
        } else {
            0
        };
        hidden * (expand + (9 + to) * area(self.sizes.output()))
    }

    /// The hidden channels of each part.
    fn parts(&self) -> impl Iterator<Item = Range<usize>> {
        let [_, hidden, _] = self.sizes.channels;
        let count = hidden.div_ceil(PARTS);
        (0..hidden)
            .step_by(count)
            .map(move |first| first..hidden.min(first + count))
    }

    /// Computes one image on the calling thread.
    pub(super) fn image(&self, input: &[f32], output: &mut [f32]) {
        SUMS.with_borrow_mut(|sums| {
            let sums = aligned(sums, output.len());
            for (index, part) in self.parts().enumerate() {
                if index == 0 {
                    self.part(part, input, output);
                } else {
                    self.part(part, input, sums);
                    add(output, sums);
                }
            }
        });
        self.finish(input, output);
    }

    /// Computes one image, with its parts on several threads.
    pub(super) fn image_in_parts(&self, input: &[f32], output: &mut [f32]) {
        let mut others = zeros((PARTS - 1) * output.len());
        let sums = others.chunks_exact_mut(output.len());
        let first = iter::once(&mut *output);
        let parts: Vec<_> = self.parts().zip(first.chain(sums)).collect();
        let count = parts.len();
        let parts = parts.into_par_iter().with_max_len(1);
        parts.for_each(|(part, sums)| self.part(part, input, sums));
        for sums in others.chunks_exact(output.len()).take(count - 1) {
            add(output, sums);
        }
        self.finish(input, output);
    }

    /// Computes the sums of the projection over some hidden channels.
    fn part(&self, part: Range<usize>, input: &[f32], sums: &mut [f32]) {
        MEMORY.with_borrow_mut(|memory| {
            let part = Part {
                pass: self,
                channels: part,
                input,
                sums,
                memory,
            };
            Arch::new().dispatch(part);
        });
    }

    /// Applies the last epilogue, and adds the input.
    fn finish(&self, input: &[f32], output: &mut [f32]) {
        let (_, ConvEpilogue { scale, bias, relu }) = self.weights.project;
        let positions = area(self.sizes.output());
        for (channel, map) in output.chunks_exact_mut(positions).enumerate() {
            let scale = scale.map_or(1.0, |scale| scale[channel]);
            let bias = bias.map_or(0.0, |bias| bias[channel]);
            for value in map.iter_mut() {
                let sum = scale * *value + bias;
                // Written so that NaN stays NaN.
                *value = if relu && sum < 0.0 { 0.0 } else { sum };
            }
            if self.sizes.residual {
                add(map, &input[channel * positions..][..positions]);
            }
        }
    }
}

fn add(sums: &mut [f32], values: &[f32]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

/// The task of computing the sums of the projection over some hidden channels of an image.
struct Part<'a, 'b> {
    pass: &'a Pass<'a>,
    channels: Range<usize>,
    input: &'a [f32],
    sums: &'b mut [f32],
    memory: &'b mut Memory,
}

impl WithSimd for Part<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match tile::across(S::REGISTER_COUNT) {
            4 => self.run::<S, 4>(simd),
            _ => self.run::<S, 2>(simd),
        }
    }
}

impl Part<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const A: usize>(self, simd: S) {
        let (pass, all) = (self.pass, self.channels);
        let mut chunk = Chunk::new(pass, self.input, self.memory);
        for first in all.clone().step_by(pass.at_once) {
            let channels = first..all.end.min(first + pass.at_once);
            chunk.expand::<S, A>(simd, &channels, self.input);
            chunk.convolve(simd, &channels);
            chunk.project::<S, A>(simd, &channels, self.sums, first > all.start);
        }
    }
}

/// The memory for the hidden channels that are computed at once.
struct Chunk<'a, 'b> {
    pass: &'a Pass<'a>,
    /// The number of positions of a feature map of the input, and of the output.
    positions: [usize; 2],
    features: &'b mut [f32],
    wide: &'b mut [f32],
    frames: &'b mut [f32],
    hidden: &'b mut [f32],
    sheets: Vec<f32>,
    /// The start of each channel in `features` and in `hidden`.
    shifts: [Vec<usize>; 2],
}

impl<'a, 'b> Chunk<'a, 'b> {
    #[inline(always)]
    fn new(pass: &'a Pass<'a>, input: &[f32], memory: &'b mut Memory) -> Self {
        let [from, ..] = pass.sizes.channels;
        let positions = [area(pass.sizes.size), area(pass.sizes.output())];
        let [read, written] = positions.map(pitch);
        let features = aligned(&mut memory.features, from * read);
        if pass.weights.expand.is_some() {
            spread(input, positions[0], features);
        }
        let frames = aligned(
            &mut memory.frames,
            pass.at_once * pass.depthwise.frame().size,
        );
        // Only what is inside of the frames is written later, not the zeros around.
        frames.fill(0.0);
        Self {
            pass,
            positions,
            features,
            wide: aligned(&mut memory.wide, pass.at_once * positions[0]),
            frames,
            hidden: aligned(&mut memory.hidden, pass.at_once * written),
            sheets: vec![0.0; pass.depthwise.sheets()],
            shifts: [(from, read), (pass.at_once, written)]
                .map(|(count, pitch)| (0..count).map(|channel| channel * pitch).collect()),
        }
    }

    /// Computes some hidden channels, or takes them from the input, where the depthwise convolution reads them.
    #[inline(always)]
    fn expand<S: Simd, const A: usize>(&mut self, simd: S, channels: &Range<usize>, input: &[f32]) {
        let [from, ..] = self.pass.sizes.channels;
        let ([positions, _], frame) = (self.positions, self.pass.depthwise.frame());
        let Some((weights, epilogue)) = self.pass.weights.expand else {
            let maps = input[channels.start * positions..].chunks_exact(positions);
            for (map, frame_of) in maps.zip(self.frames.chunks_exact_mut(frame.size)) {
                frame.lay_out(map, frame_of);
            }
            return;
        };
        let panels = tile::panels(channels.len());
        let expand = Pointwise {
            weights: &weights[channels.start * from..],
            stride: from,
            terms: 0..from,
            panels: &panels,
            positions,
        };
        let whole = frame.whole();
        let (values, size, begin) = match &whole {
            Some(inner) => (&mut *self.frames, frame.size, inner.start),
            None => (&mut *self.wide, positions, 0),
        };
        let maps = Maps {
            values,
            begin,
            size,
            positions,
        };
        let mut to = Activated {
            maps,
            epilogue: epilogue.from(channels.start),
        };
        expand.each::<S, A>(simd, self.features, &self.shifts[0], &mut to);
        if whole.is_none() {
            let maps = self.wide.chunks_exact(positions).take(channels.len());
            for (map, frame_of) in maps.zip(self.frames.chunks_exact_mut(frame.size)) {
                frame.lay_out(map, frame_of);
            }
        }
    }

    /// Computes the depthwise convolution of some hidden channels.
    #[inline(always)]
    fn convolve<S: Simd>(&mut self, simd: S, channels: &Range<usize>) {
        let ([_, results], depthwise) = (self.positions, &self.pass.depthwise);
        let maps = self.hidden.chunks_exact_mut(pitch(results));
        let frames = self.frames.chunks_exact(depthwise.frame().size);
        for (channel, (map, frame)) in channels.clone().zip(maps.zip(frames)) {
            let map = &mut map[..results];
            depthwise.compute(simd, (channel, frame), &mut self.sheets, map);
            if self.pass.weights.depthwise.1.relu {
                for value in map {
                    // Written so that NaN stays NaN.
                    *value = if *value > LIMIT { LIMIT } else { *value };
                }
            }
        }
    }

    /// Computes the sums of the projection over some hidden channels, and writes them or adds them to `sums`.
    #[inline(always)]
    fn project<S: Simd, const A: usize>(
        &mut self,
        simd: S,
        channels: &Range<usize>,
        sums: &mut [f32],
        onto: bool,
    ) {
        let ([_, width, _], [_, results]) = (self.pass.sizes.channels, self.positions);
        let project = Pointwise {
            weights: self.pass.weights.project.0,
            stride: width,
            terms: channels.clone(),
            panels: &self.pass.panels,
            positions: results,
        };
        let shifts = &self.shifts[1][..channels.len()];
        let mut to = Maps {
            values: sums,
            begin: 0,
            size: results,
            positions: results,
        };
        if onto {
            project.each::<S, A>(simd, self.hidden, shifts, &mut Onto(to));
        } else {
            project.each::<S, A>(simd, self.hidden, shifts, &mut to);
        }
    }
}

/// Feature maps that get the sums of a 1 x 1 convolution after their epilogue. A ReLU also limits them.
struct Activated<'a> {
    maps: Maps<'a>,
    epilogue: ConvEpilogue<'a>,
}

impl<S: Simd, const A: usize> Write<S, A> for Activated<'_> {
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "these are indices of registers")]
    fn write(&mut self, simd: S, channel: usize, at: usize, mut sums: [S::f32s; A]) {
        let ConvEpilogue { scale, bias, relu } = self.epilogue;
        let scale = simd.splat_f32s(scale.map_or(1.0, |scale| scale[channel]));
        let bias = simd.splat_f32s(bias.map_or(0.0, |bias| bias[channel]));
        let (zero, limit) = (simd.splat_f32s(0.0), simd.splat_f32s(LIMIT));
        for a in 0..A {
            let value = simd.mul_add_e_f32s(scale, sums[a], bias);
            sums[a] = if relu {
                // Written so that NaN stays NaN.
                let value = simd.select_f32s(simd.less_than_f32s(value, zero), zero, value);
                simd.select_f32s(simd.less_than_f32s(limit, value), limit, value)
            } else {
                value
            };
        }
        self.maps.write(simd, channel, at, sums);
    }
}
