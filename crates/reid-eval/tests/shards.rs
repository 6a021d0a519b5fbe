//! Shards: evaluation from files equals evaluation in memory, interrupted shards are written again, and any
//! other set of files is refused.
#![cfg(feature = "files")]

use std::{
    collections::HashMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use reid_core::{Camera, Identity, Sample, Split};
use reid_eval::{
    DistanceRows, Distances, Embeddings, Error, EvaluationConfig, ImageLabels, Labels, Metric,
    OpenSet, OpenSetConfig, Protocol, Relevance, RelevanceRule, Resampling, RetrievalTask,
    Threshold, Verification, evaluate, evaluate_rows,
    files::{
        FileError, QueryAndGallery,
        shards::{Shard, ShardFormat, ShardList, ShardOptions, ShardStatus, Shards, write_shard},
    },
    gallery::{GalleryStorage, ModelFingerprint},
};

const FORMATS: &[ShardFormat] = &[
    ShardFormat::Safetensors,
    #[cfg(feature = "parquet")]
    ShardFormat::Parquet,
];

const DIMENSIONS: usize = 3;

/// Queries with every kind of label, and a gallery with many images at equal distances. Image 6 of the gallery is
/// the first query.
fn samples(queries: usize, gallery: usize) -> [Vec<Sample>; 2] {
    let sample = |folder: &str, at: usize, identity: i64| {
        let camera = Camera::new(1 + u32::try_from(at % 3).expect("small"));
        Sample::new(format!("{folder}/{at:05}.jpg"), Identity::new(identity)).with_camera(camera)
    };
    let person = |at: usize| 1 + i64::try_from(at % 5).expect("small");
    let query = (0..queries).map(|at| sample("q", at, if at % 6 == 5 { -2 } else { person(at) }));
    let query: Vec<Sample> = query.collect();
    let gallery = (0..gallery).map(|at| {
        let identity = match at % 11 {
            2 => -1,
            4 => -2,
            7 => 0,
            _ => person(at),
        };
        let mut sample = sample("g", at, identity);
        if at % 4 == 0 {
            sample = sample.with_attribute("colour", "red");
        }
        if at == 6 {
            sample.same_as = query.first().map(|query| query.path.clone());
        }
        sample
    });
    let gallery = gallery.collect();
    [query, gallery]
}

fn list([query, gallery]: [Vec<Sample>; 2]) -> ShardList {
    ShardList::new(query, gallery).expect("cameras of all images")
}

/// An embedding that depends on the name of the image. A few are zero, very short or, with `long`, very long.
fn values(images: &[Sample], long: bool) -> Vec<f32> {
    let of = |sample: &Sample| {
        let name = sample.path.file_stem().and_then(|name| name.to_str());
        let at: u16 = name.expect("a name").parse().expect("a number");
        let value = |factor: u16, count: u16| f32::from((at % 97) * factor % count) - 1.5;
        match at % 17 {
            3 => [0.0; DIMENSIONS],
            5 => [1e-30, 2e-30, 0.0],
            7 if long => [1e13, -2e13, 1e13],
            _ => [value(7, 5), value(3, 4), value(5, 3)],
        }
    };
    images.iter().flat_map(of).collect()
}

fn embeddings(images: &[Sample], long: bool) -> Embeddings {
    let labels = Labels::unknown(images.len());
    Embeddings::from_parts(values(images, long), DIMENSIONS, labels).expect("finite rows")
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the signature of the argument of `write_shard`"
)]
fn embed(_: Split, images: &[Sample]) -> Result<Embeddings, FileError> {
    Ok(embeddings(images, false))
}

fn options(format: ShardFormat) -> ShardOptions {
    ShardOptions::new(ModelFingerprint::new("model A")).with_format(format)
}

fn write_all(folder: &Path, list: &ShardList, of: usize, options: &ShardOptions) {
    let long = options.storage == GalleryStorage::Single;
    let embed =
        |_: Split, images: &[Sample]| -> Result<_, FileError> { Ok(embeddings(images, long)) };
    // In any order.
    for index in (0..of).rev() {
        let shard = Shard::new(index, of).expect("a shard");
        let status = write_shard(folder, list, shard, options, embed).expect("written");
        assert_eq!(status, ShardStatus::Written);
    }
}

