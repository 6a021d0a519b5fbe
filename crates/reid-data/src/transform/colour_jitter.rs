//! Colour jitter: changes brightness, contrast and saturation at random, like torchvision's `ColorJitter`.

use rand::seq::SliceRandom;
use reid_core::{Problems, Stream, Validate};
use serde::{Deserialize, Serialize};

use super::{Picture, Transform, draw};

/// The weights of red, green and blue in grey (ITU-R BT.601).
const GREY: [f32; 3] = [0.299, 0.587, 0.114];

/// A transform that changes brightness, contrast and saturation by random factors, in random order.
///
/// ```text
/// y = clamp(b + (x - b) · f, 0, 1),  f ~ uniform(max(0, 1 - strength), 1 + strength)
/// b = 0 (brightness), the picture's mean grey (contrast), the pixel's grey (saturation)
/// ```
///
/// ```
/// use reid_core::Seed;
/// use reid_data::transform::{ColourJitter, Picture, Transform};
///
/// let mut picture = Picture::new(1, 1, vec![0.5; 3]);
/// let jitter = ColourJitter { brightness: 0.2, contrast: 0.15, saturation: 0.0 };
/// jitter.apply(&mut picture, &mut Seed::new(1).stream());
/// assert!(picture.values.iter().all(|value| (0.4..=0.6).contains(value)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColourJitter {
    /// The strength of brightness changes, 0 (no change) to [`MAX_STRENGTH`](Self::MAX_STRENGTH).
    pub brightness: f32,
    /// The strength of contrast changes, 0 (no change) to [`MAX_STRENGTH`](Self::MAX_STRENGTH).
    pub contrast: f32,
    /// The strength of saturation changes, 0 (no change) to [`MAX_STRENGTH`](Self::MAX_STRENGTH).
    pub saturation: f32,
}

#[derive(Clone, Copy)]
enum Change {
    Brightness,
    Contrast,
    Saturation,
}

impl ColourJitter {
    /// The largest valid strength: 100. With a strength of 1 or more, the factor can be close to 0, which
    /// makes a picture black (brightness), uniformly grey (contrast) or colourless (saturation).
    pub const MAX_STRENGTH: f64 = 100.0;
}

impl Validate for ColourJitter {
    fn validate(&self, problems: &mut Problems) {
        let strengths = [
            ("brightness", self.brightness),
            ("contrast", self.contrast),
            ("saturation", self.saturation),
        ];
        for (field, strength) in strengths {
            problems.number(field, strength, 0.0..=Self::MAX_STRENGTH);
        }
    }
}

impl Transform for ColourJitter {
    fn apply(&self, picture: &mut Picture, stream: &mut Stream) {
        let mut changes = [
            (Change::Brightness, self.brightness),
            (Change::Contrast, self.contrast),
            (Change::Saturation, self.saturation),
        ];
        changes.shuffle(stream);
        for (change, strength) in changes {
            let factor = draw::between((1.0 - strength).max(0.0), 1.0 + strength, stream);
            if strength > 0.0 {
                change.apply(factor, picture);
            }
        }
    }
}

impl Change {
    fn apply(self, factor: f32, picture: &mut Picture) {
        let pixels = picture.height * picture.width;
        let base = match self {
            Self::Brightness => vec![0.0; pixels],
            Self::Contrast => {
                let grey = grey(picture);
                vec![grey.iter().sum::<f32>() / pixels as f32; pixels]
            }
            Self::Saturation => grey(picture),
        };
        for plane in picture.planes_mut() {
            for (value, base) in plane.iter_mut().zip(&base) {
                *value = (base + (*value - base) * factor).clamp(0.0, 1.0);
            }
        }
    }
}

/// The picture in grey, `[height, width]`.
fn grey(picture: &Picture) -> Vec<f32> {
    let mut grey = vec![0.0; picture.height * picture.width];
    for (plane, share) in picture.planes().zip(GREY) {
        for (sum, value) in grey.iter_mut().zip(plane) {
            *sum += share * value;
        }
    }
    grey
}

#[cfg(test)]
mod tests {
    use reid_core::Seed;

    use super::*;

    /// One red and one white pixel: grey 0.299 and 1, mean 0.6495.
    fn red_and_white() -> Picture {
        Picture::new(1, 2, vec![1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    }

    fn assert_close(picture: &Picture, expected: [f32; 6]) {
        let close = |(value, want): (&f32, f32)| (value - want).abs() < 1e-5;
        assert!(
            picture.values.iter().zip(expected).all(close),
            "{picture:?}"
        );
    }

    #[test]
    fn a_factor_of_one_half_gives_the_values_computed_by_hand() {
        let mut picture = red_and_white();
        Change::Brightness.apply(0.5, &mut picture);
        assert_close(&picture, [0.5, 0.5, 0.0, 0.5, 0.0, 0.5]);

        // 0.6495 + (1 - 0.6495)/2 = 0.82475; 0.6495/2 = 0.32475
        let mut picture = red_and_white();
        Change::Contrast.apply(0.5, &mut picture);
        assert_close(
            &picture,
            [0.82475, 0.82475, 0.32475, 0.82475, 0.32475, 0.82475],
        );

        // Red: 0.299 + 0.701/2 = 0.6495 and 0.299/2 = 0.1495; white does not change.
        let mut picture = red_and_white();
        Change::Saturation.apply(0.5, &mut picture);
        assert_close(&picture, [0.6495, 1.0, 0.1495, 1.0, 0.1495, 1.0]);
    }

    #[test]
    fn strength_0_changes_nothing_and_strength_3_stays_in_range() {
        let mut picture = red_and_white();
        let jitter = |strength| ColourJitter {
            brightness: strength,
            contrast: strength,
            saturation: strength,
        };
        jitter(0.0).apply(&mut picture, &mut Seed::new(1).stream());
        assert_eq!(picture, red_and_white());
        for number in 0..100 {
            jitter(3.0).apply(&mut picture, &mut Seed::new(number).stream());
            assert!(
                picture
                    .values
                    .iter()
                    .all(|value| (0.0..=1.0).contains(value))
            );
        }
    }
}
