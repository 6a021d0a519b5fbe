//! Error: why a set cannot be drawn or written.

use std::{fmt, io, path::PathBuf};

/// Why a set cannot be drawn or written. Every message names the file or the setting, what was expected
/// and what was found, and includes the message of its cause. `Debug` is the same message, as [`reid_core::debug_error`] writes it.
///
/// ```
/// use reid_synthetic::{Error, SyntheticConfig};
///
/// let folder = tempfile::tempdir()?;
/// let error = SyntheticConfig::new().with_cameras(1).write(folder.path()).expect_err("too few");
/// assert!(matches!(error, Error::Setting { .. }));
/// assert_eq!(error.to_string(), "cannot draw: expected cameras in 2..=9, found `1`");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A picture cannot be encoded.
    #[error("{}: {source}", path.display())]
    Image {
        /// The image file.
        path: PathBuf,
        /// What the codec says.
        source: image::ImageError,
    },
    /// A setting is outside its range.
    #[error("cannot draw: expected {expected}, found `{found}`")]
    Setting {
        /// The setting and its range.
        expected: String,
        /// Its value.
        found: String,
    },
    /// The folder holds another set.
    #[error("{}: expected `{expected}`, or another folder, found `{found}`", path.display())]
    OtherSet {
        /// The record of the set.
        path: PathBuf,
        /// What it should say.
        expected: String,
        /// What it says.
        found: String,
    },
    /// The folder holds files that are no set.
    #[error("{}: expected an empty folder or one with {record}, found `{found}`", path.display())]
    OtherFiles {
        /// The folder.
        path: PathBuf,
        /// The name of the record that a set has.
        record: &'static str,
        /// One of the files.
        found: String,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}