/// The embeddings of a list in memory, with image IDs as an evaluation without shards would number them.
fn in_memory(list: &ShardList, long: bool) -> QueryAndGallery {
    let all = Shard::new(0, 1).expect("one shard");
    let mut numbers: HashMap<PathBuf, u64> = HashMap::new();
    let mut side = |split| {
        let images = list.samples(split, all);
        let ids = images.iter().map(|sample| {
            let next = numbers.len() as u64;
            *numbers.entry(sample.image().to_owned()).or_insert(next)
        });
        let ids = ids.collect();
        let labels = Labels::from_samples(images).and_then(|labels| labels.with_images(ids));
        let labels = labels.expect("one each");
        Embeddings::from_parts(values(images, long), DIMENSIONS, labels).expect("finite rows")
    };
    QueryAndGallery {
        query: side(Split::Query),
        gallery: side(Split::Gallery),
    }
}

/// A custom protocol under which images of other identities are matches too.
#[derive(Debug)]
struct Near;

impl RelevanceRule for Near {
    fn name(&self) -> &'static str {
        "near"
    }

    fn relevance(&self, query: ImageLabels<'_>, gallery: ImageLabels<'_>) -> Relevance {
        let (one, other) = (query.identity().label(), gallery.identity().label());
        match one.abs_diff(other) {
            0 | 1 => Relevance::Match,
            2 => Relevance::Ignored,
            _ if gallery.attribute("colour").is_some() => Relevance::Ignored,
            _ => Relevance::NonMatch,
        }
    }
}

fn configs() -> Vec<EvaluationConfig> {
    let protocols = [
        Protocol::Market,
        Protocol::NoCameras,
        Protocol::custom(Near),
    ];
    let metrics = [Metric::Cosine, Metric::Euclidean];
    let both = protocols.into_iter().flat_map(|protocol| {
        let config = EvaluationConfig::default().with_protocol(protocol);
        metrics.map(|metric| config.clone().with_metric(metric))
    });
    both.collect()
}

/// Asserts that every result from shards is bit-identical to that in memory.
fn assert_equal(shards: &Shards, memory: &QueryAndGallery, what: &str) {
    let QueryAndGallery { query, gallery } = memory;
    let from_file = shards.load(Split::Query).expect("queries");
    let labels = shards.labels(Split::Gallery).expect("labels");
    assert_eq!(labels.paths(), None);
    for config in configs() {
        let what = format!("{what}, {} {}", config.protocol, config.metric);
        let expected = evaluate(query, gallery, &config).expect("matches");
        let distances = shards.distances(&from_file, config.metric).expect("rows");
        let found = evaluate_rows(&distances, from_file.labels(), &labels, &config);
        assert_eq!(found.expect("matches"), expected, "{what}");

        let near = Distances::between(query, gallery, config.metric).expect("rows");
        let (task, of_shards) = (
            RetrievalTask::new(&near, query.labels(), gallery.labels())
                .with_protocol(&config.protocol),
            RetrievalTask::new(&distances, from_file.labels(), &labels)
                .with_protocol(&config.protocol),
        );
        let verified =
            [&task, &of_shards].map(|task| Verification::from_task(task).expect("pairs"));
        assert_eq!(verified[0], verified[1], "{what}");
        let resampling = Resampling::default();
        let calibrate = |task| Threshold::calibrate(task, 0.5, &resampling).expect("a threshold");
        assert_eq!(calibrate(&of_shards), calibrate(&task), "{what}");
        for rank in [1, 3] {
            let open = OpenSetConfig::default().with_rank(rank);
            let identified = |task| OpenSet::from_task(task, &open);
            let expected = identified(&task);
            // Under the custom protocol, all queries may have a match.
            assert!(expected.is_ok() || config.protocol.to_string() == "near");
            assert_eq!(identified(&of_shards), expected, "{what}");
        }

        let rows = |source: &dyn DistanceRows, range: Range<usize>| {
            let mut rows = vec![f32::NAN; range.len() * source.gallery()];
            source.fill(range, &mut rows).expect("filled");
            rows.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        };
        assert_eq!(rows(&distances, 1..4), rows(&near, 1..4), "{what}");
    }
}

