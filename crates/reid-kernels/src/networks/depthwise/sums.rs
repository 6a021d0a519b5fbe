//! The sums of a depthwise convolution over the taps, tile by tile, and their epilogue.

use pulp::Simd;

use super::{
    column::Column,
    tile::{Tile, Visit},
};

/// The epilogue of a channel, and whether results are added to what is there.
#[derive(Clone, Copy)]
pub(super) struct Finish<S: Simd> {
    pub(super) scale: S::f32s,
    pub(super) bias: S::f32s,
    pub(super) onto: bool,
    pub(super) relu: bool,
}

impl<S: Simd> Finish<S> {
    #[inline(always)]
    fn apply(self, simd: S, sum: S::f32s, before: S::f32s) -> S::f32s {
        let mut value = simd.mul_add_e_f32s(self.scale, sum, self.bias);
        if self.onto {
            value = simd.add_f32s(value, before);
        }
        if self.relu {
            // Written so that NaN stays NaN.
            let zero = simd.splat_f32s(0.0);
            value = simd.select_f32s(simd.less_than_f32s(value, zero), zero, value);
        }
        value
    }
}

/// The results of one phase of a feature map, `[rows, pitch]`.
pub(super) struct Sums<'a, S: Simd> {
    pub(super) columns: &'a [Column],
    /// The weights in the order of the columns.
    pub(super) weights: &'a [f32],
    pub(super) frame: &'a [f32],
    pub(super) finish: Finish<S>,
    pub(super) results: &'a mut [f32],
}

impl<S: Simd> Visit<S> for Sums<'_, S> {
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "these are indices of registers")]
    fn tile<const A: usize>(&mut self, simd: S, tile: impl Tile<S, A>) {
        let mut sums = [simd.splat_f32s(0.0); A];
        let mut rest = self.weights;
        for column in self.columns {
            let (weights, after) = rest.split_at(column.count);
            rest = after;
            let read = (column, self.frame);
            match *weights {
                [a] => tile.add(simd, &mut sums, [a], read),
                [a, b] => tile.add(simd, &mut sums, [a, b], read),
                [a, b, c] => tile.add(simd, &mut sums, [a, b, c], read),
                [a, b, c, d, e] => tile.add(simd, &mut sums, [a, b, c, d, e], read),
                _ => {
                    let mut tile = tile;
                    for weight in weights {
                        tile.add(simd, &mut sums, [*weight], read);
                        tile = tile.below();
                    }
                }
            }
        }
        for a in 0..A {
            let results = &mut self.results[tile.position(a)..];
            let (vectors, last) = S::as_mut_simd_f32s(results);
            if let [to, ..] = vectors {
                *to = self.finish.apply(simd, sums[a], *to);
            } else {
                let before = simd.partial_load_f32s(last);
                simd.partial_store_f32s(last, self.finish.apply(simd, sums[a], before));
            }
        }
    }
}
