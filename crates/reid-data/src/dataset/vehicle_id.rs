//! PKU `VehicleID` (Liu et al., CVPR 2016): vehicles seen from the front or the back, with the labels in
//! lists and without cameras.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rand::RngExt;
use reid_core::{Identity, Sample, Seed, Split, Splits};

use super::{
    TestSize,
    reading::{
        check, digits,
        identities::Spellings,
        lines, listing,
        named::{Claim, Named},
    },
};
use crate::Error;

/// The folders that the published archive unpacks to.
const ARCHIVES: [&str; 2] = ["VehicleID_V1.0", "VehicleID"];
const TRAIN: &str = "train_test_split/train_list.txt";
const LAYOUT: &str = "the VehicleID layout: image and train_test_split";
const LINE: &str = "0109238 20698 (image, vehicle)";
const LINES: &str =
    "lines such as 0109238 20698 (image, vehicle), two or more of each test vehicle";

/// Loads `VehicleID` with the first trial of a test set.
///
/// ```text
/// root/image/0109238.jpg
/// root/train_test_split/train_list.txt          a line "0109238 20698": image and vehicle
/// root/train_test_split/test_list_800.txt       likewise; 1600 and 2400 for the other sizes
/// ```
///
/// The test set has no fixed query and gallery split. In each trial, one random image of each vehicle is in
/// the gallery and all others are queries. Published results are means over about ten trials. `load` draws
/// the first trial, for validation during training. For final results, embed [`test_images`] once and pass
/// the embeddings to `Trials::run` of `reid-eval`, which draws the same trials for the same seed. [`trial`]
/// draws a single one.
///
/// There are no cameras, so evaluate with the no-cameras protocol. Identities are the listed integers plus 1,
/// because 0 would be a distractor. Samples are in the order of the lines. `root` may also be the folder
/// that contains `VehicleID_V1.0`. The dataset is named after its folder.
///
/// | published | vehicles | images |
/// |---|---|---|
/// | training | 13,164 | 113,346 (110,178 in the paper) |
/// | small test | 800 | 6,493 |
/// | medium test | 1,600 | 13,377 |
/// | large test | 2,400 | 19,777 |
///
/// # Errors
/// As [`test_images`], [`Error::EmptySplit`] for an empty list and for a test set with only one image of each
/// vehicle, and [`Error::OneIdentity`] if the training split has only one identity.
///
/// ```
/// use reid_core::{Identity, Seed};
/// use reid_data::dataset::{TestSize, vehicle_id};
///
/// # let root = tempfile::tempdir()?;
/// # std::fs::create_dir(root.path().join("image"))?;
/// # std::fs::create_dir(root.path().join("train_test_split"))?;
/// # for image in 1..=7 {
/// #     std::fs::write(root.path().join(format!("image/{image:07}.jpg")), "")?;
/// # }
/// let lists = root.path().join("train_test_split");
/// std::fs::write(lists.join("train_list.txt"), "0000001 11\n0000002 12\n")?;
/// let test = "0000003 7\n0000004 7\n0000005 8\n0000006 8\n0000007 8\n";
/// std::fs::write(lists.join("test_list_800.txt"), test)?;
/// let splits = vehicle_id::load(root.path(), TestSize::Small, Seed::new(0))?;
/// assert_eq!((splits.query.len(), splits.gallery.len()), (3, 2));
/// assert_eq!(splits.gallery[0].identity, Identity::new(7 + 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(root: impl AsRef<Path>, size: TestSize, seed: Seed) -> Result<Splits, Error> {
    let root = unpacked(root.as_ref());
    let mut images = Images::in_folder(&root)?;
    let train = images.samples(&root, TRAIN, Split::Train)?;
    let test = images.samples(&root, test_list(size), Split::Gallery)?;
    let Trial { query, gallery } = trial(&test, seed, 0);
    let splits = Splits::new(listing::name(&root))
        .with_train(train)
        .with_query(query)
        .with_gallery(gallery)
        .with_layout("the VehicleID layout");
    let list = |split| match split {
        Split::Train => root.join(TRAIN),
        Split::Query | Split::Gallery => root.join(test_list(size)),
    };
    check::checked(splits, list, LINES)
}

/// Reads all images of a test set, from which trials are drawn.
///
/// # Errors
/// [`Error::MissingFolder`], [`Error::Line`] for an invalid line, an image that does not exist or is listed
/// twice, and an identity with two spellings, and [`Error::Io`].
///
/// ```
/// use reid_data::dataset::{TestSize, vehicle_id};
///
/// # let root = tempfile::tempdir()?;
/// # for file in ["image/0000003.jpg", "train_test_split/test_list_2400.txt"] {
/// #     std::fs::create_dir_all(root.path().join(file).parent().expect("has one"))?;
/// #     std::fs::write(root.path().join(file), "0000003 7")?;
/// # }
/// assert_eq!(vehicle_id::test_images(root.path(), TestSize::Large)?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn test_images(root: impl AsRef<Path>, size: TestSize) -> Result<Vec<Sample>, Error> {
    let root = unpacked(root.as_ref());
    Images::in_folder(&root)?.samples(&root, test_list(size), Split::Gallery)
}

