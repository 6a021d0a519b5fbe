//! 1 x 1 convolutions of a batch with few input channels: all of them at some positions fit into the first cache, so
//! every tile is computed at once and written where it belongs.

use std::{cell::RefCell, ops::Range};

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{
    pointwise::{Maps, aligned},
    tile::{self, Dense, Rows, Write},
};

thread_local! {
    static TILE: RefCell<Vec<f32>> = RefCell::default();
}

/// A 1 x 1 convolution, without a stride and without an epilogue.
pub(crate) struct Packed<'a> {
    pub(crate) groups: usize,
    /// The numbers of input and output channels per group.
    pub(crate) channels: [usize; 2],
    /// The number of positions of a feature map.
    pub(crate) positions: usize,
    /// `[groups · output channels, input channels]`.
    pub(crate) weights: &'a [f32],
    /// `[batch, groups · input channels, positions]`.
    pub(crate) input: &'a [f32],
}

impl Packed<'_> {
    /// The largest number of input channels: their values at the positions of a tile take 32 KiB with AVX-512. Sums of
    /// so many terms are added in one pass elsewhere too, so the results are the same.
    pub(crate) const CHANNELS: usize = 128;

    /// Writes the results, `[batch, groups · output channels, positions]`. `several` allows several threads.
    pub(crate) fn write(&self, results: &mut [f32], several: bool) {
        let [_, to] = self.channels;
        let panels = tile::panels(to);
        let size = to * self.positions;
        let compute = |(at, results): (usize, &mut [f32])| {
            TILE.with_borrow_mut(|memory| {
                let task = Task(self, &panels, at, results, memory);
                Arch::new().dispatch(task);
            });
        };
        if several {
            results
                .par_chunks_exact_mut(size)
                .enumerate()
                .for_each(compute);
        } else {
            results.chunks_exact_mut(size).enumerate().for_each(compute);
        }
    }
}

/// One image and group, its index, its results, and the memory of a tile.
struct Task<'a, 'b>(
    &'b Packed<'a>,
    &'b [Range<usize>],
    usize,
    &'b mut [f32],
    &'b mut Vec<f32>,
);

impl Task<'_, '_> {
    #[inline(always)]
    fn tiles<S: Simd, const A: usize>(self, simd: S)
    where
        for<'m> Maps<'m>: Write<S, A>,
    {
        let Self(packed, panels, at, results, memory) = self;
        let Packed { positions, .. } = *packed;
        let [from, to] = packed.channels;
        let width = A * S::F32_LANES;
        let input = &packed.input[at * from * positions..][..from * positions];
        let group = at % packed.groups;
        let rows = Rows {
            values: &packed.weights[group * to * from..][..to * from],
            stride: from,
            terms: 0..from,
            begun: false,
        };
        let tile = aligned(memory, from * width);
        let mut maps = Maps {
            values: results,
            begin: 0,
            size: positions,
            positions,
        };
        for at in (0..positions).step_by(width) {
            let count = width.min(positions - at);
            let sources = input.chunks_exact(positions);
            for (tile, map) in tile.chunks_exact_mut(width).zip(sources) {
                copy::<S, A>(simd, &map[at..at + count], tile);
            }
            rows.each::<S, A>(simd, panels, (Dense(tile), at), &mut maps);
        }
    }
}

/// Copies up to `A` vectors, followed by zeros.
#[inline(always)]
fn copy<S: Simd, const A: usize>(simd: S, from: &[f32], to: &mut [f32]) {
    let (to, _) = S::as_mut_simd_f32s(to);
    let (whole, _) = S::as_simd_f32s(from);
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<A>(), whole.first_chunk::<A>()) {
        *to = *from;
        return;
    }
    let mut parts = from.chunks(S::F32_LANES);
    for to in to {
        *to = simd.partial_load_f32s(parts.next().unwrap_or(&[]));
    }
}

impl WithSimd for Task<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let narrow = self.0.positions <= 2 * S::F32_LANES;
        match tile::across(S::REGISTER_COUNT) {
            4 if !narrow => self.tiles::<S, 4>(simd),
            _ => self.tiles::<S, 2>(simd),
        }
    }
}
