//! Classification datasets with one folder per class.

use std::path::Path;

use reid_core::{Identity, Sample, Splits};

use super::{
    msmt17,
    reading::{check, listing, notices::Notices},
};
use crate::Error;

const LAYOUT: &str = "the folders train and test with a folder per class in each";
const IMAGES: &str = "a folder per class with images in it";

/// Loads a classification dataset with one folder per class.
///
/// ```text
/// root/train/ship/0001.png      any name for the class, any name for the image
/// root/test/ship/0001.png
/// ```
///
/// The classes are the folders of `train` in the order of the bytes of their names. The identity of the first
/// is 1, and so on, whatever the names are; [`Splits::class_names`] has the names. Samples are in the order
/// of their paths. The splits have training and test images, and no queries. What is skipped is counted as in
/// [`folder`](super::folder::load).
///
/// # Errors
/// - [`Error::MissingFolder`], [`Error::NotUnicode`] and [`Error::Io`] as in [`folder`](super::folder::load)
/// - [`Error::NoImages`] if `train` or `test` has no images
/// - [`Error::OneIdentity`] if `train` has only one class
/// - [`Error::Entry`] if `test` has a class that `train` does not have, and for a broken symbolic link
///
/// ```
/// use reid_data::dataset::class_folder;
///
/// # let root = tempfile::tempdir()?;
/// for file in ["train/cat/1.png", "train/dog/1.png", "train/dog/2.png", "test/dog/1.png"] {
///     let path = root.path().join(file);
///     std::fs::create_dir_all(path.parent().expect("has one"))?;
///     std::fs::write(path, "")?;
/// }
/// let splits = class_folder::load(root.path())?;
/// assert_eq!(splits.class_names, ["cat", "dog"]);
/// assert_eq!((splits.train.len(), splits.test[0].identity.label()), (3, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(root: impl AsRef<Path>) -> Result<Splits, Error> {
    let root = root.as_ref();
    let [train, test] = ["train", "test"].map(|split| root.join(split));
    let mut notices = Notices::default();
    let mut names: Vec<String> = Vec::new();
    let train_samples = read(&train, &mut notices, |folder, images| {
        if images > 0 {
            names.push(listing::file_name(folder).to_owned());
        }
        Ok(names.len())
    })?;
    check::trainable(&train_samples, || train)?;
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let test_samples = read(&test, &mut notices, |folder, _| {
        let name = listing::file_name(folder);
        let class = known.iter().position(|known| *known == name);
        class.map(|class| class + 1).ok_or_else(|| Error::Entry {
            path: folder.to_owned(),
            expected: format!("one of the {} classes of the folder train", known.len()),
            found: name.to_owned(),
        })
    })?;
    Ok(Splits::new(listing::name(root))
        .with_train(train_samples)
        .with_test(test_samples)
        .with_class_names(names)
        .with_layout("a folder per class")
        .with_notices(notices.into_vec()))
}

/// Whether a folder has folders of training and test classes, and no queries.
pub(super) fn is_at(root: &Path) -> bool {
    let is_folder = |name: &str| root.join(name).is_dir();
    is_folder("train") && is_folder("test") && !is_folder("query") && !msmt17::is_at(root)
}

/// Reads the class folders of a split. `class` returns the number of a class, from 1, from its folder and the
/// number of its images.
fn read(
    split: &Path,
    notices: &mut Notices,
    mut class: impl FnMut(&Path, usize) -> Result<usize, Error>,
) -> Result<Vec<Sample>, Error> {
    let mut samples = Vec::new();
    for folder in listing::folders(split, LAYOUT, notices)? {
        let images = listing::images(&folder, IMAGES, notices)?;
        let class = class(&folder, images.len())?;
        if images.is_empty() {
            notices.image("folders without a readable image", &folder);
            continue;
        }
        let identity = Identity::new(i64::try_from(class).expect("fewer folders than 2⁶³"));
        samples.extend(images.into_iter().map(|path| Sample::new(path, identity)));
    }
    if samples.is_empty() {
        return Err(Error::NoImages {
            path: split.to_owned(),
            expected: IMAGES,
        });
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{self, testing::tree};

    fn labels(samples: &[Sample]) -> Vec<i64> {
        samples.iter().map(|one| one.identity.label()).collect()
    }

    #[test]
    fn classes_are_numbered_by_name_even_if_names_are_integers() {
        let root = tree::with_files(&[
            "train/10/a.png",
            "train/2/b.jpg",
            "train/2/a.png",
            "train/0/a.png",
            "train/0/notes.txt",
            "test/2/a.png",
            "test/0/a.png",
        ]);
        let splits = dataset::load(root.path()).unwrap();
        assert_eq!(splits.layout, "a folder per class");
        assert_eq!(splits.class_names, ["0", "10", "2"]);
        assert_eq!(labels(&splits.train), [1, 2, 3, 3]);
        assert_eq!(labels(&splits.test), [1, 3]);
        assert!(splits.train[2].path.ends_with("train/2/a.png"));
        let text = splits.statistics().to_string();
        assert!(
            text.contains("files without an image extension: 1"),
            "{text}"
        );
    }

    #[test]
    fn folders_without_images_are_no_classes() {
        let root = tree::with_files(&[
            "train/a/notes.txt",
            "train/b/1.png",
            "train/c/1.png",
            "test/c/1.png",
        ]);
        let splits = load(root.path()).unwrap();
        assert_eq!(splits.class_names, ["b", "c"]);
        assert_eq!(labels(&splits.test), [2]);
    }

    #[test]
    fn unknown_classes_and_missing_images_are_errors() {
        let files = ["train/a/1.png", "train/b/1.png", "test/c/1.png"];
        let root = tree::with_files(&files);
        let error = load(root.path()).expect_err("another class").to_string();
        let expected = "c: expected one of the 2 classes of the folder train, found `c`";
        assert!(error.ends_with(expected), "{error}");

        let root = tree::with_files(&["train/a/1.png", "train/b/1.png", "test/a/notes.txt"]);
        assert!(matches!(load(root.path()), Err(Error::NoImages { .. })));
        let root = tree::with_files(&["train/a/1.png", "test/a/1.png"]);
        assert!(matches!(load(root.path()), Err(Error::OneIdentity { .. })));
        let root = tree::with_files(&["train/a/1.png", "train/b/1.png"]);
        assert!(matches!(
            load(root.path()),
            Err(Error::MissingFolder { .. })
        ));
    }
}
