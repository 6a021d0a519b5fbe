//! Gallery: search equals a plain loop, decisions, updates, files, and the errors for invalid input.
#![cfg(feature = "files")]

use std::{collections::BTreeMap, fs};

use proptest::prelude::*;
use reid_core::{Camera, Identity, Track};
use reid_eval::{
    Distances, Embeddings, Index, Labels, Metric, Protocol, Resampling, RetrievalTask, Threshold,
    gallery::{
        Decision, EntryCombination, Gallery, GalleryConfig, GalleryEntry, GalleryError,
        GalleryFilter, GalleryStorage, ModelFingerprint,
    },
};

fn embeddings(dimensions: usize, values: &[f32]) -> Embeddings {
    let rows = values.len() / dimensions;
    Embeddings::from_parts(values.to_vec(), dimensions, Labels::unknown(rows)).expect("whole rows")
}

fn model() -> ModelFingerprint {
    ModelFingerprint::new("model a")
}

fn all() -> GalleryFilter {
    GalleryFilter::default()
}

fn entries(identities: &[i64]) -> Vec<GalleryEntry> {
    let entry = |identity: &i64| GalleryEntry::new(Identity::new(*identity));
    identities.iter().map(entry).collect()
}

/// A gallery on a line, with Euclidean distances.
fn line(config: GalleryConfig, positions: &[f32], identities: &[i64]) -> Gallery {
    let mut gallery = Gallery::new(model(), config.with_metric(Metric::Euclidean));
    let enrolled = gallery.enrol(&model(), &embeddings(1, positions), &entries(identities));
    enrolled.expect("valid entries");
    gallery
}

/// Calibrates the threshold 1, with a false accept rate of 1/2.
fn threshold() -> Threshold {
    let of = |positions: &[f32]| {
        Embeddings::new(positions.to_vec(), 1, [1, 2].map(Identity::new).to_vec())
            .expect("two rows")
    };
    // Genuine pairs: 1 and 1. Impostor pairs: 0.5 and 2.5.
    let (query, gallery) = (of(&[0.0, 1.5]), of(&[1.0, 2.5]));
    let distances = Distances::between(&query, &gallery, Metric::Euclidean).expect("one value");
    let task = RetrievalTask::new(&distances, query.labels(), gallery.labels());
    let task = task.with_protocol(&Protocol::NoCameras);
    let threshold = Threshold::calibrate(&task, 0.5, &Resampling::default()).expect("a threshold");
    assert!((threshold.distance - 1.0).abs() < 1e-6);
    threshold
}

/// The identities and distances that a query finds.
fn found(
    gallery: &Gallery,
    position: f32,
    filter: &GalleryFilter,
    k: usize,
) -> Vec<(i64, f32, usize)> {
    let queries = embeddings(1, &[position]);
    let found = gallery
        .search(&model(), &queries, filter, k)
        .expect("one value");
    let found = found[0].iter();
    found
        .map(|found| (found.identity.label(), found.distance, found.entry))
        .collect()
}

#[test]
fn entries_of_an_identity_are_combined() {
    let positions = [0.0, 10.0, 4.0, 5.0];
    let identities = [7, 7, 3, 3];
    let nearest = line(GalleryConfig::default(), &positions, &identities);
    assert_eq!(found(&nearest, 1.0, &all(), 5), [(7, 1.0, 0), (3, 3.0, 2)]);
    let mean = GalleryConfig::default().with_combination(EntryCombination::Mean);
    let mean = line(mean, &positions, &identities);
    // Identity 7: (1 + 9) / 2 = 5. Identity 3: (3 + 4) / 2 = 3.5.
    assert_eq!(found(&mean, 1.0, &all(), 5), [(3, 3.5, 2), (7, 5.0, 0)]);
    assert_eq!(found(&mean, 1.0, &all(), 1), [(3, 3.5, 2)]);
    assert_eq!(found(&mean, 1.0, &all(), 0), []);
}

