//! Verification, thresholds, open-set identification, camera pairs, single-gallery-shot and trials, compared
//! with their definitions on random retrieval tasks.

#![expect(clippy::float_cmp, reason = "both sides divide the same counts")]

use std::ops::Range;

use proptest::prelude::*;
use reid_core::{Camera, Identity, Seed};
use reid_eval::{
    DistanceRows, Embeddings, Error, EvaluationConfig, Expansion, Labels, Metric, OpenSet,
    OpenSetConfig, Protocol, Resampling, RetrievalTask, Threshold, Trials, Verification,
    camera_pairs, evaluate, evaluate_distances, single_gallery_shot,
};

/// A small retrieval task with few different distances, so that there are ties.
#[derive(Clone, Debug)]
struct Small {
    distances: Vec<f32>,
    query: Labels,
    gallery: Labels,
}

impl DistanceRows for Small {
    fn queries(&self) -> usize {
        self.query.len()
    }

    fn gallery(&self) -> usize {
        self.gallery.len()
    }

    fn fill(&self, queries: Range<usize>, rows: &mut [f32]) -> Result<(), Error> {
        let width = self.gallery.len();
        rows.copy_from_slice(&self.distances[queries.start * width..queries.end * width]);
        Ok(())
    }
}

impl Small {
    fn task(&self) -> RetrievalTask<'_> {
        RetrievalTask::new(self, &self.query, &self.gallery)
    }

    /// The distances of the genuine and of the impostor pairs under the Market protocol.
    fn pairs(&self) -> [Vec<f32>; 2] {
        let mut pairs = [Vec::new(), Vec::new()];
        for (at, distance) in self.distances.iter().enumerate() {
            let [query, image] = [at / self.gallery.len(), at % self.gallery.len()];
            let found = self.gallery.identities()[image];
            let same = self.query.identities()[query] == found;
            let cameras = |of: &Labels, at: usize| of.cameras().expect("cameras")[at];
            let same_camera = cameras(&self.query, query) == cameras(&self.gallery, image);
            let ignored = found.is_junk() || (same && same_camera);
            if !ignored {
                pairs[usize::from(!same)].push(*distance);
            }
        }
        pairs
    }
}

fn labels(of: &[(i64, u32)]) -> Labels {
    Labels::new(of.iter().map(|of| Identity::new(of.0)).collect())
        .with_cameras(of.iter().map(|of| Camera::new(of.1)).collect())
        .expect("one each")
}

fn small() -> impl Strategy<Value = Small> {
    let query = prop::collection::vec((1..5_i64, 0..3_u32), 1..8);
    let gallery = prop::collection::vec((-1..5_i64, 0..3_u32), 1..20);
    (query, gallery).prop_flat_map(|(query, gallery)| {
        let count = query.len() * gallery.len();
        let (query, gallery) = (labels(&query), labels(&gallery));
        prop::collection::vec(0..12_u8, count).prop_map(move |distances| Small {
            distances: distances
                .into_iter()
                .map(|of| f32::from(of) / 4.0)
                .collect(),
            query: query.clone(),
            gallery: gallery.clone(),
        })
    })
}