#[test]
fn results_from_shards_equal_those_in_memory() {
    let list = list(samples(13, 60));
    for format in FORMATS {
        for of in [1, 2, 3, 7, 65] {
            let folder = tempfile::tempdir().expect("a folder");
            write_all(folder.path(), &list, of, &options(*format));
            let shards = Shards::open(folder.path()).expect("complete");
            let what = format!("{format:?}, {of} shards");
            let memory = in_memory(&list, true);
            assert_equal(&shards, &memory, &what);

            // Read as a whole, they are the embeddings of the sorted list, with their labels.
            let whole = QueryAndGallery::load(folder.path()).expect("complete");
            for (found, expected) in [
                (&whole.query, &memory.query),
                (&whole.gallery, &memory.gallery),
            ] {
                assert_eq!(found.values(), expected.values(), "{what}");
                let labels = |of: &Embeddings| {
                    let labels = of.labels().clone();
                    let none = vec![0; labels.len()];
                    labels.with_images(none).expect("one each")
                };
                assert_eq!(labels(found), labels(expected), "{what}");
            }
            assert_eq!(shards.images(Split::Gallery), 60);
            assert_eq!(shards.model().as_str(), "model A");
        }
    }
}

#[test]
fn half_precision_is_evaluated_in_single_precision() {
    let list = list(samples(13, 60));
    for format in FORMATS {
        let folder = tempfile::tempdir().expect("a folder");
        let half = options(*format).with_storage(GalleryStorage::Half);
        write_all(folder.path(), &list, 3, &half);
        let shards = Shards::open(folder.path()).expect("complete");
        // Of these values, 1e-30 becomes 0 in half precision.
        let memory = QueryAndGallery::load(folder.path()).expect("complete");
        assert!(!memory.gallery.values().contains(&1e-30));
        assert_equal(&shards, &memory, &format!("half, {format:?}"));
        // Each file is one that this library reads on its own.
        let name = format!("gallery-00001-of-00003.{}", format.extension());
        let one = Embeddings::load(folder.path().join(name)).expect("a file of embeddings");
        assert_eq!(one.values(), &memory.gallery.values()[60..120]);

        let large = Embeddings::from_parts(vec![1.0, 2.0, 70_000.0], 3, Labels::unknown(1));
        let large = large.expect("one row");
        let query = Sample::new("00001.jpg", Identity::new(1));
        let one = ShardList::new(vec![query], Vec::new()).expect("one");
        let folder = tempfile::tempdir().expect("a folder");
        let embed = |_: Split, _: &[Sample]| -> Result<_, FileError> { Ok(large.clone()) };
        let shard = Shard::new(0, 1).expect("one shard");
        let error = write_shard(folder.path(), &one, shard, &half, embed).expect_err("too large");
        let expected = "embedding value at row 0, column 2 is 70000, expected at most 65504 in half \
                        precision: use `GalleryStorage::Single`";
        assert!(error.to_string().ends_with(expected), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}

/// More gallery images than a block has, and more queries than are compared together.
#[test]
fn several_blocks_of_a_file_and_of_queries_equal_those_in_memory() {
    let list = list(samples(130, 9_500));
    for format in FORMATS {
        let folder = tempfile::tempdir().expect("a folder");
        write_all(folder.path(), &list, 2, &options(*format));
        let shards = Shards::open(folder.path()).expect("complete");
        let QueryAndGallery { query, gallery } = in_memory(&list, true);
        let config = EvaluationConfig::default();
        let expected = evaluate(&query, &gallery, &config).expect("matches");
        let distances = shards.distances(&query, config.metric).expect("rows");
        let labels = shards.labels(Split::Gallery).expect("labels");
        let found = evaluate_rows(&distances, query.labels(), &labels, &config);
        assert_eq!(found.expect("matches"), expected, "{format:?}");
    }
}

#[test]
fn a_gallery_without_queries_is_searched_by_other_queries() {
    let [query, gallery] = samples(4, 30);
    let other = list([query, Vec::new()]);
    let list = list([Vec::new(), gallery]);
    let folder = tempfile::tempdir().expect("a folder");
    write_all(folder.path(), &list, 2, &options(ShardFormat::Safetensors));
    let shards = Shards::open(folder.path()).expect("complete");
    assert_eq!(shards.images(Split::Query), 0);
    assert_eq!(
        shards.labels(Split::Gallery).expect("labels").images(),
        None
    );
    let query = in_memory(&other, true).query;
    let distances = shards.distances(&query, Metric::Cosine).expect("rows");
    let expected = in_memory(&list, true).gallery;
    let expected = Distances::between(&query, &expected, Metric::Cosine).expect("rows");
    let mut rows = [vec![0.0; 60], vec![1.0; 60]];
    distances.fill(0..2, &mut rows[0]).expect("filled");
    expected.fill(0..2, &mut rows[1]).expect("filled");
    assert_eq!(rows[0], rows[1]);

    let wide = Embeddings::from_parts(vec![0.0; 4], 4, Labels::unknown(1)).expect("one row");
    let error = shards
        .distances(&wide, Metric::Cosine)
        .expect_err("4 and 3");
    let (query, gallery) = (4, 3);
    assert_eq!(error, Error::Dimensions { query, gallery });
}

/// The files of a folder by name.
fn contents(folder: &Path) -> HashMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder");
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().expect("Unicode");
        (name, fs::read(entry.path()).expect("a file"))
    };
    entries
        .map(|entry| file(entry.expect("an entry")))
        .collect()
}

