//! Random erasing: fills a random rectangle with one colour (Zhong et al., AAAI 2020, arXiv:1708.04896).

use std::ops::Bound;

use reid_core::{Problems, Stream, Validate};
use serde::{Deserialize, Serialize};

use super::{Normalise, Picture, Transform, draw};

/// The number of rectangles that are tried before the picture is left unchanged.
const ATTEMPTS: usize = 100;

/// A transform that fills a rectangle of random size, shape and position with one colour.
///
/// ```text
/// a ~ uniform(area.0, area.1),  s ~ uniform(aspect, 1 / aspect)
/// height = round(√(a·H·W·s)),  width = round(√(a·H·W / s))
/// ```
///
/// If the rectangle is not strictly smaller than the picture in both directions, it is drawn again. After 100
/// attempts the picture is left unchanged.
///
/// The transform is applied before [`Normalise`], so the values of `fill` are from 0 to 1. The default fill,
/// the mean colour, becomes 0 in the network's input. The strong baseline erases after normalisation, and
/// fills with 0.485, 0.456 and 0.406. To get these values in the network's input, set `fill` to
/// `mean + std * mean` = 0.596, 0.558 and 0.497.
///
/// ```
/// use reid_core::Seed;
/// use reid_data::transform::{Picture, RandomErasing, Transform};
///
/// let mut picture = Picture::new(20, 10, vec![1.0; 600]);
/// let erasing = RandomErasing { probability: 1.0, fill: [0.0; 3], ..RandomErasing::default() };
/// erasing.apply(&mut picture, &mut Seed::new(1).stream());
///
/// let erased = picture.values[..200].iter().filter(|&&value| value == 0.0).count();
/// assert!((4..=80).contains(&erased)); // 2 % to 40 % of 200 pixels
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomErasing {
    /// The probability that the transform is applied, 0 to 1. Default: 0.5, as in the paper.
    pub probability: f32,
    /// The smallest and the largest area of the rectangle, as fractions of the picture, above 0 and up to 1.
    /// Default: 0.02 and 0.4, as in the paper.
    pub area: (f32, f32),
    /// The smallest ratio of height to width, above 0 and up to 1; the largest ratio is its inverse.
    /// Default: 0.3, as in the paper.
    pub aspect: f32,
    /// The fill colour as red, green and blue, 0 to 1. Default: the mean of [`Normalise::IMAGENET`].
    pub fill: [f32; 3],
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self {
            probability: 0.5,
            area: (0.02, 0.4),
            aspect: 0.3,
            fill: Normalise::IMAGENET.mean,
        }
    }
}

impl RandomErasing {
    /// Draws the height and width of a rectangle that is strictly smaller than the picture.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sides are positive, and rectangles that are too large are rejected"
    )]
    fn rectangle(&self, picture: &Picture, stream: &mut Stream) -> Option<(usize, usize)> {
        let pixels = (picture.height * picture.width) as f32;
        (0..ATTEMPTS).find_map(|_| {
            let area = pixels * draw::between(self.area.0, self.area.1, stream);
            let aspect = draw::between(self.aspect, self.aspect.recip(), stream);
            let height = (area * aspect).sqrt().round() as usize;
            let width = (area / aspect).sqrt().round() as usize;
            let inside = height < picture.height && width < picture.width;
            inside.then_some((height, width))
        })
    }
}

impl Validate for RandomErasing {
    fn validate(&self, problems: &mut Problems) {
        problems.number("probability", self.probability, 0.0..=1.0);
        let (least, largest) = self.area;
        let holds = 0.0 < least && least <= largest && largest <= 1.0;
        problems.require(
            "area",
            holds,
            "two fractions with 0 < min <= max <= 1",
            format_args!("{least} and {largest}"),
        );
        problems.number(
            "aspect",
            self.aspect,
            (Bound::Excluded(0.0), Bound::Included(1.0)),
        );
        draw::validate_colour("fill", self.fill, problems);
    }
}

impl Transform for RandomErasing {
    fn apply(&self, picture: &mut Picture, stream: &mut Stream) {
        if !draw::happens(self.probability, stream) {
            return;
        }
        let Some((height, width)) = self.rectangle(picture, stream) else {
            return;
        };
        draw::fill_rectangle(picture, [height, width], self.fill, stream);
    }
}

