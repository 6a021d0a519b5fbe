//! The gradient of a depthwise convolution with respect to its weights.
//!
//! The gradient of a weight is the sum, over images and positions, of the products of a gradient and of the
//! value that its tap reads. It is computed in parts of some images, each in single precision, with one
//! partial sum for each lane of the vectors of a tile. The parts are added in double precision.

use std::{ops::Range, slice};

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{
    MANY,
    column::Column,
    frame::{Frame, Grid, copy_rows},
    tile::{self, Tile, VECTORS, Visit},
};
use crate::networks::{
    convolution::{Convolution, area},
    sum::single,
};

/// The number of positions in a task.
const TASK: usize = 1 << 15;

/// Computes the gradient of a loss with respect to the weights from the gradient with respect to the output.
pub(crate) fn weight_gradient(sizes: &Convolution, input: &[f32], gradient: &[f32]) -> Vec<f32> {
    let grid = Grid::forward(sizes);
    let frame = Frame::new(sizes.input, sizes.stride, slice::from_ref(&grid));
    let (columns, order) = Column::all(&frame, &grid);
    let all = Products {
        sizes,
        input,
        gradient,
        frame,
        columns,
        results: grid.size,
    };
    let (channels, taps, images) = (sizes.groups, sizes.taps(), all.images());
    // [parts, channels, taps], with the taps in the order of the columns.
    let mut parts = vec![0.0; sizes.batch.div_ceil(images) * channels * taps];
    let per_task = TASK.div_ceil(images * area(grid.size));
    let mut tasks = Vec::new();
    for (part, sums) in parts.chunks_exact_mut(channels * taps).enumerate() {
        let images = part * images..((part + 1) * images).min(sizes.batch);
        for (task, sums) in sums.chunks_mut(per_task * taps).enumerate() {
            tasks.push(Task {
                all: &all,
                images: images.clone(),
                channel: task * per_task,
                sums,
            });
        }
    }
    if gradient.len() * taps < MANY {
        for task in tasks {
            Arch::new().dispatch(task);
        }
    } else {
        tasks
            .into_par_iter()
            .for_each(|task| Arch::new().dispatch(task));
    }
    let mut weights = vec![0.0; channels * taps];
    for (channel, weights) in weights.chunks_exact_mut(taps).enumerate() {
        for (tap, at) in order.iter().enumerate() {
            let parts = parts[channel * taps + tap..]
                .iter()
                .step_by(channels * taps);
            weights[*at] = single(parts.map(|part| f64::from(*part)).sum());
        }
    }
    weights
}

/// What the tasks share.
struct Products<'a> {
    sizes: &'a Convolution,
    input: &'a [f32],
    gradient: &'a [f32],
    frame: Frame,
    columns: Vec<Column>,
    /// The height and width of the output.
    results: [usize; 2],
}

impl Products<'_> {
    /// The number of images in a part.
    fn images(&self) -> usize {
        /// The number of positions in a part.
        const PART: usize = 1 << 13;
        (PART / area(self.results)).clamp(1, self.sizes.batch.max(1))
    }
}

