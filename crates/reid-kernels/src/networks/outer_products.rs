//! The gradient of a convolution with respect to its weights, as a sum of outer products over positions.
//!
//! The input is copied with its zero padding and with as many channels interleaved as a tile is wide. Each
//! value of the gradient is multiplied with the input channels that one tap reads. All taps use a piece of
//! the gradient while it is in the cache. This algorithm needs enough input channels per group to fill the
//! vectors.

use std::{array, ops::Range};

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{
    convolution::{Convolution, area},
    correlate::DEPTH,
    tile::{self, Dense, Listed, Positions, Rows},
    transpose::{SIDE, interleave},
};
use crate::memory::zeros;

/// The number of sums, over all taps, that are computed at a time: they stay in the second cache.
const SUMS: usize = 1 << 15;

/// Computes `gradient[o, c, t] = Σₚ g[o, p] · x[c, s·p + t]` over the positions `p` of all images.
pub(crate) struct Outer<'a> {
    convolution: &'a Convolution,
    /// The number of interleaved channels.
    width: usize,
    /// The zero-padded input, `[groups, channel blocks, batch, height, width, interleaved channels]`.
    input: Vec<f32>,
    /// The gradient with respect to the output, `[batch, groups · results, positions]`.
    gradient: &'a [f32],
    /// For each output position, the offset that the first tap reads in an image of a channel block.
    positions: Vec<usize>,
}

/// Some output channels of a group, for one block of input channels.
struct Task<'a> {
    group: usize,
    block: usize,
    /// The output channels, split into tiles.
    panels: &'a [Range<usize>],
}

impl<'a> Outer<'a> {
    /// Whether the input channels of a group fill at least two thirds of their vectors.
    pub(crate) fn pays(convolution: &Convolution) -> bool {
        let [from, _] = convolution.per_group();
        let width = Arch::new().dispatch(Width);
        // With fewer channels, inner products over positions waste less work.
        3 * from >= 2 * from.next_multiple_of(width)
    }

    /// Interleaves the channels of the input.
    pub(crate) fn new(convolution: &'a Convolution, input: &[f32], gradient: &'a [f32]) -> Self {
        let width = Arch::new().dispatch(Width);
        let [height, columns] = convolution.output();
        let [down, across] = convolution.stride;
        let [_, pitch] = padded(convolution);
        let position = |at: usize| {
            let (y, x) = (at / columns, at % columns);
            (y * down * pitch + x * across) * width
        };
        Self {
            convolution,
            width,
            input: transposed(convolution, input, width),
            gradient,
            positions: (0..height * columns).map(position).collect(),
        }
    }

    /// Computes the gradient with respect to the weights, `[output channels, input channels per group,
    /// taps]`.
    pub(crate) fn run(&self) -> Vec<f32> {
        let [from, to] = self.convolution.per_group();
        let (groups, taps) = (self.convolution.groups, self.convolution.taps());
        let blocks = from.div_ceil(self.width);
        let panels = tile::panels(to);
        let parts = (2 * rayon::current_num_threads()).div_ceil(groups * blocks);
        let per_part = panels.len().div_ceil(parts);
        let parts: Vec<&[Range<usize>]> = panels.chunks(per_part).collect();
        let count = parts.len();
        let tasks = (0..groups * blocks * count).into_par_iter();
        let task = |task: usize| Task {
            group: task / count / blocks,
            block: task / count % blocks,
            panels: parts[task % count],
        };
        let found: Vec<Vec<f32>> = tasks
            .map(|at| Arch::new().dispatch(Sums(self, task(at))))
            .collect();
        // For each output channel of a group, its part and its index in that part.
        let rows = |part: &[Range<usize>]| part.iter().map(Range::len).sum();
        let positions: Vec<(usize, usize)> = parts
            .iter()
            .enumerate()
            .flat_map(|(part, panels)| (0..rows(panels)).map(move |row| (part, row)))
            .collect();
        let mut results = zeros(groups * to * from * taps);
        let each = results.par_chunks_mut(from * taps).enumerate();
        each.for_each(|(result, weights)| {
            let (part, row) = positions[result % to];
            for (block, weights) in weights.chunks_mut(self.width * taps).enumerate() {
                let found = &found[(result / to * blocks + block) * count + part];
                weights.copy_from_slice(&found[row * weights.len()..][..weights.len()]);
            }
        });
        results
    }
}

/// The height and width of the zero-padded input.
fn padded(convolution: &Convolution) -> [usize; 2] {
    [0, 1].map(|axis| convolution.input[axis] + 2 * convolution.padding[axis])
}