#[test]
fn filters_select_entries_by_camera_and_time() {
    let entry = |camera, time| {
        let entry = GalleryEntry::new(Identity::new(1)).with_camera(Camera::new(camera));
        entry.with_time(time)
    };
    let mut gallery = Gallery::new(
        model(),
        GalleryConfig::default().with_metric(Metric::Euclidean),
    );
    let entries = [
        entry(1, 10),
        entry(2, 20),
        entry(3, 30),
        GalleryEntry::new(Identity::new(1)),
    ];
    let positions = embeddings(1, &[1.0, 2.0, 3.0, 4.0]);
    gallery
        .enrol(&model(), &positions, &entries)
        .expect("valid entries");
    let nearest = |filter: GalleryFilter| {
        found(&gallery, 0.0, &filter, 1)
            .first()
            .map(|found| found.2)
    };
    let cameras = |numbers: &[u32]| numbers.iter().copied().map(Camera::new).collect::<Vec<_>>();
    assert_eq!(nearest(all()), Some(0));
    assert_eq!(nearest(all().only_cameras(cameras(&[2, 3]))), Some(1));
    assert_eq!(nearest(all().only_cameras(cameras(&[9]))), None);
    assert_eq!(nearest(all().except_cameras(cameras(&[1, 2]))), Some(2));
    assert_eq!(nearest(all().except_cameras(cameras(&[1, 2, 3]))), Some(3));
    assert_eq!(nearest(all().from_time(20)), Some(1));
    assert_eq!(nearest(all().from_time(11).until_time(19)), None);
    assert_eq!(nearest(all().until_time(20)), Some(0));
    assert_eq!(
        nearest(all().until_time(20).except_cameras(cameras(&[1]))),
        Some(1)
    );
}

#[test]
fn a_decision_is_known_within_the_threshold_and_unknown_beyond_it() {
    let gallery = line(GalleryConfig::default(), &[0.0, 10.0], &[7, 3]);
    let decide = |gallery: &Gallery, positions: &[f32], filter: &GalleryFilter| {
        gallery.decide(&model(), &embeddings(1, positions), filter)
    };
    let missing = decide(&gallery, &[0.0], &all()).expect_err("no threshold");
    assert!(
        missing
            .to_string()
            .starts_with("the gallery has no threshold: calibrate one")
    );

    let gallery = gallery.with_threshold(threshold());
    let decisions = decide(&gallery, &[0.5, 8.5, 1.0], &all()).expect("one value");
    let Decision::Known {
        found,
        false_accept_rate,
    } = decisions[0]
    else {
        panic!("0.5 is within 1");
    };
    assert_eq!((found.identity, found.entry), (Identity::new(7), 0));
    assert!((false_accept_rate - 0.5).abs() < 1e-9);
    let Decision::Unknown {
        nearest: Some(nearest),
    } = decisions[1]
    else {
        panic!("1.5 is beyond 1");
    };
    assert_eq!(
        (nearest.identity, nearest.distance),
        (Identity::new(3), 1.5)
    );
    assert_eq!(decisions[2].identity(), Some(Identity::new(7)));
    let json = serde_json::to_string(&decisions).expect("JSON");
    assert_eq!(
        serde_json::from_str::<Vec<Decision>>(&json).expect("decisions"),
        decisions
    );

    let nobody = Decision::Unknown { nearest: None };
    let filter = all().only_cameras([Camera::new(1)]);
    assert_eq!(
        decide(&gallery, &[0.0], &filter).expect("one value"),
        [nobody]
    );
    let empty = Gallery::new(model(), GalleryConfig::default()).with_threshold(threshold());
    assert_eq!(decide(&empty, &[0.0], &all()).expect("one value"), [nobody]);
}

