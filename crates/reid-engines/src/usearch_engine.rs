//! `USearch`: an HNSW graph in memory (Malkov and Yashunin, TPAMI 2020, arXiv:1603.09320), saved as one file.

mod config;
mod stored;

use std::{fmt, thread};

use reid_eval::{
    Embeddings, Labels, Metric,
    gallery::{
        GalleryEntry, GalleryError, GalleryFilter, GalleryMatch, ModelFingerprint, SearchEngine,
    },
};
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

pub use config::UsearchConfig;

use crate::permits::Permits;

/// Entries in an index of `USearch`: approximate search, with the vectors and their graph in memory.
///
/// The graph finds candidates. The distances to them are then computed as those of a
/// [`Gallery`](reid_eval::gallery::Gallery) are, so an entry that both find has bit-identical distances. A search
/// does not use the graph if `m` of `n` entries are accepted by the filter and
///
/// ```text
/// m² ≤ max(expansion_search, k) · n
/// ```
///
/// because comparing all `m` is then faster. Such a search is exact. Otherwise, the graph is searched with the filter
/// as a condition.
///
/// An engine is saved in a folder ([`save`](Self::save), [`open`](Self::open)). The crate's documentation has an
/// example.
pub struct UsearchEngine {
    model: ModelFingerprint,
    config: UsearchConfig,
    entries: Vec<GalleryEntry>,
    /// The index, from the first enrolment on. The key of an embedding is the index of its entry.
    index: Option<Index>,
    /// One for each search that may run at once.
    permits: Permits,
}

impl UsearchEngine {
    /// Creates an engine without entries, for the embeddings of one model.
    ///
    /// # Panics
    /// If a setting is below its least value.
    #[must_use]
    pub fn new(model: ModelFingerprint, config: UsearchConfig) -> Self {
        if let Err(reason) = config.check() {
            panic!("{reason}");
        }
        Self {
            model,
            config,
            entries: Vec::new(),
            index: None,
            permits: Permits::new(searches(&config)),
        }
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> UsearchConfig {
        self.config
    }

    /// The entries, in the order of their enrolment.
    #[must_use]
    pub fn entries(&self) -> &[GalleryEntry] {
        &self.entries
    }

    /// Sets the number of candidates of the next searches; see [`UsearchConfig::expansion_search`].
    ///
    /// # Panics
    /// If the number is 0.
    pub fn set_expansion_search(&mut self, expansion_search: usize) {
        let config = self.config.with_expansion_search(expansion_search);
        if let Err(reason) = config.check() {
            panic!("{reason}");
        }
        self.config = config;
        if let Some(index) = &self.index {
            index.change_expansion_search(expansion_search);
        }
    }

    /// The memory of the vectors and of the graph, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.index.as_ref().map_or(0, Index::memory_usage)
    }

    /// Adds the rows of the embeddings to the index, with the next keys.
    fn add(&self, index: &Index, embeddings: &Embeddings) -> Result<(), GalleryError> {
        let first = self.entries.len();
        let capacity = first + embeddings.len();
        if capacity > index.capacity() {
            // By a half more than before, so that adding single entries does not copy the index each time.
            let capacity = capacity.max(index.capacity() * 3 / 2);
            let reserved = index.reserve_capacity_and_threads(capacity, searches(&self.config));
            reserved.map_err(failed)?;
        }
        let threads = self.config.threads;
        let add = |part: usize| {
            let mut rows = (part..embeddings.len()).step_by(threads);
            rows.try_for_each(|row| index.add((first + row) as u64, embeddings.row(row)))
                .map_err(failed)
        };
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads)
                .map(|part| scope.spawn(move || add(part)))
                .collect();
            let own = add(0);
            let others = others.into_iter().map(|other| match other.join() {
                Ok(added) => added,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            others.fold(own, Result::and)
        })
    }

    /// Finds the nearest of the accepted entries to one query.
    fn nearest(
        &self,
        index: &Index,
        query: &Embeddings,
        accepted: &Accepted,
        k: usize,
    ) -> Result<Vec<GalleryMatch>, GalleryError> {
        let (entries, k) = (self.entries.len(), k.min(accepted.count));
        if k == 0 {
            return Ok(Vec::new());
        }
        let compares_all =
            accepted.count * accepted.count <= self.config.expansion_search.max(k) * entries;
        let mut candidates: Vec<usize> = if compares_all {
            (0..entries)
                .filter(|entry| accepted.contains(*entry))
                .collect()
        } else {
            let _permit = self.permits.acquire();
            let accepts =
                |key: u64| usize::try_from(key).is_ok_and(|entry| accepted.contains(entry));
            let found = match accepted.entries {
                None => index.search(query.row(0), k),
                Some(_) => index.filtered_search(query.row(0), k, accepts),
            };
            let keys = found.map_err(failed)?.keys.into_iter();
            keys.map(|key| usize::try_from(key).map_err(|_| failed(format!("unknown key {key}"))))
                .collect::<Result<_, _>>()?
        };
        // Entries at equal distances are returned in the order of their enrolment.
        candidates.sort_unstable();
        self.ranked(index, query, &candidates, k)
    }

    /// Computes the distances to candidates, which are in ascending order, and returns the `k` nearest.
    fn ranked(
        &self,
        index: &Index,
        query: &Embeddings,
        candidates: &[usize],
        k: usize,
    ) -> Result<Vec<GalleryMatch>, GalleryError> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let dimensions = index.dimensions();
        let mut values = vec![0.0_f32; candidates.len() * dimensions];
        for (entry, vector) in candidates.iter().zip(values.chunks_exact_mut(dimensions)) {
            if index.get(*entry as u64, vector).map_err(failed)? != 1 {
                return Err(failed(format!("no vector of entry {entry}")));
            }
        }
        let labels = Labels::unknown(candidates.len());
        let vectors = Embeddings::from_parts(values, dimensions, labels)?;
        let exact = reid_eval::Index::new(&vectors, self.config.metric)?;
        let found = exact.search(query, k)?.into_iter().flatten();
        let found = found.map(|found| {
            let entry = candidates[found.index];
            GalleryMatch::new(self.entries[entry].identity, found.distance, entry)
        });
        Ok(found.collect())
    }

    /// The entries that a filter accepts.
    fn accepted(&self, filter: &GalleryFilter) -> Accepted {
        if filter.accepts_all() {
            return Accepted {
                entries: None,
                count: self.entries.len(),
            };
        }
        let entries = self.entries.iter().map(|entry| filter.accepts(entry));
        let entries: Vec<bool> = entries.collect();
        Accepted {
            count: entries.iter().filter(|accepted| **accepted).count(),
            entries: Some(entries),
        }
    }
}

