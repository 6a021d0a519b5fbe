//! CUHK03 with the new protocol, CUHK03-NP (Li et al., CVPR 2014; Zhong et al., CVPR 2017): the folders of
//! Market-1501, once for labeled and once for detected boxes.

use std::{fmt, path::Path};

use reid_core::{Camera, Identity, Splits};
use serde::{Deserialize, Serialize};

use super::reading::{digits, listing, three_folders::ThreeFolders};
use crate::Error;

/// The folder that the published archive unpacks to.
const ARCHIVE: &str = "cuhk03-np";
pub(super) const FOLDERS: ThreeFolders = ThreeFolders::market(
    "the CUHK03-NP layout: bounding_box_train, query and bounding_box_test in the folder labeled or \
     detected",
    "0001_c1_1.png (identity, camera, number)",
    parse,
);

/// The source of the bounding boxes of CUHK03.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Boxes {
    /// Boxes labeled by hand.
    Labeled,
    /// Boxes from a detector. They are less accurate, so re-identification is harder.
    Detected,
}

impl fmt::Display for Boxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Labeled => "labeled",
            Self::Detected => "detected",
        })
    }
}

/// Loads CUHK03 with the new protocol.
///
/// ```text
/// root/labeled/bounding_box_train/0001_c1_1.png      training
/// root/labeled/query/0003_c1_21.png                  query
/// root/labeled/bounding_box_test/0003_c2_27.png      gallery
/// root/detected/…                                    the same three folders, with detected boxes
///
/// PPPP_cC_N.png: identity P, camera C of the pair, number N (or several, separated by _)
/// ```
///
/// This is the archive of the authors of the protocol. The original file of the dataset, `cuhk-03.mat`
/// (MATLAB in HDF5), is not supported, because an HDF5 decoder would be a large dependency for one file. Most
/// toolkits also unpack that file to PNG images first.
///
/// `root` may also be the folder that contains `cuhk03-np`. Samples are in the order of their file names. The
/// dataset is evaluated as Market-1501. There is no junk and there are no distractors.
///
/// | published | identities | labeled images | detected images |
/// |---|---|---|---|
/// | training | 767 | 7,368 | 7,365 |
/// | query | 700 | 1,400 | 1,400 |
/// | gallery | 700 | 5,328 | 5,332 |
///
/// # Errors
/// - [`Error::MissingFolder`] and [`Error::EmptySplit`] if a folder is missing or has no images.
/// - [`Error::FileName`] if the name of an image is invalid, and [`Error::NotUnicode`] if it is not Unicode.
/// - [`Error::Entry`] for a broken symbolic link and for an identity with two spellings.
/// - [`Error::OneIdentity`] if the training split has only one identity.
/// - [`Error::Io`] if a file or folder cannot be read.
///
/// ```
/// use reid_data::dataset::cuhk03::{self, Boxes};
///
/// # let root = tempfile::tempdir()?;
/// for (folder, name) in [
///     ("bounding_box_train", "0001_c1_1.png"),
///     ("bounding_box_train", "0002_c2_9.png"),
///     ("query", "0003_c1_21.png"),
///     ("bounding_box_test", "0003_c2_27.png"),
/// ] {
///     let folder = root.path().join("detected").join(folder);
///     std::fs::create_dir_all(&folder)?;
///     std::fs::write(folder.join(name), "")?;
/// }
/// let splits = cuhk03::load(root.path(), Boxes::Detected)?;
/// assert_eq!(splits.statistics().train.identities, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(root: impl AsRef<Path>, boxes: Boxes) -> Result<Splits, Error> {
    let boxes = boxes.to_string();
    load_boxes(&listing::unpacked(root.as_ref(), &boxes, &[ARCHIVE]).join(boxes))
}

/// Loads the folder `labeled` or `detected`.
pub(super) fn load_boxes(folder: &Path) -> Result<Splits, Error> {
    let mut splits = FOLDERS.load(folder)?;
    splits.name = format!("{ARCHIVE} {}", listing::name(folder));
    Ok(splits)
}

/// Parses the identity and the camera of `PPPP_cC_N`.
fn parse(stem: &str) -> Option<(Identity, Camera)> {
    let mut fields = stem.split('_');
    let identity = Identity::new(digits::number(fields.next()?)?);
    let camera = digits::camera(fields.next()?)?;
    digits::number::<u64>(fields.next()?)?;
    let only_numbers = fields.all(|field| digits::number::<u64>(field).is_some());
    only_numbers.then_some((identity, camera))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::testing::{published, tree};

    #[test]
    fn labeled_and_detected_boxes_are_loaded() {
        let root = tree::with_files(&[
            "cuhk03-np/labeled/bounding_box_train/0002_c2_9.png",
            "cuhk03-np/labeled/bounding_box_train/0001_c1_1.png",
            "cuhk03-np/labeled/query/0003_c1_21.png",
            "cuhk03-np/labeled/bounding_box_test/0003_c2_27.png",
            "cuhk03-np/detected/bounding_box_train/0002_c2_9.png",
        ]);
        let splits = load(root.path(), Boxes::Labeled).unwrap();
        assert_eq!(splits.name, "cuhk03-np labeled");
        assert_eq!(tree::labels(&splits.train), [(1, 1), (2, 2)]);
        assert_eq!(tree::labels(&splits.query), [(3, 1)]);
        assert_eq!(tree::labels(&splits.gallery), [(3, 2)]);

        let inside = root.path().join(ARCHIVE);
        assert_eq!(load(&inside, Boxes::Labeled).unwrap(), splits);
        let message = load(&inside, Boxes::Detected)
            .expect_err("no query")
            .to_string();
        assert!(message.contains("detected/query: no such folder, expected the CUHK03-NP layout"));
    }

    #[test]
    fn file_names_are_parsed_strictly() {
        let read = |stem| parse(stem).map(|(who, camera)| (who.label(), camera.number()));
        assert_eq!(read("1467_c2_10"), Some((1467, 2)));
        assert_eq!(read("0001_c1_1_1"), Some((1, 1)));
        for stem in [
            "",
            "0001_c1",
            "0001_c1_",
            "0001_c1_x",
            "0001_c1_1_x",
            "-1_c1_1",
            "0001_1_1",
            "0001_c1s1_000001_00",
            "0001_c2_f0046182",
            "99999999999999999999_c1_1",
        ] {
            assert_eq!(read(stem), None, "{stem}");
        }
    }

    #[test]
    #[ignore = "needs the dataset: set REID_CUHK03 to its folder"]
    fn published_counts() {
        for (boxes, [train, query, gallery]) in [
            (Boxes::Labeled, [7_368, 1_400, 5_328]),
            (Boxes::Detected, [7_365, 1_400, 5_332]),
        ] {
            let counts = [(767, train), (700, query), (700, gallery)];
            published::assert_counts("REID_CUHK03", |root| load(root, boxes), counts);
        }
    }
}
