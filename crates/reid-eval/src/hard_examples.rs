//! Hard examples: the queries with the lowest average precision and what ranks above their matches, and the
//! hardest triplets among labelled images.

use std::{cmp::Ordering, collections::BTreeMap};

use reid_core::Identity;
use serde::{Deserialize, Serialize};

use crate::{
    Embeddings, Error, Metric, QueryResult, RankedEntry, Relevance, Report, RetrievalTask,
    distance::Distances,
    distance_rows::{map_rows, rows},
    evaluate::expect_labels,
    ranking::{Candidate, nearer, nearest},
    relevance::{ProtocolRule, QueryRule},
};

/// A query with the non-matches that rank above its first match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HardQuery {
    /// The result of the query. [`QueryResult::first_match`] is the rank of the first match, so one less is
    /// the number of non-matches above it.
    pub result: QueryResult,
    /// The nearest of these non-matches, nearest first. Ignored images are not listed.
    pub wrong: Vec<RankedEntry>,
    /// The first match.
    pub first_match: RankedEntry,
}

impl HardQuery {
    /// Creates a hard query from its parts, of which `wrong` is sorted by distance.
    #[must_use]
    pub fn new(result: QueryResult, wrong: Vec<RankedEntry>, first_match: RankedEntry) -> Self {
        Self {
            result,
            wrong,
            first_match,
        }
    }
}

impl Report {
    /// Finds the `count` queries with the lowest average precision ([`hardest`](Self::hardest)), each with
    /// the nearest `wrong` non-matches that rank above its first match.
    ///
    /// `task` has the distances, labels and protocol that the report was computed from. Only the distances of
    /// these queries are computed again, one row at a time.
    ///
    /// ```
    /// use reid_core::Identity;
    /// use reid_eval::{Distances, Embeddings, Metric, Protocol, RetrievalTask, evaluate};
    ///
    /// let one = |values: &[f32], ids: &[i64]| {
    ///     Embeddings::new(values.to_vec(), 2, ids.iter().copied().map(Identity::new).collect())
    /// };
    /// let query = one(&[1.0, 0.0], &[7])?;
    /// let gallery = one(&[0.0, 1.0, 1.0, 0.1], &[7, 8])?;
    /// let report = evaluate(&query, &gallery, &Protocol::NoCameras)?;
    ///
    /// let distances = Distances::between(&query, &gallery, Metric::Cosine)?;
    /// let task = RetrievalTask::new(&distances, query.labels(), gallery.labels())
    ///     .with_protocol(&Protocol::NoCameras);
    /// let hard = &report.hard_queries(&task, 1, 9)?[0];
    /// assert_eq!((hard.wrong[0].gallery, hard.first_match.gallery), (1, 0));
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    ///
    /// # Errors
    /// - [`Error::Source`] if the task is not that of the report: it has another number of queries or gallery
    ///   images, or ranks the first match of a query differently
    /// - [`Error::Query`] if the report has a query that the task does not have
    /// - if labels that the protocol needs are missing, or the distances cannot be computed
    pub fn hard_queries(
        &self,
        task: &RetrievalTask<'_>,
        count: usize,
        wrong: usize,
    ) -> Result<Vec<HardQuery>, Error> {
        expect_labels(task.distances, [task.query, task.gallery])?;
        let (queries, gallery) = (task.query.len(), task.gallery.len());
        if (self.per_query.len(), self.gallery) != (queries, gallery) {
            return Err(Error::Source {
                first: 0,
                last: queries.saturating_sub(1),
                reason: format!(
                    "expected {} queries and {} gallery images, as many as in the report, found {queries} \
                     and {gallery}",
                    self.per_query.len(),
                    self.gallery
                ),
            });
        }
        let rule = ProtocolRule::new(task.protocol, task.query, task.gallery)?;
        let hard = |result: &QueryResult| {
            let query = result.query;
            if query >= queries {
                return Err(Error::Query { query, queries });
            }
            let row = rows(task.distances, query..query + 1)?;
            hard_query(result, &rule.at(query), &row, wrong)
        };
        self.hardest(count).into_iter().map(hard).collect()
    }
}

fn hard_query(
    result: &QueryResult,
    rule: &QueryRule<'_>,
    row: &[f32],
    wrong: usize,
) -> Result<HardQuery, Error> {
    let images = |relevance: Relevance| {
        let candidates = row.iter().copied().enumerate();
        candidates.filter(move |&(image, _)| rule.relevance(image) == relevance)
    };
    let other_distances = |found: String| Error::Source {
        first: result.query,
        last: result.query,
        reason: format!(
            "expected those of the report, in which the first match has rank {}, found {found}",
            result.first_match.unwrap_or(0)
        ),
    };
    let Some(first) = images(Relevance::Match).min_by(nearer) else {
        return Err(other_distances("no match".to_owned()));
    };
    let above = || images(Relevance::NonMatch).filter(move |image| nearer(image, &first).is_lt());
    let rank = above().count() + 1;
    if result.first_match != Some(rank) {
        return Err(other_distances(format!("rank {rank}")));
    }
    let entry = |relevance: Relevance| {
        move |(image, distance): Candidate| RankedEntry::new(image, distance, relevance)
    };
    let wrong = nearest(above(), wrong).into_iter();
    Ok(HardQuery {
        result: result.clone(),
        wrong: wrong.map(entry(Relevance::NonMatch)).collect(),
        first_match: entry(Relevance::Match)(first),
    })
}

