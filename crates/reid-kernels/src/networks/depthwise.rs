//! Depthwise convolution in single precision, and its gradients: every channel has its own kernel, and no
//! other channel reads it.
//!
//! There is one multiplication for each value and tap, so that reading and writing take as long as
//! computing. `correlate` would copy the input as often as there are columns of taps, and its tiles would
//! compute two rows of output channels where there is one. Here, five modules share the work:
//!
//! - `frame` copies a feature map once, with zeros around it and split by phase where there is a stride. The
//!   copy stays in the first cache. Several small ones are made before they are read: a vector that is read
//!   from several stores of a moment ago would wait for them.
//! - `column` sorts the taps by the columns that they read.
//! - `tile` computes up to four vectors of results in registers. Where the rows are whole vectors, each
//!   vector that is read serves several rows of results. Otherwise, as in feature maps of 16 x 8 and 8 x 4,
//!   a tile runs across the ends of rows, and masks replace the zeros between them.
//! - `sums` computes the sums of a tile and its epilogue.
//! - `weights` computes the gradient with respect to the weights, as products with the same tiles.
//!
//! The gradient with respect to the input is the same kind of sum with other taps. With a stride, the
//! results of each phase are computed apart and then interleaved.
//!
//! As a feature map is copied before its results are computed, the results may be written over it. This saves
//! filling a buffer with zeros, and half of the memory traffic.
//!
//! Each sum is computed column by column of its taps, from the left, and in a column from above. It depends
//! neither on the tasks nor on the number of threads.
//!
//! # Rejected
//! - Channels innermost: a vector of channels needs neither zeros nor masks, but the features would have to
//!   be transposed twice.
//! - Narrow feature maps side by side in one vector: their rows are copied piece by piece, which took longer
//!   than what the tiles gained.
//! - Results that are computed in blocks and collected, without being filled with zeros first: copying the
//!   blocks took longer than the zeros.

mod column;
mod frame;
mod sums;
mod tile;
mod weights;

use std::{slice, sync::Arc};

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use self::{
    column::Column,
    frame::{Frame, Grid, copy_rows},
    sums::{Finish, Sums},
};
use super::convolution::{ConvEpilogue, Convolution, area};
use crate::memory::zeros;

pub(crate) use weights::weight_gradient;

/// From this number of multiplications on, waking other threads pays off.
const MANY: usize = 1 << 20;

/// A pass over feature maps, `[images, channels, height, width]`, that computes results of another size.
pub(crate) struct Depthwise<'a> {
    channels: usize,
    /// The number of positions of a feature map that is read.
    map: usize,
    frame: Frame,
    phases: Vec<Phase>,
    /// The steps between results of one phase, vertical and horizontal.
    step: [usize; 2],
    /// The height and width of the results.
    results: [usize; 2],
    epilogue: ConvEpilogue<'a>,
    /// Whether results are added to the values that the output slice holds.
    onto: bool,
}

/// The results that are a step apart.
#[derive(Debug)]
struct Phase {
    /// The index of the phase, in row-major order.
    index: usize,
    /// The number of rows of results.
    rows: usize,
    columns: Arc<[Column]>,
    /// For each tap in the order of the columns, the index of its weight.
    order: Arc<[usize]>,
    /// The weights in the order of the columns, `[channels, taps]`.
    weights: Vec<f32>,
}

impl Phase {
    fn new(frame: &Frame, grid: &Grid, index: usize, (weights, taps): (&[f32], usize)) -> Self {
        let (columns, order) = Column::all(frame, grid);
        let phase = Self {
            index,
            rows: grid.size[0],
            columns: columns.into(),
            order: order.into(),
            weights: Vec::new(),
        };
        phase.with(weights, taps)
    }

    /// The same phase with other weights, `[channels, taps]`.
    fn with(&self, weights: &[f32], taps: usize) -> Self {
        let mut ordered = Vec::with_capacity(weights.len() / taps * self.order.len());
        for weights in weights.chunks_exact(taps) {
            ordered.extend(self.order.iter().map(|tap| weights[*tap]));
        }
        Self {
            columns: Arc::clone(&self.columns),
            order: Arc::clone(&self.order),
            weights: ordered,
            ..*self
        }
    }

    fn taps(&self) -> usize {
        self.columns.iter().map(|column| column.count).sum()
    }
}