/// The fraction of distances that are at most the threshold.
fn accepted_fraction(of: &[f32], threshold: f32) -> f64 {
    let accepted = of.iter().filter(|distance| **distance <= threshold).count();
    accepted as f64 / of.len() as f64
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn verification_equals_its_definition(small in small(), rate in 0.0..1.0_f64) {
        let [genuine, impostors] = small.pairs();
        let found = Verification::from_task(&small.task());
        if genuine.is_empty() || impostors.is_empty() {
            let refused = matches!(found, Err(Error::Pairs { .. }));
            prop_assert!(refused);
            return Ok(());
        }
        let found = found.expect("pairs of both kinds");
        let pairs = found.pairs();
        prop_assert_eq!((pairs.genuine, pairs.impostor), (genuine.len() as u64, impostors.len() as u64));
        let best = genuine
            .iter()
            .filter(|threshold| accepted_fraction(&impostors, **threshold) <= rate)
            .map(|threshold| accepted_fraction(&genuine, *threshold))
            .fold(0.0, f64::max);
        prop_assert!((found.tar_at_far(rate) - best).abs() < 1e-12);
        for point in found.roc(1000) {
            prop_assert_eq!(point.false_accept_rate, accepted_fraction(&impostors, point.threshold));
            prop_assert_eq!(point.true_accept_rate, accepted_fraction(&genuine, point.threshold));
        }
        // At a FAR of at most the equal error rate, 1 - TAR is at most that rate too.
        let rate = found.equal_error_rate();
        prop_assert!((0.0..=1.0).contains(&rate));
        prop_assert!(1.0 - found.tar_at_far(rate) <= rate + 1e-12);
    }

    #[test]
    fn a_threshold_keeps_the_wanted_false_accept_rate(small in small(), wanted in 0.0..1.0_f64) {
        let few = Resampling::default().with_samples(20);
        let Ok(threshold) = Threshold::calibrate(&small.task(), wanted, &few) else {
            return Ok(());
        };
        let [genuine, impostors] = small.pairs();
        let rates = threshold.rates;
        prop_assert!(rates.false_accepts.value <= wanted);
        prop_assert_eq!(rates.false_accepts.value, accepted_fraction(&impostors, threshold.distance));
        prop_assert_eq!(rates.true_accepts.value, accepted_fraction(&genuine, threshold.distance));
        prop_assert!(rates.false_accepts.low <= rates.false_accepts.high);
    }

    #[test]
    fn open_set_identification_with_all_alarms_allowed_equals_rank_1(small in small()) {
        let config = OpenSetConfig::default().with_held_out(0.0);
        let Ok(open) = OpenSet::from_task(&small.task(), &config) else { return Ok(()) };
        let closed = evaluate_distances(
            &small.distances,
            &small.query,
            &small.gallery,
            &EvaluationConfig::default(),
        );
        let rank_1 = closed.expect("matches").rank(1);
        prop_assert!((open.detection_and_identification_rate(1.0) - rank_1).abs() < 1e-12);
        let rates = [0.0, 0.2, 0.5, 1.0].map(|rate| open.detection_and_identification_rate(rate));
        prop_assert!(rates.is_sorted());
    }

    #[test]
    fn camera_pairs_equal_evaluations_of_one_camera_each(small in small()) {
        let config = EvaluationConfig::default();
        let pairs = camera_pairs(&small.task(), &config).expect("cameras");
        for pair in pairs {
            let of = |labels: &Labels, camera| -> Vec<usize> {
                let cameras = labels.cameras().expect("cameras").iter().enumerate();
                cameras.filter(|(_, of)| **of == camera).map(|(at, _)| at).collect()
            };
            let (queries, images) = (of(&small.query, pair.query), of(&small.gallery, pair.gallery));
            let width = small.gallery.len();
            let distances: Vec<f32> = queries
                .iter()
                .flat_map(|query| images.iter().map(move |image| query * width + image))
                .map(|at| small.distances[at])
                .collect();
            let (query, gallery) = (small.query.select(&queries), small.gallery.select(&images));
            let report = evaluate_distances(&distances, &query, &gallery, &config);
            let report = report.expect("the pair has a match");
            prop_assert_eq!(pair.scores.queries, report.matched_queries);
            prop_assert!((pair.scores.rank_1 - report.rank(1)).abs() < 1e-12);
            let precision = pair.scores.mean_average_precision - report.mean_average_precision;
            prop_assert!(precision.abs() < 1e-12);
        }
    }

    #[test]
    fn single_gallery_shot_of_one_image_per_identity_equals_the_cmc_curve(small in small()) {
        let mut seen = std::collections::BTreeSet::new();
        let firsts: Vec<usize> = (0..small.gallery.len())
            .filter(|&image| seen.insert(small.gallery.identities()[image]))
            .collect();
        let width = small.gallery.len();
        let single = Small {
            distances: small
                .distances
                .chunks_exact(width)
                .flat_map(|row| firsts.iter().map(|image| row[*image]))
                .collect(),
            gallery: small.gallery.select(&firsts),
            query: small.query.clone(),
        };
        let cmc = single_gallery_shot(&single.task(), 3, 5, Seed::new(1));
        let config = EvaluationConfig::default().with_max_rank(5);
        let report =
            evaluate_distances(&single.distances, &single.query, &single.gallery, &config);
        match (cmc, report) {
            (Ok(cmc), Ok(report)) => {
                for (found, expected) in cmc.iter().zip(&report.cmc) {
                    prop_assert!((found - expected).abs() < 1e-12);
                }
            }
            (Err(Error::NoMatch { .. }), Err(Error::NoMatch { .. })) => {}
            (cmc, report) => prop_assert!(false, "{cmc:?} {report:?}"),
        }
    }
}

