//! Bounding boxes: where a detector found a person, vehicle or object in a frame.

use std::fmt;

/// The box of a detection in a frame, in pixels from the upper left corner of the frame.
///
/// The box may have fractions of pixels and may extend beyond the frame.
/// [`Frame::region`](super::Frame::region) defines the pixels that it covers.
///
/// ```
/// use reid_data::BoundingBox;
///
/// let detection = BoundingBox::new(10.5, 20.0, 64.0, 128.0);
/// assert_eq!(BoundingBox::from_corners(10.5, 20.0, 74.5, 148.0), detection);
/// assert_eq!(BoundingBox::from([10.5, 20.0, 64.0, 128.0]), detection);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoundingBox {
    /// The left edge in pixels.
    pub x: f32,
    /// The upper edge in pixels.
    pub y: f32,
    /// The width in pixels, above 0.
    pub width: f32,
    /// The height in pixels, above 0.
    pub height: f32,
}

impl BoundingBox {
    /// Creates a box from its left edge, upper edge, width and height, in pixels.
    #[must_use]
    pub const fn new(x: f32, y: f32, width: f32, height: f32) -> Self {
        Self {
            x,
            y,
            width,
            height,
        }
    }

    /// Creates a box from its left, upper, right and lower edges in pixels, as many detectors return it.
    #[must_use]
    pub fn from_corners(left: f32, top: f32, right: f32, bottom: f32) -> Self {
        Self::new(left, top, right - left, bottom - top)
    }
}

/// `[x, y, width, height]`.
impl From<[f32; 4]> for BoundingBox {
    fn from([x, y, width, height]: [f32; 4]) -> Self {
        Self::new(x, y, width, height)
    }
}

impl fmt::Display for BoundingBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            x,
            y,
            width,
            height,
        } = self;
        write!(f, "x {x}, y {y}, width {width}, height {height}")
    }
}

/// A bounding box that cannot be cropped from a frame.
///
/// ```
/// use reid_data::{BoundingBox, Error, Frame};
///
/// let image = image::RgbImage::new(8, 4);
/// let boxes = [[0.0, 0.0, 2.0, 2.0], [9.0, 0.0, 2.0, 2.0]].map(BoundingBox::from);
/// let Err(Error::Boxes { problems, .. }) = Frame::from(&image).regions(&boxes) else {
///     panic!("the second box is outside the frame");
/// };
/// assert_eq!(problems[0].index, 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxProblem {
    /// The index of the box, from 0.
    pub index: usize,
    /// The box.
    pub bounding_box: BoundingBox,
    /// Why it cannot be cropped.
    pub fault: BoxFault,
}

impl fmt::Display for BoxProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            index,
            bounding_box,
            fault,
        } = self;
        write!(f, "box {index} ({bounding_box}): expected {fault}")
    }
}

/// Why a bounding box cannot be cropped. The message says what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BoxFault {
    /// A value of the box is infinite or NaN.
    NotFinite,
    /// The width or the height is negative or 0.
    Size,
    /// The box covers no pixel of the frame.
    Outside,
}

impl fmt::Display for BoxFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFinite => "finite values",
            Self::Size => "a width and a height above 0",
            Self::Outside => "a box that covers the centre of at least 1 pixel of the frame",
        })
    }
}
