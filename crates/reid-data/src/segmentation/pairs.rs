//! Folders of images and label maps with the same names.
//!
//! ```text
//! root/images/train/NAME.jpg      any image format
//! root/labels/train/NAME.png      8-bit grey values
//! root/images/val/…, root/labels/val/…
//! ```

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use super::{PixelSample, PixelSplits};
use crate::{Error, FileKind, file_kind};

/// Reads the samples of the folder `root`, without opening the images.
///
/// # Errors
/// If a folder is missing or cannot be read; if it has no images; if an image has no label map, or a label
/// map no image; and if two images have the same name.
pub fn load(root: impl AsRef<Path>) -> Result<PixelSplits, Error> {
    let root = root.as_ref();
    Ok(PixelSplits {
        train: split(root, "train")?,
        val: split(root, "val")?,
    })
}

fn split(root: &Path, name: &str) -> Result<Vec<PixelSample>, Error> {
    let [images, labels] = ["images", "labels"].map(|folder| root.join(folder).join(name));
    let (found, mut maps) = (files(&images)?, files(&labels)?);
    let mut samples = Vec::with_capacity(found.len());
    for (stem, image) in found {
        let labels = maps.remove(&stem).ok_or_else(|| Error::Entry {
            path: image.clone(),
            expected: format!("a label map {}.png", labels.join(&stem).display()),
            found: "none".to_owned(),
        })?;
        samples.push(PixelSample::new(image, labels));
    }
    if let Some((stem, path)) = maps.pop_first() {
        return Err(Error::Entry {
            path,
            expected: format!("an image {}.*", images.join(stem).display()),
            found: "none".to_owned(),
        });
    }
    Ok(samples)
}

/// The image files of a folder by their names without extension.
fn files(folder: &Path) -> Result<BTreeMap<OsString, PathBuf>, Error> {
    let unreadable = |source| Error::Io {
        path: folder.to_owned(),
        source,
    };
    if !folder.is_dir() {
        return Err(Error::MissingFolder {
            path: folder.to_owned(),
            expected: "images/train, images/val, labels/train and labels/val",
        });
    }
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        match file_kind(&path) {
            FileKind::Readable => {}
            FileKind::UnreadableImage(format) => {
                return Err(Error::ImageFormat {
                    path,
                    expected: "a JPEG, PNG, WebP, TIFF, GIF or BMP image",
                    found: format.to_owned(),
                });
            }
            FileKind::Other => continue,
        }
        let stem = path.file_stem().unwrap_or_default().to_owned();
        if let Some(other) = files.insert(stem, path.clone()) {
            let (one, two) = (path.clone().min(other.clone()), path.max(other));
            return Err(Error::Entry {
                path: one,
                expected: "one file of this name without extension".to_owned(),
                found: two.display().to_string(),
            });
        }
    }
    if files.is_empty() {
        return Err(Error::NoImages {
            path: folder.to_owned(),
            expected: "image files",
        });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, "").expect("written");
        }
        root
    }

    fn error(files: &[&str]) -> String {
        let root = tree(files);
        let error = load(root.path()).expect_err("a wrong layout").to_string();
        error.replace(&format!("{}/", root.path().display()), "")
    }

    const WHOLE: [&str; 5] = [
        "images/train/b.jpg",
        "labels/train/b.png",
        "images/val/c.png",
        "labels/val/c.png",
        "images/train/readme.txt",
    ];

    #[test]
    fn images_and_label_maps_with_the_same_names_are_pairs() {
        let mut files = WHOLE.to_vec();
        files.extend(["images/train/a.jpg", "labels/train/a.png"]);
        let root = tree(&files);
        let splits = load(root.path()).expect("pairs");
        let names = |samples: &[PixelSample]| -> Vec<_> {
            let names = samples.iter().map(|sample| {
                let name = |path: &Path| path.file_name().expect("a name").to_owned();
                (name(&sample.image), name(&sample.labels))
            });
            names.collect()
        };
        let expected = [("a.jpg", "a.png"), ("b.jpg", "b.png")].map(|(a, b)| (a.into(), b.into()));
        assert_eq!(names(&splits.train), expected);
        assert_eq!(splits.val.len(), 1);
    }

    #[test]
    fn files_without_a_partner_are_rejected() {
        let mut files = WHOLE.to_vec();
        files.push("images/val/d.jpg");
        let expected = "images/val/d.jpg: expected a label map labels/val/d.png, found `none`";
        assert_eq!(error(&files), expected);
        files.pop();
        files.push("images/val/d.1.jpg");
        let expected = "images/val/d.1.jpg: expected a label map labels/val/d.1.png, found `none`";
        assert_eq!(error(&files), expected);
        files.pop();
        files.push("labels/train/a.png");
        let expected = "labels/train/a.png: expected an image images/train/a.*, found `none`";
        assert_eq!(error(&files), expected);
        files.pop();
        files.push("images/train/b.png");
        let expected = "images/train/b.jpg: expected one file of this name without extension, \
                        found `images/train/b.png`";
        assert_eq!(error(&files), expected);
    }

    #[test]
    fn missing_and_empty_folders_are_rejected() {
        let found = error(&WHOLE[..2]);
        assert!(
            found.starts_with("images/val: no such folder, expected images/train"),
            "{found}"
        );
        let found = error(&["images/train/a.txt", "labels/train/a.png"]);
        assert_eq!(found, "images/train: no images, expected image files");
    }
}
