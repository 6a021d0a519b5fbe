//! Ranking: the order of gallery images, the k nearest, and the ranks of matches without a full sort.

use std::cmp::Ordering;

use crate::Relevance;

/// The index of a gallery image and its distance to the query.
pub(crate) type Candidate = (usize, f32);

/// Orders candidates by distance and, at equal distances, by index, like a stable sort by distance. Distances must be
/// finite.
pub(crate) fn nearer<I: Ord>(a: &(I, f32), b: &(I, f32)) -> Ordering {
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
pub(crate) fn ranks_of_matches(
    distances: &[f32],
    relevance: impl Fn(usize) -> Relevance,
) -> Vec<usize> {
    let candidates = distances.iter().copied().enumerate();
    let matches = candidates.filter(|&(image, _)| relevance(image) == Relevance::Match);
    let mut ranks = MatchRanks::new(matches.collect());
    ranks.count(0, distances, relevance);
    ranks.into_ranks()
}

/// The ranks of the matches of a query, counted over parts of the gallery in any order.
///
/// Only the matches are sorted. A binary search then counts, for each other image up to the farthest match,
/// the matches before it. This takes at most `O(gallery · log matches)` time. An image beyond the farthest
/// match costs one comparison.
pub(crate) struct MatchRanks {
    /// The matches, nearest first.
    matches: Vec<Candidate>,
    /// Only their distances, contiguous in memory for the binary search.
    distances: Vec<f32>,
    /// The number of images between matches `i - 1` and `i`, and after the last match. An image adds 1 to the
    /// ranks of matches `i`, `i + 1`, …. A match adds 1 to its own rank, so ranks start at 1.
    between: Vec<usize>,
}

impl MatchRanks {
    /// Begins to count for all matches of a query, in any order.
    pub(crate) fn new(mut matches: Vec<Candidate>) -> Self {
        matches.sort_unstable_by(nearer);
        Self {
            distances: matches.iter().map(|&(_, distance)| distance).collect(),
            between: vec![0; matches.len() + 1],
            matches,
        }
    }

    /// Counts consecutive images of the gallery, matches too. `first` is the index of the first one.
    pub(crate) fn count(
        &mut self,
        first: usize,
        distances: &[f32],
        relevance: impl Fn(usize) -> Relevance,
    ) {
        let Some(&(_, farthest)) = self.matches.last() else {
            return;
        };
        let candidates = (first..).zip(distances.iter().copied());
        let near = candidates.filter(|&(_, distance)| distance <= farthest);
        for candidate in near.filter(|&(image, _)| relevance(image).is_ranked()) {
            let at = self.before(&candidate);
            self.between[at] += 1;
        }
    }

    /// The number of matches ranked before an image.
    fn before(&self, candidate: &Candidate) -> usize {
        let at = self
            .distances
            .partition_point(|distance| *distance < candidate.1);
        if self
            .distances
            .get(at)
            .is_some_and(|distance| *distance > candidate.1)
        {
            return at;
        }
        // At the same distance as one or more matches.
        at + self.matches[at..].partition_point(|image| nearer(image, candidate).is_lt())
    }

    /// The ranks, ascending from 1, after all images of the gallery were counted.
    pub(crate) fn into_ranks(self) -> Vec<usize> {
        let mut rank = 0;
        self.between[..self.matches.len()]
            .iter()
            .map(|images| {
                rank += images;
                rank
            })
            .collect()
    }
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
    fn parts_of_the_gallery_are_counted_in_any_order() {
        let distances = [0.3, 0.1, 0.5, 0.3, 0.2, 0.5, 0.3];
        let relevances = [M, I, M, N, N, N, M];
        let relevance = |image: usize| relevances[image];
        let whole = ranks_of_matches(&distances, relevance);
        assert_eq!(whole, [2, 4, 5]);
        for parts in [vec![3..7, 0..3], vec![6..7, 2..6, 0..2], vec![0..4, 4..7]] {
            let mut found = MatchRanks::new(vec![(6, 0.3), (0, 0.3), (2, 0.5)]);
            for part in parts {
                found.count(part.start, &distances[part], relevance);
            }
            assert_eq!(found.into_ranks(), whole);
        }
    }

    #[test]
    fn without_matches_there_are_no_ranks() {
        assert!(ranks(&[0.1, 0.2], &[N, I]).is_empty());
        assert!(ranks(&[], &[]).is_empty());
    }
}
