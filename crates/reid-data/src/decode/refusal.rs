//! Refusal: why bytes are not read as an image.

use std::path::Path;

use image::{
    ImageError, ImageFormat,
    error::{DecodingError, ImageFormatHint},
};

use super::{MAX_PIXELS, content, jpeg::Fault};
use crate::Error;

/// Why bytes are not read as an image; [`Refusal::of`] adds which file they are from.
#[derive(Debug)]
pub(super) enum Refusal {
    /// They are something else, or a variant of a format that is not read.
    Format(String),
    /// The image is larger than what is read.
    Size { width: u64, height: u64 },
    /// They are damaged, or the decoder cannot read them.
    Codec(ImageError),
}

impl Refusal {
    pub(super) fn of(self, path: &Path) -> Error {
        let path = path.to_owned();
        match self {
            Self::Format(found) => Error::ImageFormat {
                path,
                expected: content::READ,
                found,
            },
            Self::Size { width, height } => Error::ImageSize {
                path,
                width,
                height,
                limit: MAX_PIXELS,
            },
            Self::Codec(source) => Error::Image { path, source },
        }
    }

    /// An image that is damaged in this way.
    pub(super) fn damaged(format: ImageFormat, reason: impl Into<String>) -> Self {
        let format = ImageFormatHint::Exact(format);
        Self::Codec(ImageError::Decoding(DecodingError::new(
            format,
            reason.into(),
        )))
    }
}

impl From<ImageError> for Refusal {
    fn from(error: ImageError) -> Self {
        Self::Codec(error)
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let reason = match fault {
            Fault::Ends => "the file ends before the image does".to_owned(),
            Fault::Damaged(what) => what,
        };
        Self::damaged(ImageFormat::Jpeg, reason)
    }
}
