//! Errors of an export.

use std::{fmt, io, path::PathBuf};

/// An error of an export. No file is written or changed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A part of the network has no ONNX form here.
    #[error("{part}: cannot be exported as ONNX: expected {expected}, found {found}")]
    Unsupported {
        /// The path of the part in the network, such as `backbone.after.3`.
        part: String,
        /// What can be exported.
        expected: String,
        /// What the part is.
        found: String,
    },
    /// The file would be larger than protobuf allows.
    #[error("a protobuf file has less than 2147483648 bytes, found a network that needs {bytes}")]
    TooLarge {
        /// The number of bytes that the file would have.
        bytes: usize,
    },
    /// The file cannot be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A run cannot be opened.
    #[error(transparent)]
    Run(#[from] reid_zoo::Error),
}

/// Writes the message and its causes, with [`reid_core::debug_error`].
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}
