//! Re-ranking compared with a reference implementation and with a naive implementation on full matrices.

use std::{collections::BTreeSet, ops::Range, path::Path};

use rand::RngExt;
use reid_core::{Camera, Identity, Seed, Split};
use reid_eval::{
    DistanceRows, Embeddings, Error, EvaluationConfig, HalfK1Rounding, Labels, Metric, Protocol,
    RerankConfig, Reranked, evaluate, evaluate_rows,
};
use safetensors::SafeTensors;

// ------------------------------------------------------------------- the naive implementation

/// The published algorithm step by step, with matrices of all pairs, in double precision.
struct Naive {
    distances: Vec<Vec<f64>>,
    lists: Vec<Vec<usize>>,
}

impl Naive {
    fn new(points: &[Vec<f32>], metric: Metric) -> Self {
        let distance = |a: &[f32], b: &[f32]| -> f64 {
            let product = |a: &[f32], b: &[f32]| -> f64 {
                a.iter()
                    .zip(b)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum()
            };
            match metric {
                Metric::Euclidean => product(a, a) + product(b, b) - 2.0 * product(a, b),
                Metric::Cosine => 1.0 - product(a, b) / (product(a, a) * product(b, b)).sqrt(),
                other => panic!("the test does not define the metric {other}"),
            }
        };
        let distances: Vec<Vec<f64>> = points
            .iter()
            .map(|a| points.iter().map(|b| distance(a, b)).collect())
            .collect();
        let list = |(own, row): (usize, &Vec<f64>)| {
            let mut list: Vec<usize> = (0..row.len()).filter(|&it| it != own).collect();
            list.sort_by(|&a, &b| row[a].total_cmp(&row[b])); // stable
            list.insert(0, own);
            list
        };
        let lists = distances.iter().enumerate().map(list).collect();
        Self { distances, lists }
    }

    fn near(&self, image: usize, length: usize) -> &[usize] {
        &self.lists[image][..length.min(self.lists.len())]
    }

    fn reciprocal(&self, image: usize, length: usize) -> BTreeSet<usize> {
        let near = self.near(image, length).iter().copied();
        near.filter(|&other| self.near(other, length).contains(&image))
            .collect()
    }

    fn normalised(&self, image: usize, other: usize) -> f64 {
        let largest = self.distances[image].iter().copied().fold(0.0, f64::max);
        if largest > 0.0 {
            self.distances[image][other] / largest
        } else {
            0.0
        }
    }

    /// V, before averaging.
    fn encoding(&self, image: usize, whole: usize, half: usize) -> Vec<f64> {
        let own = self.reciprocal(image, whole);
        let mut expanded = own.clone();
        for &candidate in &own {
            let theirs = self.reciprocal(candidate, half);
            let shared = theirs.intersection(&own).count();
            if shared as f64 > 2.0 / 3.0 * theirs.len() as f64 {
                expanded.extend(theirs);
            }
        }
        let mut row = vec![0.0; self.lists.len()];
        for &other in &expanded {
            row[other] = (-self.normalised(image, other)).exp();
        }
        let sum: f64 = row.iter().sum();
        row.iter().map(|weight| weight / sum).collect()
    }

    fn rerank(&self, queries: usize, config: &RerankConfig) -> Vec<f64> {
        let rounded = |number: f64| {
            (0..=config.k1)
                .find(|&it| it as f64 >= number)
                .expect("half")
        };
        let to_even = rounded((config.k1 as f64 / 2.0).round_ties_even()) + 1;
        let (whole, half) = match config.half_k1 {
            HalfK1Rounding::Python => (config.k1 + 1, to_even),
            HalfK1Rounding::Matlab => (
                config.k1 + 1,
                rounded(f64::midpoint(config.k1 as f64, 1.0).round()),
            ),
            HalfK1Rounding::FastReid => (config.k1, to_even),
        };
        let images = self.lists.len();
        let encodings: Vec<_> = (0..images)
            .map(|it| self.encoding(it, whole, half))
            .collect();
        let averaged = |image: usize| -> Vec<f64> {
            let near = self.near(image, config.k2);
            let mean = |at: usize| {
                let sum: f64 = near.iter().map(|&it| encodings[it][at]).sum();
                sum / near.len() as f64
            };
            (0..images).map(mean).collect()
        };
        let averaged: Vec<_> = (0..images).map(averaged).collect();
        let distance = |query: usize, image: usize| {
            let pairs = averaged[query].iter().zip(&averaged[image]);
            let shared: f64 = pairs.map(|(a, b)| a.min(*b)).sum();
            let jaccard = 1.0 - shared / (2.0 - shared);
            (1.0 - config.lambda) * jaccard + config.lambda * self.normalised(query, image)
        };
        let gallery = queries..images;
        (0..queries)
            .flat_map(|query| gallery.clone().map(move |image| (query, image)))
            .map(|(query, image)| distance(query, image))
            .collect()
    }
}

