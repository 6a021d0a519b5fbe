//! Agreement with the results of a public reference implementation (`FastReID`'s Python evaluation).

use std::path::Path;

use reid_core::{Camera, Identity};
use reid_eval::{
    Embeddings, EvaluationConfig, Metric, Relevance, Report, evaluate, evaluate_distances,
    ranked_list,
};
use safetensors::SafeTensors;

fn golden() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/ranking.safetensors");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn floats(file: &SafeTensors<'_>, key: &str) -> Vec<f32> {
    let (values, rest) = file.tensor(key).expect(key).data().as_chunks();
    assert!(rest.is_empty());
    values.iter().copied().map(f32::from_le_bytes).collect()
}

fn integers(file: &SafeTensors<'_>, key: &str) -> Vec<i64> {
    let (values, rest) = file.tensor(key).expect(key).data().as_chunks();
    assert!(rest.is_empty());
    values.iter().copied().map(i64::from_le_bytes).collect()
}

fn side(file: &SafeTensors<'_>, name: &str) -> Embeddings {
    let features = format!("{name}.features");
    let dimensions = file.tensor(&features).expect("features").shape()[1];
    let identities = integers(file, &format!("{name}.ids"));
    let cameras = integers(file, &format!("{name}.cameras"));
    let camera = |number| Camera::new(u32::try_from(number).expect("a camera"));
    Embeddings::new(
        floats(file, &features),
        dimensions,
        identities.into_iter().map(Identity::new).collect(),
    )
    .and_then(|embeddings| embeddings.with_cameras(cameras.into_iter().map(camera).collect()))
    .expect("valid embeddings")
}

fn expect_golden(report: &Report, file: &SafeTensors<'_>, prefix: &str) {
    let curve: Vec<f32> = floats(file, &format!("{prefix}cmc"));
    assert_eq!(report.cmc.len(), curve.len());
    for (rank, (found, expected)) in (1..).zip(report.cmc.iter().zip(curve)) {
        // The file has `f32` values. One query more or less would change a value by 0.025.
        assert!(
            (found - f64::from(expected)).abs() < 1e-7,
            "rank {rank}: {found}, {expected}"
        );
    }
    expect_close(
        report.mean_average_precision,
        floats(file, &format!("{prefix}map"))[0],
    );
}

fn expect_close(found: f64, expected: f32) {
    assert!(
        (found - f64::from(expected)).abs() < 1e-6,
        "{found}, {expected}"
    );
}

#[test]
fn embeddings_give_the_reference_metrics() {
    let bytes = golden();
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let (query, gallery) = (side(&file, "query"), side(&file, "gallery"));
    let config = EvaluationConfig::default().with_metric(Metric::Euclidean);
    let report = evaluate(&query, &gallery, &config).expect("matches");
    expect_golden(&report, &file, "");
    expect_close(
        report.mean_inverse_negative_penalty,
        floats(&file, "minp")[0],
    );
    let found = report
        .per_query
        .iter()
        .filter_map(|query| query.average_precision);
    let expected = floats(&file, "ap");
    assert_eq!(report.matched_queries, expected.len());
    for (found, expected) in found.zip(expected) {
        expect_close(found, expected);
    }
}

#[test]
fn distances_give_the_reference_metrics() {
    let bytes = golden();
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let (query, gallery) = (side(&file, "query"), side(&file, "gallery"));
    for prefix in [
        "",
        "rerank.k1_20.k2_6.lambda_0.3.",
        "rerank.k1_75.k2_10.lambda_0.1.",
    ] {
        let distances = floats(&file, &format!("{prefix}distances"));
        let config = EvaluationConfig::default().with_metric(Metric::Euclidean);
        let report = evaluate_distances(&distances, query.labels(), gallery.labels(), &config);
        expect_golden(&report.expect("matches"), &file, prefix);
    }
}

#[test]
fn ranked_lists_have_the_reference_distances() {
    let bytes = golden();
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let (query, gallery) = (side(&file, "query"), side(&file, "gallery"));
    let distances = floats(&file, "distances");
    let config = EvaluationConfig::default().with_metric(Metric::Euclidean);
    let report = evaluate(&query, &gallery, &config).expect("matches");
    for (index, result) in report.per_query.iter().enumerate() {
        let list = ranked_list(&query, &gallery, &config, index, gallery.len()).expect("a query");
        assert_eq!(list.entries.len(), gallery.len());
        for entry in &list.entries {
            let expected = distances[index * gallery.len() + entry.gallery];
            assert!((entry.distance - expected).abs() < 1e-5 * expected.max(1.0));
        }
        let counted = list
            .entries
            .iter()
            .filter(|entry| entry.relevance != Relevance::Ignored);
        let first = counted
            .map(|entry| entry.relevance)
            .position(|it| it == Relevance::Match);
        assert_eq!(first.map(|index| index + 1), result.first_match);
    }
}
