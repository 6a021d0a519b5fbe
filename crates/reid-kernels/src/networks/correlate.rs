//! Sums of shifted, scaled feature maps: the forward pass of a convolution and its gradient with respect to
//! the input.
//!
//! Results are computed in blocks of [`BLOCK`] positions. For each block, the input of some channels is
//! copied as `window` says, and every tile adds about [`DEPTH`] terms from that copy. When all channels are
//! added, the epilogue is applied and the block is written.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::{
    convolution::ConvEpilogue,
    tile::{self, Dense, Listed, Rows},
    window::Window,
};

/// The number of result positions in a block: the sums of some hundred output channels stay in the second
/// cache.
pub(crate) const BLOCK: usize = 256;

/// The number of terms that are added in one pass, so that the columns of a tile stay in the first cache.
pub(crate) const DEPTH: usize = 128;

/// The number of values in a cache line.
const LINE: usize = 16;

/// The positions in a feature map at which a grid of results is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// The width of the feature map.
    pub(crate) width: usize,
    /// The position of the result at (0, 0).
    pub(crate) begin: [usize; 2],
    /// The step between results, vertical and horizontal.
    pub(crate) step: [usize; 2],
}

impl Target {
    /// Whether results in rows of this width are contiguous in the feature map.
    pub(crate) fn is_whole(&self, width: usize) -> bool {
        self.width == width && self.begin == [0, 0] && self.step == [1, 1]
    }
}

/// The task of computing some output channels of some images.
pub(crate) struct Correlation<'a, 'b> {
    pub(crate) window: &'a Window,
    /// `[results, terms]`, with one term per input channel and tap.
    pub(crate) weights: &'a [f32],
    pub(crate) terms: usize,
    /// The output channels, split into tiles.
    pub(crate) panels: &'a [Range<usize>],
    /// For each image, its input channels, `[channels, positions]`.
    pub(crate) maps: &'a [&'a [f32]],
    pub(crate) target: Target,
    /// The rows of the grid of results to compute; all of them if `None`.
    pub(crate) rows: Option<Range<usize>>,
    /// The epilogue, beginning at the first output channel of the task.
    pub(crate) epilogue: ConvEpilogue<'a>,
    /// Whether results are added to the values that `results` holds.
    pub(crate) onto: bool,
    /// For each image and output channel, its values, or those of the rows to compute.
    pub(crate) results: &'a mut [&'b mut [f32]],
    pub(crate) memory: &'a mut Memory,
}

/// The scratch memory of a thread. It is kept between tasks, because fresh memory is slow to allocate.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The copy of the input of a block, for some channels, in the order of [`Layout`].
    copy: Vec<f32>,
    /// The sums of a block: `[tiles, rows, width]`.
    sums: Vec<f32>,
}

impl Memory {
    /// Slices of at least the given lengths. The copy begins at the start of a cache line.
    fn slices(&mut self, copy: usize, sums: usize) -> (&mut [f32], &mut [f32]) {
        for (values, count) in [(&mut self.copy, LINE + copy), (&mut self.sums, sums)] {
            if values.len() < count {
                values.resize(count, 0.0);
            }
        }
        let begin = self.copy.as_ptr().align_offset(LINE * size_of::<f32>());
        (&mut self.copy[begin.min(LINE)..], &mut self.sums)
    }
}

/// The layout of the copy of a block's input: `[pieces, channels, phases, positions]`.
struct Layout {
    /// The number of positions in a piece.
    positions: usize,
    /// The distance from one phase to the next, in values.
    phase: usize,
    /// The distance from one channel to the next, in values.
    channel: usize,
    /// Whether a piece holds exactly the values that one tile reads.
    dense: bool,
}

impl Layout {
    /// The layout for `results` output channels in tiles of `width` positions.
    fn new(window: &Window, width: usize, results: usize) -> Self {
        /// From this number of sums on, they take longer than a separate copy for each tile.
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
        // An odd number of whole cache lines, so that the same position of different channels does not map to
        // the same cache set.
        let lines = (window.phases() * stretch).div_ceil(LINE) | 1;
        Self {
            positions: stretch,
            phase: stretch,
            channel: lines * LINE,
            dense: false,
        }
    }

