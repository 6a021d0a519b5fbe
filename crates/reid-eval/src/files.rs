//! Files of embeddings with all their labels: safetensors, `NumPy` and Parquet.
//!
//! [`Embeddings::save`] and [`Embeddings::load`] write and read one set of embeddings; [`QueryAndGallery`]
//! writes and reads two sets in one file. The extension selects the format: `.safetensors`, `.npz` or, with
//! the feature `parquet`, `.parquet`. A folder with one `.npy` file per key, such as `features.npy`, can be
//! read but not written. The keys are:
//!
//! ```text
//! features [n, d]  the embeddings                                   f32; f64 is also read, safetensors f16 too
//! ids      [n]     identities: -2 unknown, -1 junk, 0 distractors   i64; i32 is also read
//! cameras  [n]     optional, like all keys below                    i64; i32 is also read
//! images   [n]     image IDs: equal IDs are the same image          i64; i32 is also read
//! tracks   [n]                                                      i64; i32 is also read
//! paths.utf8 [bytes], paths.ends [n]                                u8 and i64
//! attributes.NAME.utf8 [bytes], attributes.NAME.ends [n]            u8 and i64; an empty text means unknown
//! ```
//!
//! `utf8` is the concatenation of all texts, and `ends` holds the end offset of each text in bytes. With two
//! sets in a file, the keys start with `query.` and `gallery.`. In Python:
//!
//! ```text
//! numpy.savez("gallery.npz", features=features, ids=ids, cameras=cameras)
//! ends, utf8 = file["paths.ends"], file["paths.utf8"].tobytes()
//! paths = [utf8[start:end].decode() for start, end in zip([0, *ends], ends)]
//! ```
//!
//! The embeddings of a dataset that is too large for one process are written in [`shards`].
//!
//! Needs the feature `files`.

mod arrays;
mod gallery;
mod npy;
mod numpy;
#[cfg(feature = "parquet")]
mod parquet;
pub mod shards;
mod source;
mod tensors;

use std::{
    fmt::{self, Write},
    fs, io,
    path::{Path, PathBuf},
};

use reid_core::{Split, write_atomic};

use crate::Embeddings;
use numpy::{Archive, Folder};
use shards::Shards;
use tensors::{Safetensors, Tensors};

/// A file of embeddings that cannot be read or written.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The content of the file is not as expected, or the embeddings cannot be written in this format.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
}

/// Formats the message and its causes like [`reid_core::debug_error`].
impl fmt::Debug for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}

/// The file formats, selected by the extension.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Safetensors,
    Numpy,
    Parquet,
}

impl Format {
    fn from_name(path: &Path) -> Result<Self, String> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("npz") => Ok(Self::Numpy),
            Some("parquet") => Ok(Self::Parquet),
            _ => {
                let found = extension.map_or_else(
                    || "a name without an extension".to_owned(),
                    |extension| format!("`.{extension}`"),
                );
                Err(format!(
                    "expected a `.safetensors`, `.npz` or `.parquet` file or a folder of `.npy` files, found \
                     {found}"
                ))
            }
        }
    }
}

impl Embeddings {
    /// Writes the embeddings with all their labels to a `.safetensors`, an `.npz` or, with the feature
    /// `parquet`, a `.parquet` file. The [`files`](crate::files) module lists the keys.
    ///
    /// The data is written to a temporary file in the same folder, which is then renamed. So an existing file
    /// is either replaced by a complete one or, on an error, left unchanged.
    ///
    /// # Errors
    /// If the name has another extension, if a path is not Unicode, if an image ID or a track number is not
    /// below 2^63, or if the file cannot be written. A `.parquet` file also needs at least 1 image, and no
    /// attribute with the name of another column.
    ///
    /// ```
    /// use reid_core::Identity;
    /// use reid_eval::Embeddings;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("gallery.safetensors");
    /// let gallery = Embeddings::new(vec![0.6, 0.8, 1.0, 0.0], 2, [7, 8].map(Identity::new).to_vec())?
    ///     .with_paths(vec!["7.jpg".into(), "8.jpg".into()])?;
    /// gallery.save(&path)?;
    /// assert_eq!(Embeddings::load(&path)?, gallery);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        let path = path.as_ref();
        let bytes = Format::from_name(path).and_then(|format| match format {
            Format::Safetensors => tensors::safetensors(arrays::from_embeddings(self, "")?),
            Format::Numpy => numpy::archive(&arrays::from_embeddings(self, "")?),
            Format::Parquet => write_parquet(self),
        });
        write_atomic(path, bytes.map_err(content(path))?).map_err(at(path))
    }

    /// Reads embeddings with their labels from a `.safetensors`, an `.npz` or, with the feature `parquet`, a
    /// `.parquet` file, or from a folder with one `.npy` file per key.
    ///
    /// # Errors
    /// If the file cannot be read, is truncated or lacks a key, or if an array has an unexpected dtype or
    /// shape. The error names the file, the key, and what was expected and found.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        if is_folder(path)? {
            return arrays::to_embeddings(&Folder(path), "").map_err(content(path));
        }
        let format = Format::from_name(path).map_err(content(path))?;
        if format == Format::Parquet {
            return read_parquet(path);
        }
        let bytes = fs::read(path).map_err(at(path))?;
        let embeddings = match format {
            Format::Safetensors => Self::from_safetensors(&bytes),
            _ => Self::from_npz(&bytes),
        };
        embeddings.map_err(content(path))
    }

    /// Parses embeddings from the bytes of a safetensors file.
    ///
    /// # Errors
    /// The errors of [`load`](Self::load) about the content, without the name of the file.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, String> {
        arrays::to_embeddings(&Safetensors::new(bytes)?, "")
    }

    /// Parses embeddings from the bytes of a `NumPy` archive (`.npz`).
    ///
    /// # Errors
    /// The errors of [`load`](Self::load) about the content, without the name of the file.
    pub fn from_npz(bytes: &[u8]) -> Result<Self, String> {
        arrays::to_embeddings(&Archive::new(bytes)?, "")
    }
}

