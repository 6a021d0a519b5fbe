//! Re-ranking of a gallery in shards: results equal those in memory, and files that cannot be read are named.
#![cfg(feature = "files")]

use std::{fs, ops::Range, path::Path};

use rand::RngExt;
use reid_core::{Camera, Identity, Sample, Seed, Split};
use reid_eval::{
    DistanceColumns, DistanceRows, Embeddings, Error, EvaluationConfig, HalfK1Rounding, Labels,
    Metric, OpenSet, OpenSetConfig, RerankConfig, Reranked, Resampling, RetrievalTask, Threshold,
    Verification,
    files::{
        FileError, QueryAndGallery,
        shards::{Shard, ShardFormat, ShardList, ShardOptions, Shards, write_shard},
    },
    gallery::{GalleryStorage, ModelFingerprint},
};

const FORMATS: &[ShardFormat] = &[
    ShardFormat::Safetensors,
    #[cfg(feature = "parquet")]
    ShardFormat::Parquet,
];

const DIMENSIONS: usize = 5;

/// The memory of one image in a panel: its values and its scale.
const IMAGE_BYTES: usize = 4 * DIMENSIONS + 8;

/// Images of 12 identities, each by three cameras.
fn list(queries: usize, gallery: usize) -> ShardList {
    let sample = |folder: &str, at: usize| {
        let identity = Identity::new(1 + i64::try_from(at % 12).expect("small"));
        let camera = Camera::new(1 + u32::try_from((at + at / 12) % 3).expect("small"));
        Sample::new(format!("{folder}/{at:05}.jpg"), identity).with_camera(camera)
    };
    let side = |folder, count| (0..count).map(|at| sample(folder, at)).collect();
    ShardList::new(side("q", queries), side("g", gallery)).expect("cameras of all images")
}

/// An image near the centre of its identity. Every 19th has coarse values, so some of them are equal, and every
/// 23rd is zero.
fn values(split: Split, sample: &Sample) -> Vec<f32> {
    let name = sample.path.file_stem().and_then(|name| name.to_str());
    let at: u64 = name.expect("a name").parse().expect("a number");
    let seed = Seed::new(3);
    let identity = sample.identity.label().unsigned_abs();
    let mut of_identity = seed.named("identity").at(identity).stream();
    let mut of_image = seed.named(&split.to_string()).at(at).stream();
    let value = |_| {
        let centre: f32 = of_identity.random_range(-1.0..1.0);
        let noise: f32 = of_image.random_range(-0.8..0.8);
        if at % 23 == 22 {
            0.0
        } else if at % 19 == 18 {
            (centre + noise).round()
        } else {
            centre + noise
        }
    };
    (0..DIMENSIONS).map(value).collect()
}

fn write(folder: &Path, list: &ShardList, shards: usize, options: &ShardOptions) -> Shards {
    for index in 0..shards {
        let shard = Shard::new(index, shards).expect("a shard");
        let embed = |split: Split, images: &[Sample]| -> Result<Embeddings, FileError> {
            let values = images.iter().flat_map(|sample| values(split, sample));
            let labels = Labels::unknown(images.len());
            let embeddings = Embeddings::from_parts(values.collect(), DIMENSIONS, labels);
            Ok(embeddings.expect("finite rows"))
        };
        write_shard(folder, list, shard, options, embed).expect("written");
    }
    Shards::open(folder).expect("complete")
}

fn options(format: ShardFormat) -> ShardOptions {
    ShardOptions::new(ModelFingerprint::new("a model")).with_format(format)
}

