//! Evaluation: computes a report from embeddings or distances.

use std::ops::Range;

use crate::{
    DistanceRows, Embeddings, Error, EvaluationConfig, Labels, Report, RetrievalTask,
    column_ranks::map_ranks,
    distance::Distances,
    distance_rows::map_rows,
    ranking::ranks_of_matches,
    relevance::{ProtocolRule, QueryRule},
    report::QueryResult,
};

/// Ranks the gallery for every query and computes CMC, mAP and mINP of the rankings.
///
/// `how` is a [`Protocol`](crate::Protocol), or an [`EvaluationConfig`] to choose more than the protocol. A
/// query of unknown identity ([`Identity::UNKNOWN`](reid_core::Identity::UNKNOWN)) is not scored;
/// [`Report::unknown_queries`] counts these queries. Images at equal distances rank in gallery order, as
/// after a stable sort.
///
/// The distances are computed in blocks of queries, so the full Q x G matrix is never held. The result is
/// bit-identical for any number of threads.
///
/// # Errors
/// - The query or the gallery is empty, or their dimensions differ.
/// - Labels that the protocol needs are missing, or a setting is out of range.
/// - A distance does not fit an `f32`.
/// - No query has a match.
///
/// ```
/// use reid_core::{Camera, Identity};
/// use reid_eval::{Embeddings, EvaluationConfig, Metric, Protocol, evaluate};
///
/// let [anna, ben] = [1, 2].map(Identity::new);
/// let [door, hall] = [1, 2].map(Camera::new);
/// let query = Embeddings::new(vec![1.0, 0.0], 2, vec![anna])?.with_cameras(vec![door])?;
///
/// // The first image is Anna by the query's own camera: ignored. Then Ben has rank 1, and Anna rank 2.
/// let gallery = Embeddings::new(vec![1.0, 0.0, 0.8, 0.6, 0.6, 0.8], 2, vec![anna, ben, anna])?
///     .with_cameras(vec![door, hall, hall])?;
///
/// let report = evaluate(&query, &gallery, &Protocol::default())?;
/// assert_eq!((report.rank(1), report.rank(2)), (0.0, 1.0));
/// assert_eq!(report.mean_average_precision, 0.5);
///
/// let config = EvaluationConfig::default().with_metric(Metric::Euclidean);
/// assert_eq!(evaluate(&query, &gallery, &config)?.mean_average_precision, 0.5);
/// # Ok::<(), reid_eval::Error>(())
/// ```
pub fn evaluate(
    query: &Embeddings,
    gallery: &Embeddings,
    how: impl Into<EvaluationConfig>,
) -> Result<Report, Error> {
    let config = how.into();
    config.check()?;
    // Checked first, so that missing labels are reported before different dimensions.
    ProtocolRule::new(&config.protocol, query.labels(), gallery.labels())?;
    let distances = Distances::between(query, gallery, config.metric)?;
    evaluate_rows(&distances, query.labels(), gallery.labels(), &config)
}

/// Computes CMC, mAP and mINP from streamed distances.
///
/// The [`DistanceRows`] (see its example) yields one block of query rows at a time, so the full Q x G matrix
/// is never held. If the source has [`columns`](DistanceRows::columns), the gallery is read block by block
/// instead, with the same result. [`EvaluationConfig::metric`] is only recorded in the report: set it to the
/// metric of the distances.
///
/// # Errors
/// The errors of [`evaluate`], and if the source and the labels have different numbers of queries or gallery
/// images, if the source fails, or if a distance is infinite or NaN.
pub fn evaluate_rows(
    source: &(impl DistanceRows + ?Sized),
    query: &Labels,
    gallery: &Labels,
    config: &EvaluationConfig,
) -> Result<Report, Error> {
    config.check()?;
    let rule = ProtocolRule::new(&config.protocol, query, gallery)?;
    expect_labels(source, [query, gallery])?;
    let result = |rule: &QueryRule<'_>, ranks: &[usize]| {
        QueryResult::from_ranks((rule.query, rule.identity), ranks, config)
    };
    let per_query = match source.columns() {
        Some(columns) => map_ranks(columns, &rule, result)?,
        None => map_rows(source, |query, row| {
            let rule = rule.at(query);
            let ranks = ranks_of_matches(row, |image| rule.relevance(image));
            result(&rule, &ranks)
        })?,
    };
    Report::from_results(per_query, gallery.len(), config)
        .ok_or_else(|| Error::no_match(&config.protocol, query, gallery))
}

