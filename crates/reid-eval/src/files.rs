//! Files: embeddings with all their labels, as safetensors, `NumPy` or Parquet.
//!
//! [`Embeddings::save`] and [`Embeddings::load`] write and read one set, [`QueryAndGallery`] two of them in one
//! file. The extension tells the format: `.safetensors`, `.npz`, with the feature `parquet` also `.parquet`; a
//! folder with one `.npy` file for each key, such as `features.npy`, can be read.
//!
//! ```text
//! features [n, d]  the embeddings                           f32, or f64 when read
//! ids      [n]     identities: -2 unknown, -1 junk, 0 distractors   i64, or i32 when read
//! cameras  [n]     may be missing, as all that follows      i64, or i32 when read
//! images   [n]     the same number is the same image        i64, or i32 when read
//! tracks   [n]                                              i64, or i32 when read
//! paths.utf8 [bytes], paths.ends [n]                        u8 and i64
//! attributes.NAME.utf8 [bytes], attributes.NAME.ends [n]    u8 and i64; an empty text is not known
//! ```
//!
//! Texts stand one behind the other in `utf8`; `ends` says where each of them ends. Keys of two sets in a file
//! begin with `query.` and `gallery.`. In Python:
//!
//! ```text
//! numpy.savez("gallery.npz", features=features, ids=ids, cameras=cameras)
//! ends, utf8 = file["paths.ends"], file["paths.utf8"].tobytes()
//! paths = [utf8[start:end].decode() for start, end in zip([0, *ends], ends)]
//! ```

mod arrays;
mod numpy;
#[cfg(feature = "parquet")]
mod parquet;
mod tensors;

use std::{
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::Embeddings;
use numpy::{Archive, Folder};
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
        /// What happened.
        source: io::Error,
    },
    /// The file does not hold what it should, or cannot hold what is to be written.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
}

/// The message and its causes, as [`reid_core::debug_error`] writes them.
impl fmt::Debug for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}

/// The formats that a name can ask for.
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
    /// `parquet`, a `.parquet` file; [`files`](crate::files) says under which keys.
    ///
    /// The file is written under a temporary name beside it and renamed when it is whole: one that was there
    /// before is replaced, or left as it was if anything fails.
    ///
    /// # Errors
    /// If the name has another extension, if a path is not Unicode, if the number of an image or a track does
    /// not fit 63 bits, or if the file cannot be written.
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
        write_whole(path, &bytes.map_err(content(path))?)
    }

    /// Reads embeddings with their labels: a `.safetensors`, an `.npz` or, with the feature `parquet`, a
    /// `.parquet` file, or a folder with one `.npy` file for each key.
    ///
    /// # Errors
    /// If the file cannot be read, is cut off, or misses a key, or if a key has another type or shape than
    /// expected: the file, the key, and what was found are named.
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

    /// Embeddings from the bytes of a safetensors file.
    ///
    /// # Errors
    /// As [`load`](Self::load), without the name of the file.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, String> {
        arrays::to_embeddings(&Safetensors::new(bytes)?, "")
    }

    /// Embeddings from the bytes of a `NumPy` archive.
    ///
    /// # Errors
    /// As [`load`](Self::load), without the name of the file.
    pub fn from_npz(bytes: &[u8]) -> Result<Self, String> {
        arrays::to_embeddings(&Archive::new(bytes)?, "")
    }
}

/// What is searched for and what is searched in, in one file.
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
    /// What is searched for.
    pub query: Embeddings,
    /// What is searched in.
    pub gallery: Embeddings,
}

impl QueryAndGallery {
    /// Reads query and gallery: a `.safetensors` or an `.npz` file, or a folder with one `.npy` file for each
    /// key, such as `query.features.npy`.
    ///
    /// # Errors
    /// As [`Embeddings::load`], and if the file is a `.parquet` file, which holds one set.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        if is_folder(path)? {
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
    /// As [`Embeddings::save`], and if the file is a `.parquet` file, which holds one set.
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
        write_whole(path, &bytes.map_err(content(path))?)
    }

    /// Query and gallery from the bytes of a safetensors file.
    ///
    /// # Errors
    /// As [`load`](Self::load), without the name of the file.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, String> {
        Self::from_tensors(&Safetensors::new(bytes)?)
    }

    /// Query and gallery from the bytes of a `NumPy` archive.
    ///
    /// # Errors
    /// As [`load`](Self::load), without the name of the file.
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
                       `Embeddings::save` with a file for the query and one for the gallery";

#[cfg(feature = "parquet")]
use parquet::{read as read_parquet, write as write_parquet};

#[cfg(not(feature = "parquet"))]
const NO_PARQUET: &str =
    "`.parquet` files need the Cargo feature `parquet` of `reid-eval` (of `reid` as well)";

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

/// What happened to a file.
fn at(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { path, source }
}

/// What is wrong with the content of a file.
fn content(path: &Path) -> impl FnOnce(String) -> FileError {
    let path = path.to_owned();
    move |reason| FileError::Content { path, reason }
}

/// Writes a file under a temporary name beside it, and renames it when it is whole and on the disk.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let write = || {
        let mut file = fs::File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(|source| {
        // What is left of it helps nobody; that it cannot be removed either is not what went wrong.
        let _ = fs::remove_file(&part);
        at(path)(source)
    })
}
