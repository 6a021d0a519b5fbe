//! Overlay: a heat map laid over the image it explains.

use image::RgbImage;
use reid_core::HeatMap;

use crate::{ColourMap, mix::mix};

/// Lays a heat map over the image it explains.
///
/// The map is brought to the image's size bilinearly, its values are brought to 0..1, coloured and
/// mixed with the image:
/// ```text
/// v = (resize(map) - low) / (high - low)            [height, width]
/// y = (1 - opacity) · x + opacity · colour(v)       [height, width, 3]
/// ```
/// `low` and `high` are the smallest and the largest value of the resized map, unless
/// [`Overlay::with_range`] says otherwise.
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

/// Which values get the first and the last colour.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Range {
    /// The smallest and the largest of each map.
    OfTheMap,
    /// These, whatever the map holds.
    Fixed { low: f32, high: f32 },
}

impl Default for Overlay {
    fn default() -> Self {
        Self::new()
    }
}

impl Overlay {
    /// Half-transparent [`ColourMap::Inferno`] over the range of each map.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            opacity: 0.5,
            colours: ColourMap::Inferno,
            range: Range::OfTheMap,
        }
    }

    /// How much of the colours is seen: 0 leaves the image, 1 hides it. Default: 0.5.
    ///
    /// # Panics
    /// If `opacity` is outside 0..=1.
    #[must_use]
    pub fn with_opacity(self, opacity: f32) -> Self {
        assert!(
            (0.0..=1.0).contains(&opacity),
            "an opacity is from 0 to 1, found {opacity}"
        );
        Self { opacity, ..self }
    }

    /// Another colour map. Default: [`ColourMap::Inferno`].
    #[must_use]
    pub const fn with_colours(self, colours: ColourMap) -> Self {
        Self { colours, ..self }
    }

    /// Gives the first colour to `low` and the last to `high`, the same for every map, so that maps
    /// can be compared with each other: 0 and 1 for attention masks that went through a sigmoid.
    ///
    /// # Panics
    /// If `low` is not below `high`, or one of them is not finite.
    #[must_use]
    pub fn with_range(self, low: f32, high: f32) -> Self {
        assert!(
            low.is_finite() && high.is_finite() && low < high,
            "a range goes from a number to a larger one, found {low} to {high}"
        );
        let range = Range::Fixed { low, high };
        Self { range, ..self }
    }

    /// The image with the map over it, as large as the image.
    #[must_use]
    pub fn draw(&self, image: &RgbImage, map: &HeatMap) -> RgbImage {
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return image.clone();
        }
        let resized = map.resized(height as usize, width as usize);
        let map = match self.range {
            Range::OfTheMap => resized.normalised(),
            Range::Fixed { .. } => resized,
        };
        let mut picture = image.clone();
        for (pixel, &value) in picture.pixels_mut().zip(map.values()) {
            let colour = self.colours.colour(self.position(value));
            *pixel = mix(*pixel, colour, self.opacity);
        }
        picture
    }

    /// Where a value lies in the colour map.
    fn position(&self, value: f32) -> f32 {
        match self.range {
            Range::OfTheMap => value,
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
    fn no_opacity_is_the_image() {
        let picture = Overlay::new().with_opacity(0.0).draw(&grey(), &ramp());
        assert_eq!(picture, grey());
    }

    #[test]
    fn full_opacity_is_the_colour_map() {
        // Resized to 4 columns: 2, 3, 5, 6; normalised: 0, 1/4, 3/4, 1.
        let picture = Overlay::new().with_opacity(1.0).draw(&grey(), &ramp());
        for (x, value) in [(0, 0.0), (1, 0.25), (2, 0.75), (3, 1.0)] {
            assert_eq!(*picture.get_pixel(x, 2), ColourMap::Inferno.colour(value));
        }
    }

    #[test]
    fn half_opacity_is_half_way() {
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
    #[should_panic(expected = "an opacity is from 0 to 1, found 1.5")]
    fn too_much_opacity_is_refused() {
        let _ = Overlay::new().with_opacity(1.5);
    }

    #[test]
    #[should_panic(expected = "found 1 to 1")]
    fn an_empty_range_is_refused() {
        let _ = Overlay::new().with_range(1.0, 1.0);
    }
}
