//! MSMT17, versions 1 and 2 (Wei et al., CVPR 2018): people seen by 15 cameras at four times of day, with the
//! labels in lists.

use std::path::{Path, PathBuf};

use reid_core::{Camera, Identity, Sample, Split, Splits};
use serde::{Deserialize, Serialize};

use super::reading::{
    check, digits,
    identities::Spellings,
    lines, listing,
    named::{Claim, Named},
};
use crate::Error;

/// The folders that the published archives unpack to.
const ARCHIVES: [&str; 2] = ["MSMT17_V1", "MSMT17_V2"];
const TRAIN: &str = "list_train.txt";
const VALIDATION: &str = "list_val.txt";
const LAYOUT: &str =
    "the MSMT17 layout: train and test, or mask_train_v2 and mask_test_v2, and four lists";
const LINE: &str =
    "0000/0000_000_01_0303morning_0008_0.jpg 0 (image with the camera as third field, identity)";

/// The published lists that make up the training split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Training {
    /// `list_train.txt` and `list_val.txt`, as in published results; the default.
    #[default]
    WithValidation,
    /// `list_train.txt` only. Both lists have the same identities.
    WithoutValidation,
}

/// Loads MSMT17.
///
/// ```text
/// version 1                    version 2, with blurred faces
/// root/train/0000/….jpg        root/mask_train_v2/0000/….jpg       training
/// root/test/0000/….jpg         root/mask_test_v2/0000/….jpg        query and gallery
/// root/list_train.txt          a line "0000/0000_000_01_0303morning_0008_0.jpg 0"
/// root/list_val.txt            more images of the training identities
/// root/list_query.txt
/// root/list_gallery.txt
///
/// PPPP_NNN_CC_…: camera C, from 01
/// ```
///
/// The training lists and the test lists both number people from 0, but these are different people. Identity
/// 0 would also be a distractor. Training identities are therefore the listed integers plus 1. Test
/// identities continue after the last training identity, and do not depend on `training`.
///
/// Samples are in the order of the lines, with validation images last. `root` may also be the folder that
/// contains `MSMT17_V1` or `MSMT17_V2`, even if the archive was unpacked into a folder with its own name. If
/// both exist, version 1 is loaded. The dataset is named after its folder.
///
/// | published | identities | images |
/// |---|---|---|
/// | training with validation | 1,041 | 32,621 |
/// | training without validation | 1,041 | 30,248 |
/// | query | 3,060 | 11,659 |
/// | gallery | 3,060 | 82,161 |
///
/// # Errors
/// - [`Error::MissingFolder`] if a folder of images is missing, and [`Error::EmptySplit`] for an empty list.
/// - [`Error::Line`] for an invalid line, and for an identity with two spellings.
/// - [`Error::Line`] for an image that does not exist or is listed twice.
/// - [`Error::OneIdentity`] if the training split has only one identity.
/// - [`Error::Io`] if a file or folder cannot be read.
///
/// ```
/// use reid_core::{Camera, Identity};
/// use reid_data::dataset::msmt17::{self, Training};
///
/// # let root = tempfile::tempdir()?;
/// for (folder, list, image, person) in [
///     ("train", "list_train.txt", "0000/0000_000_01_0303morning_0008_0.jpg", 0),
///     ("train", "list_val.txt", "0001/0001_000_14_0303morning_0017_2.jpg", 1),
///     ("test", "list_query.txt", "0000/0000_000_01_0303morning_0015_0.jpg", 0),
///     ("test", "list_gallery.txt", "0000/0000_001_15_0303noon_0015_0.jpg", 0),
/// ] {
///     let path = root.path().join(folder).join(image);
///     std::fs::create_dir_all(path.parent().expect("has one"))?;
///     std::fs::write(path, "")?;
///     std::fs::write(root.path().join(list), format!("{image} {person}\n"))?;
/// }
/// let splits = msmt17::load(root.path(), Training::WithValidation)?;
/// assert_eq!(splits.train[1].identity, Identity::new(1 + 1));
/// assert_eq!(splits.query[0].identity, Identity::new(2 + 1));
/// assert_eq!(splits.gallery[0].camera, Some(Camera::new(15)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(root: impl AsRef<Path>, training: Training) -> Result<Splits, Error> {
    let root = unpacked(root.as_ref());
    let mut training_images = Lists::in_folder(&root, ["train", "mask_train_v2"])?;
    let train = training_images.read(Split::Train, TRAIN, 1)?;
    let validation = training_images.read(Split::Train, VALIDATION, 1)?;
    let labels = train
        .iter()
        .chain(&validation)
        .map(|sample| sample.identity.label());
    let first = 1 + labels.max().unwrap_or(0);
    let mut test_images = Lists::in_folder(&root, ["test", "mask_test_v2"])?;
    let mut test = |split| test_images.read(split, list(split), first);
    let train = match training {
        Training::WithValidation => [train, validation].concat(),
        Training::WithoutValidation => train,
    };
    let splits = Splits::new(listing::name(&root))
        .with_train(train)
        .with_query(test(Split::Query)?)
        .with_gallery(test(Split::Gallery)?)
        .with_layout("the MSMT17 layout");
    check::checked(splits, |split| root.join(list(split)), LINE)
}

