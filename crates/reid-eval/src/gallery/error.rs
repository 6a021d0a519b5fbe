//! The errors of a gallery.

use std::{fmt, path::PathBuf};

use reid_core::Identity;

use super::ModelFingerprint;
use crate::{Error, files::FileError};

/// An error of enrolling, searching, saving or opening a gallery.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum GalleryError {
    /// Embeddings come from another model than those of the gallery.
    #[error(
        "the gallery has embeddings of the model `{gallery}`, found embeddings of the model `{found}`"
    )]
    Model {
        /// The model of the gallery.
        gallery: ModelFingerprint,
        /// The model of the embeddings.
        found: ModelFingerprint,
    },
    /// A gallery file was made by another model than expected.
    #[error(
        "{}: expected a gallery of the model `{expected}`, found one of the model `{found}`",
        path.display()
    )]
    FileModel {
        /// The file.
        path: PathBuf,
        /// The expected model.
        expected: ModelFingerprint,
        /// The model of the gallery.
        found: ModelFingerprint,
    },
    /// Embeddings have another number of dimensions than those of the gallery.
    #[error(
        "the gallery of the model `{model}` has {expected} dimensions, found embeddings of {found}"
    )]
    Dimensions {
        /// The model that both are said to come from.
        model: ModelFingerprint,
        /// The dimensions of the gallery.
        expected: usize,
        /// The dimensions of the embeddings.
        found: usize,
    },
    /// The number of entries differs from the number of embeddings.
    #[error("expected {expected} gallery entries, one per embedding, found {found}")]
    Entries {
        /// Number of embeddings.
        expected: usize,
        /// Number of entries.
        found: usize,
    },
    /// An identity cannot be enrolled.
    #[error(
        "entry {row} (from 0): expected the identity of one person, vehicle or object, found {identity}: \
         0 stands for distractors, -1 for junk and -2 for unknown"
    )]
    Identity {
        /// Index of the entry, from 0.
        row: usize,
        /// The identity.
        identity: Identity,
    },
    /// A time or a track number cannot be saved.
    #[error("entry {row} (from 0): expected a {label} below 2^63, found {value}")]
    Label {
        /// Index of the entry, from 0.
        row: usize,
        /// The kind of label.
        label: &'static str,
        /// The value.
        value: u64,
    },
    /// A path cannot be saved.
    #[error("entry {row} (from 0): expected a Unicode path, found {}", path.display())]
    Path {
        /// Index of the entry, from 0.
        row: usize,
        /// The path.
        path: PathBuf,
    },
    /// A value cannot be stored in half precision.
    #[error(
        "embedding value at row {row}, column {column} is {value}, expected at most 65504 in half precision: \
         use `GalleryStorage::Single`"
    )]
    HalfPrecision {
        /// Row: the index of the entry.
        row: usize,
        /// Column: the index of the dimension.
        column: usize,
        /// The value.
        value: f32,
    },
    /// An identity is to be updated that is not enrolled.
    #[error("identity {identity} is not enrolled: use `Gallery::enrol`")]
    NotEnrolled {
        /// The identity.
        identity: Identity,
    },
    /// An update has no entries, or entries of another identity.
    #[error(
        "an update of identity {identity} needs at least 1 entry, all of this identity, {}",
        found(*other)
    )]
    Update {
        /// The identity to update.
        identity: Identity,
        /// The index and the identity of the first entry of another one; `None` if there are no entries.
        other: Option<(usize, Identity)>,
    },
    /// A decision needs a threshold.
    #[error(
        "the gallery has no threshold: calibrate one with `Threshold::calibrate` and set it with \
         `Gallery::with_threshold`"
    )]
    NoThreshold,
    /// A [`SearchEngine`](super::SearchEngine) of another program failed.
    #[error("{engine}: {reason}")]
    Engine {
        /// The name of the engine.
        engine: &'static str,
        /// The message of the engine, or what was expected and found.
        reason: String,
    },
    /// Distances cannot be computed.
    #[error(transparent)]
    Evaluation(#[from] Error),
    /// A gallery file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Formats what was found instead of entries of one identity.
fn found(other: Option<(usize, Identity)>) -> String {
    match other {
        None => "found no entries".to_owned(),
        Some((row, identity)) => format!("found identity {identity} at entry {row} (from 0)"),
    }
}

/// Formats the message and its causes like [`reid_core::debug_error`].
impl fmt::Debug for GalleryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}
