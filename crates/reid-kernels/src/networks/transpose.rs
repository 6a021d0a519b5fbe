//! Matrix transposition.

use std::array;

use rayon::prelude::*;

/// The number of rows that are interleaved at a time.
pub(crate) const SIDE: usize = 4;

/// Interleaves [`SIDE`] rows: their values at column `i` are written from `to[i · width]` on.
pub(crate) fn interleave(sources: [&[f32]; SIDE], to: &mut [f32], width: usize) {
    let squares = sources.map(|source| source.as_chunks::<SIDE>());
    let count = squares[0].0.len();
    for at in 0..count {
        // Written so that the compiler uses SIMD shuffles.
        let square = squares.map(|(squares, _)| squares[at]);
        for position in 0..SIDE {
            let to = &mut to[(at * SIDE + position) * width..][..SIDE];
            to.copy_from_slice(&square.map(|values| values[position]));
        }
    }
    for at in count * SIDE..sources[0].len() {
        let to = &mut to[at * width..][..SIDE];
        to.copy_from_slice(&sources.map(|source| source[at]));
    }
}

/// Transposes `[rows, columns]` to `[columns, rows]`.
pub(crate) fn transpose(matrix: &[f32], columns: usize, to: &mut [f32]) {
    /// The number of columns in a task, so that reads are close together.
    const BLOCK: usize = 16;
    let rows = matrix.len() / columns;
    let blocks = to.par_chunks_mut(BLOCK * rows).enumerate();
    blocks.for_each(|(block, to)| {
        let count = to.len() / rows;
        let source = |row: usize| &matrix[row * columns + block * BLOCK..][..count];
        let whole = rows - rows % SIDE;
        for row in (0..whole).step_by(SIDE) {
            interleave(
                array::from_fn(|side| source(row + side)),
                &mut to[row..],
                rows,
            );
        }
        for row in whole..rows {
            for (to, value) in to[row..].iter_mut().step_by(rows).zip(source(row)) {
                *to = *value;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transpose_swaps_rows_and_columns() {
        for (rows, columns) in [(1, 1), (4, 4), (5, 3), (3, 37), (33, 18), (64, 16)] {
            let matrix: Vec<f32> = (0..rows * columns).map(|at| at as f32).collect();
            let mut transposed = vec![-1.0; matrix.len()];
            transpose(&matrix, columns, &mut transposed);
            let positions = (0..columns).flat_map(|column| (0..rows).map(move |row| (row, column)));
            let expected: Vec<f32> = positions
                .map(|(row, column)| matrix[row * columns + column])
                .collect();
            assert_eq!(transposed, expected, "{rows} {columns}");
        }
    }
}
