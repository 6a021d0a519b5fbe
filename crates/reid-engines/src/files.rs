//! The file beside an index: a description in JSON.

use std::{io, path::Path};

use reid_core::write_atomic;
use reid_eval::{
    files::FileError,
    gallery::{GalleryError, ModelFingerprint},
};
use serde::{Serialize, de::DeserializeOwned};

/// Adds the path of a file to an error of the operating system.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> GalleryError {
    let path = path.to_owned();
    move |source| FileError::Io { path, source }.into()
}

/// An error in the content of a file.
pub(crate) fn content(path: &Path, reason: impl ToString) -> GalleryError {
    FileError::Content {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
    .into()
}

/// Writes a value as JSON, atomically.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), GalleryError> {
    let json = serde_json::to_vec(value).map_err(|error| content(path, error))?;
    write_atomic(path, json).map_err(at(path))
}

/// Reads a value from JSON.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, GalleryError> {
    let json = std::fs::read(path).map_err(at(path))?;
    serde_json::from_slice(&json).map_err(|error| content(path, error))
}

/// Checks the version and the model of a description that was read.
pub(crate) fn check_description(
    path: &Path,
    version: [u32; 2],
    expected: &ModelFingerprint,
    found: &ModelFingerprint,
) -> Result<(), GalleryError> {
    let [expected_version, found_version] = version;
    if expected_version != found_version {
        let reason = format!("expected version {expected_version}, found {found_version}");
        return Err(content(path, reason));
    }
    if expected == found {
        return Ok(());
    }
    Err(GalleryError::FileModel {
        path: path.to_owned(),
        expected: expected.clone(),
        found: found.clone(),
    })
}
