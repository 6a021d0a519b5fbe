//! The computation of one image: its streams on one thread, or on several.

use std::{cell::RefCell, cmp::Reverse, iter, ops::Range};

use pulp::{Arch, Simd, WithSimd};

use super::{ChannelGate, LightConvolution, OmniScale};
use crate::{
    memory::zeros,
    networks::{
        convolution::{Convolution, area},
        depthwise::Depthwise,
        pointwise::{Maps, Pointwise, aligned, pitch, spread},
        sum::{single, sum},
        tile,
    },
};

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// The scratch memory of a thread. It is kept between streams, because fresh memory is slow to allocate.
#[derive(Debug, Default)]
struct Memory {
    /// What a 1 x 1 convolution reads, `[channels, pitch]`.
    features: Vec<f32>,
    /// What a depthwise convolution reads, `[channels, frame]`.
    frames: Vec<f32>,
}

/// The computation of one image.
pub(super) struct Pass<'a> {
    channels: usize,
    positions: usize,
    /// The light convolutions of each stream, as 1 x 1 and depthwise convolution.
    streams: Vec<Vec<(Pointwise<'a>, Depthwise<'a>)>>,
    gate: ChannelGate<'a>,
}

impl<'a> Pass<'a> {
    /// `panels` are the channels, split into tiles.
    pub(super) fn new(
        sizes: &OmniScale,
        streams: &[&[LightConvolution<'a>]],
        gate: ChannelGate<'a>,
        panels: &'a [Range<usize>],
    ) -> Self {
        let (channels, positions) = (sizes.channels, area(sizes.size));
        let sizes = Convolution {
            batch: 1,
            channels: [channels; 2],
            groups: channels,
            input: sizes.size,
            kernel: [3, 3],
            stride: [1, 1],
            padding: [1, 1],
            dilation: [1, 1],
        };
        // All convolutions read the same positions; only their weights differ.
        let mut first: Option<Depthwise<'a>> = None;
        let mut light = |light: &LightConvolution<'a>| {
            let pointwise = Pointwise {
                weights: light.pointwise,
                stride: channels,
                terms: 0..channels,
                panels,
                positions,
            };
            let (weights, epilogue) = (light.depthwise, light.epilogue);
            let first = first.get_or_insert_with(|| Depthwise::forward(&sizes, weights, epilogue));
            (pointwise, first.with(weights, epilogue))
        };
        let stream = |stream: &&[LightConvolution<'a>]| stream.iter().map(&mut light).collect();
        Self {
            channels,
            positions,
            streams: streams.iter().map(stream).collect(),
            gate,
        }
    }

    /// The number of multiplications of all light convolutions.
    pub(super) fn multiplications(&self) -> usize {
        let lights: usize = self.streams.iter().map(Vec::len).sum();
        lights * self.channels * (self.channels + 9) * self.positions
    }

    /// Computes one image on the calling thread.
    pub(super) fn image(&self, input: &[f32], output: &mut [f32]) {
        for stream in 0..self.streams.len() {
            self.stream(stream, input, output, stream > 0);
        }
    }

    /// Computes one image, with its streams on several threads.
    pub(super) fn image_in_parts(&self, input: &[f32], output: &mut [f32]) {
        let mut others = zeros((self.streams.len() - 1) * output.len());
        let first = iter::once((0, &mut *output));
        let mut parts: Vec<(usize, &mut [f32])> = first
            .chain((1..).zip(others.chunks_exact_mut(input.len())))
            .collect();
        parts.sort_by_key(|(stream, _)| Reverse(self.streams[*stream].len()));
        self.parts(input, parts);
        for part in others.chunks_exact(input.len()) {
            for (sum, value) in output.iter_mut().zip(part) {
                *sum += value;
            }
        }
    }

    /// Computes some streams, from the longest to the shortest, in two halves of about the same length.
    fn parts(&self, input: &[f32], parts: Vec<(usize, &mut [f32])>) {
        if parts.len() < 2 {
            for (stream, output) in parts {
                self.stream(stream, input, output, false);
            }
            return;
        }
        let (mut left, mut right) = (Vec::new(), Vec::new());
        let mut ahead = 0_isize;
        for part in parts {
            let length = self.streams[part.0].len().cast_signed();
            if ahead <= 0 {
                ahead += length;
                left.push(part);
            } else {
                ahead -= length;
                right.push(part);
            }
        }
        rayon::join(|| self.parts(input, left), || self.parts(input, right));
    }

    /// Computes one gated stream, and adds it to `output` or writes it there.
    fn stream(&self, stream: usize, input: &[f32], output: &mut [f32], onto: bool) {
        MEMORY.with_borrow_mut(|memory| {
            let stream = Stream {
                pass: self,
                lights: &self.streams[stream],
                input,
                output,
                onto,
                memory,
            };
            Arch::new().dispatch(stream);
        });
    }
}

/// The task of computing one gated stream of an image.
struct Stream<'a, 'b> {
    pass: &'a Pass<'a>,
    lights: &'a [(Pointwise<'a>, Depthwise<'a>)],
    input: &'a [f32],
    output: &'b mut [f32],
    onto: bool,
    memory: &'b mut Memory,
}

impl WithSimd for Stream<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match tile::across(S::REGISTER_COUNT) {
            4 => self.run::<S, 4>(simd),
            _ => self.run::<S, 2>(simd),
        }
    }
}

impl Stream<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const A: usize>(self, simd: S) {
        let Memory { features, frames } = self.memory;
        let (channels, positions) = (self.pass.channels, self.pass.positions);
        let (_, first) = self.lights.first().expect("a stream of light convolutions");
        let (size, pitch) = (first.frame().size, pitch(positions));
        let inner = first.frame().whole().expect("a kernel that keeps the size");
        let features = aligned(features, channels * pitch);
        let frames = aligned(frames, channels * size);
        spread(self.input, positions, features);
        for frame in frames.chunks_exact_mut(size) {
            frame[..inner.start].fill(0.0);
            frame[inner.end..].fill(0.0);
        }
        let shifts: Vec<usize> = (0..channels).map(|channel| channel * pitch).collect();
        for (pointwise, depthwise) in self.lights {
            let mut to = Maps {
                values: &mut *frames,
                begin: inner.start,
                size,
                positions,
            };
            pointwise.each::<S, A>(simd, features, &shifts, &mut to);
            let maps = features.chunks_exact_mut(pitch);
            for (channel, (map, frame)) in maps.zip(frames.chunks_exact(size)).enumerate() {
                let map = &mut map[..positions];
                depthwise.compute(simd, (channel, frame), &mut [], map);
            }
        }
        let mut means = Vec::with_capacity(channels);
        for map in features.chunks_exact(pitch) {
            let map = &map[..positions];
            means.push(single(sum(map, map, |x, _| x) / positions as f64));
        }
        let gates = self.pass.gate.gates(&means);
        let maps = features.chunks_exact(pitch).zip(gates);
        for (output, (map, gate)) in self.output.chunks_exact_mut(positions).zip(maps) {
            let values = output.iter_mut().zip(map);
            if self.onto {
                values.for_each(|(output, value)| *output += gate * value);
            } else {
                values.for_each(|(output, value)| *output = gate * value);
            }
        }
    }
}
