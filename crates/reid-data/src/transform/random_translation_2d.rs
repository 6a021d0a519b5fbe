//! Random 2D translation: enlarges a picture and crops it at random, as in Torchreid and in relation-aware
//! global attention (Zhang et al., CVPR 2020, arXiv:1904.02998).

use rand::RngExt;
use reid_core::{
    Problems, Stream, Validate,
    interpolation::{LinearTap, lerp},
};
use serde::{Deserialize, Serialize};

use super::{Picture, Transform, draw};

/// The factor by which the picture is enlarged before it is cropped.
const ENLARGEMENT: f32 = 1.125;

/// A transform that enlarges a picture by 1.125, then crops to the original size at a random position.
///
/// The picture is enlarged by bilinear interpolation, and the enlarged sides are rounded to whole pixels. The
/// picture already has the network's input size before it is enlarged.
///
/// ```
/// use reid_core::Seed;
/// use reid_data::transform::{Picture, RandomTranslation2d, Transform};
///
/// let mut picture = Picture::new(16, 8, vec![0.25; 384]);
/// let translation = RandomTranslation2d { probability: 0.5 };
/// translation.apply(&mut picture, &mut Seed::new(1).stream());
/// assert_eq!(picture, Picture::new(16, 8, vec![0.25; 384])); // one colour stays one colour
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomTranslation2d {
    /// The probability that the transform is applied, 0 to 1. Common value: 0.5.
    pub probability: f32,
}

impl Validate for RandomTranslation2d {
    fn validate(&self, problems: &mut Problems) {
        problems.number("probability", self.probability, 0.0..=1.0);
    }
}

impl Transform for RandomTranslation2d {
    fn apply(&self, picture: &mut Picture, stream: &mut Stream) {
        if !draw::happens(self.probability, stream) {
            return;
        }
        let width = picture.width;
        let rows = crop(picture.height, stream);
        let columns = crop(width, stream);
        let mut values = Vec::with_capacity(picture.values.len());
        for plane in picture.planes() {
            for row in &rows {
                let upper = &plane[row.first * width..][..width];
                let lower = &plane[row.second * width..][..width];
                values.extend(columns.iter().map(|column| {
                    let between =
                        |line: &[f32]| lerp(line[column.first], line[column.second], column.weight);
                    lerp(between(upper), between(lower), row.weight)
                }));
            }
        }
        picture.values = values;
    }
}

/// Draws a random crop of the enlarged side, and computes its taps in the original side.
fn crop(side: usize, stream: &mut Stream) -> Vec<LinearTap> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and little more than the length of a side"
    )]
    let enlarged = (side as f32 * ENLARGEMENT).round() as usize;
    let offset = stream.random_range(0..=enlarged - side);
    LinearTap::resize(side, enlarged, offset..offset + side)
}

#[cfg(test)]
mod tests {
    use reid_core::Seed;

    use super::*;

    #[test]
    fn a_row_of_8_gives_the_values_computed_by_hand() {
        // 8 columns become 9, scale 8/9. Enlarged cell i is sampled at (i + 0.5)·8/9 - 0.5:
        // -0.056 → 0, 0.833, 1.722, 2.611, 3.5, 4.389, 5.278, 6.167, 7.056 → 7.
        // On the ramp 0, 1, ... 7 these are also the values; the crop starts at 0 or at 1.
        let enlarged = [
            0.0, 0.8333, 1.7222, 2.6111, 3.5, 4.3889, 5.2778, 6.1667, 7.0,
        ];
        let ramp: Vec<f32> = (0..8).map(|v| v as f32).collect();
        let mut offsets = [0; 2];
        for number in 0..40 {
            let mut picture = Picture::new(1, 8, ramp.repeat(3));
            let translation = RandomTranslation2d { probability: 1.0 };
            translation.apply(&mut picture, &mut Seed::new(number).stream());
            let offset = usize::from(picture.values[0] > 0.5);
            offsets[offset] += 1;
            let expected = enlarged[offset..offset + 8].repeat(3);
            for (value, want) in picture.values.iter().zip(expected) {
                assert!((value - want).abs() < 1e-3, "{value} instead of {want}");
            }
        }
        assert!(offsets.iter().all(|&count| count > 0), "{offsets:?}");
    }

    #[test]
    fn probability_0_changes_nothing() {
        let original = Picture::new(8, 8, (0..192).map(|v| v as f32).collect());
        let mut picture = original.clone();
        let translation = RandomTranslation2d { probability: 0.0 };
        translation.apply(&mut picture, &mut Seed::new(1).stream());
        assert_eq!(picture, original);
    }
}
