//! Gallery: the embeddings of known identities, kept in a file, and decisions about who a query shows. Needs the
//! feature `files`.

mod decision;
mod engine;
mod entry;
mod error;
mod filter;
mod prepared;

use std::collections::BTreeSet;

use half::f16;
use reid_core::Identity;
use serde::{Deserialize, Serialize};

pub use decision::{Decision, GalleryMatch};
pub use engine::SearchEngine;
pub use entry::{GalleryEntry, ModelFingerprint};
pub use error::GalleryError;
pub use filter::GalleryFilter;
use prepared::Prepared;

use crate::{Embeddings, Metric, Threshold, distance::Side};

/// The settings of a [`Gallery`], which has an example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct GalleryConfig {
    /// The distance between embeddings. Default: cosine.
    pub metric: Metric,
    /// How the distances to several entries of an identity become one. Default: the nearest.
    pub combination: EntryCombination,
    /// The precision in which embeddings are stored. Default: single.
    pub storage: GalleryStorage,
}

/// How the distances of a query to several entries of an identity become one distance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EntryCombination {
    /// The distance to the nearest entry.
    #[default]
    Nearest,
    /// The mean of the distances.
    Mean,
}

/// The precision in which a gallery stores embeddings. Distances are always computed in single precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GalleryStorage {
    /// Single precision: 4 bytes per value.
    #[default]
    Single,
    /// IEEE half precision: 2 bytes per value in the file, and a relative rounding error of at most 2⁻¹¹.
    ///
    /// Values are rounded when they are enrolled, so that saving and opening changes no distance. For the
    /// cosine distance, embeddings are normalised first; for the Euclidean distance, values are at most
    /// 65504.
    Half,
}

impl GalleryConfig {
    /// Sets the distance between embeddings.
    #[must_use]
    pub fn with_metric(self, metric: Metric) -> Self {
        Self { metric, ..self }
    }

    /// Sets how the distances to several entries of an identity become one.
    #[must_use]
    pub fn with_combination(self, combination: EntryCombination) -> Self {
        Self {
            combination,
            ..self
        }
    }

    /// Sets the precision in which embeddings are stored.
    #[must_use]
    pub fn with_storage(self, storage: GalleryStorage) -> Self {
        Self { storage, ..self }
    }
}

/// Known identities with the embeddings of their images or tracks, all from one model.
///
/// An identity has one or more entries. The distance of a query `q` to an identity with the entries `eᵢ` that
/// the [`GalleryFilter`] accepts is
///
/// ```text
/// nearest   d(q, identity) = min over i of d(q, eᵢ)
/// mean      d(q, identity) = 1/n · Σᵢ d(q, eᵢ)
/// ```
///
/// The search is exact. The distances `d(q, eᵢ)` are bit-identical to those of an [`Index`](crate::Index) of the
/// stored embeddings. Every call names the model of its embeddings, and embeddings of another model or
/// of another number of dimensions are rejected.
///
/// A gallery is one file ([`save`](Self::save), [`open`](Self::open)), which is read into memory as a whole.
///
/// ```
/// use reid_core::{Camera, Identity};
/// use reid_eval::{
///     Distances, Embeddings, Metric, Protocol, Resampling, RetrievalTask, Threshold,
///     gallery::{Decision, Gallery, GalleryConfig, GalleryEntry, GalleryFilter, ModelFingerprint},
/// };
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("people.gallery");
/// let of = |values: &[f32], ids: &[i64]| {
///     Embeddings::new(values.to_vec(), 2, ids.iter().copied().map(Identity::new).collect())
/// };
/// // The threshold comes from labelled images of other people: at most 1 % of the pairs of two people pass.
/// let (one, other) = (of(&[1.0, 0.0, 0.0, 1.0], &[8, 9])?, of(&[1.0, 0.2, 0.1, 1.0], &[8, 9])?);
/// let distances = Distances::between(&one, &other, Metric::Cosine)?;
/// let task = RetrievalTask::new(&distances, one.labels(), other.labels())
///     .with_protocol(&Protocol::NoCameras);
/// let threshold = Threshold::calibrate(&task, 0.01, &Resampling::default())?;
///
/// let model = ModelFingerprint::new("strong baseline of May");
/// let mut gallery = Gallery::new(model.clone(), GalleryConfig::default()).with_threshold(threshold);
/// let anna = GalleryEntry::new(Identity::new(1)).with_camera(Camera::new(3)).with_time(1_700_000_000);
/// gallery.enrol(&model, &of(&[0.6, 0.8], &[-2])?, &[anna])?;
/// gallery.save(&path)?;
///
/// let gallery = Gallery::open(&path, &model)?;
/// let queries = of(&[0.6, 0.7, 0.5, -0.9], &[-2, -2])?;
/// let decisions = gallery.decide(&model, &queries, &GalleryFilter::default())?;
/// assert_eq!(decisions[0].identity(), Some(Identity::new(1)));
/// assert!(matches!(decisions[1], Decision::Unknown { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Gallery {
    pub(crate) model: ModelFingerprint,
    pub(crate) config: GalleryConfig,
    pub(crate) threshold: Option<Threshold>,
    pub(crate) entries: Vec<GalleryEntry>,
    /// The embeddings, from the first enrolment on: one per entry.
    pub(crate) side: Option<Side<'static>>,
    prepared: Prepared,
}

