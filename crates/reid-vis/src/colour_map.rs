//! Colour map: from a number between 0 and 1 to a colour.

use image::Rgb;

/// From a number between 0 and 1 to a colour.
///
/// ```
/// use reid_vis::ColourMap;
///
/// // Inferno runs from black to pale yellow and grows lighter all the way.
/// assert_eq!(ColourMap::Inferno.colour(0.0).0, [0, 0, 4]);
/// assert_eq!(ColourMap::Inferno.colour(1.0).0, [252, 255, 164]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ColourMap {
    /// Black, purple, orange, pale yellow: perceptually uniform, also in greyscale and for the
    /// colour-blind (van der Walt and Smith 2015).
    #[default]
    Inferno,
    /// Purple, green, yellow: perceptually uniform like [`ColourMap::Inferno`], without black.
    Viridis,
    /// Blue, green, yellow, red: the rainbow that readers of Grad-CAM figures expect, without the
    /// false edges of `jet` (Mikhailov 2019). Both ends are dark, so it needs colour to be read.
    Turbo,
}

impl ColourMap {
    /// The colour of a number. Numbers below 0, and those that are none, count as 0; numbers above
    /// 1 as 1.
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
    fn uniform_maps_grow_lighter() {
        for map in [ColourMap::Inferno, ColourMap::Viridis] {
            let shades: Vec<f32> = (0..=32_u8)
                .map(|i| luminance(map.colour(f32::from(i) / 32.0)))
                .collect();
            assert!(shades.is_sorted(), "{map:?}: {shades:?}");
        }
    }

    #[test]
    fn turbo_runs_from_blue_to_red() {
        let [red, _, blue] = ColourMap::Turbo.colour(0.15).0;
        assert!(blue > red);
        let [red, _, blue] = ColourMap::Turbo.colour(0.9).0;
        assert!(red > blue);
    }

    #[test]
    fn values_outside_are_clamped() {
        let map = ColourMap::Viridis;
        assert_eq!(map.colour(-3.0), map.colour(0.0));
        assert_eq!(map.colour(f32::NAN), map.colour(0.0));
        assert_eq!(map.colour(f32::INFINITY), map.colour(1.0));
    }
}
