//! The folder of an engine of `USearch`: it is read as it was written, and damage is reported.

use std::{fs, path::Path};

use reid_core::{Camera, Identity, Track};
use reid_engines::{UsearchConfig, UsearchEngine};
use reid_eval::{
    Embeddings, Labels, Metric,
    gallery::{GalleryEntry, GalleryError, GalleryFilter, ModelFingerprint, SearchEngine},
};

fn model() -> ModelFingerprint {
    ModelFingerprint::new("model a")
}

fn embeddings(count: usize, phase: f32) -> Embeddings {
    let values = (0..count * 8)
        .map(|at| (at as f32 * 0.37 + phase).sin())
        .collect();
    Embeddings::from_parts(values, 8, Labels::unknown(count)).expect("finite values")
}

fn entries(count: usize) -> Vec<GalleryEntry> {
    let entry = |row: usize| {
        GalleryEntry::new(Identity::new(1 + row as i64 % 50))
            .with_camera(Camera::new(row as u32 % 4))
            .with_track(Track::new(row as u64 / 3))
            .with_time(1_700_000_000 + row as u64)
            .with_path(format!("camera/{row}.jpg"))
    };
    (0..count).map(entry).collect()
}

fn engine(count: usize) -> UsearchEngine {
    let config = UsearchConfig::default()
        .with_metric(Metric::Euclidean)
        .with_connectivity(8);
    let mut engine = UsearchEngine::new(model(), config);
    let enrolled = engine.enrol(&model(), &embeddings(count, 0.0), &entries(count));
    enrolled.expect("valid entries");
    engine
}

fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = files
        .map(|file| {
            file.expect("a file")
                .file_name()
                .into_string()
                .expect("Unicode")
        })
        .collect();
    names.sort();
    names
}

#[test]
fn a_folder_is_read_as_it_was_written_and_grows() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("new");
    let (queries, all) = (embeddings(30, 0.2), GalleryFilter::default());
    let saved = engine(2_000);
    saved.save(&folder).expect("a writable folder");
    assert_eq!(names(&folder), ["engine.json", "index-0.usearch"]);

    let mut opened = UsearchEngine::open(&folder, &model()).expect("just saved");
    assert_eq!(opened.entries(), saved.entries());
    assert_eq!(
        (opened.config(), opened.dimensions()),
        (saved.config(), Some(8))
    );
    assert!(
        opened.memory() >= 2_000 * 8 * 4,
        "{} bytes",
        opened.memory()
    );
    for filter in [all.clone(), all.clone().only_cameras([Camera::new(2)])] {
        let expected = saved.nearest_entries(&model(), &queries, &filter, 10);
        let found = opened.nearest_entries(&model(), &queries, &filter, 10);
        assert_eq!(
            found.expect("of the model"),
            expected.expect("of the model")
        );
    }
    // An opened engine takes further entries, and finds them.
    let more = embeddings(300, 0.1);
    let enrolled = opened.enrol(&model(), &more, &entries(300));
    enrolled.expect("valid entries");
    let found = opened.nearest_entries(&model(), &more, &all, 1);
    let found = found.expect("of the model");
    let again = found.iter().enumerate();
    let again = again
        .filter(|(row, found)| found[0].entry == 2_000 + row)
        .count();
    assert!(again >= 290, "{again} of 300");
    opened.save(&folder).expect("a writable folder");
    assert_eq!(names(&folder), ["engine.json", "index-1.usearch"]);
    let opened = UsearchEngine::open(&folder, &model()).expect("just saved");
    assert_eq!(opened.entry_count(), 2_300);
}