/// Copies the input with zero padding and with `width` channels interleaved.
fn transposed(convolution: &Convolution, input: &[f32], width: usize) -> Vec<f32> {
    let [from, _] = convolution.per_group();
    let map = area(convolution.input);
    // Without padding, a feature map is treated as one row.
    let [height, columns] = match convolution.padding {
        [0, 0] => [1, map],
        _ => convolution.input,
    };
    let [top, left] = convolution.padding;
    let [read, pitch] = padded(convolution);
    let blocks = from.div_ceil(width);
    let size = read * pitch * width;
    let mut transposed = zeros(convolution.groups * blocks * convolution.batch * size);
    let each = transposed.par_chunks_mut(size).enumerate();
    each.for_each(|(position, transposed)| {
        let (block, image) = (position / convolution.batch, position % convolution.batch);
        let (group, first) = (block / blocks, block % blocks * width);
        let channels = first..(first + width).min(from);
        let begin = (image * convolution.groups + group) * from;
        for y in 0..height {
            let row = &mut transposed[((y + top) * pitch + left) * width..][..columns * width];
            let source =
                |channel: usize| &input[(begin + channel) * map + y * columns..][..columns];
            let mut lane = 0;
            while lane + SIDE <= channels.len() {
                let sources = array::from_fn(|side| source(first + lane + side));
                interleave(sources, &mut row[lane..], width);
                lane += SIDE;
            }
            for lane in lane..channels.len() {
                let values = row[lane..].iter_mut().step_by(width);
                for (to, from) in values.zip(source(first + lane)) {
                    *to = *from;
                }
            }
        }
    });
    transposed
}

struct Width;

impl WithSimd for Width {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        tile::across(S::REGISTER_COUNT) * S::F32_LANES
    }
}

struct Sums<'a>(&'a Outer<'a>, Task<'a>);

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
    /// Computes the sums of a task, `[results, channels, taps]`.
    #[inline(always)]
    fn sums<S: Simd, const A: usize>(self, simd: S) -> Vec<f32> {
        let Self(outer, Task { block, panels, .. }) = self;
        let convolution = outer.convolution;
        let ([from, _], taps, width) = (convolution.per_group(), convolution.taps(), outer.width);
        let channels = (from - block * width).min(width);
        let count: usize = panels.iter().map(Range::len).sum();
        let mut results = vec![0.0; count * channels * taps];
        let mut rest = results.chunks_exact_mut(channels * taps);
        let at_once = (SUMS / (taps * tile::rows(panels[0].len()) * width)).max(1);
        for panels in panels.chunks(at_once) {
            let size = tile::all_rows(panels) * width;
            let mut sums = vec![0.0; taps * size];
            self.add::<S, A>(simd, panels, &mut sums);
            let mut begin = 0;
            for panel in panels {
                for (row, results) in (0..panel.len()).zip(&mut rest) {
                    for (tap, sums) in sums.chunks_exact(size).enumerate() {
                        let sums = &sums[begin + row * width..][..width];
                        for (to, from) in results[tap..].iter_mut().step_by(taps).zip(sums) {
                            *to = *from;
                        }
                    }
                }
                begin += tile::rows(panel.len()) * width;
            }
        }
        results
    }

    /// Computes the sums of some panels over all images, `[taps, rows, width]`. The taps are the inner
    /// loop, so that they all read the same piece of the gradient.
    #[inline(always)]
    fn add<S: Simd, const A: usize>(&self, simd: S, panels: &[Range<usize>], sums: &mut [f32]) {
        let Self(outer, Task { group, block, .. }) = self;
        let convolution = outer.convolution;
        let ([from, to], width) = (convolution.per_group(), outer.width);
        let [read, pitch] = padded(convolution);
        let size = read * pitch * width;
        let block = group * from.div_ceil(width) + block;
        let input = &outer.input[block * convolution.batch * size..];
        let positions = outer.positions.len();
        // With one tap and no stride, the positions are contiguous.
        let dense = (convolution.kernel, convolution.stride, convolution.padding)
            == ([1, 1], [1, 1], [0, 0]);
        let size_of_tap = tile::all_rows(panels) * width;
        let mut begun = false;
        for image in 0..convolution.batch {
            let first = (image * convolution.groups + group) * to * positions;
            for (chunk, part) in outer.positions.chunks(DEPTH).enumerate() {
                let terms = chunk * DEPTH..chunk * DEPTH + part.len();
                let gradient = Rows {
                    values: &outer.gradient[first..],
                    stride: positions,
                    terms: terms.clone(),
                    begun,
                };
                for (tap, sums) in sums.chunks_exact_mut(size_of_tap).enumerate() {
                    let (y, x) = (tap / convolution.kernel[1], tap % convolution.kernel[1]);
                    let [y, x] = [y * convolution.dilation[0], x * convolution.dilation[1]];
                    let source = &input[image * size + (y * pitch + x) * width..];
                    if dense {
                        let positions = Dense(source).terms(terms.clone(), width);
                        gradient.add::<S, A>(simd, panels, positions, sums);
                    } else {
                        let shifts = part;
                        gradient.add::<S, A>(simd, panels, Listed { source, shifts }, sums);
                    }
                }
                begun = true;
            }
        }
    }
}
