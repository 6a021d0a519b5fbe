//! Search engines: the nearest entries equal those of an index, and identities found through entries equal those
//! that a gallery finds.
#![cfg(feature = "files")]

use reid_core::{Camera, Identity};
use reid_eval::{
    Embeddings, Index, Labels, Metric,
    gallery::{
        EntryCombination, Gallery, GalleryConfig, GalleryEntry, GalleryError, GalleryFilter,
        GalleryMatch, ModelFingerprint, SearchEngine,
    },
};

const DIMENSIONS: usize = 7;

fn model() -> ModelFingerprint {
    ModelFingerprint::new("model a")
}

fn embeddings(count: usize, phase: f32) -> Embeddings {
    let values = (0..count * DIMENSIONS).map(|at| {
        let (row, column) = ((at / DIMENSIONS) as f32, (at % DIMENSIONS) as f32);
        (row * 0.37 + phase).sin() * (column * 1.7 + row * 0.011).cos() + 0.1 * column
    });
    let values: Vec<f32> = values.collect();
    Embeddings::from_parts(values, DIMENSIONS, Labels::unknown(count)).expect("whole rows")
}

/// Entries of several per identity, of five cameras; every tenth has no time.
fn entries(count: usize) -> Vec<GalleryEntry> {
    let entry = |row: usize| {
        let identity = Identity::new(1 + i64::try_from(row * 7 % 301).expect("small"));
        let camera = Camera::new(u32::try_from(row % 5).expect("small"));
        let entry = GalleryEntry::new(identity).with_camera(camera);
        if row.is_multiple_of(10) {
            entry
        } else {
            entry.with_time(row as u64)
        }
    };
    (0..count).map(entry).collect()
}

fn gallery(count: usize, config: GalleryConfig) -> Gallery {
    let mut gallery = Gallery::new(model(), config);
    let enrolled = gallery.enrol(&model(), &embeddings(count, 0.0), &entries(count));
    enrolled.expect("valid entries");
    gallery
}

/// A gallery of which only the nearest entries are searched, so that identities are found by the trait.
#[derive(Debug)]
struct Entries(Gallery);

impl SearchEngine for Entries {
    fn model(&self) -> &ModelFingerprint {
        self.0.model()
    }

    fn metric(&self) -> Metric {
        self.0.config().metric
    }

    fn dimensions(&self) -> Option<usize> {
        self.0.dimensions()
    }

    fn entry_count(&self) -> usize {
        self.0.entries().len()
    }

    fn enrol(
        &mut self,
        model: &ModelFingerprint,
        embeddings: &Embeddings,
        entries: &[GalleryEntry],
    ) -> Result<(), GalleryError> {
        self.0.enrol(model, embeddings, entries)
    }

    fn nearest_entries(
        &self,
        model: &ModelFingerprint,
        queries: &Embeddings,
        filter: &GalleryFilter,
        k: usize,
    ) -> Result<Vec<Vec<GalleryMatch>>, GalleryError> {
        self.0.nearest_entries(model, queries, filter, k)
    }
}

fn filters() -> [GalleryFilter; 4] {
    let all = GalleryFilter::default();
    [
        all.clone(),
        all.clone()
            .except_cameras([Camera::new(1)])
            .until_time(4_000),
        all.clone().only_cameras([Camera::new(2), Camera::new(9)]),
        all.only_cameras([]),
    ]
}

/// With few queries in a large gallery, which reads codes first, and with many or in a small one, which do not.
#[test]
fn the_nearest_entries_are_those_of_an_index() {
    for (count, metric) in [(9_000, Metric::Cosine), (60, Metric::Euclidean)] {
        let gallery = gallery(count, GalleryConfig::default().with_metric(metric));
        let (stored, labels) = (embeddings(count, 0.0), entries(count));
        let index = Index::new(&stored, metric).expect("not empty");
        for queries in [1, 8] {
            let queries = embeddings(queries, 0.3);
            let all = index.search(&queries, count).expect("of the model");
            for (filter, k) in filters()
                .iter()
                .flat_map(|filter| [(filter, 0), (filter, 12)])
            {
                let found = gallery.nearest_entries(&model(), &queries, filter, k);
                let found = found.expect("of the model");
                let expected = all.iter().map(|all| {
                    let accepted = all.iter().filter(|one| filter.accepts(&labels[one.index]));
                    let found = accepted.take(k).map(|one| {
                        GalleryMatch::new(labels[one.index].identity, one.distance, one.index)
                    });
                    found.collect::<Vec<_>>()
                });
                assert_eq!(found, expected.collect::<Vec<_>>(), "{count}, {filter:?}");
            }
        }
    }
}

#[test]
fn identities_found_through_entries_are_those_of_a_gallery() {
    let exact = gallery(2_000, GalleryConfig::default());
    let engine: Box<dyn SearchEngine> = Box::new(Entries(exact.clone()));
    let queries = embeddings(5, 0.3);
    for filter in filters() {
        // There are 301 identities, of about six entries each.
        for k in [0, 1, 10, 250, 301, 400] {
            let expected = exact
                .search(&model(), &queries, &filter, k)
                .expect("of the model");
            let found = engine
                .search(&model(), &queries, &filter, k)
                .expect("of the model");
            assert_eq!(found, expected, "{k}, {filter:?}");
        }
    }
}

/// A gallery behind the trait combines distances as it is configured.
#[test]
fn a_gallery_behind_the_trait_is_unchanged() {
    let config = GalleryConfig::default().with_combination(EntryCombination::Mean);
    let exact = gallery(500, config);
    let (queries, all) = (embeddings(3, 0.3), GalleryFilter::default());
    let engine: &dyn SearchEngine = &exact;
    let expected = exact
        .search(&model(), &queries, &all, 9)
        .expect("of the model");
    assert_eq!(
        engine
            .search(&model(), &queries, &all, 9)
            .expect("of the model"),
        expected
    );
    assert_eq!(
        (engine.entry_count(), engine.dimensions()),
        (500, Some(DIMENSIONS))
    );
    assert_eq!(
        (engine.model(), engine.metric()),
        (&model(), Metric::Cosine)
    );
}

#[test]
fn an_empty_engine_finds_nothing_and_checks_the_model() {
    let engine: Box<dyn SearchEngine> =
        Box::new(Entries(Gallery::new(model(), GalleryConfig::default())));
    let (queries, all) = (embeddings(2, 0.0), GalleryFilter::default());
    let found = engine
        .search(&model(), &queries, &all, 3)
        .expect("of the model");
    assert_eq!(found, [vec![], vec![]]);
    let other = ModelFingerprint::new("model b");
    let error = engine
        .search(&other, &queries, &all, 3)
        .expect_err("another model");
    assert_eq!(
        error.to_string(),
        "the gallery has embeddings of the model `model a`, found embeddings of the model `model b`"
    );
    let error = engine
        .check_entries(&model(), &queries, &[])
        .expect_err("no entries");
    assert!(matches!(
        error,
        GalleryError::Entries {
            expected: 2,
            found: 0
        }
    ));
}
