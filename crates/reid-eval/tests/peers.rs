//! Agreement with the evaluations of `FastReID` and torchreid on random problems with ties, junk,
//! distractors and queries without a match (`tests/golden/make_ranking.py`).

use std::path::Path;

use reid_core::{Camera, Identity};
use reid_eval::{EvaluationConfig, Labels, evaluate_distances};
use safetensors::SafeTensors;

const PROBLEMS: usize = 20;

struct Problem<'a> {
    file: SafeTensors<'a>,
    number: usize,
}

impl Problem<'_> {
    fn values<const BYTES: usize, T>(&self, key: &str, of: fn([u8; BYTES]) -> T) -> Vec<T> {
        let key = format!("{}.{key}", self.number);
        let tensor = self
            .file
            .tensor(&key)
            .unwrap_or_else(|error| panic!("{key}: {error}"));
        let (values, rest) = tensor.data().as_chunks();
        assert!(rest.is_empty(), "{key}");
        values.iter().copied().map(of).collect()
    }

    fn doubles(&self, key: &str) -> Vec<f64> {
        self.values(key, f64::from_le_bytes)
    }

    fn labels(&self, side: &str) -> Labels {
        let of = |key| self.values(&format!("{side}.{key}"), i64::from_le_bytes);
        let camera = |number| Camera::new(u32::try_from(number).expect("a camera"));
        Labels::new(of("ids").into_iter().map(Identity::new).collect())
            .with_cameras(of("cameras").into_iter().map(camera).collect())
            .expect("one each")
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn metrics_agree_with_fastreid_and_torchreid() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/ranking_peers.safetensors");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut unmatched, mut junk) = (0, 0);
    for number in 0..PROBLEMS {
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let problem = Problem { file, number };
        let (query, gallery) = (problem.labels("query"), problem.labels("gallery"));
        let distances = problem.values("distances", f32::from_le_bytes);
        let config = EvaluationConfig::default().with_max_rank(10);
        let report = evaluate_distances(&distances, &query, &gallery, &config).expect("matches");

        let close = |found: f64, expected: f64, what: &str| {
            let difference = (found - expected).abs();
            assert!(difference < 1e-6, "{number}, {what}: {found}, {expected}");
        };
        for peer in ["fastreid", "torchreid"] {
            let cmc = problem.doubles(&format!("{peer}.cmc"));
            assert_eq!(cmc.len(), 10, "{number}, {peer}");
            for (rank, (found, expected)) in (1..).zip(report.cmc.iter().zip(cmc)) {
                close(*found, expected, &format!("{peer} at rank {rank}"));
            }
        }
        let precisions = problem.doubles("fastreid.average_precisions");
        let penalties = problem.doubles("fastreid.penalties");
        close(report.mean_average_precision, mean(&precisions), "mAP");
        close(
            report.mean_average_precision,
            problem.doubles("torchreid.map")[0],
            "mAP",
        );
        close(
            report.mean_inverse_negative_penalty,
            mean(&penalties),
            "mINP",
        );
        // Query by query. The other programs omit queries without a match.
        let each = report
            .per_query
            .iter()
            .filter_map(|result| result.average_precision);
        let each: Vec<f64> = each.collect();
        assert_eq!(each.len(), precisions.len(), "{number}");
        for (found, expected) in each.into_iter().zip(precisions) {
            close(found, expected, "average precision");
        }
        unmatched += report.queries - report.matched_queries;
        junk += gallery
            .identities()
            .iter()
            .filter(|identity| identity.is_junk())
            .count();
    }
    assert!(
        unmatched > 5 && junk > 20,
        "too few unmatched queries ({unmatched}) or junk images ({junk}) to be a test"
    );
}
