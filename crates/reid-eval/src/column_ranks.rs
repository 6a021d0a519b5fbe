//! The ranks of matches in a gallery that is read block by block.

use std::{collections::HashMap, ops::Range, sync::Mutex};

use rayon::prelude::*;
use reid_core::Identity;

use crate::{
    DistanceColumns, Error, Relevance, RetrievalTask,
    distance_columns::{into_inner, lock, pairs, scan},
    evaluate::{each_row, expect_labels},
    ranking::MatchRanks,
    relevance::{ProtocolRule, QueryRule},
};

/// The maximum number of matches whose ranks are counted in one scan of the gallery, unless one query has
/// more. Each takes about 40 bytes.
const MATCHES: usize = 1 << 23;

/// The gallery images that match a query, found without distances.
struct MatchIndex<'a> {
    rule: &'a ProtocolRule<'a>,
    /// The gallery images of the identities of the queries; `None` for a custom protocol, under which any
    /// image may be a match.
    images: Option<HashMap<Identity, Vec<usize>>>,
}

impl<'a> MatchIndex<'a> {
    fn new(rule: &'a ProtocolRule<'a>) -> Self {
        let images = rule.matches_are_of_one_identity().then(|| {
            let wanted = rule.query.identities().iter();
            let mut images: HashMap<Identity, Vec<usize>> =
                wanted.map(|identity| (*identity, Vec::new())).collect();
            for (image, identity) in rule.gallery.identities().iter().enumerate() {
                if let Some(list) = images.get_mut(identity) {
                    list.push(image);
                }
            }
            images
        });
        Self { rule, images }
    }

    /// The matches of a query in ascending order.
    fn matches(&self, query: usize) -> Vec<usize> {
        let rule = self.rule.at(query);
        let is_match = |image: &usize| rule.relevance(*image) == Relevance::Match;
        match &self.images {
            None => (0..self.rule.gallery.len()).filter(is_match).collect(),
            Some(images) => {
                let same = images.get(&rule.identity).into_iter().flatten();
                same.copied().filter(is_match).collect()
            }
        }
    }

    fn matches_of_each(&self, queries: Range<usize>) -> Vec<(usize, Vec<usize>)> {
        let queries = queries.into_par_iter();
        queries.map(|query| (query, self.matches(query))).collect()
    }
}

/// Maps each query and the ranks of its matches, ascending from 1, and returns the results in the order of the
/// queries. The gallery is read twice for each group of queries that have at most [`MATCHES`] matches together.
pub(crate) fn map_ranks<R>(
    columns: &dyn DistanceColumns,
    rule: &ProtocolRule<'_>,
    map: impl Fn(&QueryRule<'_>, &[usize]) -> R,
) -> Result<Vec<R>, Error> {
    let index = MatchIndex::new(rule);
    let queries = (0..rule.query.len()).into_par_iter();
    let counts: Vec<usize> = queries.map(|query| index.matches(query).len()).collect();
    let mut results = Vec::with_capacity(counts.len());
    for group in groups(&counts, MATCHES) {
        let wanted = index.matches_of_each(group.clone());
        let distances = pairs(columns, &wanted)?;
        let matches = wanted.into_iter().zip(distances);
        let ranks = matches.map(|((_, images), distances)| {
            Mutex::new(MatchRanks::new(images.into_iter().zip(distances).collect()))
        });
        let ranks: Vec<Mutex<MatchRanks>> = ranks.collect();
        let start = group.start;
        scan(
            columns,
            rule.gallery.len(),
            group,
            |query, first, distances| {
                let rule = rule.at(query);
                let mut ranks = lock(&ranks[query - start]);
                ranks.count(first, distances, |image| rule.relevance(image));
            },
        )?;
        let found = (start..).zip(ranks);
        results.extend(found.map(|(query, ranks)| {
            let ranks = into_inner(ranks).into_ranks();
            map(&rule.at(query), &ranks)
        }));
    }
    Ok(results)
}

/// Divides items with these counts, such as queries with numbers of matches, into consecutive groups whose counts
/// sum to at most `most`, or of one item.
pub(crate) fn groups(counts: &[usize], most: usize) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut sum = 0;
    for (item, count) in counts.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if sum + count <= most => {
                group.end = item + 1;
                sum += count;
            }
            _ => {
                groups.push(item..item + 1);
                sum = *count;
            }
        }
    }
    groups
}

/// The distances to the matches of each query of known identity, in the order of the queries.
pub(crate) fn match_distances(task: &RetrievalTask<'_>) -> Result<Vec<Vec<f32>>, Error> {
    let Some(columns) = task.distances.columns() else {
        return each_row(task, |rule, row| {
            let images = row.iter().enumerate();
            let matches = images.filter(|&(image, _)| rule.relevance(image) == Relevance::Match);
            matches.map(|(_, distance)| *distance).collect()
        });
    };
    let rule = ProtocolRule::new(task.protocol, task.query, task.gallery)?;
    expect_labels(task.distances, [task.query, task.gallery])?;
    let mut wanted = MatchIndex::new(&rule).matches_of_each(0..task.query.len());
    wanted.retain(|(query, _)| rule.is_scored(*query));
    pairs(columns, &wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_at_most_so_many_matches_or_one_query() {
        let found = groups(&[3, 4, 1, 9, 0, 8, 1], 8);
        assert_eq!(found, [0..3, 3..4, 4..6, 6..7]);
        assert_eq!(groups(&[0, 0, 0], 8).first(), Some(&(0..3)));
        assert!(groups(&[], 8).is_empty());
    }
}