#[test]
fn an_update_replaces_and_forgetting_removes_the_entries_of_an_identity() {
    let mut gallery = line(GalleryConfig::default(), &[0.0, 10.0, 1.0], &[7, 3, 7]);
    let seven = Identity::new(7);
    let update = gallery.update(&model(), seven, &embeddings(1, &[20.0]), &entries(&[7]));
    update.expect("an enrolled identity");
    assert_eq!(
        found(&gallery, 0.0, &all(), 5),
        [(3, 10.0, 0), (7, 20.0, 1)]
    );
    assert_eq!(gallery.embedding(1), [20.0]);

    let before = gallery.clone();
    for (identity, positions, labels, reason) in [
        (
            8,
            &[1.0][..],
            &[8][..],
            "identity 8 is not enrolled: use `Gallery::enrol`",
        ),
        (
            7,
            &[][..],
            &[][..],
            "needs at least 1 entry, all of this identity, found no entries",
        ),
        (
            7,
            &[1.0, 2.0],
            &[7, 3],
            "found identity 3 at entry 1 (from 0)",
        ),
        (
            7,
            &[1.0, 2.0],
            &[7],
            "expected 2 gallery entries, one per embedding, found 1",
        ),
    ] {
        let (new, labels) = (embeddings(1, positions), entries(labels));
        let error = gallery.update(&model(), Identity::new(identity), &new, &labels);
        let message = error.expect_err("an invalid update").to_string();
        assert!(message.contains(reason), "{message}");
    }
    assert_eq!(gallery, before);

    assert_eq!(gallery.forget(Identity::new(8)), 0);
    assert_eq!(gallery.forget(Identity::new(3)), 1);
    assert_eq!(found(&gallery, 0.0, &all(), 5), [(7, 20.0, 0)]);
    assert_eq!(gallery.forget_if(|entry| entry.time.is_none()), 1);
    assert_eq!(found(&gallery, 0.0, &all(), 5), []);
    assert_eq!(gallery.dimensions(), Some(1));
}

#[test]
fn another_model_and_other_dimensions_are_rejected_with_both_named() {
    let mut gallery =
        line(GalleryConfig::default(), &[0.0, 10.0], &[7, 3]).with_threshold(threshold());
    let before = gallery.clone();
    let (other, one, two) = (
        ModelFingerprint::new("model b"),
        embeddings(1, &[0.0]),
        embeddings(2, &[0.0, 0.0]),
    );
    let seven = Identity::new(7);
    let mut errors = vec![
        gallery
            .enrol(&other, &one, &entries(&[7]))
            .expect_err("model b"),
        gallery
            .update(&other, seven, &one, &entries(&[7]))
            .expect_err("model b"),
        gallery
            .search(&other, &one, &all(), 1)
            .expect_err("model b"),
        gallery.decide(&other, &one, &all()).expect_err("model b"),
    ];
    for error in errors.drain(..) {
        assert_eq!(
            error.to_string(),
            "the gallery has embeddings of the model `model a`, found embeddings of the model `model b`"
        );
    }
    for error in [
        gallery
            .enrol(&model(), &two, &entries(&[7]))
            .expect_err("two values"),
        gallery
            .update(&model(), seven, &two, &entries(&[7]))
            .expect_err("two values"),
        gallery
            .search(&model(), &two, &all(), 1)
            .expect_err("two values"),
        gallery
            .decide(&model(), &two, &all())
            .expect_err("two values"),
    ] {
        assert_eq!(
            error.to_string(),
            "the gallery of the model `model a` has 1 dimensions, found embeddings of 2"
        );
    }
    assert_eq!(gallery, before);

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("people.gallery");
    gallery.save(&path).expect("written");
    let error = Gallery::open(&path, &other).expect_err("model b");
    assert_eq!(
        error.to_string(),
        format!(
            "{}: expected a gallery of the model `model b`, found one of the model `model a`",
            path.display()
        )
    );
}

