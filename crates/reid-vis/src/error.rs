//! The error type of this crate.

use std::{fmt, io, path::PathBuf};

use reid_core::Identity;

/// An image or figure could not be read, encoded or written.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image file cannot be read or decoded.
    #[error(transparent)]
    Open(#[from] reid_data::Error),
    /// An image cannot be encoded: the format is unknown, or it cannot hold the image.
    #[error("cannot encode an image of {height}x{width} pixels as {}: {source}", path.display())]
    Encode {
        /// The file to be written; for an image of a [`Page`](crate::Page), its description.
        path: PathBuf,
        /// Height of the image, in pixels.
        height: u32,
        /// Width of the image, in pixels.
        width: u32,
        /// The encoder's error.
        source: image::ImageError,
    },
    /// The file of an entry of a gallery is not known, so its image cannot be shown.
    #[error(
        "expected a file of every entry of the gallery that is shown, found none for entry {entry} (counted \
         from 0), of identity {identity}"
    )]
    EntryWithoutFile {
        /// The index of the entry in [`Gallery::entries`](reid_eval::gallery::Gallery::entries).
        entry: usize,
        /// The identity of the entry.
        identity: Identity,
    },
    /// A file or its folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// Prints the message and its causes, as [`reid_core::debug_error`] writes them.
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
