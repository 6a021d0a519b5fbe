//! Random scale, crop and mirror image, of an image and its labels alike (Yuan and Wang, OCNet,
//! arXiv:1809.00916).

use image::{RgbImage, imageops};
use rand::RngExt;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use reid_core::{InputSize, Problems, Seed, Stream, Validate};
use serde::{Deserialize, Serialize};

use super::{IGNORED, LabelEncoding, LabelledImage, PixelBatch, PixelSample, batch};
use crate::{
    Error, resize,
    transform::{Normalise, Picture},
};

/// Draws a random scale, a random crop and a random mirror image, as OCNet does in training.
///
/// The image is resized with the antialiased filter of [`resize`](fn@resize); a label is that of the nearest
/// pixel. If the scaled image is smaller than the crop, it is padded on the right and below with the mean of
/// the normalisation, and the labels with 255.
///
/// ```
/// use reid_core::InputSize;
/// use reid_data::segmentation::ScaleCrop;
///
/// let crop = ScaleCrop::new(InputSize::new(769, 769));
/// assert_eq!((crop.scale(0), crop.scale(crop.steps)), (0.5, 2.1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ScaleCrop {
    /// The size of the crops.
    pub size: InputSize,
    /// The smallest and the largest scale, each 0.05 to 20; 0.5 and 2.1 in OCNet.
    pub scales: [f32; 2],
    /// The number of equal steps between them, from 0; 16 in OCNet, so scales are tenths.
    pub steps: usize,
    /// The probability of a mirror image, 0 to 1.
    pub mirror: f64,
    /// The normalisation.
    pub normalise: Normalise,
}

impl ScaleCrop {
    /// The settings of OCNet, with the normalisation of `ImageNet`.
    #[must_use]
    pub const fn new(size: InputSize) -> Self {
        Self {
            size,
            scales: [0.5, 2.1],
            steps: 16,
            mirror: 0.5,
            normalise: Normalise::IMAGENET,
        }
    }

    /// Sets the smallest and the largest scale, and the number of steps between them.
    #[must_use]
    pub const fn with_scales(mut self, scales: [f32; 2], steps: usize) -> Self {
        (self.scales, self.steps) = (scales, steps);
        self
    }

    /// The scale after a number of steps from the smallest one, from 0 to [`steps`](Self::steps).
    #[must_use]
    pub fn scale(&self, step: usize) -> f32 {
        let [low, high] = self.scales;
        let share = step as f32 / self.steps.max(1) as f32;
        low * (1.0 - share) + high * share
    }

    /// Reads samples, and draws a crop of each. The random numbers of a sample depend on the seed and on its
    /// index in `samples`.
    ///
    /// # Errors
    /// Those of [`PixelSample::open`], and if there are no samples.
    ///
    /// # Panics
    /// If a setting is out of range.
    pub fn batch(
        &self,
        samples: &[PixelSample],
        encoding: &LabelEncoding,
        seed: Seed,
    ) -> Result<PixelBatch, Error> {
        if samples.is_empty() {
            let (expected, found) = (1, 0);
            return Err(Error::TooFewImages { expected, found });
        }
        let crops = samples
            .par_iter()
            .enumerate()
            .map(|(index, sample)| -> Result<_, Error> {
                let opened = sample.open(encoding)?;
                Ok(self.draw(&opened, &mut seed.at(index as u64).stream()))
            });
        let crops = crops.collect::<Result<Vec<_>, Error>>()?;
        let InputSize { height, width } = self.size;
        Ok(batch(samples, crops, [samples.len(), height, width]))
    }

    /// Draws a crop of an image: the normalised values, `[3, height, width]`, and the labels.
    ///
    /// # Panics
    /// If a setting is out of range.
    #[must_use]
    pub fn draw(&self, sample: &LabelledImage, stream: &mut Stream) -> (Vec<f32>, Vec<u8>) {
        Problems::refuse("ScaleCrop", |problems| self.validate(problems));
        let scale = self.scale(stream.random_range(0..=self.steps));
        let (width, height) = sample.image.dimensions();
        let [from_height, from_width] = [height, width].map(|side| side as usize);
        let [rows, columns] = [from_height, from_width].map(|side| scaled(side, scale));
        let image = resize(&sample.image, InputSize::new(rows, columns));
        let InputSize { height, width } = self.size;
        let top = stream.random_range(0..=rows.saturating_sub(height));
        let left = stream.random_range(0..=columns.saturating_sub(width));
        let mirror = stream.random_bool(self.mirror);
        let nearest = |at: usize, from: usize, to: usize| (2 * at + 1) * from / (2 * to);
        let pixels = (0..height).flat_map(|row| {
            (0..width).map(move |column| {
                let column = if mirror { width - 1 - column } else { column };
                (top + row, left + column)
            })
        });
        let pixels: Vec<_> = pixels.collect();
        let labels = pixels.iter().map(|&(row, column)| {
            if row >= rows || column >= columns {
                return IGNORED;
            }
            let row = nearest(row, from_height, rows);
            sample.labels[row * from_width + nearest(column, from_width, columns)]
        });
        // Only the crop is converted to floating point, because a large scale has many times its pixels.
        let [x, y, width, height] =
            [left, top, width, height].map(|of| u32::try_from(of).expect("a side"));
        let crop = imageops::crop_imm(&image, x, y, width, height).to_image();
        let pixels = pixels
            .iter()
            .map(|&(row, column)| (row - top, column - left));
        let pixels: Vec<_> = pixels.collect();
        (self.values(&crop, &pixels), labels.collect())
    }

