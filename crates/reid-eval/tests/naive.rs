//! Comparison with a naive implementation that sorts the whole gallery, and of one thread with many.

use rand::RngExt;
use reid_core::{Camera, Identity, Seed};
use reid_eval::{
    AveragePrecision, DistanceRows, Distances, Embeddings, Error, EvaluationConfig, Index, Labels,
    Metric, Protocol, QueryResult, Relevance, Report, Unmatched, evaluate, evaluate_distances,
    ranked_list,
};

/// A random query set and gallery with integer coordinates from 0 to 3 in at most 3 dimensions.
///
/// Products are exact and distances tie: 60 images have at most 28 different distances. Identities of gallery
/// images start at -1 (junk) and 0 (distractors). Some identities are in only one of the two sets.
fn problem(seed: Seed) -> (Embeddings, Embeddings) {
    let mut stream = seed.stream();
    let dimensions = stream.random_range(1..4);
    let mut side = |first: i64, images: usize, first_id: u64| {
        let values = (0..images * dimensions).map(|_| f32::from(stream.random_range(0..4_u8)));
        let values = values.collect();
        let identities = (0..images).map(|_| Identity::new(stream.random_range(first..9)));
        let identities = identities.collect();
        let cameras = (0..images).map(|_| Camera::new(stream.random_range(1..4)));
        let cameras = cameras.collect();
        Embeddings::new(values, dimensions, identities)
            .and_then(|side| side.with_cameras(cameras))
            .and_then(|side| side.with_images((first_id..).take(images).collect()))
            .expect("valid embeddings")
    };
    // Image IDs 20 to 29 are in both sets.
    (side(1, 30, 0), side(-1, 60, 20))
}

/// The Euclidean distance; for integer coordinates, without rounding before the square root.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounded to f32 as elsewhere"
)]
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum::<f64>().sqrt() as f32
}

fn ignored(protocol: &Protocol, query: (&Labels, usize), gallery: (&Labels, usize)) -> bool {
    let same = |key: fn(&Labels, usize) -> Option<u64>| {
        key(query.0, query.1).is_some() && key(query.0, query.1) == key(gallery.0, gallery.1)
    };
    let identity = |labels: &Labels, at: usize| labels.identities()[at];
    let camera = |labels: &Labels, at: usize| Some(u64::from(labels.cameras()?[at].number()));
    let image = |labels: &Labels, at: usize| Some(labels.images()?[at]);
    identity(gallery.0, gallery.1).label() == -1
        || match protocol {
            Protocol::Market => {
                identity(query.0, query.1) == identity(gallery.0, gallery.1) && same(camera)
            }
            Protocol::NoCameras => same(image),
            other => panic!("the test does not define the protocol {other}"),
        }
}

/// Computes the result of a query by a full stable sort of the gallery.
fn naive(query: &Embeddings, gallery: &Embeddings, protocol: &Protocol, index: usize) -> Naive {
    let mut order: Vec<usize> = (0..gallery.len())
        .filter(|&image| !ignored(protocol, (query.labels(), index), (gallery.labels(), image)))
        .collect();
    let to_query = |image: usize| distance(query.row(index), gallery.row(image));
    order.sort_by(|&a, &b| to_query(a).total_cmp(&to_query(b)));
    let (mut hits, mut sum, mut first, mut last) = (0.0, 0.0, None, 0.0);
    for (index_in_list, &image) in order.iter().enumerate() {
        if gallery.identities()[image] == query.identities()[index] {
            let rank = (index_in_list + 1) as f64;
            hits += 1.0;
            sum += hits / rank;
            first = first.or(Some(index_in_list + 1));
            last = rank;
        }
    }
    Naive {
        query: index,
        identity: Some(query.identities()[index]),
        average_precision: first.map(|_| sum / hits),
        inverse_negative_penalty: first.map(|_| hits / last),
        first_match: first,
    }
}

/// A copy of the fields of [`QueryResult`], which cannot be constructed here.
#[derive(Debug, PartialEq)]
struct Naive {
    query: usize,
    identity: Option<Identity>,
    average_precision: Option<f64>,
    inverse_negative_penalty: Option<f64>,
    first_match: Option<usize>,
}

impl From<&QueryResult> for Naive {
    fn from(result: &QueryResult) -> Self {
        Self {
            query: result.query,
            identity: result.identity,
            average_precision: result.average_precision,
            inverse_negative_penalty: result.inverse_negative_penalty,
            first_match: result.first_match,
        }
    }
}

#[test]
fn ranking_equals_a_full_stable_sort() {
    let mut unmatched = 0;
    for at in 0..40 {
        let (query, gallery) = problem(Seed::new(1).named("problems").at(at));
        let pairs = (0..query.len()).flat_map(|a| (0..gallery.len()).map(move |b| (a, b)));
        let distances: Vec<f32> = pairs
            .map(|(a, b)| distance(query.row(a), gallery.row(b)))
            .collect();
        for protocol in [Protocol::Market, Protocol::NoCameras] {
            let config = EvaluationConfig::default()
                .with_protocol(protocol.clone())
                .with_metric(Metric::Euclidean);
            let expected: Vec<_> = (0..query.len())
                .map(|index| naive(&query, &gallery, &protocol, index))
                .collect();
            let by_features = evaluate(&query, &gallery, &config).expect("matches");
            let by_distances =
                evaluate_distances(&distances, query.labels(), gallery.labels(), &config);
            let found: Vec<_> = by_features.per_query.iter().map(Naive::from).collect();
            assert_eq!(found, expected, "problem {at}, {protocol}");
            assert_eq!(by_distances, Ok(by_features.clone()));
            expect_means(&by_features);
            expect_lists(&query, &gallery, &by_features);
            unmatched += by_features.queries - by_features.matched_queries;
        }
    }
    assert!(unmatched > 10, "only {unmatched} queries without a match");
}

