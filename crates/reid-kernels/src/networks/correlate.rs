//! Maps as sums of shifted maps: the forward pass of a convolution, and its gradient by the input.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{
    tile::{self, ACROSS},
    window::Window,
};

/// Positions of results that are computed together, so that the maps they read stay in cache.
const BLOCK: usize = 256;

/// Terms of a sum that are added together, so that a tile's part of the maps stays in the first cache.
const DEPTH: usize = 160;

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

/// The weights of some channels of results, in panels of as many rows as a tile has.
#[derive(Debug)]
pub(crate) struct Panels {
    panels: Vec<Panel>,
    /// Terms of each sum: channels read times taps.
    terms: usize,
}

#[derive(Debug)]
struct Panel {
    /// Rows of the tile, of which the last ones may be zeros.
    rows: usize,
    /// Rows that are results.
    results: usize,
    /// `[terms, rows]`.
    weights: Vec<f32>,
}

/// The rows of the smallest tile that takes so many results.
fn rows_for(results: usize, registers: usize) -> usize {
    let most = tile::rows(registers);
    let step = most / 3;
    results.div_ceil(step).min(3) * step
}

struct Registers;

impl WithSimd for Registers {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::REGISTER_COUNT
    }
}

impl Panels {
    /// Lays weights out: `weight(result, term)` for each result and term.
    pub(crate) fn new(
        results: usize,
        terms: usize,
        weight: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Self {
        let registers = Arch::new().dispatch(Registers);
        let mut panels = Vec::new();
        let mut first = 0;
        while first < results {
            let rows = rows_for(results - first, registers);
            let count = rows.min(results - first);
            panels.push((first, rows, count));
            first += count;
        }
        let panels = panels.into_par_iter().map(|(first, rows, count)| {
            let mut weights = vec![0.0; terms * rows];
            for (term, weights) in weights.chunks_exact_mut(rows).enumerate() {
                for (row, slot) in weights.iter_mut().enumerate().take(count) {
                    *slot = weight(first + row, term);
                }
            }
            Panel {
                rows,
                results: count,
                weights,
            }
        });
        Self {
            panels: panels.collect(),
            terms,
        }
    }

    /// The number of panels, and how many results each has.
    pub(crate) fn results(&self) -> impl Iterator<Item = usize> {
        self.panels.iter().map(|panel| panel.results)
    }
}

/// The sums of shifted maps for some panels and some images.
pub(crate) struct Correlation<'a, 'b> {
    pub(crate) window: &'a Window,
    pub(crate) panels: &'a Panels,
    /// Which panels.
    pub(crate) range: Range<usize>,
    /// Where each term's maps begin in `copy`: its channel's place and its tap's shift.
    pub(crate) shifts: &'a [usize],
    /// The laid-out maps, each channel's images one behind the other, with [`slack`] zeros behind.
    pub(crate) copy: &'a [f32],
    pub(crate) target: Target,
    /// Positions of a map of results.
    pub(crate) positions: usize,
    /// Added to each result, one number per result of the panels in the range.
    pub(crate) bias: Option<&'a [f32]>,
    /// What results are at least.
    pub(crate) floor: f32,
    /// For each image `[results, positions]`.
    pub(crate) results: &'a mut [&'b mut [f32]],
}

/// Numbers that must lie behind the laid-out maps, because tiles are read whole.
pub(crate) fn slack(window: &Window) -> usize {
    BLOCK + window.reach()
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
    fn tiles<S: Simd, const R: usize>(
        &self,
        simd: S,
        weights: &[f32],
        from: usize,
        sums: &mut [f32],
    ) {
        let width = ACROSS * S::F32_LANES;
        let terms = self.panels.terms;
        for first in (0..terms).step_by(DEPTH) {
            let last = (first + DEPTH).min(terms);
            let weights = &weights[first * R..last * R];
            let shifts = &self.shifts[first..last];
            for (at, sums) in sums.chunks_exact_mut(width * R).enumerate() {
                let (sums, _) = S::as_mut_simd_f32s(sums);
                let mut local = [[simd.splat_f32s(0.0); ACROSS]; R];
                for r in 0..R {
                    for x in 0..ACROSS {
                        local[r][x] = sums[r * ACROSS + x];
                    }
                }
                let source = &self.copy[from + at * width..];
                tile::correlate::<S, R>(simd, weights, shifts, source, &mut local);
                for r in 0..R {
                    for x in 0..ACROSS {
                        sums[r * ACROSS + x] = local[r][x];
                    }
                }
            }
        }
    }

    /// Copies the sums of one block and panel to where the results lie.
    #[inline(always)]
    fn hand_out<const TILE: usize>(
        &mut self,
        sums: &[f32],
        rows: usize,
        block: &Range<usize>,
        results: &Range<usize>,
    ) {
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
            let (tile, lane) = ((at - block.start) / TILE, (at - block.start) % TILE);
            let count = (width - x).min(block.end - at).min(TILE - lane);
            let begin = (self.target.begin[0] + y * down) * self.target.width
                + self.target.begin[1]
                + x * across;
            let maps = &mut self.results[image];
            for (row, result) in results.clone().enumerate() {
                let bias = self.bias.map_or(0.0, |bias| bias[result]);
                let numbers = &sums[(tile * rows + row) * TILE + lane..][..count];
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
    fn with_simd<S: Simd>(mut self, simd: S) {
        let width = ACROSS * S::F32_LANES;
        let most = tile::rows(S::REGISTER_COUNT);
        let span = self.window.span(self.results.len());
        let mut sums = vec![0.0_f32; BLOCK * most];
        let panels = self.panels;
        for from in (0..span).step_by(BLOCK) {
            let to = (from + BLOCK).min(span);
            let tiles = (to - from).div_ceil(width);
            let mut result = 0;
            for panel in &panels.panels[self.range.clone()] {
                let sums = &mut sums[..tiles * width * panel.rows];
                sums.fill(0.0);
                match panel.rows {
                    2 => self.tiles::<S, 2>(simd, &panel.weights, from, sums),
                    4 => self.tiles::<S, 4>(simd, &panel.weights, from, sums),
                    6 => self.tiles::<S, 6>(simd, &panel.weights, from, sums),
                    8 => self.tiles::<S, 8>(simd, &panel.weights, from, sums),
                    _ => self.tiles::<S, 12>(simd, &panel.weights, from, sums),
                }
                let results = result..result + panel.results;
                result = results.end;
                let block = from..to;
                match S::F32_LANES {
                    16 => self.hand_out::<32>(sums, panel.rows, &block, &results),
                    8 => self.hand_out::<16>(sums, panel.rows, &block, &results),
                    4 => self.hand_out::<8>(sums, panel.rows, &block, &results),
                    _ => self.hand_out::<2>(sums, panel.rows, &block, &results),
                }
            }
        }
    }
}