#[test]
fn entries_that_cannot_be_enrolled_are_rejected_and_change_nothing() {
    let mut gallery = line(GalleryConfig::default(), &[0.0], &[7]);
    let before = gallery.clone();
    let one = || GalleryEntry::new(Identity::new(1));
    for (entry, reason) in [
        (
            GalleryEntry::new(Identity::new(0)),
            "found 0: 0 stands for distractors",
        ),
        (GalleryEntry::new(Identity::JUNK), "found -1"),
        (GalleryEntry::new(Identity::UNKNOWN), "found -2"),
        (
            one().with_time(u64::MAX),
            "expected a time below 2^63, found 18446744073709551615",
        ),
        (
            one().with_track(Track::new(1 << 63)),
            "expected a track below 2^63",
        ),
    ] {
        let error = gallery.enrol(&model(), &embeddings(1, &[1.0, 2.0]), &[one(), entry]);
        let message = error.expect_err("an invalid entry").to_string();
        assert!(
            message.starts_with("entry 1 (from 0): expected"),
            "{message}"
        );
        assert!(message.contains(reason), "{message}");
    }
    let half = GalleryConfig::default().with_storage(GalleryStorage::Half);
    let mut halves = line(half, &[0.0], &[7]);
    let error = halves.enrol(&model(), &embeddings(1, &[1.0, 7e4]), &entries(&[1, 1]));
    assert_eq!(
        error.expect_err("above 65504").to_string(),
        "embedding value at row 1, column 0 is 70000, expected at most 65504 in half precision: \
         use `GalleryStorage::Single`"
    );
    assert_eq!((gallery, halves.entries().len()), (before, 1));
}

/// Every label, an unknown value of each, and a threshold.
fn labelled(config: GalleryConfig) -> Gallery {
    let mut gallery = Gallery::new(model(), config).with_threshold(threshold());
    let full = GalleryEntry::new(Identity::new(5))
        .with_camera(Camera::new(u32::MAX))
        .with_track(Track::new(u64::MAX >> 1))
        .with_time(0)
        .with_path("people/Jürgen 1.jpg");
    let without_path = GalleryEntry::new(Identity::new(-7)).with_path("");
    let values = embeddings(3, &[0.1, -0.2, 3.0, 1e-3, 0.0, -5.0]);
    gallery
        .enrol(&model(), &values, &[full, without_path])
        .expect("valid entries");
    gallery
}

#[test]
fn a_gallery_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("people.gallery");
    for metric in [Metric::Cosine, Metric::Euclidean] {
        for storage in [GalleryStorage::Single, GalleryStorage::Half] {
            let config = GalleryConfig::default()
                .with_metric(metric)
                .with_storage(storage);
            let mut gallery = labelled(config.with_combination(EntryCombination::Mean));
            gallery.save(&path).expect("written");
            let read = Gallery::open(&path, &model()).expect("a gallery");
            assert_eq!(read, gallery);
            assert_eq!(read.entries()[1].path, None);
            let bytes = fs::read(&path).expect("bytes");
            read.save(&path).expect("written");
            assert_eq!(fs::read(&path).expect("bytes"), bytes);

            gallery.forget_if(|_| true);
            gallery.save(&path).expect("written");
            assert_eq!(Gallery::open(&path, &model()).expect("a gallery"), gallery);
        }
    }
    let empty = Gallery::new(model(), GalleryConfig::default());
    empty.save(&path).expect("written");
    assert_eq!(Gallery::open(&path, &model()).expect("a gallery"), empty);
    let nowhere = empty
        .save(folder.path().join("no/folder"))
        .expect_err("no folder");
    assert!(nowhere.to_string().contains("no/folder"), "{nowhere}");
}

