//! Datasets with one folder per identity.

use std::{collections::BTreeMap, path::Path};

use reid_core::{Sample, Split, Splits};

use super::reading::{
    check,
    identities::{Row, numbered},
    listing,
    notices::Notices,
};
use crate::Error;

const LAYOUT: &str = "the folders train, query and gallery with a folder per identity in each";
const IMAGES: &str = "a folder per identity with images in it";

/// Loads a dataset with one folder per identity in each split.
///
/// ```text
/// root/train/anna/01.jpg      any name for the identity, any name for the image
/// root/query/carl/front.png
/// root/gallery/carl/back.png
/// ```
///
/// The samples have no cameras. Folder names become identities by
/// [the rule for identities](super#identities), with the same numbering in every split. Samples are in the
/// order of their paths.
///
/// These are skipped and counted in [`Splits::notices`]: images in formats that are not supported, other
/// files, hidden files, folders without images, and subfolders of an identity folder.
///
/// # Errors
/// [`Error::MissingFolder`], [`Error::EmptySplit`], [`Error::OneIdentity`] if the training split has only
/// one identity, [`Error::Entry`] for a folder name that the rule rejects and for a broken symbolic link,
/// [`Error::NotUnicode`], and [`Error::Io`].
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
    let location = |split: Split| root.join(split.to_string());
    let (mut rows, mut notices) = (Vec::new(), Notices::default());
    for split in [Split::Train, Split::Query, Split::Gallery] {
        rows.extend(read(&location(split), split, LAYOUT, &mut notices)?);
    }
    let splits = numbered(listing::name(root), root, rows)?
        .with_layout("a folder per identity")
        .with_notices(notices.into_vec());
    check::checked(splits, location, IMAGES)
}

/// Loads the samples of one folder that has a folder per identity, such as a gallery.
///
/// Identities are numbered as in [`load`], but from this folder only. Two folders that are loaded
/// separately therefore share identities only if their identity folders have integer names. Junk is skipped.
/// The returned samples cannot carry notices, so an image that would be skipped is an error.
///
/// # Errors
/// [`Error::MissingFolder`], [`Error::Entry`], [`Error::NotUnicode`] and [`Error::Io`] as in [`load`].
/// [`Error::NoImages`] if no sample remains. [`Error::LeftOut`] for images in formats that are not supported,
/// folders without images, subfolders of an identity folder, and images outside the identity folders.
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
    let mut notices = Notices::default();
    let rows = read(folder, Split::Gallery, IMAGES, &mut notices)?;
    let mut samples = numbered(String::new(), folder, rows)?.gallery;
    check::drop_junk(&mut samples);
    if samples.is_empty() {
        return Err(Error::NoImages {
            path: folder.to_owned(),
            expected: IMAGES,
        });
    }
    notices.refuse_images(folder)?;
    Ok(samples)
}

fn read(
    folder: &Path,
    split: Split,
    expected: &'static str,
    notices: &mut Notices,
) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for identity in listing::folders(folder, expected, notices)? {
        let images = listing::images(&identity, expected, notices)?;
        if images.is_empty() {
            notices.image("folders without a readable image", &identity);
        }
        let name = listing::file_name(&identity);
        rows.extend(images.into_iter().map(|path| Row {
            attributes: BTreeMap::new(),
            split,
            path,
            identity: name.to_owned(),
            camera: None,
            line: None,
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
    fn names_are_numbered_the_same_in_every_split() {
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
        let notices = splits.notices.iter();
        let notices: Vec<_> = notices.map(|n| (n.reason.as_str(), n.count)).collect();
        assert_eq!(
            notices,
            [
                ("skipped folders where images are expected", 1),
                ("skipped images outside the identity folders", 1),
                ("skipped files without an image extension", 1),
                ("skipped hidden files and folders", 1),
            ]
        );
    }

    #[test]
    fn no_image_or_identity_is_skipped_silently() {
        let mut files = vec![
            "train/a/1.jpg",
            "train/b/1.jpg",
            "query/c/1.jpg",
            "gallery/c/2.jpg",
            "gallery/d/1.heic",
        ];
        let root = set(&files);
        fs::create_dir(root.path().join("gallery/e")).unwrap();
        let text = load(root.path()).unwrap().statistics().to_string();
        for expected in [
            "read as a folder per identity\n",
            "skipped HEIC images, which are not supported (convert them to JPEG or PNG): 1 (",
            "skipped folders without a readable image: 2 (",
        ] {
            assert!(text.contains(expected), "{text}");
        }
        // Samples cannot carry notices.
        let message = load_split(root.path().join("gallery"))
            .expect_err("a skipped image")
            .to_string();
        assert!(message.contains("gallery: expected no skipped image, found: skipped HEIC"));
        files.pop();
        assert_eq!(
            load_split(set(&files).path().join("gallery"))
                .unwrap()
                .len(),
            1
        );
    }

    #[test]
    fn folders_follow_the_rule_for_identities() {
        let both = [
            "train/Andr\u{e9}/1.jpg",
            "train/b/1.jpg",
            "query/Andre\u{301}/1.jpg",
        ];
        let root = set(&[&both[..], &["gallery/b/2.jpg"]].concat());
        let splits = load(root.path()).unwrap();
        assert_eq!(splits.query[0].identity, splits.train[0].identity);
        assert_eq!(splits.statistics().train.identities, 2);

        for (folder, expected) in [
            (
                "01",
                "01: expected the spelling `1` of this identity, as in ",
            ),
            (
                "nan",
                "nan: expected an identity, not a marker of a missing value, found `nan`",
            ),
            (
                "-3",
                "-3: expected an identity of 0 or more, or -1 for junk, found `-3`",
            ),
        ] {
            let root = set(&["1/1.jpg", &format!("{folder}/1.jpg")]);
            let message = load_split(root.path()).expect_err(folder).to_string();
            // `01` is listed before `1`, so the error is reported for `1`.
            let swapped = expected.replace("01:", "1:").replace("`1`", "`01`");
            let reported = message.contains(expected) || message.contains(&swapped);
            assert!(reported, "{message}");
        }
    }

    #[test]
    fn integer_names_are_identities_and_junk_is_skipped() {
        let root = set(&["12/1.jpg", "7/1.jpg", "-1/1.jpg"]);
        let samples = load_split(root.path()).unwrap();
        assert_eq!(labels(&samples), [12, 7]); // in the order of paths: "-1", "12", "7"
    }

    #[test]
    fn a_missing_folder_and_missing_images_are_reported() {
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
    fn a_training_split_with_one_identity_is_rejected() {
        let root = set(&[
            "train/a/1.jpg",
            "train/a/2.jpg",
            "query/b/1.jpg",
            "gallery/b/2.jpg",
        ]);
        let error = load(root.path()).expect_err("only one identity");
        assert!(
            error.to_string().contains("expected at least 2 identities"),
            "{error}"
        );
    }
}