/// One trial of a test set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The query images: all images that were not drawn.
    pub query: Vec<Sample>,
    /// The gallery images: one random image of each vehicle.
    pub gallery: Vec<Sample>,
}

/// Draws the trial with index `number`, from 0, of a test set.
///
/// `Trials::run` of `reid-eval` draws the same trial from embeddings of the same images in the same order,
/// with the same seed.
///
/// ```
/// use reid_core::{Identity, Sample, Seed};
/// use reid_data::dataset::vehicle_id::trial;
///
/// let test = [7, 8, 7, 8, 7].map(|vehicle| Sample::new("a.jpg", Identity::new(vehicle)));
/// let drawn = trial(&test, Seed::new(1), 9);
/// assert_eq!((drawn.query.len(), drawn.gallery.len()), (3, 2));
/// ```
#[must_use]
pub fn trial(test: &[Sample], seed: Seed, number: u64) -> Trial {
    let mut stream = seed.named("trials").at(number).stream();
    let mut images: BTreeMap<Identity, Vec<usize>> = BTreeMap::new();
    for (at, sample) in test.iter().enumerate() {
        images.entry(sample.identity).or_default().push(at);
    }
    let mut drawn = vec![false; test.len()];
    for images in images.values() {
        drawn[images[stream.random_range(0..images.len())]] = true;
    }
    let select = |gallery: bool| {
        let marked = test
            .iter()
            .zip(&drawn)
            .filter(|(_, drawn)| **drawn == gallery);
        marked.map(|(sample, _)| sample.clone()).collect()
    };
    Trial {
        query: select(false),
        gallery: select(true),
    }
}

/// Whether this dataset is in `root`.
pub(super) fn is_at(root: &Path) -> bool {
    let root = unpacked(root);
    root.join(TRAIN).exists() && root.join("image").exists()
}

fn unpacked(root: &Path) -> PathBuf {
    listing::unpacked(root, TRAIN, &ARCHIVES)
}

const fn test_list(size: TestSize) -> &'static str {
    match size {
        TestSize::Small => "train_test_split/test_list_800.txt",
        TestSize::Medium => "train_test_split/test_list_1600.txt",
        TestSize::Large => "train_test_split/test_list_2400.txt",
    }
}

/// Checks and converts the lines of the lists of images.
struct Images {
    named: Named,
    spellings: Spellings,
}

impl Images {
    fn in_folder(root: &Path) -> Result<Self, Error> {
        Ok(Self {
            named: Named::below(root.join("image"), LAYOUT)?,
            spellings: Spellings::default(),
        })
    }

    /// Reads the samples of a list.
    fn samples(&mut self, root: &Path, list: &str, split: Split) -> Result<Vec<Sample>, Error> {
        let list = root.join(list);
        let text = lines::text(&list)?;
        let samples = lines::non_empty(&list, &text).map(|(location, line)| {
            let (image, vehicle, identity) =
                parse(line).ok_or_else(|| location.wrong(LINE, line))?;
            self.spellings.check_line(location, vehicle)?;
            let claim = Claim {
                split,
                identity: vehicle.to_owned(),
                camera: None,
            };
            Ok(Sample::new(
                self.named.take(location, &image, claim)?,
                identity,
            ))
        });
        samples.collect()
    }
}

