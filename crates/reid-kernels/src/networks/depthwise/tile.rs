//! Register tiles of a depthwise convolution: at most four SIMD vectors of results.
//!
//! Where rows are whole vectors, a tile is a [`Strip`]: one vector in each of four rows, so that a vector
//! that is read for a column of taps serves several rows. Otherwise it is a [`Run`] of consecutive vectors
//! across the ends of rows. What a tap reads from another row counts as 0; with AVX-512, the load itself
//! does this.

use pulp::Simd;

use super::column::Column;

/// The number of SIMD vectors of a whole tile.
pub(crate) const VECTORS: usize = 4;

/// A column of taps and the frame that it reads.
pub(crate) type Read<'a> = (&'a Column, &'a [f32]);

/// Some vectors of results, `[rows, pitch]`.
pub(crate) trait Tile<S: Simd, const A: usize>: Copy {
    /// The position of a vector.
    fn position(self, vector: usize) -> usize;

    /// Adds the products of the taps of a column to the sums of the vectors.
    ///
    /// ```text
    /// sums[a] += Σₙ weights[n] · frame[begin + position(a) + n·pitch]
    /// ```
    fn add<const N: usize>(
        self,
        simd: S,
        sums: &mut [S::f32s; A],
        weights: [f32; N],
        read: Read<'_>,
    );

    /// Adds the products of gradients and of the values that the taps of a column read.
    ///
    /// ```text
    /// sums[n][a] += gradient[a] · frame[begin + position(a) + n·pitch]
    /// ```
    fn correlate<const N: usize>(
        self,
        simd: S,
        sums: &mut [[S::f32s; VECTORS]; N],
        gradient: [S::f32s; A],
        read: Read<'_>,
    );

    /// The tile one row below, for the next tap of a column.
    fn below(self) -> Self;
}

/// The number of vectors in a row.
pub(crate) trait Pitch: Copy {
    fn vectors(self) -> usize;
}

/// A number that is known at compile time: the rows of a tile then need one bounds check.
#[derive(Clone, Copy, Debug)]
struct Fixed<const N: usize>;

impl<const N: usize> Pitch for Fixed<N> {
    #[inline(always)]
    fn vectors(self) -> usize {
        N
    }
}

impl Pitch for usize {
    #[inline(always)]
    fn vectors(self) -> usize {
        self
    }
}

/// One vector in each of some rows, which are whole vectors.
#[derive(Clone, Copy, Debug)]
struct Strip<P> {
    pitch: P,
    /// The first row, and the column.
    y: usize,
    x: usize,
}

impl<P: Pitch> Strip<P> {
    /// The vectors of a frame from the first one on that the first tap of a column reads. Those of further
    /// rows are a pitch apart.
    #[inline(always)]
    fn vectors<'a, S: Simd>(self, column: &Column, frame: &'a [f32], rows: usize) -> &'a [S::f32s] {
        let begin = column.begin + self.y * self.pitch.vectors() * S::F32_LANES + self.x;
        let (vectors, _) = S::as_simd_f32s(&frame[begin..]);
        &vectors[..=(rows - 1) * self.pitch.vectors()]
    }
}

impl<S: Simd, P: Pitch, const A: usize> Tile<S, A> for Strip<P> {
    #[inline(always)]
    fn position(self, vector: usize) -> usize {
        (self.y + vector) * self.pitch.vectors() * S::F32_LANES + self.x
    }

    #[inline(always)]
    fn add<const N: usize>(
        self,
        simd: S,
        sums: &mut [S::f32s; A],
        weights: [f32; N],
        (column, frame): Read<'_>,
    ) {
        let zero = simd.splat_f32s(0.0);
        let weights = weights.map(|weight| simd.splat_f32s(weight));
        let [mask] = column.masks(simd, self.x);
        let vectors = self.vectors::<S>(column, frame, A + N - 1);
        for row in 0..A + N - 1 {
            let value = simd.select_f32s(mask, vectors[row * self.pitch.vectors()], zero);
            for a in 0..A {
                if row >= a && row - a < N {
                    sums[a] = simd.mul_add_e_f32s(weights[row - a], value, sums[a]);
                }
            }
        }
    }

    #[inline(always)]
    fn correlate<const N: usize>(
        self,
        simd: S,
        sums: &mut [[S::f32s; VECTORS]; N],
        gradient: [S::f32s; A],
        (column, frame): Read<'_>,
    ) {
        let zero = simd.splat_f32s(0.0);
        let [mask] = column.masks(simd, self.x);
        let vectors = self.vectors::<S>(column, frame, A + N - 1);
        for row in 0..A + N - 1 {
            let value = simd.select_f32s(mask, vectors[row * self.pitch.vectors()], zero);
            for a in 0..A {
                if row >= a && row - a < N {
                    let sum = &mut sums[row - a][a];
                    *sum = simd.mul_add_e_f32s(gradient[a], value, *sum);
                }
            }
        }
    }

    #[inline(always)]
    fn below(self) -> Self {
        Self {
            y: self.y + 1,
            ..self
        }
    }
}

