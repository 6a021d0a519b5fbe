//! Each engine finds what the exact gallery finds in small sets and nearly the same in large ones, applies filters,
//! and rejects what does not fit.

use rand::RngExt;
use reid_core::{Camera, Identity, Seed};
use reid_engines::{UsearchConfig, UsearchEngine};
use reid_eval::{
    Embeddings, Labels, Metric,
    gallery::{
        Gallery, GalleryConfig, GalleryEntry, GalleryError, GalleryFilter, GalleryMatch,
        ModelFingerprint, SearchEngine,
    },
};

const DIMENSIONS: usize = 16;

fn model() -> ModelFingerprint {
    ModelFingerprint::new("model a")
}

/// Creates engines with different settings.
fn engines(metric: Metric) -> Vec<Box<dyn SearchEngine>> {
    let one = UsearchConfig::default().with_metric(metric);
    let other = one.with_threads(3).with_expansion_search(200);
    let engine =
        |config| -> Box<dyn SearchEngine> { Box::new(UsearchEngine::new(model(), config)) };
    vec![engine(one), engine(other)]
}

/// The centre of one of `count / 4` identities plus noise.
fn embeddings(count: usize, name: &str) -> Embeddings {
    let seed = Seed::new(3);
    let values = (0..count).flat_map(|image| {
        let mut of_identity = seed.named("identity").at(image as u64 / 4).stream();
        let mut of_image = seed.named(name).at(image as u64).stream();
        (0..DIMENSIONS).map(move |_| {
            let centre: f32 = of_identity.random_range(-1.0..1.0);
            centre + of_image.random_range(-0.7..0.7)
        })
    });
    let values: Vec<f32> = values.collect();
    Embeddings::from_parts(values, DIMENSIONS, Labels::unknown(count)).expect("finite values")
}

/// Entries of four per identity, of six cameras; every tenth has no time, and every eleventh no camera.
fn entries(count: usize) -> Vec<GalleryEntry> {
    let entry = |row: usize| {
        let mut entry = GalleryEntry::new(Identity::new(1 + row as i64 / 4));
        if !row.is_multiple_of(11) {
            entry = entry.with_camera(Camera::new(row as u32 % 6));
        }
        if !row.is_multiple_of(10) {
            entry = entry.with_time(row as u64);
        }
        entry
    };
    (0..count).map(entry).collect()
}

fn exact(count: usize, metric: Metric) -> Gallery {
    let mut gallery = Gallery::new(model(), GalleryConfig::default().with_metric(metric));
    enrol(&mut gallery, count);
    gallery
}

/// Enrols in two parts, the second of one entry.
fn enrol(engine: &mut dyn SearchEngine, count: usize) {
    let (all, entries) = (embeddings(count, "gallery"), entries(count));
    for rows in [0..count - 1, count - 1..count] {
        let part = all.select(&rows.clone().collect::<Vec<_>>());
        let enrolled = engine.enrol(&model(), &part, &entries[rows]);
        enrolled.expect("valid entries");
    }
    assert_eq!(engine.entry_count(), count);
    assert_eq!(engine.dimensions(), Some(DIMENSIONS));
}

fn filters(count: usize) -> Vec<GalleryFilter> {
    let all = GalleryFilter::default();
    let last = count as u64 - 1;
    vec![
        all.clone(),
        all.clone()
            .except_cameras([Camera::new(1), Camera::new(99)]),
        all.clone().only_cameras([Camera::new(2), Camera::new(3)]),
        all.clone().from_time(2).until_time(last * 2 / 3),
        all.clone()
            .only_cameras([Camera::new(5)])
            .from_time(last / 2),
        all.clone().until_time(u64::MAX),
        all.clone().from_time(u64::MAX),
        all.only_cameras([]),
    ]
}

