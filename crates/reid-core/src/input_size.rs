//! Input size: height and width of the images a network takes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{FeatureShape, Problems, Validate};

/// Height and width, in pixels, of the images a network takes. Height comes first, everywhere.
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
    /// Height in pixels, 1 to [`LARGEST`](Self::MAX_SIDE).
    pub height: usize,
    /// Width in pixels, 1 to [`LARGEST`](Self::MAX_SIDE).
    pub width: usize,
}

impl InputSize {
    /// 256 x 128: people, in most publications.
    pub const PERSON: Self = Self::new(256, 128);
    /// 384 x 128: people, in part-based networks and Progressive feature `CutMix`.
    pub const PERSON_TALL: Self = Self::new(384, 128);
    /// 288 x 384: vehicles, in FNC.
    pub const VEHICLE: Self = Self::new(288, 384);

    /// The longest side that a recipe may ask for: 8192 pixels, many times what any published network
    /// takes.
    pub const MAX_SIDE: usize = 8192;

    /// A size from height and width.
    ///
    /// # Panics
    /// If either is 0.
    #[must_use]
    pub const fn new(height: usize, width: usize) -> Self {
        assert!(
            height > 0 && width > 0,
            "an input size needs height and width of at least 1"
        );
        Self { height, width }
    }

    /// The shape of an RGB image of this size: 3 channels.
    #[must_use]
    pub const fn rgb(self) -> FeatureShape {
        FeatureShape::new(3, self.height, self.width)
    }

    /// Pixels in an image of this size.
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

/// A text is not an input size.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an input size as HEIGHTxWIDTH, such as 256x128, found `{found}`")]
pub struct ParseInputSizeError {
    /// The text.
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
    fn prints_what_it_parses() {
        assert_eq!(
            InputSize::PERSON_TALL.to_string().parse(),
            Ok(InputSize::PERSON_TALL)
        );
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in ["", "256", "256x", "x128", "0x128", "256x-1", "256x128x3"] {
            let error = text.parse::<InputSize>().expect_err(text);
            assert!(
                error.to_string().contains(&format!("found `{text}`")),
                "{error}"
            );
        }
    }
}
