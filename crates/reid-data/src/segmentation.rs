//! Datasets for semantic segmentation: images and label maps of the same size, with a label for every pixel.
//!
//! | reader | layout |
//! |---|---|
//! | [`cityscapes::load`] | Cityscapes (Cordts et al., CVPR 2016, arXiv:1604.01685) |
//! | [`pairs::load`] | `images/train/NAME.*` and `labels/train/NAME.png`, also for `val` |
//!
//! A [`LabelEncoding`] maps the values in the files to classes. [`ScaleCrop`] draws crops for training, and
//! a [`CropLoader`] prepares the batches of whole epochs ahead of time.
//!
//! ```
//! use reid_core::{InputSize, Seed};
//! use reid_data::segmentation::{LabelEncoding, ScaleCrop, pairs};
//!
//! # let root = tempfile::tempdir()?;
//! # for (folder, file) in [("images", "1.jpg"), ("labels", "1.png")] {
//! #     for split in ["train", "val"] {
//! #         let folder = root.path().join(folder).join(split);
//! #         std::fs::create_dir_all(&folder)?;
//! #         image::GrayImage::new(20, 10).save(folder.join(file))?;
//! #     }
//! # }
//! let splits = pairs::load(root.path())?;
//! let encoding = LabelEncoding::classes(4);
//! let crop = ScaleCrop::new(InputSize::new(8, 8));
//! let batch = crop.batch(&splits.train, &encoding, Seed::new(1))?;
//! assert_eq!(batch.shape, [1, 8, 8]);
//! assert_eq!((batch.images.len(), batch.labels.len()), (3 * 64, 64));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod cityscapes;
mod encoding;
mod loader;
pub mod pairs;
mod scale_crop;

use std::path::PathBuf;

use image::RgbImage;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

pub use encoding::{IGNORED, LabelEncoding};
pub use loader::{CropLoader, CropSampling};
pub use scale_crop::ScaleCrop;

use crate::{
    Error,
    decode::label_map_dimensions,
    dimensions, open_image, open_label_map,
    transform::{Normalise, Picture},
};

/// An image and its label map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct PixelSample {
    /// The image file.
    pub image: PathBuf,
    /// The file of its label map.
    pub labels: PathBuf,
}

impl PixelSample {
    /// Creates a sample from the files of an image and of its label map.
    #[must_use]
    pub fn new(image: impl Into<PathBuf>, labels: impl Into<PathBuf>) -> Self {
        Self {
            image: image.into(),
            labels: labels.into(),
        }
    }

    /// Reads the image and the class of every pixel.
    ///
    /// # Errors
    /// Those of [`open_image`] and [`open_label_map`]; if the sizes differ; and if a value is not in the
    /// encoding.
    pub fn open(&self, encoding: &LabelEncoding) -> Result<LabelledImage, Error> {
        let image = open_image(&self.image)?;
        let labels = open_label_map(&self.labels)?;
        self.check_sizes(image.dimensions(), labels.dimensions())?;
        let (width, _) = labels.dimensions();
        let labels = encoding.encode(labels.into_raw(), width as usize, &self.labels)?;
        Ok(LabelledImage { image, labels })
    }

    /// Checks the header of the label map: its format, and whether it has the size of the image.
    pub(crate) fn check_label_map(&self) -> Result<(), Error> {
        let labels = label_map_dimensions(&self.labels)?;
        match dimensions(&self.image) {
            Ok(image) => self.check_sizes(image, labels),
            Err(_) => Ok(()), // not an error of the label map
        }
    }

    fn check_sizes(&self, expected: (u32, u32), found: (u32, u32)) -> Result<(), Error> {
        if expected == found {
            return Ok(());
        }
        let size = |(width, height): (u32, u32)| format!("{width} x {height} pixels");
        Err(Error::Entry {
            path: self.labels.clone(),
            expected: format!("{}, as {}", size(expected), self.image.display()),
            found: size(found),
        })
    }
}

/// An image and the class of every pixel, row by row; [`IGNORED`] for pixels without a class.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LabelledImage {
    /// The image.
    pub image: RgbImage,
    /// The class of every pixel, `[height, width]`.
    pub labels: Vec<u8>,
}

/// The samples for training and for validation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PixelSplits {
    /// The training samples, in the order of their paths.
    pub train: Vec<PixelSample>,
    /// The validation samples, in the order of their paths.
    pub val: Vec<PixelSample>,
}