/// Asserts that an engine finds the same entries in the same order, at the same distances up to rounding.
fn assert_same(found: &[Vec<GalleryMatch>], expected: &[Vec<GalleryMatch>], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let keys = |matches: &[GalleryMatch]| -> Vec<_> {
            matches
                .iter()
                .map(|one| (one.entry, one.identity))
                .collect()
        };
        assert_eq!(keys(found), keys(expected), "{what}");
        for (found, expected) in found.iter().zip(expected) {
            let difference = (found.distance - expected.distance).abs();
            assert!(
                difference < 2e-6,
                "{what}: {found:?}, expected {expected:?}"
            );
        }
    }
}

#[test]
fn a_small_set_is_searched_exactly() {
    let count = 40;
    for metric in [Metric::Cosine, Metric::Euclidean] {
        let gallery = exact(count, metric);
        let queries = embeddings(6, "query");
        for mut engine in engines(metric) {
            enrol(&mut *engine, count);
            assert_eq!((engine.model(), engine.metric()), (&model(), metric));
            for filter in filters(count) {
                for k in [0, 1, 10, count, count + 5, usize::MAX] {
                    let what = format!("{engine:?}, {filter:?}, {k}");
                    let found = engine.nearest_entries(&model(), &queries, &filter, k);
                    let expected = gallery.nearest_entries(&model(), &queries, &filter, k);
                    let expected = expected.expect("of the model");
                    assert_same(&found.expect("of the model"), &expected, &what);
                    let found = engine.search(&model(), &queries, &filter, k);
                    let expected = gallery.search(&model(), &queries, &filter, k);
                    let expected = expected.expect("of the model");
                    assert_same(&found.expect("of the model"), &expected, &what);
                }
            }
        }
    }
}

/// The graph is used, and its results satisfy the filter.
#[test]
fn a_large_set_is_searched_nearly_exactly() {
    let count = 4_000;
    let gallery = exact(count, Metric::Cosine);
    let (queries, entries) = (embeddings(100, "query"), entries(count));
    for mut engine in engines(Metric::Cosine) {
        enrol(&mut *engine, count);
        for filter in filters(count) {
            let found = engine.nearest_entries(&model(), &queries, &filter, 10);
            let found = found.expect("of the model");
            let expected = gallery.nearest_entries(&model(), &queries, &filter, 10);
            let mut common = 0;
            let mut all = 0;
            for (found, expected) in found.iter().zip(expected.expect("of the model")) {
                assert_eq!(found.len(), expected.len(), "{engine:?}, {filter:?}");
                assert!(found.is_sorted_by(|one, next| one.distance <= next.distance));
                for one in found {
                    assert!(filter.accepts(&entries[one.entry]), "{engine:?}, {one:?}");
                    assert_eq!(one.identity, entries[one.entry].identity);
                }
                let is_found = |one: &&GalleryMatch| found.iter().any(|f| f.entry == one.entry);
                common += expected.iter().filter(is_found).count();
                all += expected.len();
            }
            assert!(
                100 * common >= 95 * all,
                "{engine:?}, {filter:?}: {common} of {all}"
            );
        }
    }
}

#[test]
fn a_zero_vector_is_at_distance_1_from_all() {
    let zero = Embeddings::from_parts(vec![0.0; DIMENSIONS], DIMENSIONS, Labels::unknown(1));
    let (zero, all) = (zero.expect("finite"), GalleryFilter::default());
    for mut engine in engines(Metric::Cosine) {
        enrol(&mut *engine, 8);
        let entry = [GalleryEntry::new(Identity::new(50))];
        engine
            .enrol(&model(), &zero, &entry)
            .expect("a valid entry");
        let found = engine.nearest_entries(&model(), &zero, &all, 9);
        for (entry, found) in found.expect("of the model")[0].iter().enumerate() {
            assert_eq!((found.entry, found.distance), (entry, 1.0), "{engine:?}");
        }
        // As far as vectors that are orthogonal: farther than those in the same half-space.
        let found = engine.nearest_entries(&model(), &embeddings(1, "query"), &all, 9);
        let found = &found.expect("of the model")[0];
        let zero = found
            .iter()
            .find(|one| one.entry == 8)
            .expect("all entries");
        assert!((zero.distance - 1.0).abs() < 1e-6, "{engine:?}");
    }
}