#[test]
fn the_order_of_the_images_does_not_change_a_byte() {
    let [mut query, mut gallery] = samples(7, 40);
    for format in FORMATS {
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        for folder in &folders {
            let list = list([query.clone(), gallery.clone()]);
            write_all(folder.path(), &list, 3, &options(*format));
            query.rotate_left(3);
            gallery.reverse();
            gallery.rotate_right(11);
        }
        let [one, other] = folders.map(|folder| contents(folder.path()));
        assert_eq!(one.len(), 9);
        assert!(one == other, "{format:?}");
    }
}

#[test]
fn a_finished_shard_is_found_and_a_damaged_one_is_written_again() {
    let list = list(samples(7, 40));
    for format in FORMATS {
        let folder = tempfile::tempdir().expect("a folder");
        let (folder, options) = (folder.path(), options(*format));
        write_all(folder, &list, 2, &options);
        let whole = contents(folder);
        let shard = Shard::new(1, 2).expect("a shard");
        let never = |_: Split, _: &[Sample]| -> Result<Embeddings, FileError> {
            panic!("a finished shard is not embedded")
        };
        let found = write_shard(folder, &list, shard, &options, never).expect("found");
        assert_eq!(found, ShardStatus::Found);

        let again = || {
            let written = write_shard(folder, &list, shard, &options, embed_long).expect("written");
            assert_eq!(written, ShardStatus::Written);
            assert!(contents(folder) == whole, "{format:?}");
            Shards::open(folder).expect("complete");
        };
        for (name, bytes) in &whole {
            if !name.contains("-00001-of-") {
                continue;
            }
            let path = folder.join(name);
            fs::remove_file(&path).expect("removed");
            again();
            for cut in [0, bytes.len() / 3, bytes.len() - 1] {
                fs::write(&path, &bytes[..cut]).expect("written");
                again();
            }
        }
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the signature of the argument of `write_shard`"
)]
fn embed_long(_: Split, images: &[Sample]) -> Result<Embeddings, FileError> {
    Ok(embeddings(images, true))
}

#[test]
fn a_shard_that_is_truncated_or_changed_at_any_byte_is_refused_by_name() {
    let list = list(samples(2, 6));
    for format in FORMATS {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        write_all(folder, &list, 1, &options(*format));
        for (name, bytes) in contents(folder) {
            let path = folder.join(&name);
            let refused = |changed: &[u8], what: &str| {
                fs::write(&path, changed).expect("written");
                let error = Shards::open(folder).expect_err(what).to_string();
                assert!(error.contains(&name), "{what}: {error}");
            };
            for end in 0..bytes.len() {
                refused(&bytes[..end], &format!("{name} of {end} bytes"));
            }
            if name.ends_with("json") {
                fs::write(&path, &bytes).expect("written");
                continue;
            }
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << (at % 8);
                refused(&changed, &format!("{name}, byte {at}"));
            }
            fs::write(&path, &bytes).expect("written");
        }
        Shards::open(folder).expect("as before");
    }
}