/// The embeddings of a query set and of a gallery, stored in one file.
///
/// ```
/// use reid_core::{Camera, Identity};
/// use reid_eval::{Embeddings, Protocol, evaluate, files::QueryAndGallery};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("embeddings.npz");
/// let one = |camera| {
///     Embeddings::new(vec![0.6, 0.8], 2, vec![Identity::new(7)])?.with_cameras(vec![Camera::new(camera)])
/// };
/// QueryAndGallery { query: one(1)?, gallery: one(2)? }.save(&path)?;
///
/// let QueryAndGallery { query, gallery } = QueryAndGallery::load(&path)?;
/// assert_eq!(evaluate(&query, &gallery, &Protocol::default())?.rank(1), 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct QueryAndGallery {
    /// The embeddings of the queries.
    pub query: Embeddings,
    /// The embeddings of the gallery.
    pub gallery: Embeddings,
}

impl QueryAndGallery {
    /// Reads query and gallery from a `.safetensors` or an `.npz` file, from a folder with one `.npy` file
    /// per key, such as `query.features.npy`, or from a folder of [`shards`].
    ///
    /// # Errors
    /// The errors of [`Embeddings::load`] and [`Shards::open`], and if the file is a `.parquet` file, which
    /// holds one set.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        if is_folder(path)? {
            if Shards::are_in(path)? {
                let shards = Shards::open(path)?;
                let (query, gallery) = (shards.load(Split::Query)?, shards.load(Split::Gallery)?);
                return Ok(Self { query, gallery });
            }
            return Self::from_tensors(&Folder(path)).map_err(content(path));
        }
        let parse = match Format::from_name(path).map_err(content(path))? {
            Format::Safetensors => Self::from_safetensors,
            Format::Numpy => Self::from_npz,
            Format::Parquet => return Err(content(path)(ONE_SET.to_owned())),
        };
        let bytes = fs::read(path).map_err(at(path))?;
        parse(&bytes).map_err(content(path))
    }

    /// Writes query and gallery to a `.safetensors` or an `.npz` file.
    ///
    /// # Errors
    /// The errors of [`Embeddings::save`], and if the file is a `.parquet` file, which holds one set.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        let path = path.as_ref();
        let arrays = || {
            let query = arrays::from_embeddings(&self.query, "query.")?;
            let gallery = arrays::from_embeddings(&self.gallery, "gallery.")?;
            Ok::<_, String>(query.into_iter().chain(gallery).collect())
        };
        let bytes = Format::from_name(path).and_then(|format| match format {
            Format::Safetensors => tensors::safetensors(arrays()?),
            Format::Numpy => numpy::archive(&arrays()?),
            Format::Parquet => Err(ONE_SET.to_owned()),
        });
        write_atomic(path, bytes.map_err(content(path))?).map_err(at(path))
    }

    /// Parses query and gallery from the bytes of a safetensors file.
    ///
    /// # Errors
    /// The errors of [`load`](Self::load) about the content, without the name of the file.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, String> {
        Self::from_tensors(&Safetensors::new(bytes)?)
    }

    /// Parses query and gallery from the bytes of a `NumPy` archive (`.npz`).
    ///
    /// # Errors
    /// The errors of [`load`](Self::load) about the content, without the name of the file.
    pub fn from_npz(bytes: &[u8]) -> Result<Self, String> {
        Self::from_tensors(&Archive::new(bytes)?)
    }

    fn from_tensors(tensors: &impl Tensors) -> Result<Self, String> {
        Ok(Self {
            query: arrays::to_embeddings(tensors, "query.")?,
            gallery: arrays::to_embeddings(tensors, "gallery.")?,
        })
    }
}

const ONE_SET: &str = "a `.parquet` file holds one set of embeddings: use `Embeddings::load` and \
                       `Embeddings::save` with one file for the query and one for the gallery";

#[cfg(feature = "parquet")]
use parquet::{read as read_parquet, write as write_parquet};

#[cfg(not(feature = "parquet"))]
const NO_PARQUET: &str =
    "`.parquet` files need the Cargo feature `parquet` of `reid-eval` or of `reid`";

#[cfg(not(feature = "parquet"))]
fn write_parquet(_: &Embeddings) -> Result<Vec<u8>, String> {
    Err(NO_PARQUET.to_owned())
}

#[cfg(not(feature = "parquet"))]
fn read_parquet(path: &Path) -> Result<Embeddings, FileError> {
    Err(content(path)(NO_PARQUET.to_owned()))
}

fn is_folder(path: &Path) -> Result<bool, FileError> {
    Ok(fs::metadata(path).map_err(at(path))?.is_dir())
}

/// Adds the path of the file to an I/O error.
fn at(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { path, source }
}

/// Adds the path of the file to an error in its content.
fn content(path: &Path) -> impl FnOnce(String) -> FileError {
    let path = path.to_owned();
    move |reason| FileError::Content { path, reason }
}

/// Writes bytes in hexadecimal digits, as `sha256sum` prints them.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
