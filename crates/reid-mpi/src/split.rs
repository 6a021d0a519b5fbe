//! Parts of a slice, one for each rank, in the 32-bit counts of MPI.

use mpi::Count;

/// The most values that are exchanged at once: 256 MiB in single precision.
pub(crate) const CHUNK: usize = 1 << 26;

/// The counts and starts of nearly equal parts of `length` values.
pub(crate) fn parts(length: usize, ranks: usize) -> (Vec<Count>, Vec<Count>) {
    let end = |rank: usize| length * rank / ranks;
    let lengths: Vec<usize> = (0..ranks).map(|rank| end(rank + 1) - end(rank)).collect();
    of_lengths(&lengths)
}

/// The counts and starts of consecutive parts of these lengths.
pub(crate) fn of_lengths(lengths: &[usize]) -> (Vec<Count>, Vec<Count>) {
    let count = |length: usize| Count::try_from(length).expect("a chunk has fewer than 2³¹ values");
    let mut start = 0;
    let starts = lengths.iter().map(|&length| {
        let before = start;
        start += length;
        count(before)
    });
    let starts = starts.collect();
    (
        lengths.iter().map(|&length| count(length)).collect(),
        starts,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_consecutive_and_nearly_equal() {
        assert_eq!(parts(7, 3), (vec![2, 2, 3], vec![0, 2, 4]));
        assert_eq!(parts(1, 3), (vec![0, 0, 1], vec![0, 0, 0]));
        assert_eq!(of_lengths(&[3, 0, 2]), (vec![3, 0, 2], vec![0, 3, 3]));
    }
}