#[test]
fn a_job_that_ends_at_any_block_leaves_no_shard_and_is_repeated() {
    let list = list(samples(2, 9_000));
    let shard = Shard::new(0, 1).expect("one shard");
    for format in FORMATS {
        let whole = tempfile::tempdir().expect("a folder");
        write_all(whole.path(), &list, 1, &options(*format));
        let whole = contents(whole.path());
        let folder = tempfile::tempdir().expect("a folder");
        // One block of queries, and three of the gallery.
        for last in 0..4 {
            let mut blocks = 0;
            let embed = |_: Split, images: &[Sample]| {
                if blocks == last {
                    return Err(FileError::Content {
                        path: "job".into(),
                        reason: "the job was stopped".to_owned(),
                    });
                }
                blocks += 1;
                Ok(embeddings(images, true))
            };
            let error = write_shard(folder.path(), &list, shard, &options(*format), embed);
            assert_eq!(
                error.expect_err("stopped").to_string(),
                "job: the job was stopped"
            );
            assert_eq!(blocks, last);
            let error = Shards::open(folder.path())
                .expect_err("not finished")
                .to_string();
            assert!(
                error.ends_with("`shard-00000-of-00008.json`, found none"),
                "{error}"
            );
            let names: Vec<String> = contents(folder.path()).into_keys().collect();
            assert!(
                names.iter().all(|name| name.starts_with("query-")),
                "{names:?}"
            );
        }
        let again = write_shard(folder.path(), &list, shard, &options(*format), embed_long);
        assert_eq!(again.expect("written"), ShardStatus::Written);
        assert!(contents(folder.path()) == whole, "{format:?}");
    }
}