#[test]
fn half_precision_halves_the_file_and_keeps_distances() {
    let (rows, dimensions) = (200, 64);
    let value = |at: usize| ((at * at) as f32 * 0.37).sin() * 3.0;
    let values: Vec<f32> = (0..rows * dimensions).map(value).collect();
    let identities: Vec<i64> = (1..=200).collect();
    let gallery = |storage| {
        let mut gallery = Gallery::new(model(), GalleryConfig::default().with_storage(storage));
        let enrolled = gallery.enrol(
            &model(),
            &embeddings(dimensions, &values),
            &entries(&identities),
        );
        enrolled.expect("valid entries");
        gallery
    };
    let [single, half] = [GalleryStorage::Single, GalleryStorage::Half].map(gallery);
    let folder = tempfile::tempdir().expect("a folder");
    let length = |gallery: &Gallery| {
        let path = folder.path().join("gallery");
        gallery.save(&path).expect("written");
        fs::metadata(path).expect("a file").len()
    };
    let saved = length(&single) - length(&half);
    // The header is padded to a multiple of 8 bytes.
    assert!(
        saved.abs_diff(2 * (rows * dimensions) as u64) <= 8,
        "{saved}"
    );
    let queries = embeddings(dimensions, &values[..10 * dimensions]);
    let found = |gallery: &Gallery| {
        gallery
            .search(&model(), &queries, &all(), 1)
            .expect("64 values")
    };
    for (single, half) in found(&single).iter().zip(found(&half)) {
        assert_eq!(single[0].identity, half[0].identity);
        assert!((single[0].distance - half[0].distance).abs() < 1e-3);
    }
}

#[test]
fn a_truncated_or_changed_file_is_rejected() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("people.gallery");
    labelled(GalleryConfig::default())
        .save(&path)
        .expect("written");
    let bytes = fs::read(&path).expect("bytes");
    for length in 0..bytes.len() {
        let error = Gallery::from_bytes(&bytes[..length]).expect_err("truncated");
        assert!(error.contains(&format!("found {length} bytes")), "{error}");
    }
    fs::write(&path, &bytes[..bytes.len() - 1]).expect("written");
    let error = Gallery::open(&path, &model())
        .expect_err("truncated")
        .to_string();
    assert!(error.starts_with(&path.display().to_string()), "{error}");
    assert!(
        error.contains("expected a complete safetensors file"),
        "{error}"
    );

    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        Gallery::from_bytes(&changed).expect_err("one bit is changed");
    }
    let missing = Gallery::open(folder.path().join("none"), &model()).expect_err("no file");
    assert!(matches!(missing, GalleryError::File(_)), "{missing}");
}

/// Found by the fuzz target `gallery`: a vector that was normalised had the scale 1, and another one after it
/// was saved.
#[test]
fn a_gallery_with_very_long_and_short_vectors_is_opened_as_it_was_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("people.gallery");
    let mut gallery = Gallery::new(model(), GalleryConfig::default());
    let vectors: Vec<f32> = (1_u8..40)
        .flat_map(|at| [7e18, 1e16 * f32::from(at), 3e-20, 1e-21 * f32::from(at)])
        .collect();
    let identities: Vec<i64> = (1..79).collect();
    let enrolled = gallery.enrol(&model(), &embeddings(2, &vectors), &entries(&identities));
    enrolled.expect("valid entries");
    gallery.save(&path).expect("written");
    assert_eq!(Gallery::open(&path, &model()).expect("just saved"), gallery);
}

#[test]
fn other_files_are_not_galleries() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("embeddings.safetensors");
    embeddings(1, &[1.0]).save(&path).expect("written");
    let error = Gallery::open(&path, &model())
        .expect_err("embeddings")
        .to_string();
    assert!(
        error.ends_with("expected a gallery: a safetensors file with the metadata `gallery`"),
        "{error}"
    );
    // A gallery can be read as embeddings.
    labelled(GalleryConfig::default().with_storage(GalleryStorage::Half))
        .save(&path)
        .expect("written");
    let read = Embeddings::from_safetensors(&fs::read(&path).expect("bytes"));
    // A camera may be unknown, so it is not a column of embeddings.
    assert!(read.expect_err("-1 is no camera").contains("`cameras`"));
}

#[expect(clippy::cast_possible_truncation, reason = "a mean of `f32` values")]
fn mean_of(of: &[(usize, f32)]) -> f32 {
    let sum: f64 = of.iter().map(|one| f64::from(one.1)).sum();
    (sum / of.len() as f64) as f32
}