impl PixelSplits {
    /// Creates splits from samples for training and for validation, which may be none.
    #[must_use]
    pub const fn new(train: Vec<PixelSample>, val: Vec<PixelSample>) -> Self {
        Self { train, val }
    }
}

/// Images and label maps of one size, as plain values.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PixelBatch {
    /// The normalised images, `[images, 3, height, width]`.
    pub images: Vec<f32>,
    /// The class of every pixel, `[images, height, width]`; [`IGNORED`] for pixels without a class.
    pub labels: Vec<u8>,
    /// The number of images, their height and their width.
    pub shape: [usize; 3],
    /// The sample of each image.
    pub samples: Vec<PixelSample>,
}

/// Reads whole images of one size and normalises them, for evaluation: `[samples, 3, height, width]`.
///
/// # Errors
/// Those of [`PixelSample::open`]; and if there are no samples, or an image has another size than the first.
pub fn whole_images(
    samples: &[PixelSample],
    encoding: &LabelEncoding,
    normalise: Normalise,
) -> Result<PixelBatch, Error> {
    let opened = samples.par_iter().map(|sample| sample.open(encoding));
    let opened = opened.collect::<Result<Vec<_>, _>>()?;
    let first = opened.first().ok_or(Error::TooFewImages {
        expected: 1,
        found: 0,
    })?;
    let (width, height) = first.image.dimensions();
    for (sample, found) in samples.iter().zip(&opened) {
        let (columns, rows) = found.image.dimensions();
        if (columns, rows) != (width, height) {
            return Err(Error::Entry {
                path: sample.image.clone(),
                expected: format!("{width} x {height} pixels, as the first image of the batch"),
                found: format!("{columns} x {rows} pixels"),
            });
        }
    }
    let pictures = opened.par_iter().map(|opened| {
        let mut picture = Picture::from(&opened.image);
        normalise.normalise(&mut picture);
        (picture.values, opened.labels.clone())
    });
    let shape = [samples.len(), height as usize, width as usize];
    Ok(batch(samples, pictures.collect(), shape))
}

fn batch(
    samples: &[PixelSample],
    pictures: Vec<(Vec<f32>, Vec<u8>)>,
    shape: [usize; 3],
) -> PixelBatch {
    let (images, labels): (Vec<_>, Vec<_>) = pictures.into_iter().unzip();
    PixelBatch {
        images: images.concat(),
        labels: labels.concat(),
        shape,
        samples: samples.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use image::GrayImage;

    use super::*;

    fn sample(image: [u32; 2], labels: [u32; 2]) -> (tempfile::TempDir, PixelSample) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let sample = PixelSample::new(path("a.png"), path("b.png"));
        let [width, height] = image;
        RgbImage::new(width, height)
            .save(&sample.image)
            .expect("saved");
        let [width, height] = labels;
        GrayImage::new(width, height)
            .save(&sample.labels)
            .expect("saved");
        (folder, sample)
    }

    #[test]
    fn a_label_map_of_another_size_is_rejected() {
        let (_folder, sample) = sample([4, 3], [3, 4]);
        let error = sample.open(&LabelEncoding::classes(2));
        let error = error.expect_err("another size").to_string();
        let (image, labels) = (sample.image.display(), sample.labels.display());
        let expected = format!("{labels}: expected 4 x 3 pixels, as {image}, found `3 x 4 pixels`");
        assert_eq!(error, expected);
    }

    #[test]
    fn whole_images_have_one_size() {
        let (_folder, one) = sample([4, 3], [4, 3]);
        let (_other_folder, other) = sample([4, 2], [4, 2]);
        let encoding = LabelEncoding::classes(1);
        let read = |samples: &[PixelSample]| whole_images(samples, &encoding, Normalise::IMAGENET);
        let batch = read(&[one.clone(), one.clone()]).expect("one size");
        assert_eq!(batch.shape, [2, 3, 4]);
        assert_eq!(batch.samples, [one.clone(), one.clone()]);
        assert_eq!(batch.labels, [0; 24]);
        // Black, normalised.
        assert!((batch.images[0] + 0.485 / 0.229).abs() < 1e-6);
        let error = read(&[one, other]).expect_err("two sizes");
        let error = error.to_string();
        assert!(
            error.contains("expected 4 x 3 pixels, as the first"),
            "{error}"
        );
        let error = read(&[]).expect_err("no image");
        assert_eq!(
            error.to_string(),
            "a batch needs 1 images, the samples have 0"
        );
    }
}
