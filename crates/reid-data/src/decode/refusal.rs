//! Refusals: the reasons why bytes cannot be read as an image.

use std::path::Path;

use image::{
    ImageError, ImageFormat,
    error::{DecodingError, ImageFormatHint},
};

use super::{MAX_PIXELS, content, jpeg::Fault};
use crate::Error;

/// The reason why bytes cannot be read as an image. [`Refusal::with_path`] adds the path of the file.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The bytes are not an image, or an image in a format or variant that is not supported.
    Format(String),
    /// The image has too many pixels.
    Size { width: u64, height: u64 },
    /// The bytes are damaged, or the decoder does not support them.
    Codec(ImageError),
}

impl Refusal {
    pub(super) fn with_path(self, path: &Path) -> Error {
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

    /// An image that is damaged for this reason.
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
            Fault::Truncated => "the file ends before the image does".to_owned(),
            Fault::Damaged(what) => what,
        };
        Self::damaged(ImageFormat::Jpeg, reason)
    }
}
