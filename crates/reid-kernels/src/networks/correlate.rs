//! Maps as sums of shifted maps: the forward pass of a convolution, and its gradient by the input.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::{
    tile::{self, Rows},
    window::Window,
};

/// Positions of results that are computed together: the sums of some hundred results stay in the
/// second cache.
pub(crate) const BLOCK: usize = 256;

/// Terms of a sum that are added together, so that a tile's part of the maps stays in the first cache.
pub(crate) const DEPTH: usize = 128;

/// Numbers in a line of cache.
const LINE: usize = 16;

/// Where the results of a grid lie in a map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Width of the map.
    pub(crate) width: usize,
    /// Where the result at 0, 0 lies.
    pub(crate) begin: [usize; 2],
    /// The step between results.
    pub(crate) step: [usize; 2],
}

/// The sums of shifted maps for some results and some images.
pub(crate) struct Correlation<'a, 'b> {
    pub(crate) window: &'a Window,
    /// `[results, terms]`, a term for each channel read and tap.
    pub(crate) weights: &'a [f32],
    pub(crate) terms: usize,
    /// The results by tiles.
    pub(crate) panels: &'a [Range<usize>],
    /// For each image the maps that are read, one behind the other.
    pub(crate) maps: &'a [&'a [f32]],
    pub(crate) target: Target,
    /// Positions of a map of results.
    pub(crate) positions: usize,
    /// Added to each result, one number per result.
    pub(crate) bias: Option<&'a [f32]>,
    /// What results are at least.
    pub(crate) floor: f32,
    /// For each image `[results, positions]`.
    pub(crate) results: &'a mut [&'b mut [f32]],
    pub(crate) memory: &'a mut Memory,
}

/// What a thread works in, kept because fresh memory is slow to get.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Some channels of the maps that a block reads: `[channels, phases, block + reach]`.
    copy: Vec<f32>,
    /// The sums of a block: `[panels, tiles, rows, width]`.
    sums: Vec<f32>,
}

/// How many images are worth computing together, because one alone leaves tiles empty.
pub(crate) fn together(window: &Window) -> usize {
    BLOCK.div_ceil(window.area())
}

impl Correlation<'_, '_> {
    /// Computes the results.
    pub(crate) fn run(self) {
        Arch::new().dispatch(self);
    }

    #[inline(always)]
    fn blocks<S: Simd, const A: usize>(mut self, simd: S) {
        let width = A * S::F32_LANES;
        let window = self.window;
        let taps = window.shifts();
        let channels = self.terms / taps.len();
        let chunks = (self.terms + DEPTH / 2) / DEPTH;
        let per_chunk = channels.div_ceil(chunks.max(1));
        let stretch = (BLOCK + window.reach()).next_multiple_of(LINE);
        let size = apart(window.phases() * stretch);
        let shifts: Vec<usize> = (0..per_chunk)
            .flat_map(|channel| {
                let taps = taps.iter();
                taps.map(move |(phase, shift)| channel * size + phase * stretch + shift)
            })
            .collect();
        let Memory { mut copy, mut sums } = std::mem::take(self.memory);
        if copy.len() < LINE + per_chunk * size {
            copy.resize(LINE + per_chunk * size, 0.0);
        }
        let begin = copy
            .as_ptr()
            .align_offset(LINE * size_of::<f32>())
            .min(LINE);
        let panels = self.panels;
        let rows: usize = panels.iter().map(|panel| tile::rows(panel.len())).sum();
        if sums.len() < rows * BLOCK {
            sums.resize(rows * BLOCK, 0.0);
        }
        let span = window.span(self.results.len());
        for from in (0..span).step_by(BLOCK) {
            let to = (from + BLOCK).min(span);
            let tiles = (to - from).div_ceil(width);
            for first in (0..channels).step_by(per_chunk) {
                let last = (first + per_chunk).min(channels);
                let copy = &mut copy[begin..];
                self.lay_out(first..last, from..to + window.reach(), stretch, copy);
                let rows = Rows {
                    numbers: self.weights,
                    stride: self.terms,
                    terms: first * taps.len()..last * taps.len(),
                    shifts: &shifts[..(last - first) * taps.len()],
                    begun: first > 0,
                };
                for tile in 0..tiles {
                    let source = &copy[tile * width..];
                    let mut rest = sums.as_mut_slice();
                    for panel in panels {
                        let count = tile::rows(panel.len()) * width;
                        let (sums, behind) = rest.split_at_mut(count * tiles);
                        rest = behind;
                        let sums = &mut sums[tile * count..][..count];
                        rows.add::<S, A>(simd, panel, source, sums);
                    }
                }
            }
            self.hand_out(&sums, width, &(from..to));
        }
        *self.memory = Memory { copy, sums };
    }