#[test]
fn an_empty_engine_is_saved_and_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = UsearchEngine::new(model(), UsearchConfig::default());
    for _ in 0..2 {
        empty.save(folder.path()).expect("a writable folder");
        assert_eq!(names(folder.path()), ["engine.json"]);
        let mut opened = UsearchEngine::open(folder.path(), &model()).expect("just saved");
        assert_eq!((opened.entry_count(), opened.dimensions()), (0, None));
        let enrolled = opened.enrol(&model(), &embeddings(3, 0.0), &entries(3));
        enrolled.expect("valid entries");
        // The next round replaces an engine with an index by one without.
        opened.save(folder.path()).expect("a writable folder");
        assert_eq!(names(folder.path()), ["engine.json", "index-0.usearch"]);
    }
}

#[test]
fn another_model_is_rejected() {
    let folder = tempfile::tempdir().expect("a folder");
    engine(10).save(folder.path()).expect("a writable folder");
    let other = ModelFingerprint::new("model b");
    let error = UsearchEngine::open(folder.path(), &other).expect_err("another model");
    assert!(matches!(error, GalleryError::FileModel { .. }));
    let message = error.to_string();
    let expected =
        "engine.json: expected a gallery of the model `model b`, found one of the model `model a`";
    assert!(message.ends_with(expected), "{message}");
}

/// Every file is cut at some lengths and changed at some bytes. Nothing is searched, and nothing crashes.
#[test]
fn a_truncated_or_changed_file_is_rejected() {
    let folder = tempfile::tempdir().expect("a folder");
    engine(300).save(folder.path()).expect("a writable folder");
    let rejected = |path: &Path, what: &str| {
        let error = UsearchEngine::open(folder.path(), &model()).expect_err(what);
        let name = path.file_name().expect("a name").to_str().expect("Unicode");
        assert!(error.to_string().contains(name), "{what}: {error}");
    };
    for name in names(folder.path()) {
        let path = folder.path().join(&name);
        let bytes = fs::read(&path).expect("a file");
        for length in [0, 1, 63, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&path, &bytes[..length]).expect("writable");
            rejected(&path, &format!("{length} bytes of {name}"));
        }
        if name.ends_with(".usearch") {
            for at in (0..bytes.len()).step_by(bytes.len() / 50) {
                let mut changed = bytes.clone();
                changed[at] ^= 0x40;
                fs::write(&path, changed).expect("writable");
                rejected(&path, &format!("{name}, byte {at}"));
            }
        }
        fs::remove_file(&path).expect("a file");
        rejected(&path, &format!("no {name}"));
        fs::write(&path, bytes).expect("writable");
    }
    UsearchEngine::open(folder.path(), &model()).expect("as it was saved");
}

#[test]
fn descriptions_that_do_not_fit_are_rejected() {
    let folder = tempfile::tempdir().expect("a folder");
    engine(3).save(folder.path()).expect("a writable folder");
    let path = folder.path().join("engine.json");
    let text = fs::read_to_string(&path).expect("text");
    for (from, to, expected) in [
        (
            "\"version\":1",
            "\"version\":2",
            "expected version 1, found 2",
        ),
        ("\"version\":1", "\"number\":1", "unknown field `number`"),
        (
            "\"connectivity\":8",
            "\"connectivity\":0",
            "connectivity of at least 2, found 0",
        ),
        (
            "\"dimensions\":8",
            "\"dimensions\":9",
            "expected 3 vectors of 9 dimensions, found 3 of 8",
        ),
        ("\"entries\":[", "\"entries\":[]}", "trailing characters"),
    ] {
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replacen(from, to, 1)).expect("writable");
        let error = UsearchEngine::open(folder.path(), &model()).expect_err(to);
        let error = error.to_string();
        assert!(
            error.contains("engine.json") || error.contains("index-0"),
            "{error}"
        );
        assert!(error.contains(expected), "{error}");
    }
    // Saving does not replace what it cannot read.
    fs::write(&path, "{}").expect("writable");
    let error = engine(3).save(folder.path()).expect_err("another file");
    assert!(error.to_string().contains("missing field"), "{error}");
}

#[test]
#[should_panic(expected = "expected threads of at least 1, found 0")]
fn a_setting_that_is_too_small_panics() {
    let _ = UsearchEngine::new(model(), UsearchConfig::default().with_threads(0));
}
