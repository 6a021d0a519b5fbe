//! Padding and cropping: shifts a picture and fills with black, as in the strong baseline (Luo et al., 2019,
//! arXiv:1903.07071).

use rand::RngExt;
use reid_core::{InputSize, Problems, Stream, Validate};
use serde::{Deserialize, Serialize};

use super::{Picture, Transform};

/// A transform that pads every side with black, then crops to the original size at a random position.
///
/// ```text
/// y[r, c] = x[r + down - padding, c + across - padding], black outside
/// down, across ~ uniform over 0 ..= 2·padding
/// ```
///
/// ```
/// use reid_core::Seed;
/// use reid_data::transform::{PadCrop, Picture, Transform};
///
/// let mut picture = Picture::new(4, 2, vec![1.0; 24]);
/// PadCrop { padding: 1 }.apply(&mut picture, &mut Seed::new(1).stream());
/// assert_eq!((picture.height, picture.width), (4, 2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PadCrop {
    /// The number of pixels added to each side. In a recipe, at most the shorter side of the picture. The
    /// strong baseline uses 10.
    pub padding: usize,
}

impl Validate for PadCrop {
    fn validate(&self, problems: &mut Problems) {
        problems.count("padding", self.padding, 0..=InputSize::MAX_SIDE);
    }
}

impl Transform for PadCrop {
    fn apply(&self, picture: &mut Picture, stream: &mut Stream) {
        let Picture { height, width, .. } = *picture;
        let rows = Window::draw(height, self.padding, stream);
        let columns = Window::draw(width, self.padding, stream);
        let mut values = vec![0.0; picture.values.len()];
        for (old, new) in picture
            .planes()
            .zip(values.chunks_exact_mut(height * width))
        {
            for row in 0..rows.length {
                let from = (rows.from + row) * width + columns.from;
                let to = (rows.to + row) * width + columns.to;
                new[to..to + columns.length].copy_from_slice(&old[from..from + columns.length]);
            }
        }
        picture.values = values;
    }
}

/// The range along one dimension that remains in the picture: its old start, its new start and its length.
struct Window {
    from: usize,
    to: usize,
    length: usize,
}

impl Window {
    fn draw(side: usize, padding: usize, stream: &mut Stream) -> Self {
        let offset = stream.random_range(0..=2 * padding);
        let from = offset.saturating_sub(padding).min(side);
        let to = padding.saturating_sub(offset).min(side);
        let length = side - from.max(to);
        Self { from, to, length }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use reid_core::Seed;

    use super::*;

    #[test]
    fn every_shift_occurs_and_moves_every_pixel() {
        // Values 1..=12 per plane of 4x3. Padding 1 allows nine shifts, and black comes in at the borders.
        let value = |row: usize, column: usize| (row * 3 + column + 1) as f32;
        let plane: Vec<f32> = (0..12).map(|at| value(at / 3, at % 3)).collect();
        let original = Picture::new(4, 3, plane.repeat(3));
        let mut shifts = BTreeSet::new();
        for number in 0..200 {
            let mut picture = original.clone();
            PadCrop { padding: 1 }.apply(&mut picture, &mut Seed::new(number).stream());
            let matching: Vec<(usize, usize)> = (0..9)
                .map(|shift| (shift / 3, shift % 3))
                .filter(|&(down, across)| {
                    let expected = (0..12).map(|at| {
                        let (row, column) = (at / 3 + down, at % 3 + across);
                        let inside = (1..=4).contains(&row) && (1..=3).contains(&column);
                        if inside {
                            value(row - 1, column - 1)
                        } else {
                            0.0
                        }
                    });
                    let expected: Vec<f32> = expected.collect();
                    picture.planes().all(|plane| plane == expected)
                })
                .collect();
            assert_eq!(matching.len(), 1, "no single shift explains {picture:?}");
            shifts.extend(matching);
        }
        assert_eq!(shifts.len(), 9);
    }

    #[test]
    fn padding_0_changes_nothing_and_a_large_padding_can_be_all_black() {
        let original = Picture::new(2, 2, vec![1.0; 12]);
        let mut picture = original.clone();
        PadCrop { padding: 0 }.apply(&mut picture, &mut Seed::new(1).stream());
        assert_eq!(picture, original);
        for number in 0..50 {
            PadCrop { padding: 50 }.apply(&mut picture, &mut Seed::new(number).stream());
        }
        assert_eq!(picture.values, [0.0; 12]);
    }
}
