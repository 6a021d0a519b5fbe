//! Input sizes: the height and width of a network's input images.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{FeatureShape, Problems, Validate};

/// The height and width, in pixels, of a network's input images. Height always comes first.
///
/// ```
/// use reid_core::InputSize;
///
/// assert_eq!(InputSize::PERSON, InputSize::new(256, 128));
/// assert_eq!("288x384".parse(), Ok(InputSize::VEHICLE));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSize {
    /// The height in pixels, 1 to [`MAX_SIDE`](Self::MAX_SIDE).
    pub height: usize,
    /// The width in pixels, 1 to [`MAX_SIDE`](Self::MAX_SIDE).
    pub width: usize,
}

impl InputSize {
    /// 256 x 128: the size for people in most publications.
    pub const PERSON: Self = Self::new(256, 128);
    /// 384 x 128: the size for people in part-based networks and Progressive feature `CutMix`.
    pub const PERSON_TALL: Self = Self::new(384, 128);
    /// 288 x 384: the size for vehicles in FNC.
    pub const VEHICLE: Self = Self::new(288, 384);

    /// The longest side that a recipe may have: 8192 pixels, many times the input of any published network.
    pub const MAX_SIDE: usize = 8192;

    /// Creates a size from height and width.
    ///
    /// # Panics
    /// If height or width is 0.
    #[must_use]
    pub const fn new(height: usize, width: usize) -> Self {
        assert!(
            height > 0 && width > 0,
            "an input size needs a height and a width of at least 1"
        );
        Self { height, width }
    }

    /// The shape of an RGB image of this size: 3 channels.
    #[must_use]
    pub const fn rgb(self) -> FeatureShape {
        FeatureShape::new(3, self.height, self.width)
    }

    /// The number of pixels in an image of this size.
    #[must_use]
    pub const fn pixels(self) -> usize {
        self.height * self.width
    }
}

impl Validate for InputSize {
    fn validate(&self, problems: &mut Problems) {
        problems.count("height", self.height, 1..=Self::MAX_SIDE);
        problems.count("width", self.width, 1..=Self::MAX_SIDE);
    }
}

impl fmt::Display for InputSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}

/// The error of parsing an [`InputSize`].
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an input size as HEIGHTxWIDTH, such as 256x128, found `{found}`")]
pub struct ParseInputSizeError {
    /// The text that was parsed.
    pub found: String,
}

impl fmt::Debug for ParseInputSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::debug_error(self, f)
    }
}

impl FromStr for InputSize {
    type Err = ParseInputSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseInputSizeError {
            found: text.to_owned(),
        };
        let (height, width) = text.split_once('x').ok_or_else(error)?;
        match (height.parse(), width.parse()) {
            (Ok(height), Ok(width)) if height > 0 && width > 0 => Ok(Self { height, width }),
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_size_parses_to_itself() {
        assert_eq!(
            InputSize::PERSON_TALL.to_string().parse(),
            Ok(InputSize::PERSON_TALL)
        );
    }

    #[test]
    fn text_that_is_not_a_size_is_rejected() {
        for text in ["", "256", "256x", "x128", "0x128", "256x-1", "256x128x3"] {
            let error = text.parse::<InputSize>().expect_err(text);
            assert!(
                error.to_string().contains(&format!("found `{text}`")),
                "{error}"
            );
        }
    }
}
