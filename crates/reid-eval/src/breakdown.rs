//! Breakdowns of an evaluation by pair of cameras, by identity and by query.

use std::collections::BTreeMap;

use reid_core::{Camera, Identity};
use serde::{Deserialize, Serialize};

use crate::{
    Error, EvaluationConfig, Labels, Protocol, QueryResult, RelevanceRule, Report, RetrievalTask,
    evaluate::each_row, ranking::ranks_of_matches,
};

/// The metrics of a group of queries.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupScores {
    /// The number of queries with a match.
    pub queries: usize,
    /// The fraction of them with a match at rank 1, from 0 to 1.
    pub rank_1: f64,
    /// The mean of their average precision, from 0 to 1.
    pub mean_average_precision: f64,
}

impl GroupScores {
    /// Averages results; `None` if no query has a match.
    fn from_results<'a>(results: impl Iterator<Item = &'a QueryResult>) -> Option<Self> {
        let (mut queries, mut firsts, mut precision) = (0, 0, 0.0);
        for result in results {
            let (Some(rank), Some(average)) = (result.first_match, result.average_precision) else {
                continue;
            };
            queries += 1;
            firsts += usize::from(rank == 1);
            precision += average;
        }
        (queries > 0).then(|| Self {
            queries,
            rank_1: firsts as f64 / queries as f64,
            mean_average_precision: precision / queries as f64,
        })
    }
}

/// The metrics of the queries of one identity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IdentityScores {
    /// The identity of the queries.
    pub identity: Identity,
    /// The metrics.
    pub scores: GroupScores,
}

/// The metrics of the queries of one camera against the gallery images of one camera.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CameraPair {
    /// The camera of the queries.
    pub query: Camera,
    /// The camera of the gallery images.
    pub gallery: Camera,
    /// The metrics.
    pub scores: GroupScores,
}

/// Computes rank-1 and mAP for each pair of a query camera and a gallery camera.
///
/// Each query ranks the gallery images of one camera at a time, under the protocol of the task. Pairs of
/// cameras without a match are omitted. The pairs are sorted by query camera and then by gallery camera.
///
/// # Errors
/// The errors of [`evaluate_rows`](crate::evaluate_rows), and if the query or the gallery has no cameras. No
/// match is not an error: the result is then empty.
///
/// ```
/// use reid_core::{Camera, Identity};
/// use reid_eval::{Distances, Embeddings, EvaluationConfig, Metric, RetrievalTask, camera_pairs};
///
/// let one = |values: &[f32], ids: &[i64], cameras: &[u32]| {
///     Embeddings::new(values.to_vec(), 1, ids.iter().copied().map(Identity::new).collect())?
///         .with_cameras(cameras.iter().copied().map(Camera::new).collect())
/// };
/// let query = one(&[0.0], &[1], &[1])?;
/// // The match has rank 1 in camera 2, and rank 2 in camera 3.
/// let gallery = one(&[1.0, 4.0, 3.0, 2.0], &[1, 2, 1, 2], &[2, 2, 3, 3])?;
/// let distances = Distances::between(&query, &gallery, Metric::Euclidean)?;
/// let task = RetrievalTask::new(&distances, query.labels(), gallery.labels());
/// let pairs = camera_pairs(&task, &EvaluationConfig::default())?;
/// let precision = |at: usize| pairs[at].scores.mean_average_precision;
/// assert_eq!((pairs.len(), precision(0), precision(1)), (2, 1.0, 0.5));
/// # Ok::<(), reid_eval::Error>(())
/// ```
pub fn camera_pairs(
    task: &RetrievalTask<'_>,
    config: &EvaluationConfig,
) -> Result<Vec<CameraPair>, Error> {
    config.check()?;
    // Both sides need cameras here under every protocol; the check of `Market` reports missing ones.
    let (query, gallery) = (task.query, task.gallery);
    Protocol::Market.check(query, gallery)?;
    let (from, to) = (
        query.cameras().unwrap_or(&[]),
        gallery.cameras().unwrap_or(&[]),
    );
    let mut images: BTreeMap<Camera, Vec<usize>> = BTreeMap::new();
    for (image, camera) in to.iter().enumerate() {
        images.entry(*camera).or_default().push(image);
    }
    let results = each_row(task, |rule, row| {
        let of_camera = images.iter().filter_map(|(camera, images)| {
            let distances: Vec<f32> = images.iter().map(|&image| row[image]).collect();
            let ranks = ranks_of_matches(&distances, |at| rule.relevance(images[at]));
            let result = QueryResult::from_ranks((rule.query, rule.identity), &ranks, config);
            result.first_match.map(|_| (*camera, result))
        });
        of_camera.collect::<Vec<_>>()
    })?;
    let mut pairs: BTreeMap<(Camera, Camera), Vec<QueryResult>> = BTreeMap::new();
    for (camera, result) in results.into_iter().flatten() {
        pairs
            .entry((from[result.query], camera))
            .or_default()
            .push(result);
    }
    let pairs = pairs.into_iter().filter_map(|((query, gallery), results)| {
        let scores = GroupScores::from_results(results.iter())?;
        Some(CameraPair {
            query,
            gallery,
            scores,
        })
    });
    Ok(pairs.collect())
}