fn bits(values: Vec<f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

fn matrix(reranked: &Reranked<'_>) -> Vec<u32> {
    bits(reranked.matrix().expect("distances"))
}

/// Asserts that distances and reports from shards are bit-identical to those in memory.
fn assert_equal(
    shards: &Shards,
    memory: &QueryAndGallery,
    config: &RerankConfig,
    panels: &[usize],
) {
    let QueryAndGallery { query, gallery } = memory;
    let protocol = EvaluationConfig::default();
    let labels = shards.labels(Split::Gallery).expect("labels");
    let expected = Reranked::new(query, gallery, config).expect("finite");
    let report = expected.evaluate(query.labels(), gallery.labels(), &protocol);
    let report = report.expect("matches");
    for bytes in panels {
        let what = format!("{bytes} bytes, {config:?}");
        let found = shards.reranked_with_panel(query, config, *bytes);
        let found = found.expect("finite");
        assert_eq!(
            (found.queries(), found.gallery()),
            (query.len(), gallery.len())
        );
        assert!(matrix(&found) == matrix(&expected), "{what}");
        let again = found.evaluate(query.labels(), &labels, &protocol);
        assert_eq!(again.expect("matches"), report, "{what}");
    }
}

#[test]
fn reranking_from_shards_equals_that_in_memory() {
    let list = list(25, 130);
    // A panel of one block, of two, of all but one, and of all. Blocks have 18 or 19 images.
    let panels = [0, 40 * IMAGE_BYTES, 129 * IMAGE_BYTES, usize::MAX];
    for format in FORMATS {
        for storage in [GalleryStorage::Single, GalleryStorage::Half] {
            let folder = tempfile::tempdir().expect("a folder");
            let options = options(*format).with_storage(storage);
            let shards = write(folder.path(), &list, 7, &options);
            let memory = QueryAndGallery::load(folder.path()).expect("complete");
            for metric in [Metric::Cosine, Metric::Euclidean] {
                for half_k1 in [
                    HalfK1Rounding::Python,
                    HalfK1Rounding::Matlab,
                    HalfK1Rounding::FastReid,
                ] {
                    for (k1, k2, lambda) in [(20, 6, 0.3), (15, 1, 0.0), (7, 6, 1.0), (30, 1, 0.3)]
                    {
                        let config = RerankConfig::default()
                            .with_parameters(k1, k2, lambda)
                            .with_metric(metric)
                            .with_half_k1(half_k1);
                        assert_equal(&shards, &memory, &config, &panels);
                    }
                }
            }
        }
    }
}

/// Files of several blocks, the last of which is shorter, and more queries than one chunk of images has.
#[test]
fn several_blocks_of_a_file_equal_those_in_memory() {
    let list = list(530, 4_600);
    let folder = tempfile::tempdir().expect("a folder");
    let shards = write(folder.path(), &list, 1, &options(ShardFormat::Safetensors));
    let memory = QueryAndGallery::load(folder.path()).expect("complete");
    for metric in [Metric::Cosine, Metric::Euclidean] {
        let config = RerankConfig::default().with_metric(metric);
        assert_equal(
            &shards,
            &memory,
            &config,
            &[0, 4_100 * IMAGE_BYTES, usize::MAX],
        );
    }
}

#[test]
fn the_result_is_bit_identical_for_any_number_of_threads_and_panel() {
    let list = list(37, 140);
    let folder = tempfile::tempdir().expect("a folder");
    let shards = write(folder.path(), &list, 5, &options(ShardFormat::Safetensors));
    let query = shards.load(Split::Query).expect("queries");
    let config = RerankConfig::default();
    let of = |threads: usize, bytes: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads").install(|| {
            let found = shards.reranked_with_panel(&query, &config, bytes);
            matrix(&found.expect("finite"))
        })
    };
    let expected = matrix(&shards.reranked(&query, &config).expect("finite"));
    for bytes in [0, 60 * IMAGE_BYTES, Shards::PANEL_BYTES] {
        assert!(
            of(1, bytes) == expected && of(3, bytes) == expected,
            "{bytes} bytes"
        );
    }
}

/// Everything that takes a retrieval task, by blocks or by rows, and the distances of blocks themselves.
#[test]
fn tasks_and_blocks_have_the_distances_of_rows() {
    let list = list(37, 140);
    let folder = tempfile::tempdir().expect("a folder");
    let shards = write(folder.path(), &list, 3, &options(ShardFormat::Safetensors));
    let QueryAndGallery { query, gallery } = QueryAndGallery::load(folder.path()).expect("all");
    let labels = shards.labels(Split::Gallery).expect("labels");
    for lambda in [0.0, 0.3] {
        let config = RerankConfig::default()
            .with_parameters(20, 6, lambda)
            .with_metric(Metric::Euclidean);
        let near = Reranked::new(&query, &gallery, &config).expect("finite");
        let found = shards.reranked(&query, &config).expect("finite");
        assert!(near.columns().is_none());
        assert_eq!(found.columns().is_some(), lambda > 0.0);

        let tasks = [
            RetrievalTask::new(&near, query.labels(), gallery.labels()),
            RetrievalTask::new(&found, query.labels(), &labels),
        ];
        let [one, other] = tasks.each_ref().map(|task| {
            let threshold = Threshold::calibrate(task, 0.1, &Resampling::default());
            let open = OpenSet::from_task(task, &OpenSetConfig::default());
            let verified = Verification::from_task(task).expect("pairs");
            (
                verified,
                threshold.expect("a threshold"),
                open.expect("both kinds"),
            )
        });
        assert_eq!(one, other);

        let rows = matrix(&near);
        let width = gallery.len();
        let wanted = vec![(3, vec![0, 17, 120, 139]), (36, Vec::new()), (5, vec![64])];
        for source in [&near, &found] {
            let pairs = source.pairs(&wanted).expect("distances");
            for ((query, images), distances) in wanted.iter().zip(pairs) {
                let expected = images.iter().map(|image| rows[query * width + image]);
                assert_eq!(bits(distances), expected.collect::<Vec<u32>>(), "{lambda}");
            }
            let scanned = scan(source, 4..30);
            assert!(scanned == rows[4 * width..30 * width], "{lambda}");
        }
    }
}

