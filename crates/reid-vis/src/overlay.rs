//! Overlay: a heat map blended over the image it explains.

use image::RgbImage;
use reid_core::HeatMap;

use crate::{ColourMap, mix::mix};

/// Blends a heat map over the image it explains.
///
/// The heat map is resized bilinearly to the image's size. Its values are normalised to 0..1, coloured and
/// blended with the image:
/// ```text
/// v = (resize(map) - low) / (high - low)            [height, width]
/// y = (1 - opacity) · x + opacity · colour(v)       [height, width, 3]
/// ```
/// `low` and `high` are the smallest and the largest value of the resized map, unless
/// [`Overlay::with_range`] sets them.
///
/// ```
/// use reid_core::HeatMap;
/// use reid_vis::{ColourMap, Overlay, RgbImage};
///
/// let image = RgbImage::new(64, 128);
/// let map = HeatMap::new(2, 1, vec![0.1, 0.7])?; // legs matter
/// let picture = Overlay::new().with_opacity(1.0).draw(&image, &map);
/// assert_eq!(*picture.get_pixel(32, 0), ColourMap::Inferno.colour(0.0));
/// assert_eq!(*picture.get_pixel(32, 127), ColourMap::Inferno.colour(1.0));
/// # Ok::<(), reid_core::HeatMapError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overlay {
    opacity: f32,
    colours: ColourMap,
    range: Range,
}

/// The values that get the first and the last colour.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Range {
    /// The smallest and the largest value of each heat map.
    PerMap,
    /// The same two values for every heat map.
    Fixed { low: f32, high: f32 },
}

impl Default for Overlay {
    fn default() -> Self {
        Self::new()
    }
}

impl Overlay {
    /// An overlay with opacity 0.5, [`ColourMap::Inferno`] and the value range of each heat map.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            opacity: 0.5,
            colours: ColourMap::Inferno,
            range: Range::PerMap,
        }
    }

    /// Sets the opacity of the colours: 0 shows only the image, 1 only the colours. Default: 0.5.
    ///
    /// # Panics
    /// If `opacity` is outside 0..=1.
    #[must_use]
    pub fn with_opacity(self, opacity: f32) -> Self {
        assert!(
            (0.0..=1.0).contains(&opacity),
            "the opacity must be from 0 to 1, found {opacity}"
        );
        Self { opacity, ..self }
    }

    /// Sets the colour map. Default: [`ColourMap::Inferno`].
    #[must_use]
    pub const fn with_colours(self, colours: ColourMap) -> Self {
        Self { colours, ..self }
    }

    /// Sets the values of the first and the last colour for every heat map, so that heat maps can be compared
    /// with each other. For example, use 0 and 1 for attention masks after a sigmoid.
    ///
    /// # Panics
    /// If `low` is not below `high`, or one of them is not finite.
    #[must_use]
    pub fn with_range(self, low: f32, high: f32) -> Self {
        assert!(
            low.is_finite() && high.is_finite() && low < high,
            "the range needs two finite values, the lower one first, found {low} to {high}"
        );
        let range = Range::Fixed { low, high };
        Self { range, ..self }
    }

    /// Draws the heat map over the image. The result has the size of the image.
    #[must_use]
    pub fn draw(&self, image: &RgbImage, map: &HeatMap) -> RgbImage {
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return image.clone();
        }
        let resized = map.resized(height as usize, width as usize);
        let map = match self.range {
            Range::PerMap => resized.normalised(),
            Range::Fixed { .. } => resized,
        };
        let mut picture = image.clone();
        for (pixel, &value) in picture.pixels_mut().zip(map.values()) {
            let colour = self.colours.colour(self.position(value));
            *pixel = mix(*pixel, colour, self.opacity);
        }
        picture
    }

    /// The position of a value in the colour map, from 0 to 1 within the range.
    fn position(&self, value: f32) -> f32 {
        match self.range {
            Range::PerMap => value,
            Range::Fixed { low, high } => (value - low) / (high - low),
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn grey() -> RgbImage {
        RgbImage::from_pixel(4, 4, Rgb([100; 3]))
    }

    fn ramp() -> HeatMap {
        HeatMap::new(1, 2, vec![2.0, 6.0]).expect("two values")
    }

    #[test]
    fn opacity_0_shows_the_image() {
        let picture = Overlay::new().with_opacity(0.0).draw(&grey(), &ramp());
        assert_eq!(picture, grey());
    }

    #[test]
    fn opacity_1_shows_the_colour_map() {
        // Resized to 4 columns: 2, 3, 5, 6; normalised: 0, 1/4, 3/4, 1.
        let picture = Overlay::new().with_opacity(1.0).draw(&grey(), &ramp());
        for (x, value) in [(0, 0.0), (1, 0.25), (2, 0.75), (3, 1.0)] {
            assert_eq!(*picture.get_pixel(x, 2), ColourMap::Inferno.colour(value));
        }
    }

    #[test]
    fn opacity_one_half_averages_image_and_colour() {
        // Viridis begins with (68, 1, 84): (100 + 68) / 2 = 84, 50.5 → 51, 92.
        let picture = Overlay::new()
            .with_colours(ColourMap::Viridis)
            .draw(&grey(), &ramp());
        assert_eq!(picture.get_pixel(0, 0).0, [84, 51, 92]);
    }

    #[test]
    fn a_fixed_range_keeps_maps_comparable() {
        // Over 0 to 8 the ramp 2, 3, 5, 6 lies at 1/4 .. 3/4.
        let overlay = Overlay::new().with_opacity(1.0).with_range(0.0, 8.0);
        let picture = overlay.draw(&grey(), &ramp());
        assert_eq!(*picture.get_pixel(0, 0), ColourMap::Inferno.colour(0.25));
        assert_eq!(*picture.get_pixel(3, 0), ColourMap::Inferno.colour(0.75));
    }

    #[test]
    fn odd_images_and_maps_are_drawn() {
        let empty = RgbImage::new(0, 3);
        assert_eq!(Overlay::new().draw(&empty, &ramp()), empty);
        let extreme = HeatMap::new(1, 2, vec![f32::MIN, f32::MAX]).expect("two values");
        assert_eq!(Overlay::new().draw(&grey(), &extreme).dimensions(), (4, 4));
    }

    #[test]
    #[should_panic(expected = "the opacity must be from 0 to 1, found 1.5")]
    fn an_opacity_above_1_is_rejected() {
        let _ = Overlay::new().with_opacity(1.5);
    }

    #[test]
    #[should_panic(expected = "found 1 to 1")]
    fn an_empty_range_is_rejected() {
        let _ = Overlay::new().with_range(1.0, 1.0);
    }
}
