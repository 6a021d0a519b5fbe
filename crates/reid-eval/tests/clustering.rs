//! Clustering compared with scikit-learn, and with DBSCAN on the full matrix of Jaccard distances.

use std::path::Path;

use rand::RngExt;
use reid_core::{Identity, Seed};
use reid_eval::{ClusteringConfig, Clusters, Embeddings, JaccardDistances, Labels};
use safetensors::SafeTensors;

/// DBSCAN by its definition, on a full matrix. The cluster of a core image is the set that is reached from
/// its first core image. Another image is in the first cluster with a core image near it.
fn naive(distances: &[Vec<f64>], epsilon: f64, min_samples: usize) -> Vec<Option<usize>> {
    let images = distances.len();
    let near = |image: usize| (0..images).filter(move |&other| distances[image][other] <= epsilon);
    let core: Vec<bool> = (0..images)
        .map(|image| near(image).count() >= min_samples)
        .collect();
    let (mut labels, mut count) = (vec![None; images], 0);
    for first in 0..images {
        if !core[first] || labels[first].is_some() {
            continue;
        }
        let mut open = vec![first];
        labels[first] = Some(count);
        while let Some(image) = open.pop() {
            for other in near(image).filter(|_| core[image]) {
                if labels[other].is_none() {
                    labels[other] = Some(count);
                    open.push(other);
                }
            }
        }
        count += 1;
    }
    labels
}

/// The matrix of all Jaccard distances, from the sparse lists.
fn matrix(distances: &JaccardDistances) -> Vec<Vec<f64>> {
    let images = distances.len();
    let row = |image| {
        let mut row = vec![1.0; images];
        for (other, distance) in distances.within(image, 1.0) {
            row[other] = distance;
        }
        row
    };
    (0..images).map(row).collect()
}

/// Random images around random centres.
fn random_images(images: usize, centres: usize, seed: u64) -> Embeddings {
    let mut stream = Seed::new(seed).named("images").stream();
    let dimensions = 6;
    let draw = |_| stream.random_range(-1.0_f32..1.0);
    let centres_of: Vec<f32> = (0..centres * dimensions).map(draw).collect();
    let mut values = Vec::new();
    for _ in 0..images {
        let centre = stream.random_range(0..centres) * dimensions;
        let values_of = &centres_of[centre..centre + dimensions];
        values.extend(
            values_of
                .iter()
                .map(|value| value + stream.random_range(-0.3_f32..0.3)),
        );
    }
    Embeddings::from_parts(values, dimensions, Labels::unknown(images)).expect("whole rows")
}

#[test]
fn clusters_equal_those_of_the_full_matrix() {
    let mut kinds = [0; 3];
    for problem in 0..20 {
        let images = [1, 2, 7, 40, 150][problem % 5];
        let embeddings = random_images(images, 1 + problem, problem as u64);
        for (k1, k2, epsilon, min_samples) in [
            (30, 6, 0.6, 4),
            (8, 3, 0.5, 3),
            (5, 1, 0.7, 2),
            (3, 2, 0.2, 1),
            (usize::MAX, 9, 0.0, 2),
        ] {
            let config = ClusteringConfig::default()
                .with_neighbours(k1, k2)
                .with_epsilon(epsilon)
                .with_min_samples(min_samples);
            let distances = JaccardDistances::new(&embeddings, &config).expect("valid settings");
            let distances = matrix(&distances);
            for (one, row) in distances.iter().enumerate() {
                for (distance, other) in row.iter().zip(&distances) {
                    assert_eq!(distance.to_bits(), other[one].to_bits());
                }
            }
            let clusters = Clusters::find(&embeddings, &config).expect("valid settings");
            let expected = naive(&distances, epsilon, min_samples);
            assert_eq!(clusters.labels(), expected, "{problem} {config:?}");
            let members = clusters.members();
            let sum: usize = members.iter().map(Vec::len).sum();
            assert_eq!(sum + clusters.outliers(), images);
            kinds[0] += clusters.count();
            kinds[1] += clusters.outliers();
            kinds[2] += usize::from(clusters.count() > 1);
        }
    }
    assert!(kinds.iter().all(|&found| found > 20), "{kinds:?}");
}