/// The distances of a scan in the order of rows.
fn scan(source: &dyn DistanceColumns, queries: Range<usize>) -> Vec<u32> {
    let parts = std::sync::Mutex::new(Vec::new());
    let visit = |query: usize, first: usize, distances: &[f32]| {
        let part = (query, first, distances.to_vec());
        parts.lock().expect("no panic").push(part);
        Ok(())
    };
    source.scan(queries, &visit).expect("distances");
    let mut parts = parts.into_inner().expect("no panic");
    parts.sort_by_key(|(query, first, _)| (*query, *first));
    parts
        .into_iter()
        .flat_map(|(.., part)| bits(part))
        .collect()
}

#[test]
fn a_file_that_is_truncated_or_removed_after_opening_is_named() {
    let list = list(12, 90);
    for format in FORMATS {
        let folder = tempfile::tempdir().expect("a folder");
        let shards = write(folder.path(), &list, 3, &options(*format));
        let query = shards.load(Split::Query).expect("queries");
        let config = RerankConfig::default();
        let reranked = shards.reranked(&query, &config).expect("finite");
        let without_original = config.clone().with_parameters(20, 6, 0.0);
        let without_original = shards.reranked(&query, &without_original).expect("finite");
        let before = matrix(&without_original);
        let labels = shards.labels(Split::Gallery).expect("labels");

        let name = format!("gallery-00001-of-00003.{}", format.extension());
        let path = folder.path().join(&name);
        let bytes = fs::read(&path).expect("a file");
        for cut in [Some(0), Some(100), None] {
            match cut {
                Some(end) => fs::write(&path, &bytes[..end]).expect("written"),
                None => fs::remove_file(&path).expect("removed"),
            }
            let named = |error: Error| {
                let is_source = matches!(error, Error::Source { .. });
                assert!(is_source && error.to_string().contains(&name), "{error}");
            };
            for panel in [0, usize::MAX] {
                let found = shards.reranked_with_panel(&query, &config, panel);
                named(found.expect_err("no file"));
            }
            named(reranked.matrix().expect_err("no file"));
            let protocol = EvaluationConfig::default();
            let report = reranked.evaluate(query.labels(), &labels, &protocol);
            named(report.expect_err("no file"));
            // With λ = 0, nothing is read.
            assert!(matrix(&without_original) == before);
        }
    }
}

#[test]
fn invalid_arguments_have_the_errors_of_those_in_memory() {
    // Squared, distances of 1e20 do not fit an `f32`. Image 40 of the gallery is far from all others.
    let far = |shards: usize| {
        let folder = tempfile::tempdir().expect("a folder");
        let list = list(6, 60);
        for index in 0..shards {
            let embed = |split: Split, images: &[Sample]| -> Result<Embeddings, FileError> {
                let value = |sample: &Sample| {
                    let is_far = split == Split::Gallery && sample.path.ends_with("00040.jpg");
                    if is_far { 1e20 } else { 1.0 }
                };
                let values = images.iter().map(value).collect();
                let embeddings = Embeddings::from_parts(values, 1, Labels::unknown(images.len()));
                Ok(embeddings.expect("finite rows"))
            };
            let shard = Shard::new(index, shards).expect("a shard");
            let options = options(ShardFormat::Safetensors);
            write_shard(folder.path(), &list, shard, &options, embed).expect("written");
        }
        folder
    };
    let euclidean = RerankConfig::default().with_metric(Metric::Euclidean);
    for count in [1, 4] {
        let folder = far(count);
        let shards = Shards::open(folder.path()).expect("complete");
        let QueryAndGallery { query, gallery } = QueryAndGallery::load(folder.path()).expect("all");
        let expected = Reranked::new(&query, &gallery, &euclidean).expect_err("too far");
        let pair = Error::Pair {
            one: (Split::Query, 0),
            other: (Split::Gallery, 40),
        };
        assert_eq!(expected, pair);
        for bytes in [0, 30 * 12, usize::MAX] {
            let found = shards.reranked_with_panel(&query, &euclidean, bytes);
            assert_eq!(found.expect_err("too far"), pair, "{bytes} bytes");
        }

        let none = query.select(&[]);
        let wide = Embeddings::from_parts(vec![1.0, 2.0], 2, Labels::unknown(1)).expect("one row");
        let cases = [
            (&none, RerankConfig::default()),
            (&wide, RerankConfig::default()),
            (&query, RerankConfig::default().with_parameters(0, 6, 0.3)),
            (&none, RerankConfig::default().with_parameters(20, 6, 1.5)),
        ];
        for (query, config) in cases {
            let expected = Reranked::new(query, &gallery, &config).expect_err("invalid");
            let found = shards.reranked(query, &config).expect_err("invalid");
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn shards_without_a_gallery_are_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let shards = write(
        folder.path(),
        &list(4, 0),
        2,
        &options(ShardFormat::Safetensors),
    );
    let query = shards.load(Split::Query).expect("queries");
    let error = shards.reranked(&query, &RerankConfig::default());
    let split = Split::Gallery;
    assert_eq!(error.expect_err("no gallery"), Error::Empty { split });
}