/// A process that saves two galleries in turn is killed at random moments. The file is always one of them.
#[cfg(unix)]
#[test]
fn a_kill_during_a_save_loses_nothing() {
    use std::{env, process::Command, thread, time::Duration};

    const PATH: &str = "REID_GALLERY_PATH";
    let gallery = |rows: usize| {
        let identities: Vec<i64> = (1_i64..).take(rows).collect();
        let values: Vec<f32> = (0..rows * 64).map(|at| (at as f32).sin()).collect();
        let mut gallery = Gallery::new(model(), GalleryConfig::default());
        let enrolled = gallery.enrol(&model(), &embeddings(64, &values), &entries(&identities));
        enrolled.expect("valid entries");
        gallery
    };
    let two = [gallery(1000), gallery(1500)];
    if let Some(path) = env::var_os(PATH) {
        loop {
            for gallery in &two {
                gallery.save(&path).expect("written");
            }
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("people.gallery");
    two[0].save(&path).expect("written");
    let modified = || {
        fs::metadata(&path)
            .expect("a file")
            .modified()
            .expect("a time")
    };
    let first = modified();
    let program = env::current_exe().expect("this test");
    for kill in 0..20 {
        let mut child = Command::new(&program)
            .args(["--exact", "a_kill_during_a_save_loses_nothing"])
            .env(PATH, &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("a process");
        thread::sleep(Duration::from_millis(40 + 7 * kill));
        child.kill().expect("killed");
        child.wait().expect("ended");
        let read = Gallery::open(&path, &model()).expect("a whole gallery");
        assert!(two.contains(&read), "{} entries", read.entries().len());
    }
    assert!(modified() > first, "no process saved a gallery");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The search equals a loop over the distances of an index, after any sequence of changes.
    #[test]
    fn a_search_equals_a_plain_loop(
        rows in prop::collection::vec((1_i64..5, 0_u32..3, prop::array::uniform2(-3_i8..4)), 1..30),
        forgotten in 1_i64..6,
        camera in 0_u32..3,
        k in 0_usize..6,
        mean in any::<bool>(),
        euclidean in any::<bool>(),
    ) {
        let metric = if euclidean { Metric::Euclidean } else { Metric::Cosine };
        let combination = if mean { EntryCombination::Mean } else { EntryCombination::Nearest };
        let config = GalleryConfig::default().with_metric(metric).with_combination(combination);
        let mut gallery = Gallery::new(model(), config);
        let mut kept = Vec::new();
        for (identity, number, values) in &rows {
            let values = values.map(f32::from);
            let entry = GalleryEntry::new(Identity::new(*identity)).with_camera(Camera::new(*number));
            gallery.enrol(&model(), &embeddings(2, &values), &[entry]).expect("valid");
            kept.push((*identity, *number, values));
        }
        gallery.forget(Identity::new(forgotten));
        kept.retain(|entry| entry.0 != forgotten);

        let queries = embeddings(2, &[1.0, 2.0, -0.5, 0.1, 0.0, 0.0]);
        let filter = all().except_cameras([Camera::new(camera)]);
        let found = gallery.search(&model(), &queries, &filter, k).expect("two values");
        prop_assert_eq!(found.len(), 3);
        if kept.is_empty() {
            prop_assert!(found.iter().all(Vec::is_empty));
            return Ok(());
        }
        let values: Vec<f32> = kept.iter().flat_map(|entry| entry.2).collect();
        let stored = embeddings(2, &values);
        let index = Index::new(&stored, metric).expect("not empty");
        let distances = index.search(&queries, kept.len()).expect("two values");
        for (found, distances) in found.iter().zip(distances) {
            let mut groups: BTreeMap<i64, Vec<(usize, f32)>> = BTreeMap::new();
            let mut distances = distances;
            distances.sort_by_key(|neighbour| neighbour.index);
            for neighbour in distances {
                let (identity, number, _) = kept[neighbour.index];
                if number != camera {
                    groups.entry(identity).or_default().push((neighbour.index, neighbour.distance));
                }
            }
            let mut expected: Vec<(i64, f32)> = groups
                .into_iter()
                .map(|(identity, of)| {
                    let nearest = of.iter().map(|one| one.1).fold(f32::INFINITY, f32::min);
                    let distance = if mean { mean_of(&of) } else { nearest };
                    (identity, distance)
                })
                .collect();
            expected.sort_by(|one, other| one.1.total_cmp(&other.1).then(one.0.cmp(&other.0)));
            expected.truncate(k);
            let found = found.iter().map(|found| (found.identity.label(), found.distance));
            prop_assert_eq!(found.collect::<Vec<_>>(), expected);
        }
    }
}

/// A large gallery is screened for few queries and compared as a whole for many: the results are equal to the
/// bit, with several entries per identity, with duplicates, with a filter, and after changes.
#[test]
fn few_queries_in_a_large_gallery_find_what_many_find() {
    let (dimensions, count) = (19, 9_000);
    let values = |count: usize, phase: f32| -> Vec<f32> {
        let values = (0..count * dimensions).map(|at| {
            let (row, column) = ((at / dimensions) as f32, (at % dimensions) as f32);
            (row * 0.37 + phase).sin() * (column * 1.7 + row * 0.011).cos() + 0.1 * column
        });
        values.collect()
    };
    let mut stored = values(count, 0.0);
    // Entries 4000 to 4009 are copies of entry 17.
    for copy in 4_000..4_010 {
        stored.copy_within(17 * dimensions..18 * dimensions, copy * dimensions);
    }
    let entries: Vec<GalleryEntry> = (0..count)
        .map(|entry| {
            let identity = Identity::new(1 + i64::try_from(entry * 7 % 3_001).expect("small"));
            GalleryEntry::new(identity).with_time(entry as u64)
        })
        .collect();
    let mut queries = values(8, 0.01);
    queries[..dimensions].copy_from_slice(&stored[17 * dimensions..18 * dimensions]);
    queries[dimensions..2 * dimensions].fill(0.0);
    let queries = embeddings(dimensions, &queries);
    let one = |query: usize| embeddings(dimensions, queries.row(query));
    for metric in [Metric::Cosine, Metric::Euclidean] {
        let config = GalleryConfig::default().with_metric(metric);
        let mut gallery = Gallery::new(model(), config);
        // In two parts, with a search between, so that codes are computed and then appended to.
        let half = count / 2 * dimensions;
        for part in [0..half, half..count * dimensions] {
            let rows = part.start / dimensions..part.end / dimensions;
            let part = embeddings(dimensions, &stored[part]);
            gallery
                .enrol(&model(), &part, &entries[rows])
                .expect("valid entries");
            let _ = gallery
                .search(&model(), &one(0), &all(), 1)
                .expect("a query");
        }
        for forget in [None, Some(Identity::new(1 + 17 * 7))] {
            let forgotten = forget.map(|identity| gallery.forget(identity));
            assert_ne!(forgotten, Some(0));
            for filter in [all(), all().from_time(100).until_time(8_500)] {
                let many = gallery
                    .search(&model(), &queries, &filter, 5)
                    .expect("queries");
                for (query, many) in many.iter().enumerate() {
                    let few = gallery.search(&model(), &one(query), &filter, 5);
                    assert_eq!(few.expect("a query")[0], *many, "{metric:?}, query {query}");
                    assert_eq!(many.len(), 5);
                }
            }
        }
        index_finds_the_same(&stored, &queries, metric);
    }
}

/// An index finds for one query at a time what it finds for many at once.
fn index_finds_the_same(stored: &[f32], queries: &Embeddings, metric: Metric) {
    let all = embeddings(queries.dimensions(), stored);
    let index = Index::new(&all, metric).expect("not empty");
    let many = index.search(queries, 20).expect("queries");
    for (query, many) in many.iter().enumerate() {
        let one = embeddings(queries.dimensions(), queries.row(query));
        assert_eq!(
            index.search(&one, 20).expect("a query")[0],
            *many,
            "query {query}"
        );
    }
}