#[test]
fn clusters_do_not_depend_on_the_number_of_threads() {
    // More than two blocks of neighbours, and of distances.
    let embeddings = random_images(2_500, 60, 7);
    let config = ClusteringConfig::default();
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.expect("threads");
        pool.install(|| Clusters::find(&embeddings, &config).expect("valid settings"))
    };
    let one = with_threads(1);
    assert!(one.count() > 1, "{}", one.count());
    assert_eq!(one, with_threads(3));
}

#[test]
fn duplicates_are_one_cluster_per_original() {
    let originals = random_images(6, 6, 3);
    let copies = (0..30).flat_map(|image| originals.row(image % 6).to_vec());
    let embeddings = Embeddings::from_parts(copies.collect(), 6, Labels::unknown(30));
    let config = ClusteringConfig::default().with_neighbours(5, 2);
    let clusters = Clusters::find(&embeddings.expect("whole rows"), &config).expect("valid");
    let expected: Vec<_> = (0..30).map(|image| Some(image % 6)).collect();
    assert_eq!(clusters.labels(), expected);
}

// ------------------------------------------------------------------------------------ scikit-learn

fn integers(file: &SafeTensors<'_>, key: &str) -> Vec<i64> {
    let (values, rest) = file.tensor(key).expect(key).data().as_chunks();
    assert!(rest.is_empty());
    values.iter().copied().map(i64::from_le_bytes).collect()
}

fn floats(file: &SafeTensors<'_>, key: &str) -> Vec<f32> {
    let (values, rest) = file.tensor(key).expect(key).data().as_chunks();
    assert!(rest.is_empty());
    values.iter().copied().map(f32::from_le_bytes).collect()
}

#[test]
fn distances_labels_and_scores_equal_those_of_scikit_learn() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/clustering.safetensors"
    );
    let bytes = std::fs::read(Path::new(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let identities = integers(&file, "identities").into_iter();
    let identities: Vec<Identity> = identities.map(Identity::new).collect();
    let dimensions = file.tensor("features").expect("features").shape()[1];
    let embeddings = Embeddings::new(floats(&file, "features"), dimensions, identities.clone());
    let embeddings = embeddings.expect("whole rows");

    let small = ClusteringConfig::default()
        .with_neighbours(8, 3)
        .with_epsilon(0.47)
        .with_min_samples(3);
    for (name, config) in [("default", ClusteringConfig::default()), ("small", small)] {
        let distances = JaccardDistances::new(&embeddings, &config).expect("valid settings");
        let found = matrix(&distances).concat();
        let expected = floats(&file, &format!("{name}.distances"));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                (found - f64::from(*expected)).abs() < 2e-6,
                "{name}: {found}, {expected}"
            );
        }

        let clusters = Clusters::find(&embeddings, &config).expect("valid settings");
        let expected = integers(&file, &format!("{name}.labels"));
        let expected = expected
            .into_iter()
            .map(|label| usize::try_from(label).ok());
        assert_eq!(clusters.labels(), expected.collect::<Vec<_>>());

        let quality = clusters.quality(&identities).expect("known identities");
        let found = [
            quality.purity,
            quality.adjusted_rand_index,
            quality.normalised_mutual_information,
        ];
        let scores = file.tensor(&format!("{name}.scores")).expect("scores");
        let (expected, _) = scores.data().as_chunks();
        for (found, expected) in found.into_iter().zip(expected) {
            let expected = f64::from_le_bytes(*expected);
            assert!(
                (found - expected).abs() < 1e-12,
                "{name}: {found}, {expected}"
            );
        }
    }
}

#[test]
fn images_of_unknown_identity_and_outliers_do_not_count() {
    let clusters = Clusters::from_labels(vec![Some(0), Some(0), None, Some(1), Some(1)]);
    let identities = [3, 4, 3, -2, -1].map(Identity::new);
    let quality = clusters.quality(&identities).expect("two known identities");
    assert_eq!((quality.images, quality.purity), (2, 0.5));
    assert_eq!(clusters.quality(&[Identity::UNKNOWN; 5]), None);
    assert_eq!((clusters.count(), clusters.outliers()), (2, 1));
}
