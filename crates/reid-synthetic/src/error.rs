//! The error type of this crate.

use std::{fmt, io, path::PathBuf};

/// A dataset cannot be drawn or written.
///
/// Every message names the file or the setting, what was expected and what was found, and includes the
/// message of its cause. `Debug` prints the same message ([`reid_core::debug_error`]).
///
/// ```
/// use reid_synthetic::{Error, SyntheticConfig};
///
/// let folder = tempfile::tempdir()?;
/// let error = SyntheticConfig::new().with_cameras(1).write(folder.path()).expect_err("too few");
/// assert!(matches!(error, Error::Setting { .. }));
/// assert_eq!(error.to_string(), "invalid setting: expected cameras in 2..=9, found `1`");
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
        /// The operating system's error.
        source: io::Error,
    },
    /// An image cannot be encoded.
    #[error("{}: {source}", path.display())]
    Image {
        /// The image file.
        path: PathBuf,
        /// The encoder's error.
        source: image::ImageError,
    },
    /// A setting is outside its range.
    #[error("invalid setting: expected {expected}, found `{found}`")]
    Setting {
        /// The setting and its range.
        expected: String,
        /// Its value.
        found: String,
    },
    /// The folder holds another synthetic dataset.
    #[error(
        "{}: the folder holds another dataset: expected `{expected}`, found `{found}`; choose another folder",
        path.display()
    )]
    OtherSet {
        /// The file that records the configuration of the dataset.
        path: PathBuf,
        /// The expected content of the file.
        expected: String,
        /// Its actual content.
        found: String,
    },
    /// The folder holds files that do not belong to a synthetic dataset.
    #[error("{}: expected an empty folder or one with {record}, found `{found}`", path.display())]
    OtherFiles {
        /// The folder.
        path: PathBuf,
        /// The name of the file that records the configuration of a dataset.
        record: &'static str,
        /// One of the files in the folder.
        found: String,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}
