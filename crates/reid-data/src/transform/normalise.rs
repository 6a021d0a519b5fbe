//! Normalisation: subtracts a mean from each channel and divides by a standard deviation.

use std::array;

use reid_core::{Problems, Stream, Validate};
use serde::{Deserialize, Serialize};

use super::{Picture, Transform, draw};

/// A transform that subtracts a mean from each channel and divides by a standard deviation.
///
/// Use the values with which the network's pretrained weights were trained.
///
/// ```text
/// y_c = (x_c - mean_c) / std_c        [3, h, w]
/// ```
///
/// ```
/// use reid_data::transform::{Normalise, Picture};
///
/// let mut picture = Picture::new(1, 1, vec![0.714, 0.456, 0.181]);
/// Normalise::IMAGENET.normalise(&mut picture);
/// let expected = [1.0, 0.0, -1.0];
/// assert!(picture.values.iter().zip(expected).all(|(value, want)| (value - want).abs() < 1e-5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalise {
    /// The values subtracted from red, green and blue, which are from 0 to 1; each -1000 to 1000.
    pub mean: [f32; 3],
    /// The values by which red, green and blue are then divided; each 0.001 to 1000.
    pub std: [f32; 3],
}

impl Normalise {
    /// The mean and standard deviation of `ImageNet`, for networks with weights trained on it.
    pub const IMAGENET: Self = Self {
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };

    /// The mean and standard deviation of CIFAR-10 in the code of `DenseNet` (Huang et al., CVPR 2017), given
    /// as 125.3, 123.0, 113.9 and 63.0, 62.1, 66.7 of 255.
    pub const CIFAR: Self = Self {
        mean: [125.3 / 255.0, 123.0 / 255.0, 113.9 / 255.0],
        std: [63.0 / 255.0, 62.1 / 255.0, 66.7 / 255.0],
    };

    /// The normalised values of 0 to 255 in red, green and blue: bit-identical to those of
    /// [`normalise`](Self::normalise), and faster to look up than to compute for every pixel.
    pub(crate) fn table(&self) -> [[f32; 256]; 3] {
        let Self { mean, std } = *self;
        array::from_fn(|colour| {
            let normalised = |value: u8| (f32::from(value) / 255.0 - mean[colour]) / std[colour];
            let mut table = [0.0; 256];
            for (entry, value) in table.iter_mut().zip(0..=255) {
                *entry = normalised(value);
            }
            table
        })
    }

    /// Normalises a picture. Unlike [`Transform::apply`], it needs no random stream.
    pub fn normalise(&self, picture: &mut Picture) {
        let Self { mean, std } = *self;
        for ((plane, mean), std) in picture.planes_mut().zip(mean).zip(std) {
            for value in plane {
                *value = (*value - mean) / std;
            }
        }
    }
}

impl Validate for Normalise {
    fn validate(&self, problems: &mut Problems) {
        problems.at("mean", |problems| {
            for (colour, mean) in draw::COLOURS.into_iter().zip(self.mean) {
                problems.number(colour, mean, -1000.0..=1000.0);
            }
        });
        problems.at("std", |problems| {
            for (colour, std) in draw::COLOURS.into_iter().zip(self.std) {
                problems.number(colour, std, 1e-3..=1e3);
            }
        });
    }
}

impl Transform for Normalise {
    fn apply(&self, picture: &mut Picture, _stream: &mut Stream) {
        self.normalise(picture);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalising_gives_the_values_computed_by_hand() {
        // (0.5 - 0.25) / 0.5 = 0.5, (1 - 0.5) / 0.25 = 2, (0 - 0.75) / 1 = -0.75
        let mut picture = Picture::new(1, 1, vec![0.5, 1.0, 0.0]);
        let normalise = Normalise {
            mean: [0.25, 0.5, 0.75],
            std: [0.5, 0.25, 1.0],
        };
        normalise.normalise(&mut picture);
        assert_eq!(picture.values, [0.5, 2.0, -0.75]);
    }

    #[test]
    fn the_mean_becomes_exactly_zero() {
        let mut picture = Picture::new(1, 1, Normalise::IMAGENET.mean.to_vec());
        Normalise::IMAGENET.normalise(&mut picture);
        assert_eq!(picture.values, [0.0; 3]);
    }
}