impl<'a> Depthwise<'a> {
    /// The pass that computes the output of a convolution.
    pub(crate) fn forward(
        sizes: &Convolution,
        weights: &[f32],
        epilogue: ConvEpilogue<'a>,
    ) -> Self {
        let grid = Grid::forward(sizes);
        let frame = Frame::new(sizes.input, sizes.stride, slice::from_ref(&grid));
        Self {
            channels: sizes.groups,
            map: area(sizes.input),
            phases: vec![Phase::new(&frame, &grid, 0, (weights, sizes.taps()))],
            frame,
            step: [1, 1],
            results: sizes.output(),
            epilogue,
            onto: false,
        }
    }

    /// The same pass with the weights, of as many taps, and the epilogue of another convolution.
    pub(crate) fn with<'b>(&self, weights: &[f32], epilogue: ConvEpilogue<'b>) -> Depthwise<'b> {
        let taps = weights.len() / self.channels;
        Depthwise {
            frame: self.frame.clone(),
            phases: self
                .phases
                .iter()
                .map(|phase| phase.with(weights, taps))
                .collect(),
            epilogue,
            ..*self
        }
    }

    /// The pass that computes the gradient with respect to the input.
    pub(crate) fn input_gradient(sizes: &Convolution, weights: &[f32]) -> Self {
        let grids = Grid::backward(sizes);
        let each: Vec<Grid> = grids.iter().map(|(_, grid)| grid.clone()).collect();
        let frame = Frame::new(sizes.output(), [1, 1], &each);
        let phase = |(index, grid): &(usize, Grid)| {
            Phase::new(&frame, grid, *index, (weights, sizes.taps()))
        };
        Self {
            channels: sizes.groups,
            map: area(sizes.output()),
            phases: grids.iter().map(phase).collect(),
            frame,
            step: sizes.stride,
            results: sizes.input,
            epilogue: ConvEpilogue::default(),
            onto: false,
        }
    }

    /// Computes the results, `[images, channels, height, width]`.
    pub(crate) fn run(&self, source: &[f32]) -> Vec<f32> {
        let mut results = zeros(source.len() / self.map * area(self.results));
        self.write(Some(source), &mut results);
        results
    }

    /// Computes the results, which have the size of the feature maps, and writes them over these.
    pub(crate) fn run_in_place(&self, maps: &mut [f32]) {
        self.write(None, maps);
    }

    /// Computes the results and adds them to `shortcut`, where they are written.
    pub(crate) fn add_to(self, source: &[f32], shortcut: &mut [f32]) {
        let sum = Self { onto: true, ..self };
        sum.write(Some(source), shortcut);
    }

    /// Writes the results. `results` holds the feature maps to be read if `source` is `None`.
    fn write(&self, source: Option<&[f32]>, results: &mut [f32]) {
        /// The number of results of a task.
        const TASK: usize = 1 << 15;
        let positions = area(self.results);
        let maps = TASK.div_ceil(positions);
        let taps: usize = self.phases.iter().map(Phase::taps).sum();
        let products = results.len() / area(self.step) * taps;
        let task = |(index, results): (usize, &mut [f32])| {
            let first = index * maps;
            Arch::new().dispatch(Task {
                all: self,
                source: source.map(|source| &source[first * self.map..]),
                first,
                results,
            });
        };
        if products < MANY {
            results
                .chunks_mut(maps * positions)
                .enumerate()
                .for_each(task);
        } else {
            let tasks = results.par_chunks_mut(maps * positions).enumerate();
            tasks.for_each(task);
        }
    }

    /// Whether the rows of a frame are as long as those of the results, which are then written in place.
    fn is_direct(&self) -> bool {
        self.step == [1, 1] && self.frame.pitch == self.results[1]
    }

    /// The length of the buffer for one phase of the results, `[rows, pitch]`, in whole vectors.
    fn sheet(&self) -> usize {
        let rows = self.phases.iter().map(|phase| phase.rows).max();
        (rows.unwrap_or(0) * self.frame.pitch).next_multiple_of(Frame::LINE)
    }

    /// Writes the results of one feature map from those of its phases, which a sheet holds each.
    #[inline(always)]
    fn join(&self, sheets: &[f32], results: &mut [f32]) {
        let (sheet, pitch) = (self.sheet(), self.frame.pitch);
        let ([_, width], [down, across]) = (self.results, self.step);
        if self.step == [1, 1] && !self.onto {
            return copy_rows((sheets, pitch), (results, width));
        }
        for (y, row) in results.chunks_exact_mut(width).enumerate() {
            let sheets = &sheets[y % down * across * sheet..][..across * sheet];
            let phase = |x: usize| &sheets[x * sheet + y / down * pitch..][..pitch];
            match across {
                1 if self.onto => self.add_row(phase(0), row),
                2 => frame::join(phase(0), phase(1), row),
                _ => {
                    for x in 0..across {
                        let columns = row.iter_mut().skip(x).step_by(across);
                        for (to, from) in columns.zip(phase(x)) {
                            *to = *from;
                        }
                    }
                }
            }
        }
    }

    /// Adds a row of results to what is there, then applies the ReLU, if there is one.
    #[inline(always)]
    fn add_row(&self, from: &[f32], to: &mut [f32]) {
        let floor = if self.epilogue.relu {
            0.0
        } else {
            f32::NEG_INFINITY
        };
        for (to, from) in to.iter_mut().zip(from) {
            let sum = *from + *to;
            // Written so that NaN stays NaN.
            *to = if sum < floor { floor } else { sum };
        }
    }
}

