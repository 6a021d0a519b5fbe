//! Edge cases of galleries: small, empty, without matches, or with junk and distractors.

use reid_core::{Camera, Identity};
use reid_eval::{
    Embeddings, Error, EvaluationConfig, Metric, Protocol, Relevance, Report, Resampling,
    Unmatched, evaluate, ranked_list,
};

/// Images on a line, each given by identity, camera and position.
fn line(images: &[(i64, u32, f32)]) -> Embeddings {
    let identities = images.iter().map(|image| Identity::new(image.0)).collect();
    let cameras = images.iter().map(|image| Camera::new(image.1)).collect();
    Embeddings::new(images.iter().map(|image| image.2).collect(), 1, identities)
        .and_then(|line| line.with_cameras(cameras))
        .expect("valid embeddings")
}

fn config() -> EvaluationConfig {
    EvaluationConfig::default().with_metric(Metric::Euclidean)
}

fn market(query: &[(i64, u32, f32)], gallery: &[(i64, u32, f32)]) -> Result<Report, Error> {
    evaluate(&line(query), &line(gallery), config())
}

const QUERY: [(i64, u32, f32); 1] = [(1, 1, 0.0)];

#[test]
fn one_query_and_one_image() {
    let report = market(&QUERY, &[(1, 2, 5.0)]).expect("a match");
    assert_eq!(report.cmc, [1.0; 50]);
    assert_eq!(
        (
            report.mean_average_precision,
            report.mean_inverse_negative_penalty
        ),
        (1.0, 1.0)
    );
}

#[test]
fn a_gallery_smaller_than_the_curve_repeats_the_last_value() {
    // Ignored: junk at 1 and the query's camera at 2. Then a non-match at rank 1 and a match at rank 2.
    let gallery = [(-1, 2, 1.0), (1, 1, 2.0), (7, 1, 3.0), (1, 2, 4.0)];
    let report = market(&QUERY, &gallery).expect("a match");
    assert_eq!(report.cmc.len(), 50);
    assert_eq!(report.cmc[..3], [0.0, 1.0, 1.0]);
    assert_eq!(report.rank(50).to_bits(), 1.0_f64.to_bits());
}

#[test]
fn no_match_for_any_query_is_an_error_with_a_reason() {
    let galleries: [&[(i64, u32, f32)]; 4] = [
        &[(1, 1, 1.0), (1, 1, 2.0)],   // all of the same camera
        &[(-1, 2, 1.0), (-1, 3, 2.0)], // junk only
        &[(0, 2, 1.0), (0, 3, 2.0)],   // distractors only
        &[(5, 2, 1.0), (6, 3, 2.0)],   // other identities only
    ];
    let reasons = [
        "all 1 queries and all 2 gallery images are from camera 1",
        "none of the 1 identities of the 1 queries is in the gallery (2 images)",
        "none of the 1 identities of the 1 queries is in the gallery (2 images)",
        "none of the 1 identities of the 1 queries is in the gallery (2 images)",
    ];
    for (gallery, reason) in galleries.into_iter().zip(reasons) {
        let error = market(&QUERY, gallery).expect_err("no match");
        assert!(matches!(
            error,
            Error::NoMatch {
                queries: 1,
                gallery: 2,
                ..
            }
        ));
        let expected =
            format!("mAP and CMC need at least one query with a match in another camera: {reason}");
        assert!(error.to_string().starts_with(&expected), "{error}");
        let all = config().with_unmatched(Unmatched::CountAsZero);
        assert_eq!(evaluate(&line(&QUERY), &line(gallery), &all), Err(error));
    }
}

#[test]
fn distractors_are_non_matches() {
    let report = market(&QUERY, &[(0, 2, 1.0), (0, 3, 2.0), (1, 2, 3.0)]).expect("a match");
    assert_eq!(report.per_query[0].first_match, Some(3));
}