/// Maps each query of known identity and its row of distances, and returns the results in the order of the
/// queries.
pub(crate) fn each_row<R: Send>(
    task: &RetrievalTask<'_>,
    map: impl Fn(&QueryRule<'_>, &[f32]) -> R + Sync,
) -> Result<Vec<R>, Error> {
    let rule = ProtocolRule::new(task.protocol, task.query, task.gallery)?;
    expect_labels(task.distances, [task.query, task.gallery])?;
    let results = map_rows(task.distances, |query, row| {
        rule.is_scored(query).then(|| map(&rule.at(query), row))
    })?;
    Ok(results.into_iter().flatten().collect())
}

/// Returns an error unless there are as many labels as queries and gallery images.
pub(crate) fn expect_labels(
    source: &(impl DistanceRows + ?Sized),
    [query, gallery]: [&Labels; 2],
) -> Result<(), Error> {
    let (queries, images) = (source.queries(), source.gallery());
    if (queries, images) != (query.len(), gallery.len()) {
        return Err(Error::Source {
            first: 0,
            last: queries.saturating_sub(1),
            reason: format!(
                "expected {} queries and {} gallery images, as many as labels, found {queries} and {images}",
                query.len(),
                gallery.len()
            ),
        });
    }
    Ok(())
}

/// Computes CMC, mAP and mINP from a distance matrix, such as one from another program.
///
/// `distances` is `[queries, gallery images]` in rows; a smaller distance means more similar.
/// [`EvaluationConfig::metric`] is only recorded in the report: set it to the metric of the
/// distances.
///
/// # Errors
/// The errors of [`evaluate`], and if the number of distances is not queries x gallery images, or if a
/// distance is infinite or NaN.
///
/// ```
/// use reid_core::Identity;
/// use reid_eval::{EvaluationConfig, Labels, Protocol, evaluate_distances};
///
/// let query = Labels::new([1, 2].map(Identity::new).to_vec());
/// let gallery = Labels::new([1, 2, 1].map(Identity::new).to_vec());
/// let config = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
/// let distances = [
///     0.1, 0.2, 0.3, // matches at ranks 1 and 3: (1/1 + 2/3) / 2
///     0.3, 0.2, 0.1, // match at rank 2: 1/2
/// ];
/// let report = evaluate_distances(&distances, &query, &gallery, &config)?;
/// assert!((report.mean_average_precision - 2.0 / 3.0).abs() < 1e-12);
/// # Ok::<(), reid_eval::Error>(())
/// ```
pub fn evaluate_distances(
    distances: &[f32],
    query: &Labels,
    gallery: &Labels,
    config: &EvaluationConfig,
) -> Result<Report, Error> {
    if query.len().checked_mul(gallery.len()) != Some(distances.len()) {
        return Err(Error::Matrix {
            queries: query.len(),
            gallery: gallery.len(),
            found: distances.len(),
        });
    }
    let matrix = Matrix {
        values: distances,
        queries: query.len(),
        gallery: gallery.len(),
    };
    evaluate_rows(&matrix, query, gallery, config)
}

/// A distance matrix in memory, row by row.
pub(crate) struct Matrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) queries: usize,
    pub(crate) gallery: usize,
}

