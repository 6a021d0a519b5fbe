//! Ranking: the order of gallery images, the k nearest, and the ranks of matches without a full sort.

use std::cmp::Ordering;

use crate::Relevance;

/// The index of a gallery image and its distance to the query.
pub(crate) type Candidate = (usize, f32);

/// Orders candidates by distance and, at equal distances, by gallery index, like a stable sort by distance.
/// Distances must be finite.
pub(crate) fn nearer(a: &Candidate, b: &Candidate) -> Ordering {
    // Adding 0 replaces -0 by 0; `total_cmp` would order -0 before 0.
    (a.1 + 0.0).total_cmp(&(b.1 + 0.0)).then(a.0.cmp(&b.0))
}

/// Returns the nearest `count` candidates, nearest first, or all of them if there are fewer.
///
/// Takes `O(candidates)` time for any order of the candidates: possible results are collected in a list of at
/// most `2 · count`, which is reduced to the nearest `count` when it is full.
pub(crate) fn nearest(candidates: impl Iterator<Item = Candidate>, count: usize) -> Vec<Candidate> {
    if count == 0 {
        return Vec::new();
    }
    let mut kept: Vec<Candidate> = Vec::new();
    // The farthest of the `count` nearest so far, once the list has been reduced.
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

/// Computes the ranks of the matches, ascending from 1, among the images that take a rank.
///
/// Only the matches are sorted. A binary search then counts, for each other image up to the farthest match,
/// the matches before it. This takes at most `O(gallery · log matches)` time. An image beyond the farthest
/// match costs one comparison.
pub(crate) fn ranks_of_matches(
    distances: &[f32],
    relevance: impl Fn(usize) -> Relevance,
) -> Vec<usize> {
    let candidates = || distances.iter().copied().enumerate();
    let mut matches: Vec<Candidate> = candidates()
        .filter(|&(image, _)| relevance(image) == Relevance::Match)
        .collect();
    matches.sort_unstable_by(nearer);
    let Some(&(_, farthest)) = matches.last() else {
        return Vec::new();
    };

    // Only the distances, contiguous in memory for the binary search.
    let match_distances: Vec<f32> = matches.iter().map(|&(_, distance)| distance).collect();
    // The number of matches ranked before an image.
    let before = |candidate: &Candidate| {
        let at = match_distances.partition_point(|distance| *distance < candidate.1);
        if match_distances
            .get(at)
            .is_some_and(|distance| *distance > candidate.1)
        {
            return at;
        }
        // At the same distance as one or more matches.
        at + matches[at..].partition_point(|image| nearer(image, candidate).is_lt())
    };
    // An image between matches `i - 1` and `i` adds 1 to the ranks of matches `i`, `i + 1`, …. A match adds 1
    // to its own rank, so ranks start at 1.
    let mut moves = vec![0; matches.len() + 1];
    let near = candidates().filter(|&(_, distance)| distance <= farthest);
    for candidate in near.filter(|&(image, _)| relevance(image).is_ranked()) {
        moves[before(&candidate)] += 1;
    }
    let mut rank = 0;
    moves[..matches.len()]
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

    const M: Relevance = Relevance::Match;
    const N: Relevance = Relevance::NonMatch;
    const I: Relevance = Relevance::Ignored;

    fn ranks(distances: &[f32], relevances: &[Relevance]) -> Vec<usize> {
        ranks_of_matches(distances, |image| relevances[image])
    }

    #[test]
    fn nearest_equals_the_head_of_a_stable_sort() {
        for length in 0..40_usize {
            // Few different distances, neither ascending nor descending.
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
        // In order: .1 ignored, .2 non-match, .3 match, .4 ignored, .5 match → ranks 2 and 3.
        let found = ranks(&[0.3, 0.1, 0.5, 0.4, 0.2], &[M, I, M, I, N]);
        assert_eq!(found, [2, 3]);
    }

    #[test]
    fn ties_rank_in_gallery_order() {
        // All distances are 0 or -0: images N M N M → ranks 2 and 4.
        assert_eq!(ranks(&[0.0, -0.0, -0.0, 0.0], &[N, M, N, M]), [2, 4]);
    }

    #[test]
    fn without_matches_there_are_no_ranks() {
        assert!(ranks(&[0.1, 0.2], &[N, I]).is_empty());
        assert!(ranks(&[], &[]).is_empty());
    }
}
