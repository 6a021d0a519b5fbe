//! Cutout: fills a rectangle of fixed size with one colour (`DeVries` and Taylor, 2017, arXiv:1708.04552).

use reid_core::{Problems, Stream, Validate};
use serde::{Deserialize, Serialize};

use super::{Normalise, Picture, Transform, draw};

/// A transform that fills a rectangle of fixed size, at a random position inside the picture, with one
/// colour.
///
/// A side of the rectangle that is longer than the picture's is shortened to it. The transform is applied
/// before [`Normalise`], so the values of `fill` are from 0 to 1. The mean colour becomes 0 in the network's
/// input.
///
/// ```
/// use reid_core::Seed;
/// use reid_data::transform::{Cutout, Picture, Transform};
///
/// let mut picture = Picture::new(20, 10, vec![1.0; 600]);
/// let cutout = Cutout { probability: 1.0, height: 5, width: 4, fill: [0.0; 3] };
/// cutout.apply(&mut picture, &mut Seed::new(1).stream());
/// assert_eq!(picture.values[..200].iter().filter(|&&value| value == 0.0).count(), 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cutout {
    /// The probability that the transform is applied, 0 to 1. Default: 0.5, as in the code of Batch
    /// `DropBlock`.
    pub probability: f32,
    /// The height of the rectangle in pixels, at least 1. Default: 64, for pictures of 384 x 128.
    pub height: usize,
    /// The width of the rectangle in pixels, at least 1. Default: 64.
    pub width: usize,
    /// The fill colour as red, green and blue, 0 to 1. Default: the mean of [`Normalise::IMAGENET`].
    pub fill: [f32; 3],
}

impl Default for Cutout {
    fn default() -> Self {
        Self {
            probability: 0.5,
            height: 64,
            width: 64,
            fill: Normalise::IMAGENET.mean,
        }
    }
}

impl Validate for Cutout {
    fn validate(&self, problems: &mut Problems) {
        problems.number("probability", self.probability, 0.0..=1.0);
        problems.count("height", self.height, 1..=usize::MAX);
        problems.count("width", self.width, 1..=usize::MAX);
        draw::validate_colour("fill", self.fill, problems);
    }
}

impl Transform for Cutout {
    fn apply(&self, picture: &mut Picture, stream: &mut Stream) {
        if draw::happens(self.probability, stream) {
            let size = [
                self.height.min(picture.height),
                self.width.min(picture.width),
            ];
            draw::fill_rectangle(picture, size, self.fill, stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use reid_core::Seed;

    use super::*;

    #[test]
    fn one_rectangle_is_filled_at_any_position_inside() {
        let cutout = Cutout {
            probability: 1.0,
            height: 3,
            width: 2,
            fill: [0.25, 0.5, 0.75],
        };
        let mut corners = BTreeSet::new();
        for seed in 0..200 {
            let mut picture = Picture::new(5, 4, vec![1.0; 60]);
            cutout.apply(&mut picture, &mut Seed::new(seed).stream());
            for (plane, fill) in picture.planes().zip(cutout.fill) {
                let painted: Vec<usize> = (0..20).filter(|&at| plane[at] < 1.0).collect();
                let corner = painted[0];
                assert_eq!(painted, [0, 1, 4, 5, 8, 9].map(|offset| corner + offset));
                assert!(
                    painted
                        .iter()
                        .all(|&at| plane[at].to_bits() == fill.to_bits())
                );
                corners.insert(corner);
            }
        }
        assert_eq!(corners.len(), 9, "{corners:?}");
    }

    #[test]
    fn a_rectangle_longer_than_the_picture_is_shortened() {
        let cutout = Cutout {
            probability: 1.0,
            fill: [0.0; 3],
            ..Cutout::default()
        };
        let mut picture = Picture::new(70, 3, vec![1.0; 630]);
        cutout.apply(&mut picture, &mut Seed::new(1).stream());
        assert_eq!(
            picture.values.iter().filter(|&&value| value == 0.0).count(),
            64 * 9
        );
    }
}