fn embeddings(values: &[f32], identities: &[i64]) -> Embeddings {
    let identities: Vec<_> = identities.iter().copied().map(Identity::new).collect();
    Embeddings::new(values.to_vec(), values.len() / identities.len(), identities).expect("rows")
}

#[test]
fn trials_are_reproducible_and_averaged() {
    let values: Vec<f32> = (0..40).map(|at| (at as f32 * 1.7).sin()).collect();
    let identities: Vec<i64> = (0..20).map(|image| 1 + image % 5).collect();
    let images = embeddings(&values, &identities);
    let config = EvaluationConfig::default();
    let trials = |seed| Trials::run(&images, 4, Seed::new(seed), &config).expect("matches");
    let found = trials(1);
    assert_eq!(found, trials(1));
    assert_ne!(found.reports, trials(2).reports);
    assert_eq!(found.reports.len(), 4);
    for report in &found.reports {
        assert_eq!((report.queries, report.gallery), (15, 5));
    }
    let mean: f64 = found
        .reports
        .iter()
        .map(|report| report.mean_average_precision)
        .sum();
    assert!((found.mean_average_precision - mean / 4.0).abs() < 1e-12);
    let none = Trials::run(&images, 0, Seed::new(1), &config);
    assert_eq!(
        none.expect_err("no trials").to_string(),
        "the number of trials is 0, expected at least 1"
    );
}

#[test]
fn degenerate_sets_give_a_result_or_an_error() {
    let no_cameras = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
    // Zero vectors, equal vectors, and a single image.
    for (values, identities) in [
        (vec![0.0; 8], vec![1, 1, 2, 2]),
        (vec![0.3; 8], vec![1, 2, 1, 2]),
        (vec![1.0, 2.0], vec![1]),
    ] {
        let images = embeddings(&values, &identities);
        let expansion = Expansion::new(3, 2.0);
        let moved = expansion.expand_gallery(&images).expect("a result");
        assert!(moved.values().iter().all(|value| value.is_finite()));
        assert_eq!(images.pooled_by_track(), Err(Error::Tracks));
        let report = evaluate(&images, &images, &no_cameras).expect("each image matches itself");
        let intervals = report
            .intervals(&Resampling::default())
            .expect("an interval");
        assert!(intervals.rank_1.low <= intervals.rank_1.high);
        assert_eq!(
            report
                .compared_with(&report, &Resampling::default())
                .expect("the same")
                .better,
            0
        );
        let trials = Trials::run(&images, 2, Seed::new(1), &EvaluationConfig::default());
        // A single image leaves no query.
        assert_eq!(trials.is_err(), identities.len() == 1);
    }
    let (one, two) = (embeddings(&[1.0], &[1]), embeddings(&[1.0, 2.0], &[1]));
    let distances = reid_eval::Distances::between(&one, &two, Metric::Cosine);
    assert!(matches!(
        distances.map(|_| ()),
        Err(Error::Dimensions { .. })
    ));
}
