//! Maps as sums of shifted maps: the forward pass of a convolution, and its gradient by the input.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::{
    convolution::ConvEpilogue,
    tile::{self, Dense, Listed, Rows},
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

impl Target {
    /// Whether results of rows of a width lie in the map one behind the other.
    fn is_whole(&self, width: usize) -> bool {
        self.width == width && self.begin == [0, 0] && self.step == [1, 1]
    }
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
    /// Of the first result on.
    pub(crate) epilogue: ConvEpilogue<'a>,
    /// Whether results are added to what is there.
    pub(crate) onto: bool,
    /// For each image `[results, positions]`.
    pub(crate) results: &'a mut [&'b mut [f32]],
    pub(crate) memory: &'a mut Memory,
}

/// What a thread works in, kept because fresh memory is slow to get.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// What a block reads of some channels, as [`Layout`] says.
    copy: Vec<f32>,
    /// The sums of a block: `[tiles, rows, width]`.
    sums: Vec<f32>,
}

impl Memory {
    /// So many numbers of each, the copy from the begin of a line of cache on.
    fn of(&mut self, copy: usize, sums: usize) -> (&mut [f32], &mut [f32]) {
        for (values, count) in [(&mut self.copy, LINE + copy), (&mut self.sums, sums)] {
            if values.len() < count {
                values.resize(count, 0.0);
            }
        }
        let begin = self.copy.as_ptr().align_offset(LINE * size_of::<f32>());
        (&mut self.copy[begin.min(LINE)..], &mut self.sums)
    }
}

/// How the copy of what a block reads lies: `[pieces, channels, phases, positions]`.
struct Layout {
    /// Positions of a piece.
    positions: usize,
    /// Numbers from a phase to the next.
    phase: usize,
    /// Numbers from a channel to the next.
    channel: usize,
    /// Whether a piece is what a tile reads, and nothing between.
    dense: bool,
}

impl Layout {
    /// The layout for so many results in tiles of a width.
    fn new(window: &Window, width: usize, results: usize) -> Self {
        /// Sums of a tile that take longer than copying what it reads by itself.
        const MANY: usize = 1 << 12;
        if window.is_apart() && results * width >= MANY {
            return Self {
                positions: width,
                phase: width,
                channel: window.phases() * width,
                dense: true,
            };
        }
        let stretch = (BLOCK + window.reach()).next_multiple_of(LINE);
        // Whole lines of cache, and an odd number of them, so that the same place of many channels does
        // not compete for the same lines.
        let lines = (window.phases() * stretch).div_ceil(LINE) | 1;
        Self {
            positions: stretch,
            phase: stretch,
            channel: lines * LINE,
            dense: false,
        }
    }

    /// Numbers of a copy of so many channels.
    fn size(&self, channels: usize) -> usize {
        BLOCK.div_ceil(self.positions) * channels * self.channel
    }

