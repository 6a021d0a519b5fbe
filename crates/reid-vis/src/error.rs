//! Error: a picture could not be read, drawn or written.

use std::{fmt, io, path::PathBuf};

/// A picture could not be read, drawn or written.
#[derive(thiserror::Error)]
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

/// The message and its causes, as [`reid_core::debug_error`] writes them.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ends_with_an_error_prints_its_message() {
        let error = Error::Write {
            path: "page/index.html".into(),
            source: io::Error::other("disk full"),
        };
        let boxed: Box<dyn std::error::Error> = Box::new(error);
        assert_eq!(
            format!("{boxed:?}"),
            "cannot write page/index.html: disk full"
        );
    }
}