impl Report {
    /// Computes the metrics of each identity, sorted by ascending mAP. Identities without a match are
    /// omitted.
    ///
    /// # Panics
    /// If the number of labels is not the number of queries.
    #[must_use]
    pub fn by_identity(&self, query: &Labels) -> Vec<IdentityScores> {
        let (expected, found) = (self.per_query.len(), query.len());
        assert_eq!(
            found, expected,
            "expected the labels of {expected} queries, found {found}"
        );
        let mut results: BTreeMap<Identity, Vec<&QueryResult>> = BTreeMap::new();
        for (result, identity) in self.per_query.iter().zip(query.identities()) {
            results.entry(*identity).or_default().push(result);
        }
        let parts = results.into_iter().filter_map(|(identity, results)| {
            let scores = GroupScores::from_results(results.into_iter())?;
            Some(IdentityScores { identity, scores })
        });
        let mut parts: Vec<IdentityScores> = parts.collect();
        // The sort is stable: at equal mAP, the smaller identity comes first.
        parts.sort_by(|a, b| {
            let [a, b] = [a, b].map(|part| part.scores.mean_average_precision);
            a.total_cmp(&b)
        });
        parts
    }

    /// The `count` queries with the lowest average precision, in ascending order. Queries without a match
    /// are omitted.
    #[must_use]
    pub fn hardest(&self, count: usize) -> Vec<&QueryResult> {
        let matched = self
            .per_query
            .iter()
            .filter(|result| result.first_match.is_some());
        let mut matched: Vec<&QueryResult> = matched.collect();
        matched.sort_by(|a, b| {
            let [a, b] = [a, b].map(|result| result.average_precision.unwrap_or(0.0));
            a.total_cmp(&b)
        });
        matched.truncate(count);
        matched
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate_distances;

    #[test]
    fn identities_and_queries_are_sorted_worst_first() {
        let labels = |of: &[i64]| Labels::new(of.iter().copied().map(Identity::new).collect());
        let (query, gallery) = (labels(&[1, 2, 2, 3]), labels(&[1, 2]));
        let config = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
        // Matches at ranks 2, 1 and 2; identity 3 has no match.
        let distances = [0.2, 0.1, 0.2, 0.1, 0.1, 0.2, 0.1, 0.2];
        let report = evaluate_distances(&distances, &query, &gallery, &config).expect("matches");
        let identities = report.by_identity(&query);
        let names: Vec<i64> = identities
            .iter()
            .map(|part| part.identity.label())
            .collect();
        assert_eq!(names, [1, 2]);
        let second = identities[1].scores;
        assert_eq!((second.queries, second.rank_1), (2, 0.5));
        assert!((second.mean_average_precision - 0.75).abs() < 1e-12);
        let hardest: Vec<usize> = report
            .hardest(2)
            .iter()
            .map(|result| result.query)
            .collect();
        assert_eq!(hardest, [0, 2]);
    }

    #[test]
    fn camera_pairs_need_cameras() {
        let labels = Labels::new(vec![Identity::new(1)]);
        let matrix = crate::evaluate::Matrix {
            values: &[0.5],
            queries: 1,
            gallery: 1,
        };
        let task =
            RetrievalTask::new(&matrix, &labels, &labels).with_protocol(&Protocol::NoCameras);
        let pairs = camera_pairs(&task, &EvaluationConfig::default());
        assert!(matches!(pairs, Err(Error::Cameras { .. })));
    }
}
