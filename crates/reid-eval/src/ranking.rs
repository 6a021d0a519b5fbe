//! Ranking: the order of gallery images, the nearest of them, and the ranks of the matches without sorting the rest.

use std::cmp::Ordering;

use crate::Relevance;

/// A gallery image and its distance to the query.
pub(crate) type Candidate = (usize, f32);

/// Nearer first, and among equally near images the one that comes first in the gallery: what a
/// stable sort by distance gives. Distances are finite.
pub(crate) fn nearer(a: &Candidate, b: &Candidate) -> Ordering {
    // Adding 0 makes -0 a plain 0, which `total_cmp` would put after it.
    (a.1 + 0.0).total_cmp(&(b.1 + 0.0)).then(a.0.cmp(&b.0))
}

/// The nearest `count` candidates, nearest first, or all of them if there are fewer.
///
/// Those that may be among the nearest are kept in a list of at most `2 · count`, which is cut to half its
/// length when it is full: `O(candidates)` in time, whatever their order.
pub(crate) fn nearest(candidates: impl Iterator<Item = Candidate>, count: usize) -> Vec<Candidate> {
    if count == 0 {
        return Vec::new();
    }
    let mut kept: Vec<Candidate> = Vec::new();
    // The farthest of the nearest, when there are enough of them.
    let mut limit: Option<Candidate> = None;
    for candidate in candidates {
        if limit.is_some_and(|limit| nearer(&candidate, &limit).is_gt()) {
            continue;
        }
        kept.push(candidate);
        if kept.len() / 2 >= count {
            let (_, farthest, _) = kept.select_nth_unstable_by(count - 1, nearer);
            limit = Some(*farthest);
            kept.truncate(count);
        }
    }
    kept.sort_unstable_by(nearer);
    kept.truncate(count);
    kept
}

/// Ranks of the right answers, rising from 1, among the images that are not ignored.
///
/// Only the right answers are sorted. Every image that is no farther than the last of them then asks by
/// bisection which it stands before, so the whole is at most `O(gallery · log right)` in time, and most
/// images cost one comparison where right answers are near.
pub(crate) fn ranks_of_matches(
    distances: &[f32],
    relevance: impl Fn(usize) -> Relevance,
) -> Vec<usize> {
    let candidates = || distances.iter().copied().enumerate();
    let mut right: Vec<Candidate> = candidates()
        .filter(|&(image, _)| relevance(image) == Relevance::Match)
        .collect();
    right.sort_unstable_by(nearer);
    let Some(&(_, farthest)) = right.last() else {
        return Vec::new();
    };

    // Alone, so that a search has numbers side by side and compares nothing else.
    let answers: Vec<f32> = right.iter().map(|&(_, distance)| distance).collect();
    // How many right answers stand before an image.
    let before = |candidate: &Candidate| {
        let at = answers.partition_point(|answer| *answer < candidate.1);
        if answers.get(at).is_some_and(|answer| *answer > candidate.1) {
            return at;
        }
        // As near as one or more of them.
        at + right[at..].partition_point(|answer| nearer(answer, candidate).is_lt())
    };
    // An image that is not farther than right answer `i`, but farther than the one before, moves
    // answers `i`, `i + 1`, … back by one. A right answer moves itself: ranks count from 1.
    let mut moves = vec![0; right.len() + 1];
    let near = candidates().filter(|&(_, distance)| distance <= farthest);
    for candidate in near.filter(|&(image, _)| relevance(image).is_ranked()) {
        moves[before(&candidate)] += 1;
    }
    let mut rank = 0;
    moves[..right.len()]
        .iter()
        .map(|moved| {
            rank += moved;
            rank
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: Relevance = Relevance::Match;
    const W: Relevance = Relevance::NonMatch;
    const I: Relevance = Relevance::Ignored;

    fn ranks(distances: &[f32], relevances: &[Relevance]) -> Vec<usize> {
        ranks_of_matches(distances, |image| relevances[image])
    }

    #[test]
    fn the_nearest_are_the_first_of_a_stable_sort() {
        for length in 0..40_usize {
            // Few different distances, in an order that rises and falls.
            let distances = (0..length).map(|at| ((at * 7) % 5) as f32);
            let candidates: Vec<Candidate> = distances.enumerate().collect();
            let mut sorted = candidates.clone();
            sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
            for count in [0, 1, 2, 3, 7, 39, 100, usize::MAX] {
                let found = nearest(candidates.iter().copied(), count);
                assert_eq!(found, sorted[..count.min(length)], "{count} of {length}");
            }
        }
    }

    #[test]
    fn ignored_images_take_no_rank() {
        // In order: .1 ignored, .2 wrong, .3 right, .4 ignored, .5 right → ranks 2 and 3.
        let found = ranks(&[0.3, 0.1, 0.5, 0.4, 0.2], &[R, I, R, I, W]);
        assert_eq!(found, [2, 3]);
    }

    #[test]
    fn ties_go_to_the_first_in_the_gallery() {
        // All at 0, whatever its sign: images 0 W, 1 R, 2 W, 3 R → ranks 2 and 4.
        assert_eq!(ranks(&[0.0, -0.0, -0.0, 0.0], &[W, R, W, R]), [2, 4]);
    }

    #[test]
    fn without_right_answers_there_are_no_ranks() {
        assert!(ranks(&[0.1, 0.2], &[W, I]).is_empty());
        assert!(ranks(&[], &[]).is_empty());
    }
}
