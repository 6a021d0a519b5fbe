//! Frames: images in memory from which a detector's boxes are cropped.

mod bounding_box;

use std::{borrow::Cow, fmt};

use image::{DynamicImage, RgbImage};

pub use bounding_box::{BoundingBox, BoxFault, BoxProblem};

use crate::Error;

/// An image in memory, such as a frame of a video, from which boxes are cropped without copying the frame.
///
/// A frame is an [`RgbImage`], a [`DynamicImage`], or the bytes of a camera or a video decoder.
///
/// ```
/// use reid_data::{BoundingBox, Frame};
///
/// // Two rows of two BGR pixels, each row padded to 8 bytes.
/// let bytes = [0, 0, 9, 0, 0, 8, 0, 0, /* next row */ 0, 0, 7, 0, 0, 6, 0, 0];
/// let frame = Frame::from_bgr(&bytes, 2, 2, 8)?.with_name("camera 1, frame 17");
/// let region = frame.region(&BoundingBox::new(1.0, -3.0, 5.0, 10.0)).expect("it covers two pixels");
/// assert_eq!(frame.crop(&region).into_raw(), [8, 0, 0, 6, 0, 0]);
/// # Ok::<(), reid_data::Error>(())
/// ```
#[derive(Clone)]
pub struct Frame<'a> {
    bytes: Cow<'a, [u8]>,
    width: u32,
    height: u32,
    /// The number of bytes from the start of a row to the start of the next one.
    stride: usize,
    order: ChannelOrder,
    name: Cow<'a, str>,
}

/// The order of the three channels of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChannelOrder {
    Rgb,
    Bgr,
}

/// The pixels of a frame that a bounding box covers; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The index of the first column, from 0.
    pub left: u32,
    /// The index of the first row, from 0.
    pub top: u32,
    /// The number of columns.
    pub width: u32,
    /// The number of rows.
    pub height: u32,
}

impl<'a> Frame<'a> {
    /// Creates a frame from bytes with three channels per pixel: red, green, blue.
    ///
    /// A row has `width` pixels and begins `stride` bytes after the row before it. Bytes between the last
    /// pixel of a row and the next row are ignored, as are bytes after the last row.
    ///
    /// # Errors
    /// [`Error::Frame`] if `width` or `height` is 0, if `stride` is less than `3 * width`, or if `bytes` has
    /// less than `(height - 1) * stride + 3 * width` bytes.
    pub fn from_rgb(
        bytes: &'a [u8],
        width: u32,
        height: u32,
        stride: usize,
    ) -> Result<Self, Error> {
        Self::from_bytes(bytes, [width, height], stride, ChannelOrder::Rgb)
    }

    /// Creates a frame from bytes with three channels per pixel in the order of `OpenCV`: blue, green, red.
    ///
    /// # Errors
    /// As [`from_rgb`](Self::from_rgb).
    pub fn from_bgr(
        bytes: &'a [u8],
        width: u32,
        height: u32,
        stride: usize,
    ) -> Result<Self, Error> {
        Self::from_bytes(bytes, [width, height], stride, ChannelOrder::Bgr)
    }

    fn from_bytes(
        bytes: &'a [u8],
        [width, height]: [u32; 2],
        stride: usize,
        order: ChannelOrder,
    ) -> Result<Self, Error> {
        let error = |expected: String, found: String| Error::Frame {
            width,
            height,
            expected,
            found,
        };
        if width == 0 || height == 0 {
            return Err(error("at least 1 x 1 pixels".into(), "no pixels".into()));
        }
        let row = 3 * u64::from(width);
        if (stride as u64) < row {
            return Err(error(
                format!("a stride of at least {row} bytes, 3 channels per pixel"),
                format!("a stride of {stride}"),
            ));
        }
        let length = u128::from(height - 1) * stride as u128 + u128::from(row);
        if (bytes.len() as u128) < length {
            return Err(error(
                format!(
                    "at least {length} bytes for a stride of {stride} and 3 channels per pixel"
                ),
                format!("{} bytes", bytes.len()),
            ));
        }
        Ok(Self {
            bytes: Cow::Borrowed(bytes),
            width,
            height,
            stride,
            order,
            name: Cow::Borrowed(""),
        })
    }

    /// Sets the name of the frame in error messages, such as `camera 3, frame 1200`.
    #[must_use]
    pub fn with_name(self, name: impl Into<Cow<'a, str>>) -> Self {
        Self {
            name: name.into(),
            ..self
        }
    }