/// The task of summing a part for some channels.
struct Task<'a> {
    all: &'a Products<'a>,
    images: Range<usize>,
    /// The first channel.
    channel: usize,
    /// `[channels, taps]`
    sums: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            all,
            images,
            channel,
            sums,
        } = self;
        let (size, map, positions) = (all.frame.size, area(all.sizes.input), area(all.results));
        let pitch = all.frame.pitch;
        let mut memory = Vec::new();
        let (frames, maps) = all.frame.several(&mut memory);
        // The gradient, [rows, pitch], where its rows are shorter than those of a frame.
        let sheet = all.results[0] * pitch;
        let mut sheets = vec![
            0.0;
            if pitch == all.results[1] {
                0
            } else {
                maps * sheet
            }
        ];
        for (index, sums) in sums.chunks_exact_mut(all.sizes.taps()).enumerate() {
            for first in images.clone().step_by(maps) {
                let maps = first..(first + maps).min(images.end);
                let at = |image: usize| image * all.sizes.groups + channel + index;
                for (image, frame) in maps.clone().zip(frames.chunks_exact_mut(size)) {
                    all.frame
                        .lay_out(&all.input[at(image) * map..][..map], frame);
                }
                for (image, sheet) in maps.clone().zip(sheets.chunks_exact_mut(sheet)) {
                    let gradient = &all.gradient[at(image) * positions..][..positions];
                    copy_rows((gradient, all.results[1]), (sheet, pitch));
                }
                let pairs = maps.zip(frames.chunks_exact(size)).enumerate();
                let pairs = pairs.map(|(index, (image, frame))| {
                    let gradient = if sheets.is_empty() {
                        &all.gradient[at(image) * positions..][..positions]
                    } else {
                        &sheets[index * sheet..][..sheet]
                    };
                    (gradient, frame)
                });
                all.add(simd, &pairs, sums);
            }
        }
    }
}

impl Products<'_> {
    /// Adds the products of some gradients and frames to the sums of all taps.
    #[inline(always)]
    fn add<'a, S: Simd>(
        &self,
        simd: S,
        pairs: &(impl Iterator<Item = (&'a [f32], &'a [f32])> + Clone),
        sums: &mut [f32],
    ) {
        let mut rest = sums;
        for column in &self.columns {
            let (sums, after) = rest.split_at_mut(column.count);
            rest = after;
            match column.count {
                1 => self.column::<S, 1>(simd, (column, 0), pairs.clone(), sums),
                2 => self.column::<S, 2>(simd, (column, 0), pairs.clone(), sums),
                3 => self.column::<S, 3>(simd, (column, 0), pairs.clone(), sums),
                5 => self.column::<S, 5>(simd, (column, 0), pairs.clone(), sums),
                _ => {
                    for (tap, sum) in sums.chunks_exact_mut(1).enumerate() {
                        self.column::<S, 1>(simd, (column, tap), pairs.clone(), sum);
                    }
                }
            }
        }
    }

    /// Adds the products of `N` taps of a column, from tap `first` on.
    #[inline(always)]
    fn column<'a, S: Simd, const N: usize>(
        &self,
        simd: S,
        (column, first): (&Column, usize),
        pairs: impl Iterator<Item = (&'a [f32], &'a [f32])>,
        sums: &mut [f32],
    ) {
        let mut lanes = [[simd.splat_f32s(0.0); VECTORS]; N];
        for (gradient, frame) in pairs {
            let mut visitor = Correlation {
                column,
                first,
                gradient,
                frame,
                lanes,
            };
            tile::tiles(simd, [self.results[0], self.frame.pitch], &mut visitor);
            lanes = visitor.lanes;
        }
        for (sum, [a, b, c, d]) in sums.iter_mut().zip(lanes) {
            let all = simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d));
            *sum += simd.reduce_sum_f32s(all);
        }
    }
}

/// The sums of `N` taps of a column, by tap and vector of a tile.
struct Correlation<'a, S: Simd, const N: usize> {
    column: &'a Column,
    /// The index of the first tap.
    first: usize,
    gradient: &'a [f32],
    frame: &'a [f32],
    lanes: [[S::f32s; VECTORS]; N],
}

impl<S: Simd, const N: usize> Visit<S> for Correlation<'_, S, N> {
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "these are indices of registers")]
    fn tile<const A: usize>(&mut self, simd: S, tile: impl Tile<S, A>) {
        let mut gradient = [simd.splat_f32s(0.0); A];
        for a in 0..A {
            let (vectors, last) = S::as_simd_f32s(&self.gradient[tile.position(a)..]);
            gradient[a] = match vectors {
                [vector, ..] => *vector,
                [] => simd.partial_load_f32s(last),
            };
        }
        let mut tile = tile;
        for _ in 0..self.first {
            tile = tile.below();
        }
        let read = (self.column, self.frame);
        tile.correlate(simd, &mut self.lanes, gradient, read);
    }
}