impl DistanceRows for Matrix<'_> {
    fn queries(&self) -> usize {
        self.queries
    }

    fn gallery(&self) -> usize {
        self.gallery
    }

    fn fill(&self, queries: Range<usize>, rows: &mut [f32]) -> Result<(), Error> {
        let from = queries.start * self.gallery..queries.end * self.gallery;
        rows.copy_from_slice(&self.values[from]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use reid_core::{Camera, Identity};

    use super::*;
    use crate::{AveragePrecision, Unmatched};

    /// Identity and camera of each gallery image; identity 0 is a distractor, -1 is junk.
    const GALLERY: [(i64, u32); 8] = [
        (1, 1),
        (1, 2),
        (2, 2),
        (0, 3),
        (-1, 2),
        (1, 3),
        (2, 1),
        (3, 1),
    ];
    const QUERY: [(i64, u32); 4] = [(1, 1), (2, 1), (3, 1), (2, 3)];
    #[rustfmt::skip]
    const DISTANCES: [f32; 32] = [
        // Ignored: 0 (same identity and camera) and 4 (junk). Ranked 3 2 1 5 6 7: matches at ranks 3 and 4.
        0.05, 0.30, 0.20, 0.10, 0.01, 0.40, 0.50, 0.60,
        // Ignored: 6 (same identity and camera) and 4. Ranked 3 2 7 5 1 0: match at rank 2.
        0.9, 0.8, 0.3, 0.2, 0.1, 0.7, 0.05, 0.6,
        // Image 7, the only one of the identity, is from the same camera: no match.
        0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8,
        // Ties keep the gallery order. Ranked 0 1 2 6 3 5 7: matches at ranks 3 and 4.
        0.2, 0.2, 0.2, 0.9, 0.9, 0.9, 0.2, 0.9,
    ];

    fn labels(of: &[(i64, u32)]) -> Labels {
        Labels::new(of.iter().map(|of| Identity::new(of.0)).collect())
            .with_cameras(of.iter().map(|of| Camera::new(of.1)).collect())
            .expect("one camera each")
    }

    fn evaluate_example(config: &EvaluationConfig) -> Report {
        evaluate_distances(&DISTANCES, &labels(&QUERY), &labels(&GALLERY), config).expect("matches")
    }

    /// The average precision of each query, and the mean.
    fn precisions(kind: AveragePrecision, unmatched: Unmatched) -> ([Option<f64>; 4], f64) {
        let config = EvaluationConfig::default()
            .with_average_precision(kind)
            .with_unmatched(unmatched);
        let report = evaluate_example(&config);
        let each = [0, 1, 2, 3].map(|query| report.per_query[query].average_precision);
        (each, report.mean_average_precision)
    }

    #[test]
    fn cmc_and_minp_match_the_hand_computed_example() {
        let report = evaluate_example(&EvaluationConfig::default());
        assert_eq!(report.cmc[..4], [0.0, 1.0 / 3.0, 1.0, 1.0]);
        assert_eq!(
            (report.queries, report.matched_queries, report.gallery),
            (4, 3, 8)
        );
        let firsts: Vec<_> = report
            .per_query
            .iter()
            .map(|query| query.first_match)
            .collect();
        assert_eq!(firsts, [Some(3), Some(2), None, Some(3)]);
        // 2/4, 1/2, none, 2/4.
        let penalties = report
            .per_query
            .iter()
            .map(|query| query.inverse_negative_penalty);
        assert_eq!(
            penalties.collect::<Vec<_>>(),
            [Some(0.5), Some(0.5), None, Some(0.5)]
        );
        assert!((report.mean_inverse_negative_penalty - 0.5).abs() < 1e-12);

        let all =
            evaluate_example(&EvaluationConfig::default().with_unmatched(Unmatched::CountAsZero));
        assert_eq!(all.cmc[..4], [0.0, 0.25, 0.75, 0.75]);
        assert!((all.mean_inverse_negative_penalty - 0.375).abs() < 1e-12); // 1.5 / 4
        assert_eq!(all.per_query, report.per_query);
    }

    #[test]
    fn average_precision_matches_the_hand_computed_example() {
        // Ranks 3 and 4: (1/3 + 2/4)/2 = 5/12; trapezoid ((0 + 1/3)/2 + (1/3 + 2/4)/2)/2 = 7/24;
        // at 2: 0. Rank 2: 1/2; (0 + 1/2)/2 = 1/4; 1/2.
        let at_two = "at-2".parse().expect("a kind");
        let kinds = [
            (AveragePrecision::NonInterpolated, 5.0 / 12.0, 0.5),
            (AveragePrecision::Trapezoid, 7.0 / 24.0, 0.25),
            (at_two, 0.0, 0.5),
        ];
        for (kind, two, one) in kinds {
            let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{kind}: {a}, {b}");
            for (unmatched, scored) in [(Unmatched::Skip, 3.0), (Unmatched::CountAsZero, 4.0)] {
                let (each, mean) = precisions(kind, unmatched);
                assert_eq!(each[2], None);
                for (found, expected) in [(each[0], two), (each[1], one), (each[3], two)] {
                    close(found.expect("a match"), expected);
                }
                close(mean, (two + one + two) / scored);
            }
        }
    }

    #[test]
    fn map_matches_the_hand_computed_example() {
        use {AveragePrecision::*, Unmatched::*};
        let expected = [
            (NonInterpolated, Skip, 0.444_444),
            (NonInterpolated, CountAsZero, 0.333_333),
            (Trapezoid, Skip, 0.277_778),
            (Trapezoid, CountAsZero, 0.208_333),
        ];
        for (kind, unmatched, mean) in expected {
            assert!(
                (precisions(kind, unmatched).1 - mean).abs() < 1e-6,
                "{kind}"
            );
        }
    }

    #[test]
    fn invalid_distances_are_rejected() {
        let [query, gallery] = [&QUERY[..], &GALLERY[..]].map(labels);
        let config = EvaluationConfig::default();
        let short = evaluate_distances(&DISTANCES[1..], &query, &gallery, &config);
        assert_eq!(
            short.expect_err("31 distances").to_string(),
            "expected 4 queries x 8 gallery distances, found 31"
        );
        let mut distances = DISTANCES;
        distances[17] = f32::NAN;
        let nan = evaluate_distances(&distances, &query, &gallery, &config);
        assert_eq!(
            nan.expect_err("NaN").to_string(),
            "the distance from query 2 to gallery image 1 (both from 0) is not a finite `f32`, \
             so the gallery cannot be ranked"
        );
    }

    #[test]
    fn settings_out_of_range_are_rejected() {
        let message = |config: &EvaluationConfig| {
            let [query, gallery] = [&QUERY[..], &GALLERY[..]].map(labels);
            let report = evaluate_distances(&DISTANCES, &query, &gallery, config);
            report.expect_err("zero").to_string()
        };
        let config = EvaluationConfig::default();
        // Allocating a curve of 2^62 ranks would abort the process.
        assert!(message(&config.clone().with_max_rank(1 << 62)).contains("1 to 1000000"));
        assert_eq!(
            message(&config.clone().with_max_rank(0)),
            "evaluation: max_rank: expected 1 to 1000000, found 0"
        );
        let nothing = AveragePrecision::TruncatedAt {
            k: 0,
            denominator: crate::Denominator::AllRelevant,
        };
        assert_eq!(
            message(&config.with_average_precision(nothing)),
            "evaluation: average_precision.truncated-at.k: expected at least 1, found 0"
        );
    }
}
