//! PKU `VehicleID` (Liu et al., CVPR 2016): vehicles from front and back, lists of images, no cameras.

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
const LINES: &str = "lines such as 0109238 20698 (image, vehicle), two of each vehicle of a test";

/// Loads `VehicleID` with the first trial of a test.
///
/// ```text
/// root/image/0109238.jpg
/// root/train_test_split/train_list.txt          a line "0109238 20698": image and vehicle
/// root/train_test_split/test_list_800.txt       likewise; 1600 and 2400 for the other sizes
/// ```
///
/// The test has no query and no gallery of its own. In each trial one image of each vehicle is drawn to
/// be the gallery, all others are queries, and figures are means over ten trials or so. `load` draws the
/// first one, to validate on while training. For the figures, describe the images of [`test_images`] once and
/// give the embeddings to `Trials::of` of `reid-eval`, which draws all trials of the same seed; or
/// draw them with [`trial`].
///
/// There are no cameras: evaluate with the no-cameras protocol. Identities are the numbers of the lists
/// plus 1, because 0 would be a distractor. Images come in the order of lines. `root` may also be the
/// folder that holds `VehicleID_V1.0`, and the data set is named after its folder.
///
/// | published | vehicles | images |
/// |---|---|---|
/// | training | 13,164 | 113,346 (110,178 in the paper) |
/// | small test | 800 | 6,493 |
/// | medium test | 1,600 | 13,377 |
/// | large test | 2,400 | 19,777 |
///
/// # Errors
/// As [`test_images`], [`Error::EmptySplit`] for an empty list and for a test with one image of each vehicle,
/// and [`Error::OneIdentity`] if training shows only one.
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
/// std::fs::write(lists.join("test_list_800.txt"), "0000003 7\n0000004 7\n0000005 8\n0000006 8\n0000007 8\n")?;
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

/// The images of a test, all of them: what trials are drawn from.
///
/// # Errors
/// [`Error::MissingFolder`], [`Error::Line`] for a line that is no image and vehicle and for an image
/// that is not there or comes twice, and [`Error::Io`].
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

/// One trial of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Images that are searched for: all that were not drawn.
    pub query: Vec<Sample>,
    /// Images that are searched in: one of each vehicle.
    pub gallery: Vec<Sample>,
}

/// Draws the trial of this number, from 0, of a test.
///
/// It is the one that `Trials::of` of `reid-eval` draws from descriptors of the same images in the same order,
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
    let of = |gallery: bool| {
        let marked = test
            .iter()
            .zip(&drawn)
            .filter(|(_, drawn)| **drawn == gallery);
        marked.map(|(sample, _)| sample.clone()).collect()
    };
    Trial {
        query: of(false),
        gallery: of(true),
    }
}

/// Whether this data set is in `root`.
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

/// The images that lists name.
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

    /// The images of a list.
    fn samples(&mut self, root: &Path, list: &str, split: Split) -> Result<Vec<Sample>, Error> {
        let list = root.join(list);
        let text = lines::text(&list)?;
        let samples = lines::of(&list, &text).map(|(place, line)| {
            let (image, vehicle, identity) = parse(line).ok_or_else(|| place.wrong(LINE, line))?;
            self.spellings.check_line(place, vehicle)?;
            let claim = Claim {
                split,
                identity: vehicle.to_owned(),
                camera: None,
            };
            Ok(Sample::new(
                self.named.take(place, &image, claim)?,
                identity,
            ))
        });
        samples.collect()
    }
}

/// The file of a line, its vehicle as it is written, and the identity.
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
    fn identities_are_the_numbers_plus_one_in_the_order_of_lines() {
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
    fn trials_are_drawn_as_evaluation_draws_them() {
        let root = set(TRAIN_LINES, TEST_LINES);
        let test = test_images(root.path(), TestSize::Medium).unwrap();
        for number in 0..20 {
            // What `Trials::of` does: a stream for each trial, identities in ascending order.
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
    fn bad_lines_are_named() {
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
                "expected an image that is named once, not in line 2 of train_list.txt too, found `0000001.jpg`",
            ),
            (
                "0000003 012",
                "expected one way of writing each identity, such as `12` in line 1 of train_list.txt, found `012`",
            ),
        ] {
            let message = message(&format!("{TRAIN_LINES}\n{line}"), TEST_LINES);
            assert!(message.contains("train_list.txt: line 4: "), "{message}");
            assert!(message.ends_with(expected), "{message}");
        }
    }

    #[test]
    fn an_image_of_training_and_of_a_test_is_named_with_both_lines() {
        let message = message(TRAIN_LINES, &format!("{TEST_LINES}0000002 12"));
        assert!(
            message.ends_with(
                "test_list_1600.txt: line 6: expected an image that is not in train too, as line 1 of \
                 train_list.txt says, found `0000002.jpg`"
            ),
            "{message}"
        );
    }

    #[test]
    fn a_list_that_is_cut_off_anywhere_is_read_or_refused() {
        let root = set(TRAIN_LINES, TEST_LINES);
        for end in 0..TEST_LINES.len() {
            tree::write(root.path(), test_list(TestSize::Medium), &TEST_LINES[..end]);
            drop(load(root.path(), TestSize::Medium, Seed::new(0)));
        }
    }

    #[test]
    fn what_is_missing_or_empty_is_named() {
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
        let alone = message(TRAIN_LINES, "0000003 7\n0000005 8\n");
        assert!(
            alone.contains("test_list_1600.txt: no images for the query split"),
            "{alone}"
        );
        assert!(message("0000001 3", TEST_LINES).ends_with("found only 4"));
    }

    #[test]
    #[ignore = "needs the data set: REID_VEHICLE_ID names its folder"]
    fn published_numbers() {
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
            published::holds(
                "REID_VEHICLE_ID",
                |root| load(root, size, Seed::new(0)),
                counts,
            );
        }
    }
}