    /// The name of the frame; empty if none was set.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of columns.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// The number of rows.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Computes the pixels that a bounding box covers.
    ///
    /// A pixel is covered if its centre is: column `c` if `x ≤ c + 0.5 < x + width`, and rows likewise. So
    /// the edges are rounded to the nearest border between pixels, and the box is clipped at the frame.
    ///
    /// # Errors
    /// If a value is infinite or NaN, if the width or the height is not above 0, or if no pixel is covered.
    pub fn region(&self, bounding_box: &BoundingBox) -> Result<Region, BoxFault> {
        let BoundingBox {
            x,
            y,
            width,
            height,
        } = *bounding_box;
        if ![x, y, width, height].iter().all(|value| value.is_finite()) {
            return Err(BoxFault::NotFinite);
        }
        if width <= 0.0 || height <= 0.0 {
            return Err(BoxFault::Size);
        }
        let columns = covered(x, width, self.width);
        let rows = covered(y, height, self.height);
        match (columns, rows) {
            (Some((left, width)), Some((top, height))) => Ok(Region {
                left,
                top,
                width,
                height,
            }),
            _ => Err(BoxFault::Outside),
        }
    }

    /// Computes the pixels that each of several bounding boxes covers, in order.
    ///
    /// # Errors
    /// [`Error::Boxes`] with the index of each box that [`region`](Self::region) rejects.
    pub fn regions(&self, boxes: &[BoundingBox]) -> Result<Vec<Region>, Error> {
        let (mut regions, mut problems) = (Vec::with_capacity(boxes.len()), Vec::new());
        for (index, bounding_box) in boxes.iter().enumerate() {
            match self.region(bounding_box) {
                Ok(region) => regions.push(region),
                Err(fault) => problems.push(BoxProblem {
                    index,
                    bounding_box: *bounding_box,
                    fault,
                }),
            }
        }
        if problems.is_empty() {
            return Ok(regions);
        }
        Err(Error::Boxes {
            frame: self.to_string(),
            boxes: boxes.len(),
            problems,
        })
    }

    /// Copies the pixels of a region to an RGB image.
    ///
    /// # Panics
    /// If the region extends beyond the frame or has no pixels.
    #[must_use]
    pub fn crop(&self, region: &Region) -> RgbImage {
        let Region {
            left,
            top,
            width,
            height,
        } = *region;
        let fits = |first: u32, length: u32, limit: u32| {
            length > 0 && u64::from(first) + u64::from(length) <= u64::from(limit)
        };
        assert!(
            fits(left, width, self.width) && fits(top, height, self.height),
            "expected a region of {self}, found {region:?}"
        );
        let (begin, length) = (3 * left as usize, 3 * width as usize);
        let mut values = Vec::with_capacity(length * height as usize);
        for row in top..top + height {
            values.extend_from_slice(&self.bytes[row as usize * self.stride + begin..][..length]);
        }
        if self.order == ChannelOrder::Bgr {
            values.chunks_exact_mut(3).for_each(<[u8]>::reverse);
        }
        RgbImage::from_raw(width, height, values).expect("3 values per pixel")
    }
}

/// Computes the first index and the number of the pixels of a row or column of `pixels` pixels whose centres
/// are from `start` to `start + length`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the pixels of the frame"
)]
fn covered(start: f32, length: f32, pixels: u32) -> Option<(u32, u32)> {
    // In double precision, the sum of two `f32` of the size of a frame is exact.
    let border = |edge: f64| (edge - 0.5).ceil().clamp(0.0, f64::from(pixels)) as u32;
    let first = border(f64::from(start));
    let end = border(f64::from(start) + f64::from(length));
    (first < end).then(|| (first, end - first))
}

/// Borrows the pixels.
impl<'a> From<&'a RgbImage> for Frame<'a> {
    fn from(image: &'a RgbImage) -> Self {
        Self {
            bytes: Cow::Borrowed(image.as_raw()),
            width: image.width(),
            height: image.height(),
            stride: 3 * image.width() as usize,
            order: ChannelOrder::Rgb,
            name: Cow::Borrowed(""),
        }
    }
}

/// Borrows the pixels of an 8-bit RGB image. Other images are converted as by
/// [`open_image`](crate::open_image): grey and 16-bit images to 8-bit RGB, and the alpha channel is dropped.
impl<'a> From<&'a DynamicImage> for Frame<'a> {
    fn from(image: &'a DynamicImage) -> Self {
        if let DynamicImage::ImageRgb8(image) = image {
            return Self::from(image);
        }
        let image = image.to_rgb8();
        let (width, height) = image.dimensions();
        Self {
            bytes: Cow::Owned(image.into_raw()),
            width,
            height,
            stride: 3 * width as usize,
            order: ChannelOrder::Rgb,
            name: Cow::Borrowed(""),
        }
    }
}