/// Consecutive vectors.
#[derive(Clone, Copy, Debug)]
struct Run {
    pitch: usize,
    /// The first position, and its column.
    at: usize,
    x: usize,
    /// The number of rows by which the taps are moved down.
    down: usize,
}

impl Run {
    /// The `A` vectors that tap `tap` of a column reads.
    #[inline(always)]
    fn vectors<'a, S: Simd, const A: usize>(
        self,
        column: &Column,
        frame: &'a [f32],
        tap: usize,
    ) -> &'a [S::f32s] {
        let begin = column.begin + self.at + (self.down + tap) * self.pitch;
        S::as_simd_f32s(&frame[begin..][..A * S::F32_LANES]).0
    }

    /// The run that begins `vectors` further, which are `step` columns.
    #[inline(always)]
    fn after<S: Simd>(self, vectors: usize, step: usize) -> Self {
        let x = self.x + step;
        Self {
            at: self.at + vectors * S::F32_LANES,
            x: if x < self.pitch { x } else { x - self.pitch },
            ..self
        }
    }
}

#[expect(clippy::needless_range_loop, reason = "these are indices of registers")]
impl<S: Simd, const A: usize> Tile<S, A> for Run {
    #[inline(always)]
    fn position(self, vector: usize) -> usize {
        self.at + vector * S::F32_LANES
    }

    #[inline(always)]
    fn add<const N: usize>(
        self,
        simd: S,
        sums: &mut [S::f32s; A],
        weights: [f32; N],
        (column, frame): Read<'_>,
    ) {
        let zero = simd.splat_f32s(0.0);
        let masks: [S::m32s; A] = column.masks(simd, self.x);
        for n in 0..N {
            let weight = simd.splat_f32s(weights[n]);
            let vectors = self.vectors::<S, A>(column, frame, n);
            for a in 0..A {
                let value = simd.select_f32s(masks[a], vectors[a], zero);
                sums[a] = simd.mul_add_e_f32s(weight, value, sums[a]);
            }
        }
    }

    #[inline(always)]
    fn correlate<const N: usize>(
        self,
        simd: S,
        sums: &mut [[S::f32s; VECTORS]; N],
        gradient: [S::f32s; A],
        (column, frame): Read<'_>,
    ) {
        let zero = simd.splat_f32s(0.0);
        let masks: [S::m32s; A] = column.masks(simd, self.x);
        for n in 0..N {
            let vectors = self.vectors::<S, A>(column, frame, n);
            for a in 0..A {
                let value = simd.select_f32s(masks[a], vectors[a], zero);
                sums[n][a] = simd.mul_add_e_f32s(gradient[a], value, sums[n][a]);
            }
        }
    }

    #[inline(always)]
    fn below(self) -> Self {
        Self {
            down: self.down + 1,
            ..self
        }
    }
}

/// A computation on every tile of results.
pub(crate) trait Visit<S: Simd> {
    /// Computes one tile.
    fn tile<const A: usize>(&mut self, simd: S, tile: impl Tile<S, A>);
}

/// Visits the tiles of results, `[rows, pitch]`. The last tile may end up to a vector beyond them.
#[inline(always)]
pub(crate) fn tiles<S: Simd>(simd: S, [rows, pitch]: [usize; 2], visitor: &mut impl Visit<S>) {
    if !pitch.is_multiple_of(S::F32_LANES) {
        return runs(simd, [rows, pitch], visitor);
    }
    match pitch / S::F32_LANES {
        1 => strips(simd, rows, Fixed::<1>, visitor),
        2 => strips(simd, rows, Fixed::<2>, visitor),
        4 => strips(simd, rows, Fixed::<4>, visitor),
        vectors => strips(simd, rows, vectors, visitor),
    }
}

#[inline(always)]
fn strips<S: Simd>(simd: S, rows: usize, pitch: impl Pitch, visitor: &mut impl Visit<S>) {
    let whole = rows - rows % VECTORS;
    for y in (0..whole).step_by(VECTORS) {
        for x in 0..pitch.vectors() {
            let x = x * S::F32_LANES;
            visitor.tile::<VECTORS>(simd, Strip { pitch, y, x });
        }
    }
    for y in whole..rows {
        for x in 0..pitch.vectors() {
            let x = x * S::F32_LANES;
            visitor.tile::<1>(simd, Strip { pitch, y, x });
        }
    }
}

#[inline(always)]
fn runs<S: Simd>(simd: S, [rows, pitch]: [usize; 2], visitor: &mut impl Visit<S>) {
    // Divided only where a tile follows.
    let step = |vectors: usize| vectors * S::F32_LANES % pitch;
    let mut left = (rows * pitch).div_ceil(S::F32_LANES);
    let mut run = Run {
        pitch,
        at: 0,
        x: 0,
        down: 0,
    };
    if left >= VECTORS {
        let step = step(VECTORS);
        while left >= VECTORS {
            visitor.tile::<VECTORS>(simd, run);
            run = run.after::<S>(VECTORS, step);
            left -= VECTORS;
        }
    }
    if left >= 2 {
        visitor.tile::<2>(simd, run);
        left -= 2;
        if left > 0 {
            run = run.after::<S>(2, step(2));
        }
    }
    if left > 0 {
        visitor.tile::<1>(simd, run);
    }
}