/// Parses the image file, the vehicle as written, and the identity of a line.
fn parse(line: &str) -> Option<(String, &str, Identity)> {
    let mut fields = line.split_whitespace();
    let image = fields.next()?;
    digits::number::<u64>(image)?;
    let vehicle = fields.next()?;
    let identity = Identity::new(i64::from(digits::number::<u32>(vehicle)?) + 1);
    fields
        .next()
        .is_none()
        .then(|| (format!("{image}.jpg"), vehicle, identity))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::dataset::testing::{published, tree};

    const TRAIN_LINES: &str = "0000002 12\r\n0000001 0\r\n";
    const TEST_LINES: &str = "0000003 7\n0000004 7\n0000005 8\n0000006 8\n0000007 8\n";

    fn set(train: &str, test: &str) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for image in 1..=7 {
            tree::write(root.path(), &format!("image/{image:07}.jpg"), "");
        }
        tree::write(root.path(), TRAIN, train);
        tree::write(root.path(), test_list(TestSize::Medium), test);
        root
    }

    fn message(train: &str, test: &str) -> String {
        let root = set(train, test);
        let error = load(root.path(), TestSize::Medium, Seed::new(0));
        error.expect_err("something is wrong").to_string()
    }

    #[test]
    fn identities_are_the_listed_integers_plus_one_in_the_order_of_lines() {
        let root = set(TRAIN_LINES, TEST_LINES);
        let splits = load(root.path(), TestSize::Medium, Seed::new(0)).unwrap();
        assert_eq!(tree::labels(&splits.train), [(13, 0), (1, 0)]);
        assert!(splits.train[0].path.ends_with("image/0000002.jpg"));
        assert_eq!(tree::labels(&splits.gallery), [(8, 0), (9, 0)]);
        assert_eq!(tree::labels(&splits.query), [(8, 0), (9, 0), (9, 0)]);
        assert!(!splits.has_cameras());
        assert!(is_at(root.path()));
    }

    #[test]
    fn trials_are_those_that_reid_eval_draws() {
        let root = set(TRAIN_LINES, TEST_LINES);
        let test = test_images(root.path(), TestSize::Medium).unwrap();
        for number in 0..20 {
            // As in `Trials::run`: one random stream per trial, identities in ascending order.
            let mut stream = Seed::new(5).named("trials").at(number).stream();
            let drawn = [
                stream.random_range(0..2_usize),
                2 + stream.random_range(0..3_usize),
            ];
            let trial = trial(&test, Seed::new(5), number);
            assert_eq!(trial.gallery, drawn.map(|at| test[at].clone()));
            assert_eq!(trial.query.len(), 3);
        }
    }

    #[test]
    fn bad_lines_are_reported() {
        for (line, expected) in [
            (
                "0000003",
                "expected 0109238 20698 (image, vehicle), found `0000003`",
            ),
            ("0000003 7 1", "(image, vehicle), found `0000003 7 1`"),
            ("0000003 -7", "(image, vehicle), found `0000003 -7`"),
            (
                "0000003 4294967296",
                "(image, vehicle), found `0000003 4294967296`",
            ),
            ("a 7", "(image, vehicle), found `a 7`"),
            (
                "../image/0000003 7",
                "(image, vehicle), found `../image/0000003 7`",
            ),
            ("0000009 7", "`, found `0000009.jpg`"),
            (
                "0000001 7",
                "expected an image of identity `0`, as line 2 of train_list.txt says, found `0000001.jpg`",
            ),
            (
                "0000001 0",
                "expected an image that is not already listed in line 2 of train_list.txt, \
                 found `0000001.jpg`",
            ),
            (
                "0000003 012",
                "expected the spelling `12` of this identity, as in line 1 of train_list.txt, found `012`",
            ),
        ] {
            let message = message(&format!("{TRAIN_LINES}\n{line}"), TEST_LINES);
            assert!(message.contains("train_list.txt: line 4: "), "{message}");
            assert!(message.ends_with(expected), "{message}");
        }
    }

    #[test]
    fn an_image_in_training_and_test_is_reported_with_both_lines() {
        let message = message(TRAIN_LINES, &format!("{TEST_LINES}0000002 12"));
        assert!(
            message.ends_with(
                "test_list_1600.txt: line 6: expected an image that is not also in the train split \
                 (line 1 of train_list.txt), found `0000002.jpg`"
            ),
            "{message}"
        );
    }

    #[test]
    fn a_truncated_list_is_read_or_rejected() {
        let root = set(TRAIN_LINES, TEST_LINES);
        for end in 0..TEST_LINES.len() {
            tree::write(root.path(), test_list(TestSize::Medium), &TEST_LINES[..end]);
            drop(load(root.path(), TestSize::Medium, Seed::new(0)));
        }
    }

    #[test]
    fn missing_and_empty_files_are_reported() {
        let root = set(TRAIN_LINES, TEST_LINES);
        let error = load(root.path(), TestSize::Large, Seed::new(0)).expect_err("no such list");
        assert!(
            error.to_string().contains("test_list_2400.txt: "),
            "{error}"
        );
        fs::remove_dir_all(root.path().join("image")).unwrap();
        let error = load(root.path(), TestSize::Medium, Seed::new(0)).expect_err("no images");
        assert!(
            error.to_string().contains("image: no such folder"),
            "{error}"
        );

        let empty = message("", TEST_LINES);
        assert!(
            empty.contains("train_list.txt: no images for the train split"),
            "{empty}"
        );
        let single = message(TRAIN_LINES, "0000003 7\n0000005 8\n");
        assert!(
            single.contains("test_list_1600.txt: no images for the query split"),
            "{single}"
        );
        assert!(message("0000001 3", TEST_LINES).ends_with("found only identity 4"));
    }

    #[test]
    #[ignore = "needs the dataset: set REID_VEHICLE_ID to its folder"]
    fn published_counts() {
        for (size, vehicles, images) in [
            (TestSize::Small, 800, 6_493),
            (TestSize::Medium, 1_600, 13_377),
            (TestSize::Large, 2_400, 19_777),
        ] {
            let counts = [
                (13_164, 113_346),
                (vehicles, images - vehicles),
                (vehicles, vehicles),
            ];
            published::assert_counts(
                "REID_VEHICLE_ID",
                |root| load(root, size, Seed::new(0)),
                counts,
            );
        }
    }
}
