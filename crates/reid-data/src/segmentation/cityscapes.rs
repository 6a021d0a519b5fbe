//! Cityscapes (Cordts et al., CVPR 2016, arXiv:1604.01685).
//!
//! ```text
//! root/leftImg8bit/{train,val}/CITY/CITY_000000_000019_leftImg8bit.png
//! root/gtFine/{train,val}/CITY/CITY_000000_000019_gtFine_labelIds.png
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{PixelSample, PixelSplits};
use crate::Error;

/// The ending of the names of images.
const IMAGE: &str = "_leftImg8bit.png";

/// The ending of the names of label maps.
const LABELS: &str = "_gtFine_labelIds.png";

/// Reads the samples of the folder `root` with the fine labels, without opening the images: 2,975 for
/// training and 500 for validation. Open them with
/// [`LabelEncoding::CITYSCAPES_IDS`](super::LabelEncoding::CITYSCAPES_IDS).
///
/// # Errors
/// If a folder is missing or cannot be read; if it has no images; if the name of an image does not follow the
/// layout; and if a label map is missing.
pub fn load(root: impl AsRef<Path>) -> Result<PixelSplits, Error> {
    let root = root.as_ref();
    Ok(PixelSplits {
        train: split(root, "train")?,
        val: split(root, "val")?,
    })
}

fn split(root: &Path, name: &str) -> Result<Vec<PixelSample>, Error> {
    let folder = root.join("leftImg8bit").join(name);
    let mut samples = Vec::new();
    for city in entries(&folder)? {
        if !city.is_dir() {
            continue;
        }
        let town = city.file_name().unwrap_or_default().to_owned();
        let labels = root.join("gtFine").join(name).join(&town);
        for image in entries(&city)? {
            let stem = image.file_name().and_then(|name| name.to_str());
            let stem = stem.and_then(|name| name.strip_suffix(IMAGE));
            let stem = stem.filter(|stem| names_a_frame(stem, &town.to_string_lossy()));
            let stem = stem.ok_or_else(|| Error::FileName {
                path: image.clone(),
                expected: "CITY_000000_000019_leftImg8bit.png",
            })?;
            let labels = labels.join(format!("{stem}{LABELS}"));
            if !labels.is_file() {
                return Err(Error::Entry {
                    path: image,
                    expected: format!("a label map {}", labels.display()),
                    found: "none".to_owned(),
                });
            }
            samples.push(PixelSample::new(image, labels));
        }
    }
    if samples.is_empty() {
        return Err(Error::NoImages {
            path: folder,
            expected: "images such as CITY/CITY_000000_000019_leftImg8bit.png",
        });
    }
    Ok(samples)
}

/// Whether a name is the city, the sequence and the frame.
fn names_a_frame(name: &str, city: &str) -> bool {
    let numbers = name
        .strip_prefix(city)
        .and_then(|rest| rest.strip_prefix('_'));
    let numbers = numbers.and_then(|rest| rest.split_once('_'));
    numbers.is_some_and(|(sequence, frame)| {
        [sequence, frame]
            .into_iter()
            .all(|number| number.len() == 6 && number.bytes().all(|digit| digit.is_ascii_digit()))
    })
}

/// The entries of a folder in the order of their names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    if !folder.is_dir() {
        return Err(Error::MissingFolder {
            path: folder.to_owned(),
            expected: "leftImg8bit and gtFine, each with train and val",
        });
    }
    let unreadable = |source| Error::Io {
        path: folder.to_owned(),
        source,
    };
    let entries = fs::read_dir(folder).map_err(unreadable)?;
    let entries = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    entries.sort();
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[String]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, "").expect("written");
        }
        root
    }

    fn frame(split: &str, city: &str, number: usize) -> [String; 2] {
        let name = format!("{split}/{city}/{city}_{number:06}_000019");
        [
            format!("leftImg8bit/{name}{IMAGE}"),
            format!("gtFine/{name}{LABELS}"),
        ]
    }

    fn error(files: &[String]) -> String {
        let root = tree(files);
        let error = load(root.path()).expect_err("a wrong layout").to_string();
        error.replace(&format!("{}/", root.path().display()), "")
    }

    #[test]
    fn frames_of_all_cities_are_found_in_order() {
        let mut files = frame("val", "munster", 7).to_vec();
        for (city, number) in [("ulm", 1), ("aachen", 0), ("aachen", 3)] {
            files.extend(frame("train", city, number));
        }
        let root = tree(&files);
        let splits = load(root.path()).expect("the layout");
        assert_eq!((splits.train.len(), splits.val.len()), (3, 1));
        let last = &splits.train[2];
        assert!(
            last.image
                .ends_with("ulm/ulm_000001_000019_leftImg8bit.png")
        );
        assert!(
            last.labels
                .ends_with("ulm/ulm_000001_000019_gtFine_labelIds.png")
        );
    }

    #[test]
    fn missing_labels_names_and_folders_are_rejected() {
        let [image, _] = frame("train", "ulm", 1);
        let expected = format!(
            "{image}: expected a label map \
             gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png, found `none`"
        );
        assert_eq!(error(std::slice::from_ref(&image)), expected);
        let other = image.replace("ulm_000001", "bonn_000001");
        let found = error(std::slice::from_ref(&other));
        assert_eq!(
            found,
            format!("{other}: expected a name such as CITY_000000_000019_leftImg8bit.png")
        );
        let found = error(&[]);
        assert!(
            found.starts_with("leftImg8bit/train: no such folder"),
            "{found}"
        );
    }
}
