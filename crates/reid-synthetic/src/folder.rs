//! Writing a dataset to a folder, so that an incomplete dataset is recognised.

use std::{fs, io, path::Path};

use image::{RgbImage, codecs::jpeg::JpegEncoder};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use reid_core::Split;
use serde::Serialize;

use super::layout::{Layout, Picture};
use crate::Error;

/// The record of a complete dataset: a file with its configuration.
pub(super) const WHOLE: &str = "synthetic.json";
/// The record of a dataset that is still being written.
const BEGUN: &str = "synthetic.unfinished.json";

/// An image and the quality of its JPEG file, in `1..=100`.
pub(super) type Print = (RgbImage, u8);

/// Writes the dataset with this record to `root`. `print` draws each of the `pictures`.
///
/// Nothing is drawn if the folder already holds the complete dataset.
pub(super) fn write(
    root: &Path,
    record: &impl Serialize,
    layout: Layout,
    pictures: &[Picture],
    print: impl Fn(&Picture) -> Print + Sync,
) -> Result<(), Error> {
    let record =
        serde_json::to_string(record).map_err(|error| at(&root.join(WHOLE), error.into()))?;
    ensure(root, &record, || {
        for split in [Split::Train, Split::Query, Split::Gallery] {
            let folder = root.join(layout.folder(split));
            fs::create_dir_all(&folder).map_err(|source| at(&folder, source))?;
        }
        pictures.par_iter().try_for_each(|picture| {
            let (image, quality) = print(picture);
            save(&layout.path(picture, root), &image, quality)
        })
    })
}

pub(super) fn save(path: &Path, image: &RgbImage, quality: u8) -> Result<(), Error> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode_image(image)
        .map_err(|source| Error::Image {
            path: path.to_owned(),
            source,
        })?;
    fs::write(path, bytes).map_err(|source| at(path, source))
}

/// Calls `write` unless `root` already holds the complete dataset with this record.
///
/// The record is written under a temporary name first, and renamed after the last image. An interrupted
/// dataset is therefore recognised and written again.
pub(super) fn ensure(
    root: &Path,
    record: &str,
    write: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let (whole, begun) = (root.join(WHOLE), root.join(BEGUN));
    if holds(&whole, record)? {
        return Ok(());
    }
    if !holds(&begun, record)? {
        prepare(root)?;
        fs::write(&begun, record).map_err(|source| at(&begun, source))?;
    }
    write()?;
    fs::rename(&begun, &whole).map_err(|source| at(&begun, source))
}

/// Whether the file exists with the content `record`; an error if it has another content.
fn holds(path: &Path, record: &str) -> Result<bool, Error> {
    match fs::read_to_string(path) {
        Ok(found) if found == record => Ok(true),
        Ok(found) => Err(Error::OtherSet {
            path: path.to_owned(),
            expected: record.to_owned(),
            found,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(at(path, source)),
    }
}

/// Creates the folder, or checks that it is empty.
fn prepare(root: &Path) -> Result<(), Error> {
    fs::create_dir_all(root).map_err(|source| at(root, source))?;
    let mut entries = fs::read_dir(root).map_err(|source| at(root, source))?;
    let Some(first) = entries.next() else {
        return Ok(());
    };
    let first = first.map_err(|source| at(root, source))?.file_name();
    Err(Error::OtherFiles {
        path: root.to_owned(),
        record: WHOLE,
        found: first.display().to_string(),
    })
}

pub(super) fn at(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn write_into(root: &Path, record: &str) -> (Result<(), Error>, bool) {
        let written = Cell::new(false);
        let result = ensure(root, record, || {
            written.set(true);
            Ok(())
        });
        (result, written.get())
    }

    #[test]
    fn a_complete_dataset_is_not_written_again() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(write_into(root.path(), "a"), (Ok(()), true)));
        assert!(matches!(write_into(root.path(), "a"), (Ok(()), false)));
    }

    #[test]
    fn an_interrupted_dataset_is_written_again() {
        let root = tempfile::tempdir().unwrap();
        let interrupted = || Err(at(Path::new("x.jpg"), io::Error::other("disk full")));
        ensure(root.path(), "a", interrupted).expect_err("the disk is full");
        assert!(!root.path().join(WHOLE).exists());

        let (other, written) = write_into(root.path(), "b");
        assert!(!written);
        other.expect_err("the folder holds the unfinished dataset `a`");
        assert!(matches!(write_into(root.path(), "a"), (Ok(()), true)));
        assert!(!root.path().join(BEGUN).exists());
    }

    #[test]
    fn another_dataset_is_not_overwritten() {
        let root = tempfile::tempdir().unwrap();
        write_into(root.path(), "a").0.unwrap();
        let (error, written) = write_into(root.path(), "b");
        let message = error.expect_err("the folder holds `a`").to_string();
        assert!(!written);
        let expected =
            "the folder holds another dataset: expected `b`, found `a`; choose another folder";
        assert!(
            message.ends_with(&format!("synthetic.json: {expected}")),
            "{message}"
        );
    }

    #[test]
    fn a_folder_with_other_files_is_rejected() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("thesis.tex"), "").unwrap();
        let (error, written) = write_into(root.path(), "a");
        let message = error.expect_err("not empty").to_string();
        assert!(!written);
        assert!(
            message.ends_with(
                "expected an empty folder or one with synthetic.json, found `thesis.tex`"
            ),
            "{message}"
        );
    }
}