/// An image with the farthest image of its identity and the nearest image of another one.
///
/// Training images with a large [`violation`](Self::violation) are often labelled wrongly, or hardly show the
/// identity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HardTriplet {
    /// Index of the anchor, from 0.
    pub anchor: usize,
    /// Index of the farthest image of its identity.
    pub positive: usize,
    /// Index of the nearest image of another identity.
    pub negative: usize,
    /// The distance from the anchor to the positive, by the metric of the search.
    pub positive_distance: f32,
    /// The distance from the anchor to the negative, by the same metric.
    pub negative_distance: f32,
}

impl HardTriplet {
    /// Creates a triplet from the indices of anchor, positive and negative, and the distances from the anchor
    /// to the positive and to the negative.
    #[must_use]
    pub fn new(
        [anchor, positive, negative]: [usize; 3],
        [positive_distance, negative_distance]: [f32; 2],
    ) -> Self {
        Self {
            anchor,
            positive,
            negative,
            positive_distance,
            negative_distance,
        }
    }

    /// The distance to the positive minus that to the negative. Above 0, the negative is nearer.
    #[must_use]
    pub fn violation(&self) -> f32 {
        self.positive_distance - self.negative_distance
    }

    /// Orders triplets by descending violation and, at equal violations, by the index of the anchor.
    fn harder(&self, other: &Self) -> Ordering {
        let violation = other.violation().total_cmp(&self.violation());
        violation.then(self.anchor.cmp(&other.anchor))
    }
}

/// Finds the hardest triplet of each identity, and returns the `count` hardest of them, hardest first.
///
/// The triplet of an anchor is that of batch-hard mining (Hermans et al., 2017, arXiv:1703.07737, eq. 5),
/// with all images as one batch. Junk and images of unknown identity are skipped, and so are identities with
/// one image. There is only one triplet of each identity, because one wrong label would otherwise fill the
/// list.
///
/// The distances of all pairs of images are computed, in blocks; the matrix is never held.
///
/// ```
/// use reid_core::Identity;
/// use reid_eval::{Embeddings, Metric, hard_triplets};
///
/// let identities = [1, 1, 2, 2].map(Identity::new).to_vec();
/// let embeddings = Embeddings::new(vec![0.0, 4.0, 3.0, 2.0], 1, identities)?;
/// let hardest = hard_triplets(&embeddings, Metric::Euclidean, 1)?[0];
/// assert_eq!((hardest.anchor, hardest.positive, hardest.negative), (1, 0, 2));
/// assert!((hardest.violation() - 3.0).abs() < 1e-6); // 4 - 1
/// # Ok::<(), reid_eval::Error>(())
/// ```
///
/// # Errors
/// [`Error::Distance`] if a distance does not fit an `f32`.
pub fn hard_triplets(
    embeddings: &Embeddings,
    metric: Metric,
    count: usize,
) -> Result<Vec<HardTriplet>, Error> {
    let distances = Distances::between(embeddings, embeddings, metric)?;
    let identities = embeddings.identities();
    let triplets = map_rows(&distances, |anchor, row| hardest(anchor, row, identities))?;
    let mut of_identity: BTreeMap<Identity, HardTriplet> = BTreeMap::new();
    for triplet in triplets.into_iter().flatten() {
        of_identity
            .entry(identities[triplet.anchor])
            .and_modify(|hardest| {
                if triplet.harder(hardest).is_lt() {
                    *hardest = triplet;
                }
            })
            .or_insert(triplet);
    }
    let mut hardest: Vec<HardTriplet> = of_identity.into_values().collect();
    hardest.sort_by(HardTriplet::harder);
    hardest.truncate(count);
    Ok(hardest)
}

