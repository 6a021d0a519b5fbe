//! How rows of channels are shared out to units, and what units do on the way.

use burn_cubecl::cubecl::{self, prelude::*};

use super::Rows;

/// Units of a cube, at most.
const UNITS: u32 = 256;
/// Cubes that keep a large GPU busy.
const CUBES: usize = 512;

/// How the work is shared out.
pub(crate) struct Plan {
    /// Numbers of a vector.
    pub(crate) vector: usize,
    /// Vectors of a row.
    pub(crate) width: usize,
    pub(crate) rows: usize,
    pub(crate) chunks: usize,
    pub(crate) per_chunk: usize,
    /// Units across channels and down rows.
    units: [u32; 2],
}

impl Plan {
    /// For rows at these distances.
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

    /// With a chunk for each image.
    pub(crate) fn of_images(rows: &Rows, pitches: &[usize], images: usize) -> Self {
        /// Vectors side by side that are still read in whole pieces of memory.
        const LEAST: u32 = 8;
        let mut plan = Self::new(rows, pitches);
        plan.chunks = images;
        plan.per_chunk = plan.rows / images;
        while plan.units[0] > LEAST && plan.columns() * images < CUBES {
            plan.units = [plan.units[0] / 2, plan.units[1] * 2];
        }
        plan
    }

    /// Cubes side by side.
    fn columns(&self) -> usize {
        self.width.div_ceil(self.units[0] as usize)
    }

    pub(crate) fn cube(&self) -> CubeDim {
        CubeDim::new_2d(self.units[0], self.units[1])
    }

    pub(crate) fn units(&self) -> usize {
        (self.units[0] * self.units[1]) as usize
    }

    /// Cubes where the units side by side go over a whole row.
    pub(crate) fn rows_at_once(&self) -> CubeCount {
        let cubes = self.rows.div_ceil(self.units[1] as usize);
        CubeCount::Static(u32::try_from(cubes).expect("cubes of a launch"), 1, 1)
    }

    /// Cubes for so many chunks.
    pub(crate) fn cubes(&self, chunks: usize) -> CubeCount {
        let of = |count: usize| u32::try_from(count).expect("cubes of a launch");
        CubeCount::Static(of(self.columns()), of(chunks), 1)
    }
}

/// Rows that a unit has in flight at a time.
pub(crate) const AHEAD: u32 = 4;

/// Where a unit works: a vector of channels, and every so manieth row of a chunk.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Place {
    /// The vector of channels.
    pub(crate) column: usize,
    /// Whether there is such a vector.
    pub(crate) there: bool,
    /// The first row of the unit.
    pub(crate) first: usize,
    /// The end of the chunk.
    pub(crate) end: usize,
}

#[cube]
pub(crate) fn position(rows: usize, width: usize, per_chunk: usize) -> Place {
    let column = ABSOLUTE_POS_X as usize;
    let there = column < width;
    let begin = CUBE_POS_Y as usize * per_chunk;
    let end = begin + per_chunk;
    Place {
        // One past the end works on the last one, and keeps its results to itself.
        column: select(there, column, width - 1),
        there,
        first: begin + UNIT_POS_Y as usize,
        end: select(end < rows, end, rows),
    }
}

/// The sums of both numbers over the units of a column, at the unit of its first row.
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

/// `max(0, x)` or `x`; what is not a number stays so.
#[cube]
pub(crate) fn floored<N: Size>(x: Vector<f32, N>, #[comptime] relu: bool) -> Vector<f32, N> {
    if relu {
        let zero = Vector::new(0.0f32);
        select_many(x.less_than(&zero), zero, x)
    } else {
        x
    }
}