fn embeddings(points: &[Vec<f32>]) -> Embeddings {
    let identities = (0..points.len()).map(|it| Identity::new([1, 2, 3][it % 3]));
    let values = points.iter().flatten().copied().collect();
    let dimensions = points[0].len();
    Embeddings::new(values, dimensions, identities.collect()).expect("whole rows")
}

fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(*found) - expected).abs();
        assert!(difference <= tolerance, "{what}, {at}: {found}, {expected}");
    }
}

#[test]
fn reranking_equals_the_naive_implementation_with_ties_and_duplicates() {
    let mut stream = Seed::new(4).named("points").stream();
    for problem in 0..24 {
        // Small integer coordinates: squared distances are exact, and many are equal.
        let images = 3 + 5 * problem;
        let spread = if problem % 2 == 0 { 3 } else { 40 };
        let point = |_| {
            (0..4)
                .map(|_| stream.random_range(-spread..=spread) as f32)
                .collect()
        };
        let points: Vec<Vec<f32>> = (0..images).map(point).collect();
        let queries = 1 + problem % (images - 1).min(7);
        let (query, gallery) = (
            embeddings(&points[..queries]),
            embeddings(&points[queries..]),
        );
        let naive = Naive::new(&points, Metric::Euclidean);
        for half_k1 in [
            HalfK1Rounding::Python,
            HalfK1Rounding::Matlab,
            HalfK1Rounding::FastReid,
        ] {
            for (k1, k2, lambda) in [
                (20, 6, 0.3),
                (7, 1, 0.0),
                (3, 3, 1.0),
                (1, 2, 0.5),
                (200, 9, 0.1),
            ] {
                let config = RerankConfig::default()
                    .with_parameters(k1, k2, lambda)
                    .with_metric(Metric::Euclidean)
                    .with_half_k1(half_k1);
                let reranked = Reranked::new(&query, &gallery, &config).expect("finite");
                let found = reranked.matrix().expect("finite");
                let expected = naive.rerank(queries, &config);
                assert_close(&found, &expected, 2e-6, &format!("{problem} {config:?}"));
            }
        }
    }
}

#[test]
fn cosine_distances_equal_the_naive_implementation() {
    let mut stream = Seed::new(5).named("points").stream();
    let point = |_| (0..6).map(|_| stream.random_range(-1.0_f32..1.0)).collect();
    let points: Vec<Vec<f32>> = (0..60).map(point).collect();
    let (query, gallery) = (embeddings(&points[..9]), embeddings(&points[9..]));
    let config = RerankConfig::default().with_parameters(8, 3, 0.3);
    let reranked = Reranked::new(&query, &gallery, &config).expect("finite");
    let expected = Naive::new(&points, Metric::Cosine).rerank(9, &config);
    assert_close(
        &reranked.matrix().expect("finite"),
        &expected,
        1e-5,
        "cosine",
    );
}

#[test]
fn several_blocks_of_queries_and_gallery_images_agree() {
    // With blocks of 512 images, query and gallery have two blocks each.
    let mut stream = Seed::new(6).named("points").stream();
    let point = |_| (0..3).map(|_| stream.random_range(-9..=9) as f32).collect();
    let points: Vec<Vec<f32>> = (0..1_080).map(point).collect();
    let (query, gallery) = (embeddings(&points[..520]), embeddings(&points[520..]));
    let config = RerankConfig::default().with_metric(Metric::Euclidean);
    let reranked = Reranked::new(&query, &gallery, &config).expect("finite");
    let naive = Naive::new(&points, Metric::Euclidean);
    let rows: Vec<_> = [0, 519]
        .into_iter()
        .map(|query| {
            let mut row = vec![0.0; 560];
            reranked.fill(query..query + 1, &mut row).expect("finite");
            row
        })
        .collect();
    let expected = naive.rerank(520, &config);
    assert_close(&rows[0], &expected[..560], 2e-6, "the first query");
    assert_close(&rows[1], &expected[519 * 560..], 2e-6, "the last query");
}

