//! 1 x 1 convolutions of feature maps that stay in the caches of one thread, and the scratch memory for them.

use std::ops::Range;

use pulp::Simd;

use super::tile::{Listed, Rows, Write};

/// The number of values in a cache line.
const LINE: usize = 16;

/// The distance between feature maps in scratch memory: an odd number of cache lines, so that the same position of
/// different channels does not map to the same cache set. The last tile may read beyond a feature map.
pub(crate) fn pitch(positions: usize) -> usize {
    ((positions.div_ceil(LINE) + 4) | 1) * LINE
}

/// The first `count` values of scratch memory, which grows if it is too short. They begin at the start of a cache
/// line, and hold what was written last.
pub(crate) fn aligned(memory: &mut Vec<f32>, count: usize) -> &mut [f32] {
    if memory.len() < LINE + count {
        memory.resize(LINE + count, 0.0);
    }
    let begin = memory.as_ptr().align_offset(LINE * size_of::<f32>());
    &mut memory[begin.min(LINE)..][..count]
}

/// Copies feature maps, `[channels, positions]`, so that they begin a [`pitch`] apart.
#[inline(always)]
pub(crate) fn spread(maps: &[f32], positions: usize, features: &mut [f32]) {
    let features = features.chunks_exact_mut(pitch(positions));
    for (to, from) in features.zip(maps.chunks_exact(positions)) {
        to[..positions].copy_from_slice(from);
    }
}

/// A 1 x 1 convolution, or the part of one that reads some of the channels.
pub(crate) struct Pointwise<'a> {
    /// The weights, of which each row begins `stride` values after the previous one.
    pub(crate) weights: &'a [f32],
    pub(crate) stride: usize,
    /// The weights of a row to use: one for each channel that is read.
    pub(crate) terms: Range<usize>,
    /// The rows, which are the channels to compute, split into tiles.
    pub(crate) panels: &'a [Range<usize>],
    /// The number of positions of a feature map.
    pub(crate) positions: usize,
}

impl Pointwise<'_> {
    /// Computes the sums of every channel and tile of positions. The last tile may reach beyond the positions.
    /// Tiles are half as wide if one of them is enough.
    ///
    /// `shifts` has the start of each channel in `features`.
    #[inline(always)]
    pub(crate) fn each<S: Simd, const A: usize>(
        &self,
        simd: S,
        features: &[f32],
        shifts: &[usize],
        to: &mut (impl Write<S, A> + Write<S, 2>),
    ) {
        if self.positions <= 2 * S::F32_LANES {
            self.tiles::<S, 2>(simd, features, shifts, to);
        } else {
            self.tiles::<S, A>(simd, features, shifts, to);
        }
    }

    #[inline(always)]
    fn tiles<S: Simd, const A: usize>(
        &self,
        simd: S,
        features: &[f32],
        shifts: &[usize],
        to: &mut impl Write<S, A>,
    ) {
        let rows = Rows {
            values: self.weights,
            stride: self.stride,
            terms: self.terms.clone(),
            begun: false,
        };
        for at in (0..self.positions).step_by(A * S::F32_LANES) {
            let source = &features[at..];
            rows.each::<S, A>(simd, self.panels, (Listed { source, shifts }, at), to);
        }
    }
}

/// Feature maps that a 1 x 1 convolution writes.
pub(crate) struct Maps<'a> {
    pub(crate) values: &'a mut [f32],
    /// The start of the first feature map, and the distance to the next one.
    pub(crate) begin: usize,
    pub(crate) size: usize,
    /// The number of positions of a feature map.
    pub(crate) positions: usize,
}

impl Maps<'_> {
    /// The values from a position on, as many as a tile has or as there are.
    #[inline(always)]
    fn tile<S: Simd, const A: usize>(&mut self, channel: usize, at: usize) -> &mut [f32] {
        let count = (A * S::F32_LANES).min(self.positions - at);
        &mut self.values[channel * self.size + self.begin + at..][..count]
    }
}

impl<S: Simd, const A: usize> Write<S, A> for Maps<'_> {
    #[inline(always)]
    fn write(&mut self, simd: S, channel: usize, at: usize, sums: [S::f32s; A]) {
        store(simd, self.tile::<S, A>(channel, at), sums);
    }
}

/// Feature maps that hold sums, to which those of a 1 x 1 convolution are added.
pub(crate) struct Onto<'a>(pub(crate) Maps<'a>);

impl<S: Simd, const A: usize> Write<S, A> for Onto<'_> {
    #[inline(always)]
    fn write(&mut self, simd: S, channel: usize, at: usize, mut sums: [S::f32s; A]) {
        let values = self.0.tile::<S, A>(channel, at);
        let (vectors, _) = S::as_mut_simd_f32s(values);
        if let Some(vectors) = vectors.first_chunk_mut::<A>() {
            for a in 0..A {
                vectors[a] = simd.add_f32s(vectors[a], sums[a]);
            }
            return;
        }
        for (part, sum) in values.chunks(S::F32_LANES).zip(&mut sums) {
            *sum = simd.add_f32s(simd.partial_load_f32s(part), *sum);
        }
        store(simd, values, sums);
    }
}

/// Writes vectors. `values` may be shorter than they are.
#[inline(always)]
pub(crate) fn store<S: Simd, const A: usize>(simd: S, values: &mut [f32], from: [S::f32s; A]) {
    let (vectors, _) = S::as_mut_simd_f32s(values);
    if let Some(vectors) = vectors.first_chunk_mut::<A>() {
        *vectors = from;
        return;
    }
    for (part, vector) in values.chunks_mut(S::F32_LANES).zip(from) {
        simd.partial_store_f32s(part, vector);
    }
}