/// Whether this dataset is in `root`.
pub(super) fn is_at(root: &Path) -> bool {
    unpacked(root).join(TRAIN).exists()
}

fn unpacked(root: &Path) -> PathBuf {
    listing::unpacked(root, TRAIN, &ARCHIVES)
}

const fn list(split: Split) -> &'static str {
    match split {
        Split::Train => TRAIN,
        Split::Query => "list_query.txt",
        Split::Gallery => "list_gallery.txt",
    }
}

/// Reads the lists of the images in one folder.
struct Lists<'a> {
    root: &'a Path,
    images: Named,
    spellings: Spellings,
}

impl<'a> Lists<'a> {
    /// Uses the first of `folders` (version 1), or the second (version 2) if it exists.
    fn in_folder(root: &'a Path, folders: [&str; 2]) -> Result<Self, Error> {
        let [first, second] = folders.map(|folder| root.join(folder));
        let folder = if second.is_dir() { second } else { first };
        let images = Named::below(folder, LAYOUT)?;
        Ok(Self {
            root,
            images,
            spellings: Spellings::default(),
        })
    }

    /// Reads the samples of a list; person 0 of the list has the identity `first`.
    fn read(&mut self, split: Split, list: &str, first: i64) -> Result<Vec<Sample>, Error> {
        let list = self.root.join(list);
        let text = lines::text(&list)?;
        let samples = lines::non_empty(&list, &text).map(|(location, line)| {
            let (image, person, camera) = parse(line).ok_or_else(|| location.wrong(LINE, line))?;
            self.spellings.check_line(location, person)?;
            let claim = Claim {
                split,
                identity: person.to_owned(),
                camera: Some(camera),
            };
            let number: u32 = digits::number(person).ok_or_else(|| location.wrong(LINE, line))?;
            let identity = Identity::new(first + i64::from(number));
            Ok(
                Sample::new(self.images.take(location, image, claim)?, identity)
                    .with_camera(camera),
            )
        });
        samples.collect()
    }
}