// ---------------------------------------------------------------- the reference implementation

fn golden() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/ranking.safetensors");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn floats(file: &SafeTensors<'_>, key: &str) -> Vec<f32> {
    let (values, rest) = file.tensor(key).expect(key).data().as_chunks();
    assert!(rest.is_empty());
    values.iter().copied().map(f32::from_le_bytes).collect()
}

fn side(file: &SafeTensors<'_>, name: &str) -> Embeddings {
    let integers = |key: &str| {
        let key = format!("{name}.{key}");
        let (values, _) = file.tensor(&key).expect("a key").data().as_chunks();
        values
            .iter()
            .copied()
            .map(i64::from_le_bytes)
            .collect::<Vec<_>>()
    };
    let features = format!("{name}.features");
    let dimensions = file.tensor(&features).expect("features").shape()[1];
    let identities = integers("ids").into_iter().map(Identity::new).collect();
    let cameras = integers("cameras").into_iter();
    let cameras = cameras.map(|it| Camera::new(u32::try_from(it).expect("a camera")));
    Embeddings::new(floats(file, &features), dimensions, identities)
        .and_then(|embeddings| embeddings.with_cameras(cameras.collect()))
        .expect("valid embeddings")
}

#[test]
fn features_give_the_reference_distances_and_metrics() {
    let bytes = golden();
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let (query, gallery) = (side(&file, "query"), side(&file, "gallery"));
    for (k1, k2, lambda) in [(20, 6, 0.3), (75, 10, 0.1)] {
        let config = RerankConfig::default()
            .with_parameters(k1, k2, lambda)
            .with_metric(Metric::Euclidean);
        let reranked = Reranked::new(&query, &gallery, &config).expect("finite");
        let key = |name: &str| format!("rerank.k1_{k1}.k2_{k2}.lambda_{lambda}.{name}");
        let expected: Vec<f64> = floats(&file, &key("distances"))
            .into_iter()
            .map(f64::from)
            .collect();
        assert_close(
            &reranked.matrix().expect("finite"),
            &expected,
            1e-4,
            "distances",
        );

        let protocol = EvaluationConfig::default().with_metric(Metric::Euclidean);
        let report = reranked.evaluate(query.labels(), gallery.labels(), &protocol);
        let report = report.expect("matches");
        assert_eq!(report.rerank.as_ref(), Some(&config));
        let text = report.to_string();
        assert!(
            text.contains(&format!(
                "re-ranked with k1 {k1}, k2 {k2} and lambda {lambda}"
            )),
            "{text}"
        );
        let map = f64::from(floats(&file, &key("map"))[0]);
        assert!((report.mean_average_precision - map).abs() < 1e-6);
        for (found, expected) in report.cmc.iter().zip(floats(&file, &key("cmc"))) {
            assert!((found - f64::from(expected)).abs() < 1e-7);
        }
    }
}

// ----------------------------------------------------------------------------- other properties

#[test]
fn a_lambda_of_one_keeps_the_original_ranking() {
    let bytes = golden();
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let (query, gallery) = (side(&file, "query"), side(&file, "gallery"));
    let config = RerankConfig::default().with_parameters(20, 6, 1.0);
    let reranked = Reranked::new(&query, &gallery, &config).expect("finite");
    let protocol = EvaluationConfig::default();
    let again = evaluate_rows(&reranked, query.labels(), gallery.labels(), &protocol);
    let plain = evaluate(&query, &gallery, &protocol).expect("matches");
    assert_eq!(again.expect("matches").per_query, plain.per_query);
}

#[test]
fn the_result_is_bit_identical_for_any_number_of_threads() {
    let bytes = golden();
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let (query, gallery) = (side(&file, "query"), side(&file, "gallery"));
    let config = RerankConfig::default();
    let matrix = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads").install(|| {
            let reranked = Reranked::new(&query, &gallery, &config).expect("finite");
            let matrix = reranked.matrix().expect("finite");
            matrix.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        })
    };
    let one = matrix(1);
    assert!(one == matrix(2) && one == matrix(5));
}

