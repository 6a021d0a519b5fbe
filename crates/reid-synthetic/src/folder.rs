//! Folder: a set on disk that is either whole or known not to be.

use std::{fs, io, path::Path};

use image::{RgbImage, codecs::jpeg::JpegEncoder};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use reid_core::Split;
use serde::Serialize;

use super::layout::{Layout, Picture};
use crate::Error;

/// The record of a whole set.
pub(super) const WHOLE: &str = "synthetic.json";
/// The record of a set that is still being written.
const BEGUN: &str = "synthetic.unfinished.json";

/// A picture and the quality of its JPEG file, in `1..=100`.
pub(super) type Print = (RgbImage, u8);

/// Makes sure that `root` holds the set that `record` describes: `pictures`, as `print` has them.
///
/// Where the set is whole, nothing is drawn.
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

fn save(path: &Path, image: &RgbImage, quality: u8) -> Result<(), Error> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode_image(image)
        .map_err(|source| Error::Image {
            path: path.to_owned(),
            source,
        })?;
    fs::write(path, bytes).map_err(|source| at(path, source))
}

/// Makes sure that `root` holds the set that `record` describes: `write` is called unless it does.
///
/// The record is there under another name while pictures are written, and takes its own with the
/// last of them. An interrupted set is thus recognised, and written again.
fn ensure(
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

/// Whether the file says what `record` does.
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

/// Makes the folder, or sees that it is empty.
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

fn at(path: &Path, source: io::Error) -> Error {
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
    fn a_whole_set_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(write_into(root.path(), "a"), (Ok(()), true)));
        assert!(matches!(write_into(root.path(), "a"), (Ok(()), false)));
    }

    #[test]
    fn an_interrupted_set_is_written_again() {
        let root = tempfile::tempdir().unwrap();
        let interrupted = || Err(at(Path::new("x.jpg"), io::Error::other("disk full")));
        ensure(root.path(), "a", interrupted).expect_err("the disk is full");
        assert!(!root.path().join(WHOLE).exists());

        let (other, written) = write_into(root.path(), "b");
        assert!(!written);
        other.expect_err("a set `a` was begun there");
        assert!(matches!(write_into(root.path(), "a"), (Ok(()), true)));
        assert!(!root.path().join(BEGUN).exists());
    }

    #[test]
    fn another_set_is_not_overwritten() {
        let root = tempfile::tempdir().unwrap();
        write_into(root.path(), "a").0.unwrap();
        let (error, written) = write_into(root.path(), "b");
        let message = error.expect_err("`a` is there").to_string();
        assert!(!written);
        assert!(
            message.ends_with("synthetic.json: expected `b`, or another folder, found `a`"),
            "{message}"
        );
    }

    #[test]
    fn foreign_files_are_not_mixed_in() {
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
