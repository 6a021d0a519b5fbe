//! Search engines: one interface to the exact search of a gallery and to indexes of other programs.

use std::{collections::HashSet, fmt::Debug};

use super::{Gallery, GalleryEntry, GalleryError, GalleryFilter, GalleryMatch, ModelFingerprint};
use crate::{Embeddings, Metric};

/// Entries with embeddings of one model, of which the nearest to a query are found.
///
/// [`Gallery`] finds exactly the nearest. The engines of the crate `reid-engines` find them with an index, which is
/// faster in a large gallery and may miss some. A function that takes a `&dyn SearchEngine` runs with each of
/// them.
///
/// An implementation of [`enrol`](Self::enrol) calls [`check_entries`](Self::check_entries) first, and one of
/// [`nearest_entries`](Self::nearest_entries) calls [`check_model`](Self::check_model) first.
///
/// ```
/// use reid_core::Identity;
/// use reid_eval::{
///     Embeddings, Labels,
///     gallery::{Gallery, GalleryConfig, GalleryEntry, GalleryFilter, ModelFingerprint, SearchEngine},
/// };
///
/// let model = ModelFingerprint::new("strong baseline of May");
/// let mut engine: Box<dyn SearchEngine> =
///     Box::new(Gallery::new(model.clone(), GalleryConfig::default()));
/// let of = |values: &[f32]| {
///     Embeddings::from_parts(values.to_vec(), 2, Labels::unknown(values.len() / 2))
/// };
/// let entries = [7, 7, 8].map(|identity| GalleryEntry::new(Identity::new(identity)));
/// engine.enrol(&model, &of(&[1.0, 0.0, 0.9, 0.1, 0.0, 1.0])?, &entries)?;
///
/// let (query, all) = (of(&[1.0, 0.01])?, GalleryFilter::default());
/// let entries = engine.nearest_entries(&model, &query, &all, 2)?;
/// assert_eq!(entries[0].iter().map(|found| found.entry).collect::<Vec<_>>(), [0, 1]);
/// let identities = engine.search(&model, &query, &all, 2)?;
/// assert_eq!(identities[0].iter().map(|found| found.entry).collect::<Vec<_>>(), [0, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait SearchEngine: Debug + Send + Sync {
    /// The model whose embeddings the engine has.
    fn model(&self) -> &ModelFingerprint;

    /// The distance between embeddings.
    fn metric(&self) -> Metric;

    /// The number of dimensions of the embeddings, once it is known.
    fn dimensions(&self) -> Option<usize>;

    /// The number of entries.
    fn entry_count(&self) -> usize;

    /// Adds entries: one per row of the embeddings. They get the next indices.
    ///
    /// # Errors
    /// Those of [`check_entries`](Self::check_entries); the engine is then unchanged. [`GalleryError::Engine`] or
    /// [`GalleryError::File`] if the engine fails; it may then have some of the entries.
    fn enrol(
        &mut self,
        model: &ModelFingerprint,
        embeddings: &Embeddings,
        entries: &[GalleryEntry],
    ) -> Result<(), GalleryError>;

    /// Finds the `k` nearest of the entries that the filter accepts, nearest first, for each query; all of them
    /// if there are fewer. An engine with an approximate index may miss some of the nearest.
    ///
    /// # Errors
    /// Those of [`check_model`](Self::check_model), and [`GalleryError::Engine`] if the engine fails.
    fn nearest_entries(
        &self,
        model: &ModelFingerprint,
        queries: &Embeddings,
        filter: &GalleryFilter,
        k: usize,
    ) -> Result<Vec<Vec<GalleryMatch>>, GalleryError>;

    /// Finds the `k` nearest identities of each query, nearest first, or all if there are fewer. The distance to
    /// an identity is that to its nearest entry; a [`Gallery`] combines distances as it is configured.
    ///
    /// By default, searches for the nearest entries, and for twice as many until they are of `k` identities.
    ///
    /// # Errors
    /// As [`nearest_entries`](Self::nearest_entries).
    fn search(
        &self,
        model: &ModelFingerprint,
        queries: &Embeddings,
        filter: &GalleryFilter,
        k: usize,
    ) -> Result<Vec<Vec<GalleryMatch>>, GalleryError> {
        self.check_model(model, queries)?;
        let mut results = Vec::with_capacity(queries.len());
        for query in 0..queries.len() {
            let query = queries.select(&[query]);
            let mut count = k;
            results.push(loop {
                let found = self.nearest_entries(model, &query, filter, count)?;
                let found: Vec<GalleryMatch> = found.into_iter().flatten().collect();
                let complete = found.len() < count || count >= self.entry_count();
                let mut identities = nearest_of_each_identity(found);
                if complete || identities.len() >= k {
                    identities.truncate(k);
                    break identities;
                }
                count = count.saturating_mul(2);
            });
        }
        Ok(results)
    }

    /// Checks that embeddings are of the engine's model.
    ///
    /// # Errors
    /// [`GalleryError::Model`] or [`GalleryError::Dimensions`] if they are not.
    fn check_model(
        &self,
        model: &ModelFingerprint,
        embeddings: &Embeddings,
    ) -> Result<(), GalleryError> {
        if model != self.model() {
            return Err(GalleryError::Model {
                gallery: self.model().clone(),
                found: model.clone(),
            });
        }
        match self.dimensions() {
            Some(expected) if expected != embeddings.dimensions() => {
                Err(GalleryError::Dimensions {
                    model: model.clone(),
                    expected,
                    found: embeddings.dimensions(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Checks that entries and their embeddings can be enrolled.
    ///
    /// # Errors
    /// - Those of [`check_model`](Self::check_model).
    /// - [`GalleryError::Entries`] if the numbers of entries and embeddings differ.
    /// - [`GalleryError::Identity`] if an identity is junk (-1), unknown (-2) or that of distractors (0).
    /// - [`GalleryError::Label`] if a time or a track number is not below 2⁶³.
    /// - [`GalleryError::Path`] if a path is not Unicode.
    fn check_entries(
        &self,
        model: &ModelFingerprint,
        embeddings: &Embeddings,
        entries: &[GalleryEntry],
    ) -> Result<(), GalleryError> {
        self.check_model(model, embeddings)?;
        if entries.len() != embeddings.len() {
            return Err(GalleryError::Entries {
                expected: embeddings.len(),
                found: entries.len(),
            });
        }
        let mut rows = entries.iter().enumerate();
        rows.try_for_each(|(row, entry)| entry.check(row))
    }
}

/// Keeps the nearest entry of each identity. Identities at equal distances are in ascending order.
fn nearest_of_each_identity(mut found: Vec<GalleryMatch>) -> Vec<GalleryMatch> {
    found.sort_by(|one, other| {
        let by_distance = one.distance.total_cmp(&other.distance);
        by_distance.then(one.identity.cmp(&other.identity))
    });
    let mut seen = HashSet::new();
    found.retain(|found| seen.insert(found.identity));
    found
}

/// The exact search.
impl SearchEngine for Gallery {
    fn model(&self) -> &ModelFingerprint {
        &self.model
    }

    fn metric(&self) -> Metric {
        self.config.metric
    }

    fn dimensions(&self) -> Option<usize> {
        self.dimensions()
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
        self.enrol(model, embeddings, entries)
    }

    fn nearest_entries(
        &self,
        model: &ModelFingerprint,
        queries: &Embeddings,
        filter: &GalleryFilter,
        k: usize,
    ) -> Result<Vec<Vec<GalleryMatch>>, GalleryError> {
        self.nearest_entries(model, queries, filter, k)
    }

    fn search(
        &self,
        model: &ModelFingerprint,
        queries: &Embeddings,
        filter: &GalleryFilter,
        k: usize,
    ) -> Result<Vec<Vec<GalleryMatch>>, GalleryError> {
        self.search(model, queries, filter, k)
    }
}