#[test]
fn degenerate_sets_give_a_result_or_an_error() {
    let config = RerankConfig::default();
    let matrix = |query: &[Vec<f32>], gallery: &[Vec<f32>]| {
        let (query, gallery) = (embeddings(query), embeddings(gallery));
        Reranked::new(&query, &gallery, &config).and_then(|reranked| reranked.matrix())
    };
    // One query and one gallery image: each is the only neighbour of the other, at the largest distance.
    let one = matrix(&[vec![1.0, 0.0]], &[vec![0.0, 1.0]]).expect("a distance");
    assert!((one[0] - 0.3).abs() < 1e-6, "{one:?}"); // equal encodings: only λ remains
    // Duplicates, and zero vectors.
    let same = vec![vec![1.0, 2.0]; 30];
    assert!(
        matrix(&same[..4], &same[4..])
            .expect("distances")
            .iter()
            .all(|it| it.is_finite())
    );
    let zeros = vec![vec![0.0, 0.0]; 30];
    assert!(
        matrix(&zeros[..4], &zeros[4..])
            .expect("distances")
            .iter()
            .all(|it| it.is_finite())
    );

    let empty = Embeddings::new(Vec::new(), 2, Vec::new()).expect("none");
    let some = embeddings(&same);
    let refused = |query: &Embeddings, gallery: &Embeddings| {
        Reranked::new(query, gallery, &config)
            .expect_err("empty")
            .to_string()
    };
    assert_eq!(
        refused(&empty, &some),
        "the query has no images, expected at least 1"
    );
    assert_eq!(
        refused(&some, &empty),
        "the gallery has no images, expected at least 1"
    );

    let far = embeddings(&[vec![3e38, 3e38]]);
    let euclidean = RerankConfig::default().with_metric(Metric::Euclidean);
    let error = Reranked::new(&some, &far, &euclidean).expect_err("too far");
    let pair = Error::Pair {
        one: (Split::Query, 0),
        other: (Split::Gallery, 0),
    };
    assert_eq!(error, pair);
    assert!(
        error
            .to_string()
            .starts_with("the distance between query image 0 and gallery image 0")
    );

    // The largest possible numbers of neighbours.
    let all = RerankConfig::default().with_parameters(usize::MAX, usize::MAX, 0.3);
    let (query, gallery) = (embeddings(&same[..4]), embeddings(&same[4..]));
    let reranked = Reranked::new(&query, &gallery, &all).and_then(|it| it.matrix());
    assert!(
        reranked
            .expect("distances")
            .iter()
            .all(|it| (0.0..=1.0).contains(it))
    );
}

#[test]
fn a_wrong_number_of_labels_is_rejected() {
    let points = [vec![1.0, 0.0], vec![0.0, 1.0], vec![1.0, 1.0]];
    let (query, gallery) = (embeddings(&points[..1]), embeddings(&points[1..]));
    let reranked = Reranked::new(&query, &gallery, &RerankConfig::default()).expect("finite");
    let config = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
    let error = evaluate_rows(&reranked, query.labels(), query.labels(), &config);
    assert_eq!(
        error.expect_err("one label").to_string(),
        "the distances of queries 0 to 0 (from 0) cannot be used: \
         expected 1 queries and 1 gallery images, as many as labels, found 1 and 2"
    );
}

/// A source that does not write its last value.
struct Incomplete;

impl DistanceRows for Incomplete {
    fn queries(&self) -> usize {
        1
    }

    fn gallery(&self) -> usize {
        2
    }

    fn fill(&self, _queries: Range<usize>, rows: &mut [f32]) -> Result<(), Error> {
        rows[0] = 0.5;
        Ok(())
    }
}

#[test]
fn distances_that_are_not_written_are_rejected() {
    let labels = |count| Labels::new(vec![Identity::new(1); count]);
    let config = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
    let source: &dyn DistanceRows = &Incomplete;
    let error = evaluate_rows(source, &labels(1), &labels(2), &config);
    let (query, gallery) = (0, 1);
    assert_eq!(error, Err(Error::Distance { query, gallery }));
}