impl SearchEngine for UsearchEngine {
    fn model(&self) -> &ModelFingerprint {
        &self.model
    }

    fn metric(&self) -> Metric {
        self.config.metric
    }

    fn dimensions(&self) -> Option<usize> {
        self.index.as_ref().map(Index::dimensions)
    }

    fn entry_count(&self) -> usize {
        self.entries.len()
    }

    fn enrol(
        &mut self,
        model: &ModelFingerprint,
        embeddings: &Embeddings,
        entries: &[GalleryEntry],
    ) -> Result<(), GalleryError> {
        self.check_entries(model, embeddings, entries)?;
        let index = match self.index.take() {
            Some(index) => index,
            None => new_index(&self.config, embeddings.dimensions())?,
        };
        let added = self.add(&index, embeddings);
        if added.is_ok() {
            self.entries.extend(entries.iter().cloned());
        } else {
            // Keys that were added before the error would block the next enrolment.
            let keys = self.entries.len()..self.entries.len() + embeddings.len();
            keys.for_each(|key| drop(index.remove(key as u64)));
        }
        self.index = Some(index);
        added
    }

    fn nearest_entries(
        &self,
        model: &ModelFingerprint,
        queries: &Embeddings,
        filter: &GalleryFilter,
        k: usize,
    ) -> Result<Vec<Vec<GalleryMatch>>, GalleryError> {
        self.check_model(model, queries)?;
        let Some(index) = &self.index else {
            return Ok(vec![Vec::new(); queries.len()]);
        };
        let accepted = self.accepted(filter);
        let queries = (0..queries.len()).map(|query| queries.select(&[query]));
        queries
            .map(|query| self.nearest(index, &query, &accepted, k))
            .collect()
    }
}

impl fmt::Debug for UsearchEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsearchEngine")
            .field("model", &self.model)
            .field("config", &self.config)
            .field("entries", &self.entries.len())
            .field("dimensions", &self.dimensions())
            .finish()
    }
}

/// The entries that a search considers.
struct Accepted {
    /// Whether each entry is accepted; `None` if all are.
    entries: Option<Vec<bool>>,
    /// The number of accepted entries.
    count: usize,
}

impl Accepted {
    fn contains(&self, entry: usize) -> bool {
        let entries = self.entries.as_ref();
        entries.is_none_or(|entries| entries.get(entry).copied().unwrap_or(false))
    }
}

/// Creates an empty index of single-precision vectors.
fn new_index(config: &UsearchConfig, dimensions: usize) -> Result<Index, GalleryError> {
    let options = IndexOptions {
        dimensions,
        metric: match config.metric {
            Metric::Euclidean => MetricKind::L2sq,
            Metric::Cosine => MetricKind::Cos,
            other => return Err(failed(format!("the metric {other} is not supported"))),
        },
        quantization: ScalarKind::F32,
        connectivity: config.connectivity,
        expansion_add: config.expansion_add,
        expansion_search: config.expansion_search,
        multi: false,
    };
    Index::new(&options).map_err(failed)
}

/// The number of searches that run at once: the index has memory for as many.
fn searches(config: &UsearchConfig) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    cores.max(config.threads)
}

fn failed(reason: impl ToString) -> GalleryError {
    GalleryError::Engine {
        engine: "USearch",
        reason: reason.to_string(),
    }
}
