//! The division of rows of channels among the units (threads) of a GPU, and sums over them.
//!
//! Rows are divided into chunks. In a cube (workgroup), units along x have different vectors of channels,
//! and units along y have different rows of a chunk.

use burn_cubecl::cubecl::{self, prelude::*};

use super::Rows;

/// The largest number of units in a cube.
const UNITS: u32 = 256;
/// The number of cubes that keeps a large GPU busy.
const CUBES: usize = 512;

/// The division of the work among cubes and units.
pub(crate) struct Plan {
    /// The number of values in a vector.
    pub(crate) vector: usize,
    /// The number of vectors in a row.
    pub(crate) width: usize,
    pub(crate) rows: usize,
    pub(crate) chunks: usize,
    pub(crate) per_chunk: usize,
    /// The numbers of units of a cube along channels and along rows.
    units: [u32; 2],
}

impl Plan {
    /// Plans the work on rows, given the distances of the rows of all operands.
    pub(crate) fn new(rows: &Rows, pitches: &[usize]) -> Self {
        let client = &rows.tensor.client;
        let vector = rows.vector(pitches, size_of::<f32>());
        let width = rows.channels() / vector;
        let most = client.properties().hardware.max_units_per_cube.min(UNITS);
        let most = 1 << most.ilog2();
        let across = u32::try_from(width.next_power_of_two()).map_or(32, |width| width.min(32));
        let down = most / across;
        let rows = rows.count();
        let columns = width.div_ceil(across as usize);
        let wanted = CUBES.div_ceil(columns).min(u16::MAX.into());
        let per_chunk = rows
            .div_ceil(wanted)
            .next_multiple_of((down * AHEAD) as usize);
        Self {
            vector,
            width,
            rows,
            chunks: rows.div_ceil(per_chunk),
            per_chunk,
            units: [across, down],
        }
    }

    /// As [`new`](Self::new), with one chunk per image.
    pub(crate) fn of_images(rows: &Rows, pitches: &[usize], images: usize) -> Self {
        /// The smallest number of adjacent vectors with which memory is still read in whole segments.
        const LEAST: u32 = 8;
        let mut plan = Self::new(rows, pitches);
        plan.chunks = images;
        plan.per_chunk = plan.rows / images;
        while plan.units[0] > LEAST && plan.columns() * images < CUBES {
            plan.units = [plan.units[0] / 2, plan.units[1] * 2];
        }
        plan
    }

    /// The number of cubes along the channels.
    fn columns(&self) -> usize {
        self.width.div_ceil(self.units[0] as usize)
    }

    pub(crate) fn cube(&self) -> CubeDim {
        CubeDim::new_2d(self.units[0], self.units[1])
    }

    pub(crate) fn units(&self) -> usize {
        (self.units[0] * self.units[1]) as usize
    }

    /// The cubes of a launch in which the units along x share a whole row.
    pub(crate) fn rows_at_once(&self) -> CubeCount {
        let cubes = self.rows.div_ceil(self.units[1] as usize);
        CubeCount::Static(
            u32::try_from(cubes).expect("a number of cubes that fits into 32 bits"),
            1,
            1,
        )
    }

    /// The cubes of a launch for a number of chunks.
    pub(crate) fn cubes(&self, chunks: usize) -> CubeCount {
        let count =
            |count: usize| u32::try_from(count).expect("a number of cubes that fits into 32 bits");
        CubeCount::Static(count(self.columns()), count(chunks), 1)
    }
}

/// The number of rows that a unit loads before it uses them.
pub(crate) const AHEAD: u32 = 4;

/// The part of a chunk that a unit works on: one vector of channels, and every `CUBE_DIM_Y`-th row.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Position {
    /// The index of the vector of channels.
    pub(crate) column: usize,
    /// Whether the unit has a vector of channels. If not, it must not write.
    pub(crate) exists: bool,
    /// The first row of the unit.
    pub(crate) first: usize,
    /// The end of the chunk, as a row index.
    pub(crate) end: usize,
}

/// Computes the position of the current unit.
#[cube]
pub(crate) fn position(rows: usize, width: usize, per_chunk: usize) -> Position {
    let column = ABSOLUTE_POS_X as usize;
    let exists = column < width;
    let begin = CUBE_POS_Y as usize * per_chunk;
    let end = begin + per_chunk;
    Position {
        // A unit after the last vector reads the last one, but writes nothing.
        column: select(exists, column, width - 1),
        exists,
        first: begin + UNIT_POS_Y as usize,
        end: select(end < rows, end, rows),
    }
}

/// Sums both values over the units that share a vector of channels. The result is valid in the unit with
/// `UNIT_POS_Y` 0.
#[cube]
pub(crate) fn sum_column<N: Size>(
    left: Vector<f32, N>,
    right: Vector<f32, N>,
    #[comptime] units: usize,
) -> (Vector<f32, N>, Vector<f32, N>) {
    let mut lefts = Shared::<[Vector<f32, N>]>::new_slice(units);
    let mut rights = Shared::<[Vector<f32, N>]>::new_slice(units);
    let at = UNIT_POS as usize;
    lefts[at] = left;
    rights[at] = right;
    sync_cube();
    let mut half = CUBE_DIM_Y / 2;
    while half > 0 {
        if UNIT_POS_Y < half {
            let other = at + (half * CUBE_DIM_X) as usize;
            let more = lefts[other];
            lefts[at] += more;
            let more = rights[other];
            rights[at] += more;
        }
        sync_cube();
        half /= 2;
    }
    (lefts[at], rights[at])
}

/// Computes `max(0, x)` if `relu`, otherwise `x`; NaN stays NaN.
#[cube]
pub(crate) fn floored<N: Size>(x: Vector<f32, N>, #[comptime] relu: bool) -> Vector<f32, N> {
    if relu {
        let zero = Vector::new(0.0f32);
        select_many(x.less_than(&zero), zero, x)
    } else {
        x
    }
}