/// Parses the image file, the person and the camera of a line.
fn parse(line: &str) -> Option<(&str, &str, Camera)> {
    let (image, person) = line.split_once(char::is_whitespace)?;
    let (_, name) = image.rsplit_once('/')?;
    let mut fields = name.split('_');
    digits::number::<u64>(fields.next()?)?; // person
    digits::number::<u64>(fields.next()?)?; // number
    let camera = digits::number(fields.next()?).filter(|camera| *camera > 0)?;
    fields.next()?; // day and time, frame, box
    let person = person.trim();
    digits::number::<u32>(person)?;
    Some((image, person, Camera::new(camera)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::dataset::testing::{published, tree};

    const LISTS: [(&str, &str); 4] = [
        (
            "list_train.txt",
            "0002/0002_000_03_0303morning_0008_0.jpg 2\n0000/0000_000_01_0303morning_0008_0.jpg 0\n",
        ),
        (
            "list_val.txt",
            "0003/0003_019_10_0303noon_0284_2_ex.jpg 3\r\n",
        ),
        (
            "list_query.txt",
            "0000/0000_000_01_0303morning_0015_0.jpg 0\n",
        ),
        (
            "list_gallery.txt",
            "0001/0001_000_15_0303morning_0015_0.jpg 1\n",
        ),
    ];

    fn set(train: &str, test: &str) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (list, text) in LISTS {
            tree::write(root.path(), list, text);
            for line in text.lines() {
                let (image, _) = line.split_once(' ').unwrap();
                let trained = list.contains("train") || list.contains("val");
                let folder = if trained { train } else { test };
                tree::write(root.path(), &format!("{folder}/{image}"), "");
            }
        }
        root
    }

    fn message(list: &str, line: &str) -> String {
        let root = set("train", "test");
        let path = root.path().join(list);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text + line).unwrap();
        let error = load(root.path(), Training::default());
        error.expect_err("something is wrong").to_string()
    }

    #[test]
    fn test_identities_differ_from_training_identities() {
        for root in [set("train", "test"), set("mask_train_v2", "mask_test_v2")] {
            assert!(is_at(root.path()));
            let splits = load(root.path(), Training::WithValidation).unwrap();
            assert_eq!(tree::labels(&splits.train), [(3, 3), (1, 1), (4, 10)]);
            assert_eq!(tree::labels(&splits.query), [(5, 1)]);
            assert_eq!(tree::labels(&splits.gallery), [(6, 15)]);
        }
    }

    #[test]
    fn the_validation_option_changes_no_identity() {
        let root = set("train", "test");
        let all = load(root.path(), Training::default()).unwrap();
        let train = load(root.path(), Training::WithoutValidation).unwrap();
        assert_eq!(train.train, all.train[..2]);
        assert_eq!((train.query, train.gallery), (all.query, all.gallery));
    }

    #[test]
    fn the_parent_of_the_archive_folder_is_accepted() {
        let root = set("MSMT17_V2/mask_train_v2", "MSMT17_V2/mask_test_v2");
        for (list, _) in LISTS {
            let to = root.path().join("MSMT17_V2").join(list);
            fs::rename(root.path().join(list), to).unwrap();
        }
        assert!(is_at(root.path()));
        assert_eq!(
            load(root.path(), Training::default()).unwrap().name,
            "MSMT17_V2"
        );
    }

    #[test]
    fn an_archive_in_a_folder_with_its_own_name_is_accepted() {
        let inside = "MSMT17_V1/MSMT17_V1";
        let root = set(&format!("{inside}/train"), &format!("{inside}/test"));
        for (list, _) in LISTS {
            fs::rename(root.path().join(list), root.path().join(inside).join(list)).unwrap();
        }
        for folder in [root.path().to_owned(), root.path().join("MSMT17_V1")] {
            assert!(is_at(&folder));
            let splits = load(&folder, Training::default()).unwrap();
            assert_eq!(tree::labels(&splits.train), [(3, 3), (1, 1), (4, 10)]);
        }
    }

    #[test]
    fn truncated_lists_are_read_or_rejected() {
        let root = set("train", "test");
        for (list, text) in LISTS {
            for end in 0..text.len() {
                fs::write(root.path().join(list), &text[..end]).unwrap();
                // Most truncated lines are rejected. One without its last digit names another person.
                drop(load(root.path(), Training::default()));
            }
            fs::write(root.path().join(list), text).unwrap();
        }
        assert!(load(root.path(), Training::default()).is_ok());
    }

    #[test]
    fn bad_lines_are_reported() {
        let image = "0000/0000_000_01_0303morning_0008_0.jpg";
        for (line, expected) in [
            (
                image.to_owned(),
                "(image with the camera as third field, identity), found `",
            ),
            (
                format!("{image} -1"),
                "(image with the camera as third field, identity), found `",
            ),
            (
                format!("{image} 0"),
                "expected an image that is not already listed in line 2 of list_train.txt, found `0000/",
            ),
            (
                "0000/0000_000_01_x_9_9.jpg 0".to_owned(),
                "expected an image file in `",
            ),
            (
                "0009/0009_000_01_x_9_9.jpg 0".to_owned(),
                "expected an image file in `",
            ),
        ] {
            let message = message("list_train.txt", &line);
            assert!(message.contains("list_train.txt: line 3: "), "{message}");
            assert!(message.contains(expected), "{message}");
        }
        // An image may be listed only once in the two training lists together.
        let message = message("list_val.txt", &format!("{image} 0"));
        let expected = "list_val.txt: line 2: expected an image that is not already listed in line 2 of \
                        list_train.txt";
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn missing_and_empty_files_are_reported() {
        let root = set("train", "test");
        fs::write(root.path().join("list_query.txt"), "").unwrap();
        let message = || {
            load(root.path(), Training::default())
                .expect_err("bad")
                .to_string()
        };
        assert!(message().contains("list_query.txt: no images for the query split"));
        fs::remove_dir_all(root.path().join("test")).unwrap();
        assert!(message().contains("test: no such folder, expected the MSMT17 layout"));
        fs::remove_file(root.path().join("list_val.txt")).unwrap();
        assert!(message().contains("list_val.txt: "));
    }

    #[test]
    fn lines_are_parsed_strictly() {
        let read = |line| parse(line).map(|(_, person, camera)| (person, camera.number()));
        assert_eq!(
            read("0114/0114_019_10_0303noon_0284_2_ex.jpg 114"),
            Some(("114", 10))
        );
        assert_eq!(read("0000/0000_000_01_x.jpg\t7 "), Some(("7", 1)));
        for line in [
            "",
            "0",
            "0000_000_01_0303morning_0008_0.jpg 0",
            "0000/0000_000_01.jpg 0",
            "0000/0000_000_00_0303morning_0008_0.jpg 0",
            "0000/0000_000_c1_0303morning_0008_0.jpg 0",
            "0000/0000_x_01_0303morning_0008_0.jpg 0",
            "0000/x_000_01_0303morning_0008_0.jpg 0",
            "0000/0000_000_01_0303morning_0008_0.jpg 0 1",
            "0000/0000_000_01_0303morning_0008_0.jpg 4294967296",
            "0000/0000_000_4294967296_0303morning_0008_0.jpg 0",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    #[ignore = "needs the dataset: set REID_MSMT17 to its folder"]
    fn published_counts() {
        for (training, images) in [
            (Training::WithValidation, 32_621),
            (Training::WithoutValidation, 30_248),
        ] {
            let counts = [(1_041, images), (3_060, 11_659), (3_060, 82_161)];
            published::assert_counts("REID_MSMT17", |root| load(root, training), counts);
        }
    }
}