/// The hardest triplet of an anchor; `None` if it has no positive or no negative.
fn hardest(anchor: usize, row: &[f32], identities: &[Identity]) -> Option<HardTriplet> {
    let identity = identities[anchor];
    let labelled = move |image: usize| image != anchor && identities[image].is_labelled();
    let others = || {
        let images = row.iter().copied().enumerate();
        images.filter(move |&(image, _)| labelled(image))
    };
    if !identity.is_labelled() {
        return None;
    }
    let positives = others().filter(|&(image, _)| identities[image] == identity);
    let negatives = others().filter(|&(image, _)| identities[image] != identity);
    let (positive, positive_distance) = positives.max_by(nearer)?;
    let (negative, negative_distance) = negatives.min_by(nearer)?;
    Some(HardTriplet {
        anchor,
        positive,
        negative,
        positive_distance,
        negative_distance,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EvaluationConfig, Labels, Protocol, evaluate::Matrix, evaluate_rows};

    /// Query 0: image 3 is junk, images 2 and 1 are wrong, image 0 is the first match, at rank 3. Query 1:
    /// image 1 is the first match, at rank 1, and image 2 the second, at rank 3.
    const DISTANCES: [f32; 10] = [0.5, 0.3, 0.2, 0.1, 0.9, 0.9, 0.1, 0.8, 0.05, 0.5];

    fn labels(of: &[i64]) -> Labels {
        Labels::new(of.iter().copied().map(Identity::new).collect())
    }

    fn matrix(values: &[f32]) -> Matrix<'_> {
        Matrix {
            values,
            queries: 2,
            gallery: 5,
        }
    }

    fn found(
        distances: &[f32],
        count: usize,
        wrong: usize,
        gallery: &[i64],
    ) -> Result<Vec<HardQuery>, Error> {
        let (query, of_task) = (labels(&[1, 2]), labels(gallery));
        let config = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
        let of_report = labels(&[1, 2, 2, -1, 1]);
        let report = evaluate_rows(&matrix(&DISTANCES), &query, &of_report, &config)?;
        let matrix = matrix(distances);
        let task =
            RetrievalTask::new(&matrix, &query, &of_task).with_protocol(&Protocol::NoCameras);
        report.hard_queries(&task, count, wrong)
    }

    #[test]
    fn non_matches_above_the_first_match_are_listed() {
        let gallery = [1, 2, 2, -1, 1];
        let entry = |image, distance, relevance| RankedEntry::new(image, distance, relevance);
        let (wrong, right) = (Relevance::NonMatch, Relevance::Match);
        let hard = found(&DISTANCES, 9, 9, &gallery).expect("the task of the report");
        assert_eq!(hard.len(), 2);
        assert_eq!(
            (hard[0].result.query, hard[0].result.first_match),
            (0, Some(3))
        );
        assert_eq!(hard[0].wrong, [entry(2, 0.2, wrong), entry(1, 0.3, wrong)]);
        assert_eq!(hard[0].first_match, entry(0, 0.5, right));
        assert_eq!((hard[1].result.query, hard[1].wrong.len()), (1, 0));
        assert_eq!(hard[1].first_match, entry(1, 0.1, right));

        let hard = found(&DISTANCES, 1, 1, &gallery).expect("the task of the report");
        assert_eq!(hard.len(), 1);
        assert_eq!(hard[0].wrong, [entry(2, 0.2, wrong)]);
    }

    #[test]
    fn the_task_of_another_report_is_rejected() {
        let message = |distances: &[f32], gallery: &[i64]| {
            let hard = found(distances, 9, 9, gallery);
            hard.expect_err("not the task of the report").to_string()
        };
        let mut others = DISTANCES;
        others[0] = 0.0;
        assert_eq!(
            message(&others, &[1, 2, 2, -1, 1]),
            "the distances of queries 0 to 0 (from 0) cannot be used: expected those of the report, in which \
             the first match has rank 3, found rank 1"
        );
        let none = message(&DISTANCES, &[3, 2, 2, -1, 3]);
        assert!(none.ends_with("rank 3, found no match"), "{none}");
        let fewer = message(&DISTANCES, &[1, 2, 2, -1]);
        assert!(
            fewer.ends_with("as many as labels, found 2 and 5"),
            "{fewer}"
        );
    }

    fn triplets(images: &[(i64, f32)], count: usize) -> Vec<([usize; 3], f32)> {
        let values = images.iter().map(|image| image.1).collect();
        let identities = images.iter().map(|image| Identity::new(image.0)).collect();
        let embeddings = Embeddings::new(values, 1, identities).expect("one dimension");
        let hard = hard_triplets(&embeddings, Metric::Euclidean, count).expect("finite");
        let hard = hard.into_iter();
        hard.map(|one| ([one.anchor, one.positive, one.negative], one.violation()))
            .collect()
    }

    #[test]
    fn each_identity_has_its_hardest_triplet() {
        // The junk image at 0.5 would be the nearest negative of all. Identity 3 has one image.
        let images = [
            (1, 0.0),
            (1, 10.0),
            (2, 1.0),
            (2, 2.0),
            (-1, 0.5),
            (3, 50.0),
        ];
        // Of identity 1, image 0 has 10 - 1 and image 1 has 10 - 8. Of identity 2: 1 - 1 and 1 - 2.
        let expected = [([0, 1, 2], 9.0), ([2, 3, 0], 0.0)];
        let found = triplets(&images, 9);
        assert_eq!(found.len(), 2);
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.0, expected.0);
            assert!((found.1 - expected.1).abs() < 1e-5, "{found:?}");
        }
        assert_eq!(triplets(&images, 1), found[..1]);
        // Without a second identity there is no negative.
        assert!(triplets(&images[..2], 9).is_empty());
        assert!(triplets(&[], 9).is_empty());
    }
}
