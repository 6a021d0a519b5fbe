//! Horizontal flips: mirrors a picture left to right.

use reid_core::{Problems, Stream, Validate};
use serde::{Deserialize, Serialize};

use super::{Picture, Transform, draw};

/// A transform that mirrors a picture left to right, with a given probability.
///
/// ```
/// use reid_core::Seed;
/// use reid_data::transform::{Flip, Picture, Transform};
///
/// let mut picture = Picture::new(1, 2, vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
/// Flip { probability: 1.0 }.apply(&mut picture, &mut Seed::new(1).stream());
/// assert_eq!(picture.values, [0.2, 0.1, 0.4, 0.3, 0.6, 0.5]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flip {
    /// The probability of a flip, 0 to 1. Common value: 0.5.
    pub probability: f32,
}

impl Validate for Flip {
    fn validate(&self, problems: &mut Problems) {
        problems.number("probability", self.probability, 0.0..=1.0);
    }
}

impl Transform for Flip {
    fn apply(&self, picture: &mut Picture, stream: &mut Stream) {
        if draw::happens(self.probability, stream) {
            for row in picture.values.chunks_exact_mut(picture.width) {
                row.reverse();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use reid_core::Seed;

    use super::*;

    #[test]
    fn flipping_twice_changes_nothing() {
        let original = Picture::new(3, 5, (0..45).map(|v| v as f32 / 45.0).collect());
        let mut picture = original.clone();
        let flip = Flip { probability: 1.0 };
        let mut stream = Seed::new(1).stream();
        flip.apply(&mut picture, &mut stream);
        assert_ne!(picture, original);
        flip.apply(&mut picture, &mut stream);
        assert_eq!(picture, original);
    }
}