/// Checks that the metrics of the report are means over the queries with a match.
fn expect_means(report: &Report) {
    let mean = |value: fn(&QueryResult) -> Option<f64>| {
        let values: Vec<f64> = report.per_query.iter().filter_map(value).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let within = |k: usize| move |first: usize| f64::from(u8::from(first <= k));
    assert_eq!(
        report.mean_average_precision.to_bits(),
        mean(|it| it.average_precision).to_bits()
    );
    let penalty = mean(|it| it.inverse_negative_penalty);
    assert_eq!(
        report.mean_inverse_negative_penalty.to_bits(),
        penalty.to_bits()
    );
    for k in [1, 2, 5, 20, 50, 60] {
        let firsts = report.per_query.iter().filter_map(|it| it.first_match);
        let found: f64 = firsts.map(within(k)).sum();
        let expected = found / report.matched_queries as f64;
        assert_eq!(report.rank(k).to_bits(), expected.to_bits());
    }
}

/// Checks that the first match of each ranked list has the rank that the report gives.
fn expect_lists(query: &Embeddings, gallery: &Embeddings, report: &Report) {
    for result in &report.per_query {
        let list = ranked_list(query, gallery, &report.config, result.query, usize::MAX);
        let entries = list.expect("a query").entries;
        let mut counted = entries
            .iter()
            .filter(|entry| entry.relevance != Relevance::Ignored);
        let first = counted.position(|entry| entry.relevance == Relevance::Match);
        assert_eq!(first.map(|index| index + 1), result.first_match);
    }
}

#[test]
fn search_results_are_the_head_of_a_full_stable_sort() {
    for at in 0..20 {
        let (query, gallery) = problem(Seed::new(3).named("problems").at(at));
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let distances = Distances::between(&query, &gallery, metric).expect("equal dimensions");
            let index = Index::new(&gallery, metric).expect("images");
            for k in [0, 1, 7, 60, 100] {
                let found = index.search(&query, k).expect("finite");
                assert_eq!(found.len(), query.len());
                for (at, found) in found.iter().enumerate() {
                    let mut row = vec![0.0; gallery.len()];
                    distances.fill(at..at + 1, &mut row).expect("finite");
                    let mut order: Vec<usize> = (0..gallery.len()).collect();
                    order.sort_by(|&a, &b| row[a].total_cmp(&row[b]));
                    order.truncate(k);
                    let expected = order
                        .iter()
                        .map(|&image| (image, row[image].to_bits(), gallery.identities()[image]));
                    let found = found
                        .iter()
                        .map(|it| (it.index, it.distance.to_bits(), it.identity));
                    assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
                }
            }
        }
        // Compared with distances that are computed without matrix products.
        let nearest = Index::new(&gallery, Metric::Euclidean)
            .expect("images")
            .search(&query, 5)
            .expect("finite");
        for (at, found) in nearest.iter().enumerate() {
            for it in found {
                let expected = distance(query.row(at), gallery.row(it.index));
                assert_eq!(it.distance.to_bits(), expected.to_bits());
            }
        }
    }
}

#[test]
fn invalid_searches_are_rejected() {
    let set = |values: Vec<f32>, dimensions: usize| {
        let labels = Labels::unknown(values.len() / dimensions);
        Embeddings::from_parts(values, dimensions, labels).expect("whole rows")
    };
    let none = Index::new(&set(Vec::new(), 2), Metric::Cosine).map(|_| ());
    assert_eq!(
        none.expect_err("empty").to_string(),
        "the gallery has no images, expected at least 1"
    );
    let gallery = set(vec![1.0, 2.0], 2);
    assert_eq!(
        gallery
            .search(&set(vec![1.0], 1), 1)
            .expect_err("1 and 2")
            .to_string(),
        "query embeddings have 1 dimensions, gallery embeddings have 2"
    );
    assert_eq!(gallery.search(&set(Vec::new(), 2), 1), Ok(Vec::new()));
    let far = gallery.search(&set(vec![3e38, 3e38], 2), 1);
    assert!(far.is_ok(), "cosine distances do not overflow");
    let index = Index::new(&gallery, Metric::Euclidean).expect("an image");
    let far = index.search(&set(vec![3e38, 3e38], 2), 1);
    assert_eq!(
        far,
        Err(Error::Distance {
            query: 0,
            gallery: 0
        })
    );
}

#[test]
fn results_are_bit_identical_for_any_number_of_threads() {
    // 300 queries are 3 blocks of at most 128.
    let mut stream = Seed::new(2).named("threads").stream();
    let mut side = |images: usize| {
        let values = (0..images * 33)
            .map(|_| stream.random::<f32>() - 0.5)
            .collect();
        let label = |image: usize| i64::try_from(image % 40).expect("small");
        let identities = (0..images).map(label).map(Identity::new).collect();
        Embeddings::new(values, 33, identities).expect("valid embeddings")
    };
    let (query, gallery) = (side(300), side(700));
    for kind in [
        AveragePrecision::NonInterpolated,
        AveragePrecision::Trapezoid,
    ] {
        let config = EvaluationConfig::default()
            .with_protocol(Protocol::NoCameras)
            .with_average_precision(kind)
            .with_unmatched(Unmatched::CountAsZero);
        let with_threads = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("a pool")
                .install(|| evaluate(&query, &gallery, &config))
        };
        let one = with_threads(1).expect("matches");
        assert_eq!(with_threads(7).as_ref(), Ok(&one));
        assert_eq!(with_threads(2), Ok(one));
    }
}