/// The name and the size.
impl fmt::Display for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            width,
            height,
            name,
            ..
        } = self;
        match &**name {
            "" => write!(f, "a frame of {width} x {height} pixels"),
            name => write!(f, "the frame `{name}` of {width} x {height} pixels"),
        }
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("name", &self.name)
            .field("width", &self.width)
            .field("height", &self.height)
            .field("stride", &self.stride)
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma, Rgb, RgbaImage, imageops};

    use super::*;

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([x, y, x * y].map(|value| value.to_le_bytes()[0]))
        })
    }

    fn region(bounding_box: [f32; 4]) -> Result<Region, BoxFault> {
        let image = gradient(20, 10);
        Frame::from(&image).region(&bounding_box.into())
    }

    fn covers(bounding_box: [f32; 4]) -> [u32; 4] {
        let Region {
            left,
            top,
            width,
            height,
        } = region(bounding_box).expect("it covers pixels");
        [left, top, width, height]
    }

    #[test]
    fn edges_are_rounded_to_the_nearest_border_and_clipped_at_the_frame() {
        assert_eq!(covers([3.0, 2.0, 4.0, 5.0]), [3, 2, 4, 5]);
        // 2.4 → 2, 2.4 + 4.2 = 6.6 → 7; 1.6 → 2, 1.6 + 3 = 4.6 → 5.
        assert_eq!(covers([2.4, 1.6, 4.2, 3.0]), [2, 2, 5, 3]);
        // A centre on the left edge is covered, one on the right edge is not: columns 2 and 3.
        assert_eq!(covers([2.5, 0.0, 2.0, 1.0]), [2, 0, 2, 1]);
        assert_eq!(covers([-5.0, -5.0, 100.0, 100.0]), [0, 0, 20, 10]);
        assert_eq!(covers([-1e38, -1e38, 3e38, 3e38]), [0, 0, 20, 10]);
        assert_eq!(covers([19.0, 9.0, 1.0, 50.0]), [19, 9, 1, 1]);
        // Narrow, but over the centre of column 4.
        assert_eq!(covers([4.4, 0.0, 0.2, 1.0]), [4, 0, 1, 1]);
    }

    #[test]
    fn boxes_that_are_invalid_or_outside_are_rejected() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for index in 0..4 {
                let mut values = [1.0, 1.0, 5.0, 5.0];
                values[index] = value;
                assert_eq!(region(values), Err(BoxFault::NotFinite), "{values:?}");
            }
        }
        for size in [0.0, -0.0, -1.0, f32::MIN] {
            assert_eq!(region([1.0, 1.0, size, 5.0]), Err(BoxFault::Size));
            assert_eq!(region([1.0, 1.0, 5.0, size]), Err(BoxFault::Size));
        }
        for outside in [
            [20.0, 0.0, 5.0, 5.0],
            [0.0, 10.0, 5.0, 5.0],
            [-5.0, 0.0, 5.0, 5.0],
            [0.0, -5.0, 5.0, 5.0],
            [f32::MAX, 0.0, f32::MAX, 5.0],
            [f32::MIN, 0.0, f32::MAX, 5.0],
            // Between the centres of two pixels, and smaller than the resolution of `x`.
            [4.6, 0.0, 0.2, 1.0],
            [4.0, 0.0, f32::MIN_POSITIVE, 1.0],
        ] {
            assert_eq!(region(outside), Err(BoxFault::Outside), "{outside:?}");
        }
    }

    #[test]
    fn the_error_names_the_frame_and_each_box() {
        let image = gradient(20, 10);
        let frame = Frame::from(&image).with_name("camera 3, frame 1200");
        let boxes = [
            [1.0, 1.0, 5.0, 5.0],
            [f32::NAN, 1.0, 5.0, 5.0],
            [1.0, 1.0, -2.0, 5.0],
            [30.0, 1.0, 5.0, 5.0],
        ];
        let error = frame.regions(&boxes.map(BoundingBox::from));
        assert_eq!(
            error.expect_err("three boxes are invalid").to_string(),
            "the frame `camera 3, frame 1200` of 20 x 10 pixels: 3 of 4 boxes cannot be cropped:\n\
             box 1 (x NaN, y 1, width 5, height 5): expected finite values\n\
             box 2 (x 1, y 1, width -2, height 5): expected a width and a height above 0\n\
             box 3 (x 30, y 1, width 5, height 5): expected a box that covers the centre of at least 1 \
             pixel of the frame"
        );
        // The message has the first ten boxes, the error has all.
        let error = frame.regions(&[BoundingBox::new(0.0, 0.0, 0.0, 0.0); 30]);
        let error = error.expect_err("no box has an area");
        let message = error.to_string();
        assert!(message.ends_with("\nand 20 more"), "{message}");
        assert!(matches!(error, Error::Boxes { problems, .. } if problems.len() == 30));
    }

    #[test]
    fn crops_equal_those_of_the_image_crate_in_every_layout() {
        let image = gradient(20, 10);
        let stride = 71;
        let (mut rgb, mut bgr) = (Vec::new(), Vec::new());
        for row in image.as_raw().chunks_exact(60) {
            let mirrored = row.chunks_exact(3).flat_map(|p| [p[2], p[1], p[0]]);
            bgr.extend(mirrored.chain([255; 11]));
            rgb.extend(row.iter().copied().chain([255; 11]));
        }
        let without_padding = stride * 9 + 60;
        let dynamic = DynamicImage::ImageRgb8(image.clone());
        let alpha = DynamicImage::ImageRgba8(RgbaImage::from_fn(20, 10, |x, y| {
            let [r, g, b] = image.get_pixel(x, y).0;
            image::Rgba([r, g, b, 7])
        }));
        let frames = [
            Frame::from(&image),
            Frame::from(&dynamic),
            Frame::from(&alpha),
            Frame::from_rgb(&rgb, 20, 10, stride).expect("10 rows"),
            Frame::from_rgb(&rgb[..without_padding], 20, 10, stride).expect("10 rows"),
            Frame::from_bgr(&bgr, 20, 10, stride).expect("10 rows"),
        ];
        for (left, top, width, height) in [(0, 0, 20, 10), (3, 2, 7, 5), (19, 9, 1, 1)] {
            let region = Region {
                left,
                top,
                width,
                height,
            };
            let expected = imageops::crop_imm(&image, left, top, width, height).to_image();
            for frame in &frames {
                assert_eq!(frame.crop(&region), expected, "{frame:?}");
            }
        }
    }

    #[test]
    fn an_image_of_one_channel_becomes_rgb_and_its_bytes_are_rejected() {
        let grey = GrayImage::from_fn(4, 3, |x, y| Luma([(x + 4 * y).to_le_bytes()[0]]));
        let dynamic = DynamicImage::ImageLuma8(grey.clone());
        let frame = Frame::from(&dynamic);
        let pixel = frame.region(&BoundingBox::new(1.0, 2.0, 1.0, 1.0));
        let crop = frame.crop(&pixel.expect("inside"));
        assert_eq!(crop.into_raw(), [9; 3]);

        let error = Frame::from_rgb(grey.as_raw(), 4, 3, 4).expect_err("one channel");
        assert_eq!(
            error.to_string(),
            "a frame of 4 x 3 pixels: expected a stride of at least 12 bytes, 3 channels per pixel, found a \
             stride of 4"
        );
    }

    #[test]
    fn bytes_that_are_shorter_than_the_stride_says_are_rejected() {
        let error = Frame::from_bgr(&[0; 87], 4, 6, 16).expect_err("5 · 16 + 12 = 92 bytes");
        assert_eq!(
            error.to_string(),
            "a frame of 4 x 6 pixels: expected at least 92 bytes for a stride of 16 and 3 channels per \
             pixel, found 87 bytes"
        );
        assert!(Frame::from_rgb(&[0; 92], 4, 6, 16).is_ok());
        for (width, height, stride) in [
            (u32::MAX, u32::MAX, usize::MAX),
            (1, u32::MAX, usize::MAX),
            (u32::MAX, 1, 16),
            (0, 6, 16),
            (4, 0, 16),
        ] {
            let error = Frame::from_rgb(&[0; 92], width, height, stride);
            assert!(matches!(error, Err(Error::Frame { .. })), "{error:?}");
        }
    }

    #[test]
    #[should_panic(expected = "expected a region of a frame of 20 x 10 pixels, found Region")]
    fn a_region_beyond_the_frame_panics() {
        let image = gradient(20, 10);
        let region = Region {
            left: 15,
            top: 0,
            width: 6,
            height: 1,
        };
        let _ = Frame::from(&image).crop(&region);
    }
}
