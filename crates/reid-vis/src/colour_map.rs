//! Colour maps: a colour for every value from 0 to 1.

use image::Rgb;

/// A colour map: a colour for every value from 0 to 1.
///
/// ```
/// use reid_vis::ColourMap;
///
/// // Inferno goes from black to pale yellow, and its lightness increases monotonically.
/// assert_eq!(ColourMap::Inferno.colour(0.0).0, [0, 0, 4]);
/// assert_eq!(ColourMap::Inferno.colour(1.0).0, [252, 255, 164]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ColourMap {
    /// Black, purple, orange, pale yellow. It is perceptually uniform, also in greyscale and for
    /// colour-blind readers (van der Walt and Smith 2015).
    #[default]
    Inferno,
    /// Purple, green, yellow. It is perceptually uniform like [`ColourMap::Inferno`], without black.
    Viridis,
    /// Blue, green, yellow, red. It is the rainbow that readers of Grad-CAM figures expect, without the
    /// false edges of `jet` (Mikhailov 2019). Both ends are dark, so it cannot be read in greyscale.
    Turbo,
}

impl ColourMap {
    /// Returns the colour of a value. Values are clamped to 0..=1; NaN counts as 0.
    #[must_use]
    pub fn colour(self, value: f32) -> Rgb<u8> {
        let gradient = match self {
            Self::Inferno => colorous::INFERNO,
            Self::Viridis => colorous::VIRIDIS,
            Self::Turbo => colorous::TURBO,
        };
        let value = if value.is_nan() {
            0.0
        } else {
            value.clamp(0.0, 1.0)
        };
        let colour = gradient.eval_continuous(f64::from(value));
        Rgb([colour.r, colour.g, colour.b])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance, with the weights of Rec. 709 and a display gamma of 2.2.
    fn luminance(colour: Rgb<u8>) -> f32 {
        let [red, green, blue] = colour.0.map(|c| (f32::from(c) / 255.0).powf(2.2));
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    #[test]
    fn uniform_colour_maps_increase_in_luminance() {
        for map in [ColourMap::Inferno, ColourMap::Viridis] {
            let shades: Vec<f32> = (0..=32_u8)
                .map(|i| luminance(map.colour(f32::from(i) / 32.0)))
                .collect();
            assert!(shades.is_sorted(), "{map:?}: {shades:?}");
        }
    }

    #[test]
    fn turbo_goes_from_blue_to_red() {
        let [red, _, blue] = ColourMap::Turbo.colour(0.15).0;
        assert!(blue > red);
        let [red, _, blue] = ColourMap::Turbo.colour(0.9).0;
        assert!(red > blue);
    }

    #[test]
    fn values_outside_the_range_are_clamped() {
        let map = ColourMap::Viridis;
        assert_eq!(map.colour(-3.0), map.colour(0.0));
        assert_eq!(map.colour(f32::NAN), map.colour(0.0));
        assert_eq!(map.colour(f32::INFINITY), map.colour(1.0));
    }
}