impl Gallery {
    /// Creates a gallery without entries, for the embeddings of one model.
    #[must_use]
    pub fn new(model: ModelFingerprint, config: GalleryConfig) -> Self {
        Self {
            model,
            config,
            threshold: None,
            entries: Vec::new(),
            side: None,
            prepared: Prepared::default(),
        }
    }

    /// Creates a gallery from entries and their embeddings, as many as there are entries.
    pub(crate) fn from_parts(
        model: ModelFingerprint,
        config: GalleryConfig,
        entries: Vec<GalleryEntry>,
        side: Option<Side<'static>>,
    ) -> Self {
        Self {
            entries,
            side,
            ..Self::new(model, config)
        }
    }

    /// Sets the threshold of decisions, which must be calibrated with the metric and the model of the
    /// gallery.
    #[must_use]
    pub fn with_threshold(self, threshold: Threshold) -> Self {
        Self {
            threshold: Some(threshold),
            ..self
        }
    }

    /// The model whose embeddings the gallery has.
    #[must_use]
    pub fn model(&self) -> &ModelFingerprint {
        &self.model
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> GalleryConfig {
        self.config
    }

    /// The threshold of decisions, if it is set.
    #[must_use]
    pub fn threshold(&self) -> Option<&Threshold> {
        self.threshold.as_ref()
    }

    /// The number of dimensions of the embeddings, from the first enrolment on.
    #[must_use]
    pub fn dimensions(&self) -> Option<usize> {
        self.side.as_ref().map(Side::dimensions)
    }

    /// The entries, in the order of their enrolment.
    #[must_use]
    pub fn entries(&self) -> &[GalleryEntry] {
        &self.entries
    }

    /// The stored embedding of the entry with this index, from 0: `[dimensions]`.
    ///
    /// # Panics
    /// If the index is out of range.
    #[must_use]
    pub fn embedding(&self, entry: usize) -> &[f32] {
        let entries = self.entries.len();
        let side = self.side.as_ref().filter(|_| entry < entries);
        side.unwrap_or_else(|| panic!("entry index {entry} is out of range for {entries} entries"))
            .vector(entry)
    }

    /// The enrolled identities.
    #[must_use]
    pub fn identities(&self) -> BTreeSet<Identity> {
        self.entries.iter().map(|entry| entry.identity).collect()
    }

    /// Adds entries: one per row of the embeddings. An identity that the gallery has gets further entries.
    ///
    /// # Errors
    /// - [`GalleryError::Model`] or [`GalleryError::Dimensions`] if the embeddings are not of the model.
    /// - [`GalleryError::Entries`] if the numbers of entries and embeddings differ.
    /// - [`GalleryError::Identity`] if an identity is junk (-1), unknown (-2) or that of distractors (0).
    /// - [`GalleryError::Label`] if a time or a track number is not below 2⁶³.
    /// - [`GalleryError::HalfPrecision`] if a value is too large for half precision.
    ///
    /// The gallery is then unchanged.
    pub fn enrol(
        &mut self,
        model: &ModelFingerprint,
        embeddings: &Embeddings,
        entries: &[GalleryEntry],
    ) -> Result<(), GalleryError> {
        let side = self.prepare(model, embeddings, entries)?;
        self.append(side, entries);
        Ok(())
    }

    /// Replaces all entries of an enrolled identity by others.
    ///
    /// # Errors
    /// As [`enrol`](Self::enrol), and if the identity is not enrolled, if an entry has another identity, or
    /// if there are no entries. The gallery is then unchanged.
    pub fn update(
        &mut self,
        model: &ModelFingerprint,
        identity: Identity,
        embeddings: &Embeddings,
        entries: &[GalleryEntry],
    ) -> Result<(), GalleryError> {
        if !self.entries.iter().any(|entry| entry.identity == identity) {
            return Err(GalleryError::NotEnrolled { identity });
        }
        let other = entries.iter().position(|entry| entry.identity != identity);
        if entries.is_empty() || other.is_some() {
            return Err(GalleryError::Update {
                identity,
                other: other.map(|row| (row, entries[row].identity)),
            });
        }
        let side = self.prepare(model, embeddings, entries)?;
        self.forget(identity);
        self.append(side, entries);
        Ok(())
    }

    /// Removes all entries of an identity, and returns their number: 0 if the identity is not enrolled.
    pub fn forget(&mut self, identity: Identity) -> usize {
        self.forget_if(|entry| entry.identity == identity)
    }

    /// Removes the entries for which `condition` is true, such as all before a time, and returns their
    /// number.
    pub fn forget_if(&mut self, condition: impl FnMut(&GalleryEntry) -> bool) -> usize {
        let removed: Vec<bool> = self.entries.iter().map(condition).collect();
        let mut kept = removed.iter().map(|removed| !removed);
        self.entries.retain(|_| kept.next().unwrap_or(true));
        if let Some(side) = &mut self.side {
            side.remove(&removed);
        }
        self.prepared.remove(&removed);
        removed.iter().filter(|removed| **removed).count()
    }

    /// Checks embeddings and entries, and returns the embeddings as they are stored.
    fn prepare(
        &self,
        model: &ModelFingerprint,
        embeddings: &Embeddings,
        entries: &[GalleryEntry],
    ) -> Result<Side<'static>, GalleryError> {
        self.check_entries(model, embeddings, entries)?;
        let stored = match self.config.storage {
            GalleryStorage::Single => return Ok(Side::new(embeddings, self.config.metric).owned()),
            GalleryStorage::Half => halved(embeddings, self.config.metric)?,
        };
        Ok(Side::new(&stored, self.config.metric).owned())
    }