/// The task of computing the results of some feature maps.
struct Task<'a> {
    all: &'a Depthwise<'a>,
    /// The feature maps to be read from the first one on; `None` if `results` holds them.
    source: Option<&'a [f32]>,
    /// The index of the first feature map, counted over all images.
    first: usize,
    results: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            all,
            source,
            first,
            results,
        } = self;
        let (positions, size) = (area(all.results), all.frame.size);
        let mut memory = Vec::new();
        let (frames, maps) = all.frame.several(&mut memory);
        let mut sheets = vec![0.0; all.sheets()];
        let mut channel = first % all.channels;
        let blocks = results.chunks_mut(maps * positions).enumerate();
        for (index, results) in blocks {
            let source = source.map_or(&*results, |source| &source[index * maps * all.map..]);
            for (frame, map) in frames
                .chunks_exact_mut(size)
                .zip(source.chunks_exact(all.map))
            {
                all.frame.lay_out(map, frame);
            }
            let results = results.chunks_exact_mut(positions);
            for (results, frame) in results.zip(frames.chunks_exact(size)) {
                all.compute(simd, (channel, frame), &mut sheets, results);
                channel = if channel + 1 < all.channels {
                    channel + 1
                } else {
                    0
                };
            }
        }
    }
}

impl Depthwise<'_> {
    /// The layout of the copy that [`compute`](Self::compute) reads.
    pub(crate) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The length of the buffer that [`compute`](Self::compute) needs for results that are not written in place.
    pub(crate) fn sheets(&self) -> usize {
        if self.is_direct() {
            return 0;
        }
        area(self.step) * self.sheet()
    }

    /// Computes the results of one feature map from its copy. `sheets` may be empty if the results are as wide
    /// as the feature map.
    #[inline(always)]
    pub(crate) fn compute<S: Simd>(
        &self,
        simd: S,
        (channel, frame): (usize, &[f32]),
        sheets: &mut [f32],
        results: &mut [f32],
    ) {
        let (direct, sheet, pitch) = (self.is_direct(), self.sheet(), self.frame.pitch);
        let ConvEpilogue { scale, bias, relu } = self.epilogue;
        let finish = Finish {
            scale: simd.splat_f32s(scale.map_or(1.0, |scale| scale[channel])),
            bias: simd.splat_f32s(bias.map_or(0.0, |bias| bias[channel])),
            onto: self.onto && direct,
            relu: relu && (direct || !self.onto),
        };
        for phase in &self.phases {
            let taps = phase.weights.len() / self.channels;
            let mut sums = Sums {
                columns: &phase.columns,
                weights: &phase.weights[channel * taps..][..taps],
                frame,
                finish,
                results: if direct {
                    &mut *results
                } else {
                    &mut sheets[phase.index * sheet..][..sheet]
                },
            };
            tile::tiles(simd, [phase.rows, pitch], &mut sums);
        }
        if !direct {
            self.join(sheets, results);
        }
    }
}
