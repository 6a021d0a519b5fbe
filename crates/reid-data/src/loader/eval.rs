//! The evaluation loader: images without augmentation, in order.

use std::sync::Arc;

use image::RgbImage;
use reid_core::{Identity, InputSize, Sample};

use super::{Batches, LoaderConfig, pictures::Pictures};
use crate::{Error, resize::resize, transform::Normalise};

/// A batch of images without augmentation.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EvalBatch {
    /// The images, `[n, 3, height, width]`, normalised.
    pub images: Vec<f32>,
    /// The identity of each image.
    pub identities: Vec<Identity>,
    /// The index of each image among the samples.
    pub indices: Vec<usize>,
    /// The height and width of the images.
    pub size: InputSize,
}

/// A data loader that resizes and normalises images, without augmentation, in order.
///
/// Decoded images are cached, up to [`LoaderConfig::cache_bytes`]. Use the same loader for all evaluations of
/// a run, so that later ones load images from the cache.
///
/// ```
/// use reid_core::{Identity, InputSize, Sample};
/// use reid_data::loader::{EvalLoader, LoaderConfig};
/// use reid_data::transform::Normalise;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("1.png");
/// # image::RgbImage::new(4, 8).save(&path)?;
/// let samples = vec![Sample::new(path, Identity::new(7)); 5];
/// let config = LoaderConfig::default();
/// let loader = EvalLoader::new(InputSize::new(16, 8), Normalise::IMAGENET, config);
///
/// let batches: Vec<_> = loader.batches(&samples, 2).collect::<Result<_, _>>()?;
/// assert_eq!(batches.len(), 3);
/// assert_eq!(batches[2].indices, [4]); // the last one is smaller
/// assert_eq!(batches[2].images.len(), 3 * 16 * 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct EvalLoader {
    pictures: Arc<Pictures>,
    normalise: Normalise,
    config: LoaderConfig,
}

impl EvalLoader {
    /// Creates a loader that resizes images to `size`.
    #[must_use]
    pub fn new(size: InputSize, normalise: Normalise, config: LoaderConfig) -> Self {
        let pictures = Arc::new(Pictures::new(size, config.cache_bytes));
        Self::sharing(pictures, normalise, config)
    }

    /// Creates a loader that shares the image cache of another loader.
    pub(super) fn sharing(
        pictures: Arc<Pictures>,
        normalise: Normalise,
        config: LoaderConfig,
    ) -> Self {
        Self {
            pictures,
            normalise,
            config,
        }
    }

    /// The normalisation of the images.
    #[must_use]
    pub fn normalise(&self) -> Normalise {
        self.normalise
    }

    /// The height and width of the images.
    #[must_use]
    pub fn size(&self) -> InputSize {
        self.pictures.size()
    }

    /// Prepares an image in memory as network input: resizes it, scales its values to 0 to 1, and normalises
    /// it.
    ///
    /// The result is `[3, height, width]`.
    ///
    /// # Panics
    /// If the image has no pixels.
    #[must_use]
    pub fn prepare(&self, image: &RgbImage) -> Vec<f32> {
        let resized = resize(image, self.size());
        let pixels = resized.as_raw().as_chunks::<3>().0;
        let mut values = vec![0.0; 3 * pixels.len()];
        let planes = values.chunks_exact_mut(pixels.len());
        for (colour, (plane, normalised)) in planes.zip(self.normalise.table()).enumerate() {
            for (value, pixel) in plane.iter_mut().zip(pixels) {
                *value = normalised[usize::from(pixel[colour])];
            }
        }
        values
    }

    /// Iterates over the samples in batches of `batch_size`; the last batch may be smaller.
    ///
    /// If an image cannot be read, the item is the error of [`decode`](crate::decode).
    ///
    /// # Panics
    /// If `batch_size` is 0.
    #[must_use]
    pub fn batches(&self, samples: &[Sample], batch_size: usize) -> Batches<EvalBatch> {
        assert!(batch_size > 0, "an evaluation batch needs at least 1 image");
        let loader = self.clone();
        let samples = samples.to_vec();
        let count = samples.len().div_ceil(batch_size);
        Batches::start(count, self.config, move |number| {
            let first = number * batch_size;
            let end = samples.len().min(first + batch_size);
            loader.batch(&samples, (first..end).collect())
        })
    }

    fn batch(&self, samples: &[Sample], indices: Vec<usize>) -> Result<EvalBatch, Error> {
        let size = self.pictures.size();
        let mut images = Vec::with_capacity(indices.len() * 3 * size.pixels());
        for &index in &indices {
            let mut picture = self.pictures.get(&samples[index].path)?;
            self.normalise.normalise(&mut picture);
            images.extend(picture.values);
        }
        Ok(EvalBatch {
            images,
            identities: indices
                .iter()
                .map(|&index| samples[index].identity)
                .collect(),
            indices,
            size,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CONFIG: LoaderConfig = LoaderConfig {
        workers: 3,
        prefetch: 2,
        cache_bytes: 60,
    };

    #[test]
    fn images_come_in_order_with_the_values_computed_by_hand() {
        // Grey values 0, 51, 102, ... of 255 are 0, 0.2, 0.4, ...; (x - 0.5) / 0.5 is -1, -0.6, -0.2, ...
        let folder = tempfile::tempdir().unwrap();
        let sample = |number: u8| {
            let path = folder.path().join(format!("{number}.png"));
            let image = RgbImage::from_pixel(3, 5, image::Rgb([number * 51; 3]));
            image.save(&path).unwrap();
            Sample::new(path, Identity::new(i64::from(number)))
        };
        let samples: Vec<Sample> = (0..5).map(sample).collect();
        let normalise = Normalise {
            mean: [0.5; 3],
            std: [0.5; 3],
        };
        let loader = EvalLoader::new(InputSize::new(1, 2), normalise, CONFIG);
        for _ in 0..2 {
            let batches: Result<Vec<_>, _> = loader.batches(&samples, 2).collect();
            let batches = batches.unwrap();
            assert_eq!(
                batches.iter().map(|b| b.indices.len()).collect::<Vec<_>>(),
                [2, 2, 1]
            );
            let values: Vec<f32> = batches.iter().flat_map(|b| b.images.clone()).collect();
            assert_eq!(values.len(), 5 * 6);
            for (at, value) in values.into_iter().enumerate() {
                let expected = -1.0 + 0.4 * (at / 6) as f32;
                assert!(
                    (value - expected).abs() < 1e-6,
                    "{value} instead of {expected}"
                );
            }
            assert_eq!(batches[1].identities, [2, 3].map(Identity::new));
        }
    }

    #[test]
    fn a_damaged_image_is_an_error_at_its_position() {
        let folder = tempfile::tempdir().unwrap();
        let good = folder.path().join("good.png");
        RgbImage::new(2, 2).save(&good).unwrap();
        let bad = folder.path().join("bad.png");
        fs::write(&bad, "no image").unwrap();
        let samples = [&good, &good, &bad].map(|path| Sample::new(path, Identity::new(1)));
        let loader = EvalLoader::new(InputSize::new(2, 2), Normalise::IMAGENET, CONFIG);
        let mut batches = loader.batches(&samples, 1);
        assert!(batches.next().unwrap().is_ok() && batches.next().unwrap().is_ok());
        let error = batches.next().unwrap().expect_err("not an image");
        assert!(matches!(error, Error::ImageFormat { path, .. } if path == bad));
        assert!(batches.next().is_none());
    }
}
