//! The folder of an engine of Qdrant Edge: it is opened for its model, with all entries and with its index.
#![cfg(feature = "qdrant-edge")]

use std::fs;

use reid_core::{Camera, Identity};
use reid_engines::{QdrantEdgeConfig, QdrantEdgeEngine};
use reid_eval::{
    Embeddings, Labels,
    gallery::{GalleryEntry, GalleryError, GalleryFilter, ModelFingerprint, SearchEngine},
};

const DIMENSIONS: usize = 256;

fn model() -> ModelFingerprint {
    ModelFingerprint::new("model a")
}

fn embeddings(count: usize, phase: f32) -> Embeddings {
    let values = (0..count * DIMENSIONS).map(|at| {
        let (row, column) = ((at / DIMENSIONS) as f32, (at % DIMENSIONS) as f32);
        (row * 0.37 + phase + column * column).sin() + (column * 1.7 + row * 0.011).cos()
    });
    Embeddings::from_parts(values.collect(), DIMENSIONS, Labels::unknown(count))
        .expect("finite values")
}

fn entries(count: usize) -> Vec<GalleryEntry> {
    let entry = |row: usize| {
        GalleryEntry::new(Identity::new(1 + row as i64))
            .with_camera(Camera::new(row as u32 % 4))
            .with_time(1_700_000_000 + row as u64)
    };
    (0..count).map(entry).collect()
}

/// 12,000 vectors of 1 KB are more than the size from which Qdrant builds an index.
#[test]
fn a_folder_is_opened_with_its_entries_and_its_index() {
    let (folder, count) = (tempfile::tempdir().expect("a folder"), 12_000);
    let config = QdrantEdgeConfig::default().with_expansion_search(200);
    let mut engine =
        QdrantEdgeEngine::create(folder.path(), model(), DIMENSIONS, config).expect("a new folder");
    let enrolled = engine.enrol(&model(), &embeddings(count, 0.0), &entries(count));
    enrolled.expect("valid entries");
    let (queries, all) = (embeddings(20, 0.1), GalleryFilter::default());
    let filter = all
        .clone()
        .only_cameras([Camera::new(2)])
        .from_time(1_700_000_000 + 6_000);
    let search = |engine: &QdrantEdgeEngine, filter: &GalleryFilter| {
        let found = engine.nearest_entries(&model(), &queries, filter, 10);
        found.expect("of the model")
    };
    let without = [search(&engine, &all), search(&engine, &filter)];
    engine.optimize().expect("a writable folder");
    let with = [search(&engine, &all), search(&engine, &filter)];
    let same = without.iter().flatten().zip(with.iter().flatten());
    let same = same
        .filter(|(one, other)| one[0].entry == other[0].entry)
        .count();
    assert!(same >= 38, "{same} of 40 nearest entries");
    drop(engine);

    let mut opened = QdrantEdgeEngine::open(folder.path(), &model()).expect("an engine");
    assert_eq!((opened.entry_count(), opened.config()), (count, config));
    assert_eq!([search(&opened, &all), search(&opened, &filter)], with);
    let more = opened.enrol(&model(), &queries, &entries(20));
    more.expect("valid entries");
    let found = search(&opened, &all);
    assert!(
        found
            .iter()
            .enumerate()
            .all(|(row, found)| found[0].entry == count + row)
    );
}

#[test]
fn another_model_and_another_folder_are_rejected() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = QdrantEdgeConfig::default();
    let engine = QdrantEdgeEngine::create(folder.path(), model(), 3, config);
    drop(engine.expect("a new folder"));
    let error = QdrantEdgeEngine::create(folder.path(), model(), 3, config).expect_err("taken");
    assert!(error.to_string().contains("expected no engine"), "{error}");
    let error = QdrantEdgeEngine::open(folder.path(), &ModelFingerprint::new("model b"));
    let error = error.expect_err("another model");
    assert!(matches!(error, GalleryError::FileModel { .. }), "{error}");

    fs::remove_dir_all(folder.path().join("shard")).expect("a folder");
    let error = QdrantEdgeEngine::open(folder.path(), &model()).expect_err("no shard");
    assert!(matches!(error, GalleryError::Engine { .. }), "{error}");
    fs::write(folder.path().join("engine.json"), "{").expect("writable");
    let error = QdrantEdgeEngine::open(folder.path(), &model()).expect_err("not JSON");
    assert!(matches!(error, GalleryError::File(_)), "{error}");
}

#[test]
fn a_time_that_qdrant_would_round_is_rejected() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = QdrantEdgeConfig::default();
    let engine = QdrantEdgeEngine::create(folder.path(), model(), DIMENSIONS, config);
    let mut engine = engine.expect("a new folder");
    let entries = [(1 << 53) - 1, 1 << 53].map(|time| entries(1)[0].clone().with_time(time));
    let error = engine
        .enrol(&model(), &embeddings(2, 0.0), &entries)
        .expect_err("too late");
    assert_eq!(
        error.to_string(),
        "Qdrant Edge: entry 1 (from 0): expected a time below 2^53, found 9007199254740992"
    );
    assert_eq!(engine.entry_count(), 0);
}