#[test]
fn a_junk_query_has_no_match() {
    let queries = [(-1, 1, 0.0), (1, 1, 0.0)];
    let report = market(&queries, &[(-1, 2, 0.0), (1, 2, 1.0)]).expect("a match");
    assert_eq!((report.queries, report.matched_queries), (2, 1));
    assert_eq!(report.per_query[0].first_match, None);
    assert_eq!(report.per_query[1].first_match, Some(1));
}

/// The gallery image of unknown identity is neither a match nor ignored.
#[test]
fn a_query_of_unknown_identity_is_listed_but_not_scored() {
    let unknown = Identity::UNKNOWN.label();
    let queries = [(unknown, 1, 0.0), (1, 1, 0.0)];
    let gallery = [(unknown, 1, 0.1), (1, 2, 1.0), (7, 2, 2.0)];
    let report = market(&queries, &gallery).expect("a match");
    assert_eq!(
        (
            report.queries,
            report.matched_queries,
            report.unknown_queries
        ),
        (2, 1, 1)
    );
    assert_eq!(report.mean_average_precision.to_bits(), 1.0_f64.to_bits());
    let all = config().with_unmatched(Unmatched::CountAsZero);
    let all = evaluate(&line(&queries), &line(&gallery), &all).expect("a match");
    assert_eq!(all.mean_average_precision.to_bits(), 1.0_f64.to_bits());
    assert!(report.intervals(&Resampling::default()).is_ok());

    let list = ranked_list(&line(&queries), &line(&gallery), &config(), 0, 9).expect("a query");
    let seen: Vec<_> = list
        .entries
        .iter()
        .map(|it| (it.gallery, it.relevance))
        .collect();
    assert_eq!(seen, [0, 1, 2].map(|image| (image, Relevance::Unknown)));
    // All queries are of unknown identity.
    let error = market(&queries[..1], &gallery).expect_err("no query to score");
    assert!(
        error
            .to_string()
            .ends_with("all 1 queries are junk or of unknown identity"),
        "{error}"
    );
}

#[test]
fn duplicates_rank_in_gallery_order() {
    let match_last = [(7, 2, 1.0), (8, 2, 1.0), (1, 2, 1.0)];
    let first = |gallery: &[_]| market(&QUERY, gallery).expect("a match").per_query[0].first_match;
    assert_eq!(first(&match_last), Some(3));
    let [a, b, matching] = match_last;
    assert_eq!(first(&[matching, a, b]), Some(1));
}

#[test]
fn an_empty_query_set_or_gallery_is_rejected() {
    let message = |report: Result<Report, Error>| report.expect_err("empty").to_string();
    assert_eq!(
        message(market(&[], &QUERY)),
        "the query has no images, expected at least 1"
    );
    assert_eq!(
        message(market(&QUERY, &[])),
        "the gallery has no images, expected at least 1"
    );
}

#[test]
fn one_set_is_both_query_and_gallery_without_cameras() {
    // One set is both query and gallery. Images 0, 1 and 3 have identity 1; image 2 has identity 2.
    let identities = [1, 1, 2, 1].map(Identity::new).to_vec();
    let set = Embeddings::new(vec![0.0, 1.0, 2.0, 4.0], 1, identities)
        .and_then(|set| set.with_images(vec![10, 11, 12, 13]))
        .expect("valid embeddings");
    let error = evaluate(&set, &set, config()).expect_err("no cameras");
    assert!(
        error
            .to_string()
            .ends_with("or choose `Protocol::NoCameras`"),
        "{error}"
    );

    let report = evaluate(&set, &set, config().with_protocol(Protocol::NoCameras));
    let report = report.expect("matches");
    let firsts: Vec<_> = report
        .per_query
        .iter()
        .map(|query| query.first_match)
        .collect();
    // Images 0 and 2 are at equal distances from image 1. The nearest to image 3 is image 2, a non-match.
    assert_eq!(firsts, [Some(1), Some(1), None, Some(2)]);
}
