//! Header checks: whether every image of a dataset can be opened, before training starts.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use rayon::prelude::*;

use crate::{Error, dimensions, segmentation::PixelSample};

/// The number of images between two calls of `progress`.
const STRIDE: usize = 256;

/// Reads the header of each image, and returns one error for each image that cannot be opened, in the order
/// of `images`.
///
/// The images are read in parallel on all cores. A few kilobytes of each file are read: about 20 µs per image
/// if the operating system has the file in memory, or one disk access otherwise.
///
/// `progress` is called with the number of images checked so far, after every 256 images and after the last.
/// The calls come from several threads.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// let (good, bad) = (folder.path().join("1.png"), folder.path().join("2.png"));
/// image::RgbImage::new(16, 32).save(&good)?;
/// std::fs::write(&bad, "no image")?;
///
/// let errors = reid_data::unopenable(&[&good, &bad], |_| {});
/// assert!(errors.len() == 1 && errors[0].to_string().contains("2.png"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn unopenable<P: AsRef<Path> + Sync>(
    images: &[P],
    progress: impl Fn(usize) + Sync,
) -> Vec<Error> {
    failures(images, |image| dimensions(image).map(|_| ()), progress)
}

/// Reads the header of the label map of each sample. Returns one error for each that cannot be opened, is not a label
/// map, or has another size than its image. The errors are in the order of `samples`.
///
/// Cost and `progress` are those of [`unopenable`].
///
/// ```
/// use reid_data::{segmentation::PixelSample, unopenable_label_maps};
///
/// # let folder = tempfile::tempdir()?;
/// let (image, labels) = (folder.path().join("1.png"), folder.path().join("2.png"));
/// image::RgbImage::new(16, 32).save(&image)?;
/// image::GrayImage::new(16, 31).save(&labels)?;
///
/// let sample = PixelSample::new(&image, &labels);
/// let errors = unopenable_label_maps(&[&sample], |_| {});
/// assert!(errors[0].to_string().contains("expected 16 x 32 pixels"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn unopenable_label_maps(
    samples: &[&PixelSample],
    progress: impl Fn(usize) + Sync,
) -> Vec<Error> {
    failures(samples, |sample| sample.check_label_map(), progress)
}

/// Checks files in parallel and returns the errors in the order of the files.
fn failures<T: Sync>(
    files: &[T],
    check: impl Fn(&T) -> Result<(), Error> + Sync,
    progress: impl Fn(usize) + Sync,
) -> Vec<Error> {
    let done = AtomicUsize::new(0);
    let failed = files.par_iter().filter_map(|file| {
        let failed = check(file).err();
        let number = done.fetch_add(1, Ordering::Relaxed) + 1;
        if number.is_multiple_of(STRIDE) || number == files.len() {
            progress(number);
        }
        failed
    });
    failed.collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf, sync::Mutex};

    use super::*;

    #[test]
    fn label_maps_of_another_format_or_size_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        image::RgbImage::new(8, 6).save(path("image.png")).unwrap();
        image::RgbImage::new(8, 6)
            .save(path("colours.png"))
            .unwrap();
        image::GrayImage::new(8, 6).save(path("lossy.jpg")).unwrap();
        image::GrayImage::new(6, 8)
            .save(path("swapped.png"))
            .unwrap();
        image::GrayImage::new(8, 6)
            .save(path("labels.png"))
            .unwrap();
        let names = [
            "labels.png",
            "colours.png",
            "lossy.jpg",
            "swapped.png",
            "none.png",
        ];
        let samples = names.map(|name| PixelSample::new(path("image.png"), path(name)));
        let errors = unopenable_label_maps(&samples.each_ref(), |_| {});
        let expected = [
            "found colours of the type Rgb8",
            "found Jpeg",
            "expected 8 x 6 pixels",
            "none.png",
        ];
        assert_eq!(errors.len(), expected.len(), "{errors:?}");
        for (error, expected) in errors.iter().zip(expected) {
            assert!(error.to_string().contains(expected), "{error}");
        }
        // An image that cannot be opened is not an error of its label map.
        let sample = PixelSample::new(path("none.png"), path("labels.png"));
        assert!(unopenable_label_maps(&[&sample], |_| {}).is_empty());
    }

    #[test]
    fn every_unreadable_image_is_reported_in_order_and_progress_reaches_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: usize| folder.path().join(format!("{name:03}.png"));
        let images: Vec<PathBuf> = (0..600).map(path).collect();
        image::RgbImage::new(4, 4).save(&images[0]).unwrap();
        let bytes = fs::read(&images[0]).unwrap();
        for image in &images {
            fs::write(image, &bytes).unwrap();
        }
        fs::write(&images[7], "no image").unwrap();
        fs::remove_file(&images[300]).unwrap();
        fs::write(&images[599], "").unwrap();

        let reported = Mutex::new(Vec::new());
        let errors = unopenable(&images, |done| reported.lock().unwrap().push(done));
        let names: Vec<String> = errors.iter().map(Error::to_string).collect();
        let expected = ["007.png", "300.png", "599.png"];
        assert_eq!(names.len(), expected.len(), "{names:?}");
        assert!(
            names
                .iter()
                .zip(expected)
                .all(|(name, file)| name.contains(file))
        );
        let mut reported = reported.into_inner().unwrap();
        reported.sort_unstable();
        assert_eq!(reported, [256, 512, 600]);
    }
}
