//! Sums of outer products over positions: the gradient of a convolution by its weights, where enough
//! channels lie side by side to fill vectors.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{
    convolution::{Convolution, area},
    correlate::{DEPTH, Panel, Panels},
    tile,
};
use crate::zeros::zeros;

/// `gradient[o, c, t] = Σₚ g[o, p] · x[c, s·p + t]` over the positions `p` of all images.
pub(crate) struct Outer<'a> {
    convolution: &'a Convolution,
    /// Channels side by side.
    width: usize,
    /// The input, `[groups, blocks of channels, batch, height, width, channels]`, with its zeros around it.
    input: Vec<f32>,
    /// The gradient by the output, for each group.
    gradient: Vec<Panels>,
    /// Where the first tap of each position reads, within a block of channels.
    places: Vec<usize>,
}

/// Results of a group for a block of channels.
struct Task {
    group: usize,
    block: usize,
    panels: Range<usize>,
}

impl<'a> Outer<'a> {
    /// Whether channels fill their vectors.
    pub(crate) fn pays(convolution: &Convolution) -> bool {
        let [from, _] = convolution.per_group();
        let width = Arch::new().dispatch(Width);
        // With less, inner products over positions waste less.
        3 * from >= 2 * from.next_multiple_of(width)
    }

    /// Lays both out.
    pub(crate) fn new(convolution: &'a Convolution, input: &[f32], gradient: &[f32]) -> Self {
        let width = Arch::new().dispatch(Width);
        let [_, to] = convolution.per_group();
        let [height, columns] = convolution.output();
        let positions = height * columns;
        let [_, results] = convolution.channels;
        let panels = |group: usize| {
            let terms = convolution.batch * positions;
            Panels::new(to, terms, positions, |result, first, slots| {
                for image in first / positions..convolution.batch {
                    let map = (image * results + group * to + result) * positions;
                    for (number, slot) in gradient[map..map + positions].iter().zip(&mut *slots) {
                        *slot = *number;
                    }
                }
            })
        };
        let [down, across] = convolution.stride;
        let [read, pitch] = padded(convolution);
        let place = |at: usize| {
            let (image, position) = (at / positions, at % positions);
            let (y, x) = (position / columns, position % columns);
            ((image * read + y * down) * pitch + x * across) * width
        };
        Self {
            convolution,
            width,
            input: turned(convolution, input, width),
            gradient: (0..convolution.groups)
                .into_par_iter()
                .map(panels)
                .collect(),
            places: (0..convolution.batch * positions).map(place).collect(),
        }
    }

    /// The gradient by the weights, `[channels, channels per group, taps]`.
    pub(crate) fn run(&self) -> Vec<f32> {
        let [from, to] = self.convolution.per_group();
        let (groups, taps) = (self.convolution.groups, self.convolution.taps());
        let blocks = from.div_ceil(self.width);
        let counts: Vec<usize> = self.gradient[0].results().collect();
        let parts = (2 * rayon::current_num_threads()).div_ceil(groups * blocks);
        let per_part = counts.len().div_ceil(parts);
        let parts = counts.len().div_ceil(per_part);
        let tasks = (0..groups * blocks * parts)
            .into_par_iter()
            .map(|task| Task {
                group: task / parts / blocks,
                block: task / parts % blocks,
                panels: (task % parts * per_part)
                    ..((task % parts + 1) * per_part).min(counts.len()),
            });
        let found: Vec<Vec<f32>> = tasks
            .map(|task| Arch::new().dispatch(Sums(self, task)))
            .collect();
        // Where each result of a group lies: its part, and its place there.
        let places: Vec<(usize, usize)> = counts
            .chunks(per_part)
            .enumerate()
            .flat_map(|(part, counts)| (0..counts.iter().sum()).map(move |row| (part, row)))
            .collect();
        let mut results = zeros(groups * to * from * taps);
        let each = results.par_chunks_mut(from * taps).enumerate();
        each.for_each(|(result, weights)| {
            let (part, row) = places[result % to];
            for (block, weights) in weights.chunks_mut(self.width * taps).enumerate() {
                let found = &found[(result / to * blocks + block) * parts + part];
                weights.copy_from_slice(&found[row * weights.len()..][..weights.len()]);
            }
        });
        results
    }
}

