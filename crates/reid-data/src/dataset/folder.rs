//! Folders: one per identity, the images of that identity in it.

use std::path::Path;

use reid_core::{Sample, Split, Splits};

use super::reading::{
    check, listing,
    numbering::{Row, numbered},
};
use crate::Error;

const LAYOUT: &str = "the folders train, query and gallery with a folder per identity in each";
const IMAGES: &str = "a folder per identity with jpg, jpeg, png or bmp images in it";

/// Loads a data set that keeps a folder per identity in each split.
///
/// ```text
/// root/train/anna/01.jpg      any name for the identity, any name for the image
/// root/query/carl/front.png
/// root/gallery/carl/back.png
/// ```
///
/// There are no cameras. If all folders are named by integers, these are the labels, and `-1` is
/// junk, which is left out. Otherwise identities are numbered from 1 in the order of their names,
/// alike in every split. Images come in the order of their paths. Files that are no images, hidden
/// ones, folders without images and what lies deeper are passed over.
///
/// # Errors
/// [`Error::MissingFolder`], [`Error::EmptySplit`], [`Error::OneIdentity`] if training shows only
/// one, and [`Error::Io`].
///
/// ```
/// use reid_data::dataset::folder;
///
/// # let root = tempfile::tempdir()?;
/// for file in ["train/anna/1.jpg", "train/bert/1.jpg", "query/carl/1.jpg", "gallery/carl/2.jpg"] {
///     let path = root.path().join(file);
///     std::fs::create_dir_all(path.parent().expect("has one"))?;
///     std::fs::write(path, "")?;
/// }
/// let splits = folder::load(root.path())?;
/// assert_eq!(splits.query[0].identity, splits.gallery[0].identity);
/// assert_eq!(splits.query[0].camera, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(root: impl AsRef<Path>) -> Result<Splits, Error> {
    let root = root.as_ref();
    let place = |split: Split| root.join(split.to_string());
    let mut rows = Vec::new();
    for split in [Split::Train, Split::Query, Split::Gallery] {
        rows.extend(read(&place(split), split, LAYOUT)?);
    }
    check::checked(numbered(listing::name(root), rows), place, IMAGES)
}

/// Loads one folder that holds a folder per identity, such as a gallery to search in.
///
/// Identities are numbered as by [`load`], but from this folder alone: two folders that are loaded
/// separately agree only if they are named by integers.
///
/// # Errors
/// [`Error::MissingFolder`], [`Error::NoImages`] and [`Error::Io`].
///
/// ```
/// use reid_core::Identity;
/// use reid_data::dataset::folder;
///
/// # let gallery = tempfile::tempdir()?;
/// for file in ["17/front.jpg", "17/back.jpg", "23/front.jpg"] {
///     let path = gallery.path().join(file);
///     std::fs::create_dir_all(path.parent().expect("has one"))?;
///     std::fs::write(path, "")?;
/// }
/// let samples = folder::load_split(gallery.path())?;
/// assert_eq!(samples.len(), 3);
/// assert_eq!(samples[2].identity, Identity::new(23));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load_split(folder: impl AsRef<Path>) -> Result<Vec<Sample>, Error> {
    let folder = folder.as_ref();
    let rows = read(folder, Split::Gallery, IMAGES)?;
    let mut samples = numbered(String::new(), rows).gallery;
    check::drop_junk(&mut samples);
    if samples.is_empty() {
        return Err(Error::NoImages {
            path: folder.to_owned(),
            expected: IMAGES,
        });
    }
    Ok(samples)
}

fn read(folder: &Path, split: Split, expected: &'static str) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for identity in listing::folders(folder, expected)? {
        let images = listing::images(&identity, expected)?;
        let name = identity.file_name().unwrap_or_default().to_string_lossy();
        rows.extend(images.into_iter().map(|path| Row {
            split,
            path,
            identity: name.clone().into_owned(),
            camera: None,
        }));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn set(files: &[&str]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    fn labels(samples: &[Sample]) -> Vec<i64> {
        samples.iter().map(|s| s.identity.label()).collect()
    }

    #[test]
    fn names_are_numbered_alike_in_every_split() {
        let root = set(&[
            "train/dora/b.jpg",
            "train/dora/a.PNG",
            "train/anna/x.bmp",
            "train/anna/notes.txt",
            "train/.hidden/x.jpg",
            "train/loose.jpg",
            "query/carl/1.jpg",
            "gallery/bert/1.jpg",
            "gallery/carl/deeper/1.jpg",
            "gallery/carl/2.jpeg",
        ]);
        // anna 1, bert 2, carl 3, dora 4
        let splits = load(root.path()).unwrap();
        assert_eq!(labels(&splits.train), [1, 4, 4]);
        assert_eq!(labels(&splits.query), [3]);
        assert_eq!(labels(&splits.gallery), [2, 3]);
        assert!(splits.train[1].path.ends_with("train/dora/a.PNG"));
        assert!(!splits.has_cameras());
    }

    #[test]
    fn integers_are_labels_and_junk_is_out() {
        let root = set(&["12/1.jpg", "7/1.jpg", "-1/1.jpg"]);
        let samples = load_split(root.path()).unwrap();
        assert_eq!(labels(&samples), [12, 7]); // in the order of paths: "-1", "12", "7"
    }

    #[test]
    fn what_is_missing_is_named() {
        let root = set(&["train/a/1.jpg", "train/b/1.jpg", "query/a/1.jpg"]);
        let error = load(root.path()).expect_err("there is no gallery");
        assert!(matches!(&error, Error::MissingFolder { path, .. } if path.ends_with("gallery")));

        fs::create_dir_all(root.path().join("gallery/a")).unwrap();
        let error = load(root.path()).expect_err("an identity without images");
        assert!(matches!(
            error,
            Error::EmptySplit {
                split: Split::Gallery,
                ..
            }
        ));

        let error = load_split(root.path().join("gallery")).expect_err("no images");
        assert!(matches!(error, Error::NoImages { .. }));
    }

    #[test]
    fn one_identity_is_too_few_to_train_on() {
        let root = set(&[
            "train/a/1.jpg",
            "train/a/2.jpg",
            "query/b/1.jpg",
            "gallery/b/2.jpg",
        ]);
        let error = load(root.path()).expect_err("only one");
        assert!(
            error.to_string().contains("expected at least 2 identities"),
            "{error}"
        );
    }
}