    /// The length of a copy of `channels` channels.
    fn size(&self, channels: usize) -> usize {
        BLOCK.div_ceil(self.positions) * channels * self.channel
    }

    /// The offset of each channel and tap in a piece.
    fn shifts(&self, window: &Window, channels: usize) -> Vec<usize> {
        let taps = |channel: usize| {
            let taps = window.shifts().iter();
            taps.map(move |(phase, shift)| channel * self.channel + phase * self.phase + shift)
        };
        (0..channels).flat_map(taps).collect()
    }
}

/// The number of images in a task: a single small image would leave tiles of its block empty.
pub(crate) fn together(window: &Window) -> usize {
    BLOCK.div_ceil(window.area())
}

impl Correlation<'_, '_> {
    /// Computes the results.
    pub(crate) fn run(self) {
        Arch::new().dispatch(self);
    }

    /// The positions of the window to compute.
    fn span(&self) -> Range<usize> {
        let window = self.window;
        match &self.rows {
            Some(rows) => {
                let [begin, last] = [rows.start, rows.end - 1].map(|row| row * window.pitch());
                begin..last + window.grid[1]
            }
            None => 0..window.span(self.maps.len()),
        }
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
        let (copy, sums) = memory.slices(layout.size(per_chunk), results * BLOCK);
        let span = self.span();
        for from in span.clone().step_by(BLOCK) {
            let to = (from + BLOCK).min(span.end);
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
            self.write_block(sums, width, &(from..to));
        }
        *self.memory = memory;
    }

    /// Copies the positions `read` of some channels, as the taps read them.
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
        // For each part, its range in the copy, its image, and its first position in the image.
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

    /// Applies the epilogue to the sums of a block and writes them to the results.
    #[inline(always)]
    fn write_block(&mut self, sums: &[f32], width: usize, block: &Range<usize>) {
        let mut first = 0;
        for panel in self.panels {
            self.write_panel(&sums[first * width..], width, block, panel);
            first += tile::rows(panel.len());
        }
    }

    #[inline(always)]
    fn write_panel(
        &mut self,
        sums: &[f32],
        tile_width: usize,
        block: &Range<usize>,
        results: &Range<usize>,
    ) {
        let rows = tile::all_rows(self.panels);
        let channels = self.panels.last().map_or(0, |panel| panel.end);
        let above = self.rows.as_ref().map_or(0, |rows| rows.start) * self.target.width;
        let (area, pitch) = (self.window.area(), self.window.pitch());
        let [height, width] = self.window.grid;
        let [down, across] = self.target.step;
        // Results that are contiguous where they are written are treated as one row.
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
                // The rest of the row, or of the image, holds no results.
                at += if y >= height {
                    area - within
                } else {
                    pitch - x
                };
                continue;
            }
            // Up to the end of the row, of the block or of the tile, whichever comes first.
            let (tile, lane) = (
                (at - block.start) / tile_width,
                (at - block.start) % tile_width,
            );
            let count = (width - x).min(block.end - at).min(tile_width - lane);
            let begin = (self.target.begin[0] + y * down) * self.target.width
                + self.target.begin[1]
                + x * across
                - above;
            let maps = &mut self.results[image * channels..][..channels];
            let ConvEpilogue { scale, bias, relu } = self.epilogue;
            let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
            // Written so that NaN stays NaN.
            let floored = |value: f32| if value < floor { floor } else { value };
            for (row, result) in results.clone().enumerate() {
                let scale = scale.map_or(1.0, |scale| scale[result]);
                let bias = bias.map_or(0.0, |bias| bias[result]);
                let values = &sums[(tile * rows + row) * tile_width + lane..][..count];
                let positions = &mut maps[result][begin..];
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
            // Half as wide if one tile is then enough.
            4 if self.span().len() > 2 * S::F32_LANES => self.blocks::<S, 4>(simd),
            _ => self.blocks::<S, 2>(simd),
        }
    }
}