    /// Where each tap of so many channels begins in a piece.
    fn shifts(&self, window: &Window, channels: usize) -> Vec<usize> {
        let of = |channel: usize| {
            let taps = window.shifts().iter();
            taps.map(move |(phase, shift)| channel * self.channel + phase * self.phase + shift)
        };
        (0..channels).flat_map(of).collect()
    }
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
        let taps = window.shifts().len();
        let channels = self.terms / taps;
        let chunks = (self.terms + DEPTH / 2) / DEPTH;
        let per_chunk = channels.div_ceil(chunks.max(1));
        let results = tile::all_rows(self.panels);
        let layout = Layout::new(window, width, results);
        let shifts = layout.shifts(window, per_chunk);
        let mut memory = std::mem::take(self.memory);
        let (copy, sums) = memory.of(layout.size(per_chunk), results * BLOCK);
        let span = window.span(self.results.len());
        for from in (0..span).step_by(BLOCK) {
            let to = (from + BLOCK).min(span);
            let tiles = (to - from).div_ceil(width);
            for first in (0..channels).step_by(per_chunk) {
                let last = (first + per_chunk).min(channels);
                self.lay_out(first..last, from..to + window.reach(), &layout, copy);
                let rows = Rows {
                    values: self.weights,
                    stride: self.terms,
                    terms: first * taps..last * taps,
                    begun: first > 0,
                };
                let shifts = &shifts[..(last - first) * taps];
                let sums = sums.chunks_exact_mut(width * results);
                for (tile, sums) in sums.take(tiles).enumerate() {
                    if layout.dense {
                        let size = shifts.len() * width;
                        let positions = Dense(&copy[tile * size..][..size]);
                        rows.add::<S, A>(simd, self.panels, positions, sums);
                    } else {
                        let source = &copy[tile * width..];
                        rows.add::<S, A>(simd, self.panels, Listed { source, shifts }, sums);
                    }
                }
            }
            self.hand_out(sums, width, &(from..to));
        }
        *self.memory = memory;
    }

    /// Copies what some channels' taps read for the results at some positions.
    #[inline(always)]
    fn lay_out(
        &self,
        channels: Range<usize>,
        read: Range<usize>,
        layout: &Layout,
        copy: &mut [f32],
    ) {
        let window = self.window;
        let map = window.map[0] * window.map[1];
        let piece = channels.len() * layout.channel;
        // Where each part lies, which image it is of, and where it begins there.
        let mut parts = Vec::new();
        for (from, begin) in read
            .clone()
            .step_by(layout.positions)
            .zip((0..).step_by(piece))
        {
            let to = (from + layout.positions).min(read.end);
            for (image, within, part) in window.parts(from..to) {
                let position = begin + part.start - from..begin + part.end - from;
                parts.push((position, self.maps.get(image), within));
            }
        }
        for (index, channel) in channels.enumerate() {
            for phase in 0..window.phases() {
                let begin = index * layout.channel + phase * layout.phase;
                for (position, maps, within) in &parts {
                    let copy = &mut copy[begin + position.start..begin + position.end];
                    match maps {
                        Some(maps) => {
                            let map = &maps[channel * map..][..map];
                            window.lay_out(phase, *within, map, copy);
                        }
                        None => copy.fill(0.0),
                    }
                }
            }
        }
    }

    /// Copies the sums of a block to where the results lie.
    #[inline(always)]
    fn hand_out(&mut self, sums: &[f32], width: usize, block: &Range<usize>) {
        let mut first = 0;
        for panel in self.panels {
            self.hand_out_panel(&sums[first * width..], width, block, panel);
            first += tile::rows(panel.len());
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
        let rows = tile::all_rows(self.panels);
        let (area, pitch) = (self.window.area(), self.window.pitch());
        let [height, width] = self.window.grid;
        let [down, across] = self.target.step;
        // Where results lie as they were computed, all rows are one.
        let (height, width, pitch) = if pitch == width && self.target.is_whole(width) {
            (1, height * width, height * width)
        } else {
            (height, width, pitch)
        };
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
            let ConvEpilogue { scale, bias, relu } = self.epilogue;
            let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
            // Written so that what is not a number stays so.
            let floored = |value: f32| if value < floor { floor } else { value };
            for (row, result) in results.clone().enumerate() {
                let scale = scale.map_or(1.0, |scale| scale[result]);
                let bias = bias.map_or(0.0, |bias| bias[result]);
                let values = &sums[(tile * rows + row) * tile_width + lane..][..count];
                let positions = &mut maps[result * self.positions + begin..];
                let sum = |from: &f32| scale * from + bias;
                if across > 1 {
                    for (to, from) in positions.iter_mut().step_by(across).zip(values) {
                        let before = if self.onto { *to } else { 0.0 };
                        *to = floored(sum(from) + before);
                    }
                } else if self.onto {
                    for (to, from) in positions[..count].iter_mut().zip(values) {
                        *to = floored(sum(from) + *to);
                    }
                } else {
                    for (to, from) in positions[..count].iter_mut().zip(values) {
                        *to = floored(sum(from));
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