#[test]
fn an_empty_engine_finds_nothing() {
    let (queries, all) = (embeddings(3, "query"), GalleryFilter::default());
    for mut engine in engines(Metric::Cosine) {
        for _ in 0..2 {
            assert_eq!(engine.entry_count(), 0);
            let found = engine.search(&model(), &queries, &all, 5);
            assert_eq!(found.expect("of the model"), [vec![], vec![], vec![]]);
            let none = queries.select(&[]);
            engine.enrol(&model(), &none, &[]).expect("no entries");
        }
    }
}

#[test]
fn another_model_and_other_dimensions_are_rejected() {
    let (queries, all) = (embeddings(2, "query"), GalleryFilter::default());
    let other = ModelFingerprint::new("model b");
    let narrow = Embeddings::from_parts(vec![1.0; 6], 3, Labels::unknown(2)).expect("finite");
    for mut engine in engines(Metric::Cosine) {
        enrol(&mut *engine, 9);
        let error = engine
            .nearest_entries(&other, &queries, &all, 1)
            .expect_err("another model");
        assert!(matches!(error, GalleryError::Model { .. }), "{error}");
        let error = engine
            .enrol(&other, &queries, &entries(2))
            .expect_err("another model");
        assert!(matches!(error, GalleryError::Model { .. }), "{error}");
        let error = engine
            .search(&model(), &narrow, &all, 1)
            .expect_err("3 dimensions");
        assert_eq!(
            error.to_string(),
            "the gallery of the model `model a` has 16 dimensions, found embeddings of 3"
        );
        let error = engine
            .enrol(&model(), &narrow, &entries(2))
            .expect_err("3 dimensions");
        assert!(matches!(error, GalleryError::Dimensions { .. }), "{error}");
        let error = engine
            .enrol(&model(), &queries, &entries(3))
            .expect_err("3 entries");
        assert!(matches!(error, GalleryError::Entries { .. }), "{error}");
        let junk = [1, -1].map(|identity| GalleryEntry::new(Identity::new(identity)));
        let error = engine.enrol(&model(), &queries, &junk).expect_err("junk");
        assert!(
            matches!(error, GalleryError::Identity { row: 1, .. }),
            "{error}"
        );
        assert_eq!(engine.entry_count(), 9);
        let found = engine
            .nearest_entries(&model(), &queries, &all, 99)
            .expect("of the model");
        assert_eq!(found[0].len(), 9);
    }
}

/// Values that are not finite do not reach an engine, because embeddings cannot have them.
#[test]
fn nan_is_rejected_before_an_engine_sees_it() {
    let values = vec![0.5, f32::NAN];
    let error = Embeddings::from_parts(values, 2, Labels::unknown(1)).expect_err("NaN");
    assert_eq!(
        error.to_string(),
        "embedding value at row 0, column 1 is NaN, expected a finite number"
    );
}

/// More threads than cores search at once, and each finds what one thread finds.
#[test]
fn many_threads_search_at_once() {
    let count = 4_000;
    let (queries, all) = (embeddings(20, "query"), GalleryFilter::default());
    let filter = all.clone().except_cameras([Camera::new(1)]);
    for mut engine in engines(Metric::Cosine) {
        enrol(&mut *engine, count);
        let search = |filter: &GalleryFilter| {
            let found = engine.nearest_entries(&model(), &queries, filter, 10);
            found.expect("of the model")
        };
        let expected = [search(&all), search(&filter)];
        std::thread::scope(|scope| {
            for thread in 0..24 {
                let (filter, expected) = ([&all, &filter][thread % 2], &expected[thread % 2]);
                scope.spawn(move || assert_eq!(search(filter), *expected, "thread {thread}"));
            }
        });
    }
}
