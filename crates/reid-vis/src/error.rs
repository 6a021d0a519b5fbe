//! Error: a picture could not be read, drawn or written.

use std::{io, path::PathBuf};

/// A picture could not be read, drawn or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read, or is no picture that is read.
    #[error(transparent)]
    Open(#[from] reid_data::Error),
    /// A picture cannot be expressed in the format that the file's extension asks for.
    #[error("cannot encode a picture of {height}x{width} as {}: {source}", path.display())]
    Encode {
        /// The file asked for.
        path: PathBuf,
        /// Rows of the picture.
        height: u32,
        /// Columns of the picture.
        width: u32,
        /// What the encoder says.
        source: image::ImageError,
    },
    /// A file or its folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}