    /// The normalised values at these rows and columns of an image; 0, the mean, outside.
    fn values(&self, image: &RgbImage, pixels: &[(usize, usize)]) -> Vec<f32> {
        let mut picture = Picture::from(image);
        self.normalise.normalise(&mut picture);
        let (rows, columns) = (picture.height, picture.width);
        let planes = picture.planes().flat_map(|plane| {
            pixels.iter().map(move |&(row, column)| {
                let inside = row < rows && column < columns;
                if inside {
                    plane[row * columns + column]
                } else {
                    0.0
                }
            })
        });
        planes.collect()
    }
}

/// A side times a scale, rounded, at least 1 pixel.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive side and a positive scale"
)]
fn scaled(side: usize, scale: f32) -> usize {
    ((side as f32 * scale).round() as usize).max(1)
}

impl Validate for ScaleCrop {
    fn validate(&self, problems: &mut Problems) {
        problems.nested("size", &self.size);
        problems.at("scales", |problems| {
            for (index, scale) in self.scales.into_iter().enumerate() {
                problems.number(&format!("[{index}]"), scale, 0.05..=20.0);
            }
        });
        problems.count("steps", self.steps, 0..=1000);
        problems.number("mirror", self.mirror, 0.0..=1.0);
        problems.nested("normalise", &self.normalise);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image of 4 x 6 pixels whose red value is ten times its label.
    fn sample() -> LabelledImage {
        let labels: Vec<u8> = (0..24).collect();
        let image = RgbImage::from_fn(6, 4, |x, y| {
            image::Rgb([10 * labels[(6 * y + x) as usize], 0, 0])
        });
        LabelledImage { image, labels }
    }

    fn plain(size: InputSize) -> ScaleCrop {
        ScaleCrop {
            normalise: Normalise {
                mean: [0.0; 3],
                std: [1.0 / 255.0; 3],
            },
            ..ScaleCrop::new(size).with_scales([1.0, 1.0], 0)
        }
    }

    #[test]
    fn images_and_labels_are_cropped_and_mirrored_alike() {
        let crop = plain(InputSize::new(2, 3));
        let mut mirrored = 0;
        for seed in 0..40 {
            let (values, labels) = crop.draw(&sample(), &mut Seed::new(seed).stream());
            let red: Vec<f32> = labels
                .iter()
                .map(|label| f32::from(*label) * 10.0)
                .collect();
            for (found, expected) in values.iter().zip(&red) {
                assert!((found - expected).abs() < 1e-3, "{values:?} of {labels:?}");
            }
            assert!(values[6..].iter().all(|value| *value == 0.0));
            mirrored += usize::from(labels[0] > labels[1]);
            assert_eq!(labels[3], labels[0] + 6);
        }
        assert!((5..35).contains(&mirrored), "{mirrored}");
    }

    #[test]
    fn small_images_are_padded_and_labels_are_those_of_the_nearest_pixel() {
        let crop = ScaleCrop {
            mirror: 0.0,
            ..plain(InputSize::new(5, 4)).with_scales([0.5, 0.5], 0)
        };
        let (values, labels) = crop.draw(&sample(), &mut Seed::new(1).stream());
        // 2 x 3 pixels of rows 1 and 3, and of columns 1, 3 and 5, and padding.
        let expected = [
            [7, 9, 11, 255],
            [19, 21, 23, 255],
            [255; 4],
            [255; 4],
            [255; 4],
        ];
        assert_eq!(labels, expected.concat());
        assert!(values[8..20].iter().all(|value| *value == 0.0));
        assert!(values[0] > 0.0 && values[3] == 0.0);
    }

    #[test]
    fn the_same_seed_draws_the_same_crop() {
        let crop = ScaleCrop::new(InputSize::new(3, 3));
        let draw = |seed| crop.draw(&sample(), &mut Seed::new(seed).stream());
        assert_eq!(draw(4), draw(4));
        let scales: Vec<_> = (0..=16).map(|step| crop.scale(step)).collect();
        for (step, scale) in scales.into_iter().enumerate() {
            assert!((scale - (5 + step) as f32 / 10.0).abs() < 1e-6);
        }
    }

    #[test]
    #[should_panic(expected = "ScaleCrop: scales[1]: expected 0.05 to 20, found 0")]
    fn a_scale_of_0_panics() {
        let crop = ScaleCrop::new(InputSize::new(3, 3)).with_scales([1.0, 0.0], 1);
        let _ = crop.draw(&sample(), &mut Seed::new(1).stream());
    }
}
