//! Files: embeddings with labels, from safetensors and from `NumPy`.
//!
//! One vector per image and its labels, for queries and gallery:
//!
//! ```text
//! query.features [q, d]   query.ids [q]     query.cameras [q]     query.images [q]
//! gallery.features [g, d] gallery.ids [g]   gallery.cameras [g]   gallery.images [g]
//! ```
//!
//! Features are `f32` or `f64`, labels `i64` or `i32`. Cameras and images may be missing. Identity -1 is
//! junk, 0 a distractor; the same image number on both sides is the same image.

mod numpy;
mod tensors;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use reid_core::{Camera, Identity};

use crate::Embeddings;
use numpy::{Archive, Folder};
use tensors::{Safetensors, Tensors};

/// Embeddings that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The file does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
}

/// Reads queries and gallery: a `.safetensors` file, an `.npz` archive, or a folder with one `.npy` file
/// for each key, such as `query.features.npy`.
///
/// # Errors
/// If the file cannot be read, is cut off, or misses a key, or if a key has another type or shape than
/// expected: the file, the key, and what was found are named.
///
/// ```no_run
/// use reid_eval::{EvaluationConfig, evaluate, files};
///
/// let [query, gallery] = files::read("embeddings.npz")?;
/// println!("{}", evaluate(&query, &gallery, &EvaluationConfig::default())?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(path: impl AsRef<Path>) -> Result<[Embeddings; 2], FileError> {
    let path = path.as_ref();
    let io = |source| FileError::Io {
        path: path.to_owned(),
        source,
    };
    let content = |reason| FileError::Content {
        path: path.to_owned(),
        reason,
    };
    if fs::metadata(path).map_err(io)?.is_dir() {
        return both(&Folder(path)).map_err(content);
    }
    let extension = path.extension().and_then(|extension| extension.to_str());
    let parse = match extension {
        Some("safetensors") => safetensors,
        Some("npz") => npz,
        _ => {
            let expected = "a `.safetensors` file, an `.npz` archive or a folder of `.npy` files";
            let found = extension.map_or_else(
                || "a name without an extension".to_owned(),
                |extension| format!("`.{extension}`"),
            );
            return Err(content(format!("expected {expected}, found {found}")));
        }
    };
    parse(&fs::read(path).map_err(io)?).map_err(content)
}

/// Queries and gallery from the bytes of a safetensors file.
///
/// # Errors
/// As [`read`], without the name of the file.
pub fn safetensors(bytes: &[u8]) -> Result<[Embeddings; 2], String> {
    both(&Safetensors::new(bytes)?)
}

/// Queries and gallery from the bytes of a `NumPy` archive.
///
/// # Errors
/// As [`read`], without the name of the file.
pub fn npz(bytes: &[u8]) -> Result<[Embeddings; 2], String> {
    both(&Archive::new(bytes)?)
}

fn both(tensors: &impl Tensors) -> Result<[Embeddings; 2], String> {
    Ok([side(tensors, "query")?, side(tensors, "gallery")?])
}

/// One side: `query` or `gallery`.
fn side(tensors: &impl Tensors, name: &str) -> Result<Embeddings, String> {
    let key = |part: &str| format!("{name}.{part}");
    let features = key("features");
    let (shape, values) = tensors.floats(&features)?;
    let &[rows, dimensions] = shape.as_slice() else {
        return Err(format!(
            "`{features}`: expected the shape [images, dimensions], found {shape:?}"
        ));
    };
    let labels = |part: &str| -> Result<Option<Vec<i64>>, String> {
        let key = key(part);
        if !tensors.keys().contains(&key) {
            return Ok(None);
        }
        let (shape, labels) = tensors.integers(&key)?;
        if shape != [rows] {
            return Err(format!(
                "`{key}`: expected the shape [{rows}], one per row of features, found {shape:?}"
            ));
        }
        Ok(Some(labels))
    };
    let Some(identities) = labels("ids")? else {
        return Err(tensors.missing(&key("ids")));
    };
    let identities = identities.into_iter().map(Identity::new).collect();
    let mut side = Embeddings::new(values, dimensions, identities)
        .map_err(|error| format!("`{features}`: {error}"))?;
    if let Some(cameras) = labels("cameras")? {
        let cameras = unsigned(&key("cameras"), cameras)?;
        side = side
            .with_cameras(cameras.into_iter().map(Camera::new).collect())
            .map_err(|error| error.to_string())?;
    }
    if let Some(images) = labels("images")? {
        side = side
            .with_images(unsigned(&key("images"), images)?)
            .map_err(|error| error.to_string())?;
    }
    Ok(side)
}

/// Labels that cannot be negative.
fn unsigned<T: TryFrom<i64>>(key: &str, labels: Vec<i64>) -> Result<Vec<T>, String> {
    let convert = |(row, label): (usize, i64)| {
        T::try_from(label).map_err(|_| {
            let bits = 8 * size_of::<T>();
            format!(
                "`{key}`: expected a number of 0 or more in {bits} bits at row {row}, found {label}"
            )
        })
    };
    labels.into_iter().enumerate().map(convert).collect()
}