    fn append(&mut self, side: Side<'static>, entries: &[GalleryEntry]) {
        self.prepared.append(entries, &side);
        self.entries.extend(
            entries
                .iter()
                .cloned()
                .map(GalleryEntry::without_empty_path),
        );
        match &mut self.side {
            Some(all) => all.append(&side),
            None => self.side = Some(side),
        }
    }
}

/// Rounds embeddings to half precision, after normalising them for the cosine distance.
fn halved(embeddings: &Embeddings, metric: Metric) -> Result<Embeddings, GalleryError> {
    let dimensions = embeddings.dimensions();
    let mut values = Vec::with_capacity(embeddings.values().len());
    for (row, vector) in embeddings.values().chunks_exact(dimensions).enumerate() {
        let squares: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
        let scale = match metric {
            Metric::Cosine if squares > 0.0 => 1.0 / squares.sqrt(),
            _ => 1.0,
        };
        for (column, value) in vector.iter().enumerate() {
            let rounded = f16::from_f64(f64::from(*value) * scale);
            if !rounded.is_finite() {
                return Err(GalleryError::HalfPrecision {
                    row,
                    column,
                    value: *value,
                });
            }
            values.push(rounded.to_f32());
        }
    }
    Ok(embeddings.with_values(values, dimensions)?)
}