    /// Copies what some channels' taps read for the results at some positions.
    #[inline(always)]
    fn lay_out(
        &self,
        channels: Range<usize>,
        read: Range<usize>,
        stretch: usize,
        copy: &mut [f32],
    ) {
        let window = self.window;
        let map = window.map[0] * window.map[1];
        let size = apart(window.phases() * stretch);
        for (channel, copy) in channels.zip(copy.chunks_exact_mut(size)) {
            let map = |image: usize| {
                let maps = self.maps.get(image)?;
                Some(&maps[channel * map..][..map])
            };
            for (phase, copy) in copy
                .chunks_exact_mut(stretch)
                .enumerate()
                .take(window.phases())
            {
                window.lay_out(phase, read.start, map, &mut copy[..read.len()]);
            }
        }
    }

    /// Copies the sums of a block to where the results lie.
    #[inline(always)]
    fn hand_out(&mut self, sums: &[f32], width: usize, block: &Range<usize>) {
        let tiles = block.len().div_ceil(width);
        let mut rest = sums;
        for panel in self.panels {
            let (sums, behind) = rest.split_at(tile::rows(panel.len()) * tiles * width);
            rest = behind;
            self.hand_out_panel(sums, width, block, panel);
        }
    }

    #[inline(always)]
    fn hand_out_panel(
        &mut self,
        sums: &[f32],
        tile_width: usize,
        block: &Range<usize>,
        results: &Range<usize>,
    ) {
        let rows = tile::rows(results.len());
        let (area, pitch) = (self.window.area(), self.window.pitch());
        let [height, width] = self.window.grid;
        let [down, across] = self.target.step;
        let mut at = block.start;
        while at < block.end {
            let (image, within) = (at / area, at % area);
            let (y, x) = (within / pitch, within % pitch);
            if y >= height || x >= width {
                // The rest of the row, or of the image, is no result.
                at += if y >= height {
                    area - within
                } else {
                    pitch - x
                };
                continue;
            }
            // The rest of the row, of the block, and of the tile, whichever ends first.
            let (tile, lane) = (
                (at - block.start) / tile_width,
                (at - block.start) % tile_width,
            );
            let count = (width - x).min(block.end - at).min(tile_width - lane);
            let begin = (self.target.begin[0] + y * down) * self.target.width
                + self.target.begin[1]
                + x * across;
            let maps = &mut self.results[image];
            for (row, result) in results.clone().enumerate() {
                let bias = self.bias.map_or(0.0, |bias| bias[result]);
                let numbers = &sums[(tile * rows + row) * tile_width + lane..][..count];
                let places = &mut maps[result * self.positions + begin..];
                let floor = self.floor;
                let write = |to: &mut f32, from: &f32| {
                    let value = from + bias;
                    // Written so that what is not a number stays so.
                    *to = if value < floor { floor } else { value };
                };
                if across == 1 {
                    for (to, from) in places[..count].iter_mut().zip(numbers) {
                        write(to, from);
                    }
                } else {
                    for (to, from) in places.iter_mut().step_by(across).zip(numbers) {
                        write(to, from);
                    }
                }
            }
            at += count;
        }
    }
}

impl WithSimd for Correlation<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match tile::across(S::REGISTER_COUNT) {
            4 => self.blocks::<S, 4>(simd),
            _ => self.blocks::<S, 2>(simd),
        }
    }
}

/// How far the maps of channels that take so many numbers begin from each other: whole lines of cache, and
/// an odd number of them, so that the same place of many channels does not compete for the same lines.
fn apart(numbers: usize) -> usize {
    (numbers.div_ceil(LINE) | 1) * LINE
}