#[cfg(test)]
mod tests {
    use reid_core::Seed;

    use super::*;

    fn certain() -> RandomErasing {
        RandomErasing {
            probability: 1.0,
            fill: [0.25, 0.5, 0.75],
            ..RandomErasing::default()
        }
    }

    /// The first and last row, and the first and last column, of the cells that are less than 1.
    fn bounds(plane: &[f32], width: usize) -> ((usize, usize), (usize, usize)) {
        let erased = || (0..plane.len()).filter(|&at| plane[at] < 1.0);
        let range = |coordinate: fn(usize, usize) -> usize| {
            let all = || erased().map(move |at| coordinate(at, width));
            (all().min().unwrap(), all().max().unwrap())
        };
        (range(|at, width| at / width), range(|at, width| at % width))
    }

    #[test]
    fn one_rectangle_of_valid_area_and_shape_is_filled() {
        let (height, width) = (64, 32);
        for number in 0..300 {
            let mut picture = Picture::new(height, width, vec![1.0; 3 * height * width]);
            certain().apply(&mut picture, &mut Seed::new(number).stream());
            let ((top, bottom), (left, right)) = bounds(&picture.values[..height * width], width);
            let (tall, wide) = (bottom - top + 1, right - left + 1);
            assert!(tall < height && wide < width);
            // Rounding changes a side by up to half a pixel.
            let least = (tall as f32 - 0.5) * (wide as f32 - 0.5);
            let most = (tall as f32 + 0.5) * (wide as f32 + 0.5);
            assert!(
                least <= 0.4 * 2048.0 && most >= 0.02 * 2048.0,
                "{tall}x{wide}"
            );
            assert!(
                (tall as f32 + 0.5) / (wide as f32 - 0.5) >= 0.3,
                "{tall}x{wide}"
            );
            assert!(
                (tall as f32 - 0.5) / (wide as f32 + 0.5) <= 1.0 / 0.3,
                "{tall}x{wide}"
            );
            for (plane, fill) in picture.planes().zip([0.25, 0.5, 0.75]) {
                let cell = |at: usize| {
                    let (row, column) = (at / width, at % width);
                    let inside = (top..=bottom).contains(&row) && (left..=right).contains(&column);
                    if inside { fill } else { 1.0 }
                };
                let expected: Vec<f32> = (0..plane.len()).map(cell).collect();
                assert_eq!(plane, expected);
            }
        }
    }

    #[test]
    fn a_quarter_of_a_4x4_picture_is_a_2x2_rectangle() {
        // Area 0.25 of 4x4 with aspect 1: √4 = 2, so 2x2 cells.
        let erasing = RandomErasing {
            area: (0.25, 0.25),
            aspect: 1.0,
            ..certain()
        };
        let mut picture = Picture::new(4, 4, vec![1.0; 48]);
        erasing.apply(&mut picture, &mut Seed::new(5).stream());
        let ((top, bottom), (left, right)) = bounds(&picture.values[..16], 4);
        assert_eq!((bottom - top, right - left), (1, 1));
    }

    #[test]
    fn a_rectangle_that_never_fits_changes_nothing() {
        // A rectangle of the picture's area is never strictly smaller than the picture.
        let erasing = RandomErasing {
            area: (1.0, 1.0),
            aspect: 1.0,
            ..certain()
        };
        let mut picture = Picture::new(4, 4, vec![1.0; 48]);
        erasing.apply(&mut picture, &mut Seed::new(5).stream());
        assert_eq!(picture.values, [1.0; 48]);
    }

    #[test]
    fn the_default_fill_normalises_to_0() {
        let erasing = RandomErasing {
            probability: 1.0,
            ..RandomErasing::default()
        };
        let chain = (erasing, Normalise::IMAGENET);
        let mut picture = Picture::new(8, 8, vec![1.0; 192]);
        chain.apply(&mut picture, &mut Seed::new(5).stream());
        assert!(picture.planes().all(|plane| plane.contains(&0.0)));
    }
}
