//! Evaluation loader: images as they are, in order.

use std::sync::Arc;

use image::RgbImage;
use reid_core::{Identity, InputSize, Sample};

use super::{Batches, LoaderConfig, pictures::Pictures};
use crate::{
    Error,
    resize::resize,
    transform::{Normalise, Picture},
};

/// Images as they are, in order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EvalBatch {
    /// The images, `[n, 3, height, width]`, normalised.
    pub images: Vec<f32>,
    /// Who each image shows.
    pub identities: Vec<Identity>,
    /// Where each image stands among the samples.
    pub indices: Vec<usize>,
    /// Height and width of the images.
    pub size: InputSize,
}

/// Loads images as they are, resized and normalised, in order.
///
/// Images that were loaded before come from memory as long as [`LoaderConfig::cache_bytes`] allows,
/// so keep the loader from one evaluation to the next.
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
    /// A loader of images of this size.
    #[must_use]
    pub fn new(size: InputSize, normalise: Normalise, config: LoaderConfig) -> Self {
        let pictures = Arc::new(Pictures::new(size, config.cache_bytes));
        Self::sharing(pictures, normalise, config)
    }

    /// A loader that shares the memory of another.
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

    /// How the images are normalised.
    #[must_use]
    pub fn normalise(&self) -> Normalise {
        self.normalise
    }

    /// Height and width of the images.
    #[must_use]
    pub fn size(&self) -> InputSize {
        self.pictures.size()
    }

    /// An image in memory as the network takes it: resized, from 0 to 1, and normalised; `[3, height, width]`.
    #[must_use]
    pub fn prepare(&self, image: &RgbImage) -> Vec<f32> {
        let mut picture = Picture::from(&resize(image, self.size()));
        self.normalise.normalise(&mut picture);
        picture.values
    }

    /// The samples in batches of `batch_size`; the last may be smaller.
    ///
    /// An item is an error of [`decode`](crate::decode) if an image cannot be read.
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
    fn images_come_in_order_and_by_hand() {
        // Grey 0, 51, 102, ... of 255 are 0, 0.2, 0.4, ...; (x - 0.5) / 0.5 makes -1, -0.6, -0.2, ...
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
    fn a_damaged_image_is_an_error_in_its_place() {
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