/// Height and width of a map with the zeros around it.
fn padded(convolution: &Convolution) -> [usize; 2] {
    [0, 1].map(|axis| convolution.input[axis] + 2 * convolution.padding[axis])
}

/// The input with some channels side by side.
fn turned(convolution: &Convolution, input: &[f32], width: usize) -> Vec<f32> {
    let [from, _] = convolution.per_group();
    let [height, columns] = convolution.input;
    let [top, left] = convolution.padding;
    let [read, pitch] = padded(convolution);
    let (blocks, map) = (from.div_ceil(width), area(convolution.input));
    let size = read * pitch * width;
    let mut turned = zeros(convolution.groups * blocks * convolution.batch * size);
    let each = turned.par_chunks_mut(size).enumerate();
    each.for_each(|(place, turned)| {
        let (block, image) = (place / convolution.batch, place % convolution.batch);
        let (group, first) = (block / blocks, block % blocks * width);
        let channels = first..(first + width).min(from);
        let begin = (image * convolution.groups + group) * from;
        for y in 0..height {
            let row = &mut turned[((y + top) * pitch + left) * width..][..columns * width];
            for (lane, channel) in channels.clone().enumerate() {
                let source = &input[(begin + channel) * map + y * columns..][..columns];
                for (to, from) in row[lane..].iter_mut().step_by(width).zip(source) {
                    *to = *from;
                }
            }
        }
    });
    turned
}

struct Width;

impl WithSimd for Width {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        tile::across(S::REGISTER_COUNT) * S::F32_LANES
    }
}

struct Sums<'a>(&'a Outer<'a>, Task);

impl WithSimd for Sums<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        match tile::across(S::REGISTER_COUNT) {
            4 => self.sums::<S, 4>(simd),
            _ => self.sums::<S, 2>(simd),
        }
    }
}

impl Sums<'_> {
    /// `[results, channels, taps]`
    #[inline(always)]
    fn sums<S: Simd, const A: usize>(self, simd: S) -> Vec<f32> {
        let Self(
            outer,
            Task {
                group,
                block,
                panels,
            },
        ) = self;
        let convolution = outer.convolution;
        let ([from, _], taps, width) = (convolution.per_group(), convolution.taps(), outer.width);
        let [read, pitch] = padded(convolution);
        let size = convolution.batch * read * pitch * width;
        let blocks = from.div_ceil(width);
        let input = &outer.input[(group * blocks + block) * size..][..size];
        let channels = (from - block * width).min(width);
        let panels: &[Panel] = outer.gradient[group].some(panels);
        let rows = panels.iter().map(|panel| panel.rows()).sum::<usize>();
        let count = panels.iter().map(|panel| panel.results()).sum::<usize>();
        let mut sums = vec![0.0; rows * width];
        let mut results = vec![0.0; count * channels * taps];
        for tap in 0..taps {
            let (y, x) = (tap / convolution.kernel[1], tap % convolution.kernel[1]);
            let source = &input[(y * pitch + x) * width..];
            for (chunk, places) in outer.places.chunks(DEPTH).enumerate() {
                let mut rest = sums.as_mut_slice();
                for panel in panels {
                    let (sums, behind) = rest.split_at_mut(panel.rows() * width);
                    rest = behind;
                    let first = chunk * DEPTH;
                    panel.add::<S, A>(
                        simd,
                        first..first + places.len(),
                        places,
                        source,
                        chunk > 0,
                        sums,
                    );
                }
            }
            let mut sums = sums.as_slice();
            let mut results = results.chunks_exact_mut(channels * taps);
            for panel in panels {
                let (own, behind) = sums.split_at(panel.rows() * width);
                sums = behind;
                let own = own.chunks_exact(width).take(panel.results());
                for (own, results) in own.zip(&mut results) {
                    for (to, from) in results[tap..].iter_mut().step_by(taps).zip(own) {
                        *to = *from;
                    }
                }
            }
        }
        results
    }
}
