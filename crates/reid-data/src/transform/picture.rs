//! Pictures: the floating-point images that transforms change.

use image::RgbImage;

/// A floating-point RGB image that transforms change: one plane per channel, each in row-major order.
///
/// The values are from 0 to 1 until [`Normalise`](super::Normalise) is applied.
///
/// ```
/// use reid_data::transform::Picture;
///
/// let red = image::RgbImage::from_pixel(2, 1, image::Rgb([255, 0, 0]));
/// let picture = Picture::from(&red);
/// assert_eq!((picture.height, picture.width), (1, 2));
/// assert_eq!(picture.values, [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// The number of rows.
    pub height: usize,
    /// The number of columns.
    pub width: usize,
    /// The values, `[3, height, width]`.
    pub values: Vec<f32>,
}

impl Picture {
    /// Creates a picture from its values, `[3, height, width]`.
    ///
    /// # Panics
    /// If the number of values is 0 or not `3 * height * width`.
    #[must_use]
    pub fn new(height: usize, width: usize, values: Vec<f32>) -> Self {
        let (expected, found) = (3 * height * width, values.len());
        assert!(
            found == expected && found > 0,
            "an RGB picture of {height}x{width} needs {expected} values (at least 3), found {found}"
        );
        Self {
            height,
            width,
            values,
        }
    }

    /// The red, green and blue planes, each `[height, width]`.
    pub fn planes(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.height * self.width)
    }

    /// The red, green and blue planes, each `[height, width]`, for modification.
    pub fn planes_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.values.chunks_exact_mut(self.height * self.width)
    }
}

impl From<&RgbImage> for Picture {
    fn from(image: &RgbImage) -> Self {
        let pixels = image.as_raw().chunks_exact(3);
        let plane = |colour: usize| {
            let pixels = pixels.clone();
            pixels.map(move |pixel| f32::from(pixel[colour]) / 255.0)
        };
        let values = (0..3).flat_map(plane).collect();
        Self::new(image.height() as usize, image.width() as usize, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_pixels_become_planes() {
        let image = RgbImage::from_raw(2, 1, vec![0, 51, 102, 153, 204, 255]).unwrap();
        let picture = Picture::from(&image);
        assert_eq!(picture.values, [0.0, 0.6, 0.2, 0.8, 0.4, 1.0]);
        let green: &[f32] = picture.planes().nth(1).unwrap();
        assert_eq!(green, [0.2, 0.8]);
    }

    #[test]
    #[should_panic(expected = "an RGB picture of 2x2 needs 12 values (at least 3), found 11")]
    fn a_wrong_number_of_values_panics() {
        let _ = Picture::new(2, 2, vec![0.0; 11]);
    }
}