#[test]
fn a_kill_leaves_no_shard_that_is_taken_for_whole() {
    use std::{env, process::Command, thread, time::Duration};

    const FOLDER: &str = "REID_SHARDS_FOLDER";
    let list = list(samples(5, 9_000));
    let write = |folder: &Path| {
        for index in 0..2 {
            let shard = Shard::new(index, 2).expect("a shard");
            let options = options(ShardFormat::default());
            write_shard(folder, &list, shard, &options, embed_long).expect("written");
        }
    };
    if let Some(folder) = env::var_os(FOLDER) {
        let folder = PathBuf::from(folder);
        loop {
            write(&folder);
            let mut names: Vec<String> = contents(&folder).into_keys().collect();
            names.sort_by_key(|name| !name.ends_with("json"));
            for name in names {
                fs::remove_file(folder.join(name)).expect("removed");
            }
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let expected = in_memory(&list, true).gallery;
    let program = env::current_exe().expect("this test");
    let mut finished = 0;
    for kill in 0..8 {
        let mut child = Command::new(&program)
            .args(["--exact", "a_kill_leaves_no_shard_that_is_taken_for_whole"])
            .env(FOLDER, folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("a process");
        thread::sleep(Duration::from_millis(60 + 17 * kill));
        child.kill().expect("killed");
        child.wait().expect("ended");
        finished += contents(folder.path()).len();
        write(folder.path());
        let shards = Shards::open(folder.path()).expect("complete");
        let found = shards.load(Split::Gallery).expect("the gallery");
        assert_eq!(found.values(), expected.values(), "kill {kill}");
    }
    assert!(finished > 0, "no process wrote a file");
}

/// Writes two shards, changes something, and returns why they cannot be opened, without the name of the folder.
fn refused(change: impl FnOnce(&Path)) -> String {
    let list = list(samples(2, 6));
    let folder = tempfile::tempdir().expect("a folder");
    write_all(folder.path(), &list, 2, &options(ShardFormat::Safetensors));
    change(folder.path());
    let error = Shards::open(folder.path())
        .expect_err("refused")
        .to_string();
    without(&error, folder.path())
}

/// A message without the names of a folder and the separators after them.
fn without(message: &str, folder: &Path) -> String {
    let folder = folder.display().to_string();
    let message = message.replace(&format!("{folder}{}", std::path::MAIN_SEPARATOR), "");
    message.replace(&folder, "FOLDER")
}

const FIRST: &str = "shard-00000-of-00002.json";
const SECOND: &str = "shard-00001-of-00002.json";

fn replace(folder: &Path, name: &str, from: &str, to: &str) {
    let path = folder.join(name);
    let text = fs::read_to_string(&path).expect("text");
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).expect("written");
}

#[test]
fn incomplete_sets_are_refused_by_name() {
    assert_eq!(
        refused(|folder| fs::remove_file(folder.join(FIRST)).expect("removed")),
        "FOLDER: expected 2 finished shards, numbered from 0, but shard 0 is missing"
    );
    let twice = refused(|folder| {
        let copy = folder.join("shard-00001-of-00002 (copy).json");
        fs::copy(folder.join(SECOND), copy).expect("copied");
    });
    assert_eq!(
        twice,
        format!(
            "{SECOND}: expected each shard once, found shard 1/2 here and in shard-00001-of-00002 (copy).json"
        )
    );
    assert_eq!(
        refused(|folder| {
            for name in [FIRST, SECOND] {
                fs::remove_file(folder.join(name)).expect("removed");
            }
        }),
        "FOLDER: expected finished shards, such as `shard-00000-of-00008.json`, found none"
    );
    let lost = refused(|folder| {
        let name = "gallery-00001-of-00002.safetensors";
        fs::remove_file(folder.join(name)).expect("removed");
    });
    assert!(
        lost.starts_with("gallery-00001-of-00002.safetensors: "),
        "{lost}"
    );
    let empty = tempfile::tempdir().expect("a folder");
    write_all(
        empty.path(),
        &list([Vec::new(), Vec::new()]),
        2,
        &options(ShardFormat::Safetensors),
    );
    let error = Shards::open(empty.path())
        .expect_err("no images")
        .to_string();
    assert!(error.ends_with(": expected shards with at least 1 image, found none"));
}

#[test]
fn shards_of_different_sets_are_refused_by_name() {
    let as_first = format!("as in {FIRST}, found");
    assert_eq!(
        refused(|folder| replace(folder, SECOND, "model A", "model B")),
        format!("{SECOND}: expected the model `model A`, {as_first} `model B`")
    );
    assert_eq!(
        refused(|folder| replace(folder, SECOND, "\"single\"", "\"half\"")),
        format!("{SECOND}: expected the precision single, {as_first} half")
    );
    let dimensions =
        |folder: &Path| replace(folder, SECOND, "\"dimensions\": 3", "\"dimensions\": 4");
    assert_eq!(
        refused(dimensions),
        format!("{SECOND}: expected 3 dimensions, {as_first} 4")
    );
    let number = |folder: &Path| {
        replace(folder, SECOND, "\"of\": 2", "\"of\": 3");
        replace(folder, SECOND, "\"images\": 3", "\"images\": 2");
    };
    assert_eq!(
        refused(number),
        format!("{SECOND}: expected the number of shards 2, {as_first} 3")
    );
    let other_list = refused(|folder| replace(folder, SECOND, "\"sha256\": \"", "\"sha256\": \"0"));
    assert!(
        other_list.starts_with(&format!("{SECOND}: expected the list of images "))
            && other_list.ends_with(" (2 queries, 6 gallery images)"),
        "{other_list}"
    );
}

#[test]
fn invalid_descriptions_are_refused_by_name() {
    let cases = [
        (
            "\"version\": 1",
            "\"version\": 7",
            "expected version 1 of a shard, found 7",
        ),
        (
            "\"shard\": 1",
            "\"shard\": 2",
            "expected a shard k/n, where k is from 0 to n - 1 and n is at most 99999, found `2/2`",
        ),
        (
            "\"images\": 3",
            "\"images\": 4",
            "`files`: expected files of the gallery with [3] images, found [4]",
        ),
        (
            "\"dimensions\": 3",
            "\"dimensions\": 0",
            "`dimensions`: expected at least 1 if and only if the shard has images, found Some(0)",
        ),
        (
            "\"query-00001-of-00002.safetensors\"",
            "\"../query\"",
            "`files`: expected names of files of the query and the gallery, found ../query of the query",
        ),
    ];
    for (from, to, expected) in cases {
        let found = refused(|folder| replace(folder, SECOND, from, to));
        assert_eq!(found, format!("{SECOND}: {expected}"));
    }
    let unknown = refused(|folder| replace(folder, SECOND, "\"version\"", "\"verse\""));
    let prefix = format!("{SECOND}: expected the JSON of a finished shard, found ");
    assert!(unknown.starts_with(&prefix), "{unknown}");
}

/// Why a job refuses to write to a folder that has the first of two shards.
fn job_refused(
    change: impl FnOnce(&mut [Vec<Sample>; 2], &mut ShardOptions, &mut Shard),
) -> String {
    let mut images = samples(2, 6);
    let (mut shard, mut settings) = (
        Shard::new(1, 2).expect("a shard"),
        options(ShardFormat::Safetensors),
    );
    let folder = tempfile::tempdir().expect("a folder");
    let first = Shard::new(0, 2).expect("a shard");
    let before = list(images.clone());
    write_shard(folder.path(), &before, first, &settings, embed).expect("written");
    change(&mut images, &mut settings, &mut shard);
    let names = contents(folder.path()).len();
    let error = write_shard(folder.path(), &list(images), shard, &settings, embed);
    let error = error.expect_err("refused").to_string();
    assert_eq!(contents(folder.path()).len(), names, "{error}");
    without(&error, folder.path())
}

#[test]
fn a_job_refuses_a_folder_of_other_shards() {
    let advice = "write to another folder";
    assert_eq!(
        job_refused(|_, options, _| options.model = ModelFingerprint::new("model B")),
        format!(
            "{FIRST}: expected the model `model B`, as for this job, found `model A`: {advice}"
        )
    );
    assert_eq!(
        job_refused(|_, _, shard| *shard = Shard::new(3, 4).expect("a shard")),
        format!("{FIRST}: expected the number of shards 4, as for this job, found 2: {advice}")
    );
    assert_eq!(
        job_refused(|_, options, _| options.storage = GalleryStorage::Half),
        format!("{FIRST}: expected the precision half, as for this job, found single: {advice}")
    );
    // Also its own shard, if it was embedded with another model.
    let own = job_refused(|_, options, shard| {
        options.model = ModelFingerprint::new("model B");
        *shard = Shard::new(0, 2).expect("a shard");
    });
    assert!(
        own.starts_with(&format!("{FIRST}: expected the model `model B`")),
        "{own}"
    );
    let list = job_refused(|images, _, _| images[1][0].identity = Identity::new(99));
    assert!(
        list.starts_with(&format!("{FIRST}: expected the list of images "))
            && list.ends_with(&format!(" (2 queries, 6 gallery images): {advice}")),
        "{list}"
    );
}

#[test]
fn embeddings_of_another_number_or_size_are_refused() {
    let list = list(samples(2, 6));
    let refused = |embed: fn(Split, &[Sample]) -> Result<Embeddings, FileError>| {
        let folder = tempfile::tempdir().expect("a folder");
        let shard = Shard::new(0, 1).expect("one shard");
        let options = options(ShardFormat::default());
        let error = write_shard(folder.path(), &list, shard, &options, embed).expect_err("refused");
        without(&error.to_string(), folder.path())
    };
    let one_less = |split: Split, images: &[Sample]| embed(split, &images[1..]);
    let extension = ShardFormat::default().extension();
    assert_eq!(
        refused(one_less),
        format!(
            "query-00000-of-00001.{extension}: expected 2 embeddings of 3 dimensions, found 1 of 3"
        )
    );
    let wide = |split: Split, images: &[Sample]| match split {
        Split::Gallery => {
            let values = vec![0.0; 4 * images.len()];
            let wide = Embeddings::from_parts(values, 4, Labels::unknown(images.len()));
            Ok(wide.expect("rows of four"))
        }
        _ => embed(split, images),
    };
    assert_eq!(
        refused(wide),
        format!(
            "gallery-00000-of-00001.{extension}: expected 6 embeddings of 3 dimensions, found 6 of 4"
        )
    );
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_shards_need_its_feature() {
    let list = list(samples(2, 6));
    let folder = tempfile::tempdir().expect("a folder");
    let shard = Shard::new(0, 1).expect("one shard");
    let parquet = options(ShardFormat::Parquet);
    let error = write_shard(folder.path(), &list, shard, &parquet, embed).expect_err("no feature");
    assert!(
        error.to_string().contains("Cargo feature `parquet`"),
        "{error}"
    );
}
