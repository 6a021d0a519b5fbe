//! `VERI-Wild` (Lou et al., CVPR 2019): vehicles seen by 174 cameras over a month, with the labels in lists.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use reid_core::{Camera, Identity, Sample, Split, Splits};

use super::{
    TestSize,
    reading::{
        check, digits,
        identities::Spellings,
        lines::{self, Location},
        listing,
        named::{Claim, Named},
    },
};
use crate::Error;

/// The usual names of the dataset folder.
const ARCHIVES: [&str; 2] = ["VERI-Wild", "VeRi-Wild"];
const LISTS: &str = "train_test_split";
const INFO: &str = "vehicle_info.txt";
const LAYOUT: &str = "the VERI-Wild layout: images and train_test_split";
const LINE: &str = "00001/000001 (vehicle from 1, image)";
const LINES: &str = "lines such as 00001/000001 (vehicle, image)";

/// Loads `VERI-Wild` with a test set of the given size.
///
/// ```text
/// root/images/00001/000001.jpg
/// root/train_test_split/train_list.txt          a line "00001/000001": vehicle and image
/// root/train_test_split/test_3000_query.txt     likewise; 5000 and 10000 for the other sizes
/// root/train_test_split/test_3000.txt
/// root/train_test_split/vehicle_info.txt        "00001/000001;16;…": the camera of each image
/// ```
///
/// Later versions name the lists `train_list_start0.txt`, `test_3000_id_query.txt` and `test_3000_id.txt`.
/// Their lines have `.jpg` after the image, and more fields after a space, which are ignored. The first line
/// of `vehicle_info.txt` is a header if it does not name an image. Names of car models may be in any
/// encoding.
///
/// Identities are the folder names. Samples are in the order of the lines. `root` may also be the folder that
/// contains `VERI-Wild`. The dataset is named after its folder.
///
/// | published | vehicles | images |
/// |---|---|---|
/// | training | 30,671 | 277,797 |
/// | small: query, gallery | 3,000 | 3,000, 38,861 |
/// | medium | 5,000 | 5,000, 64,389 |
/// | large | 10,000 | 10,000, 128,517 |
///
/// # Errors
/// - [`Error::MissingFolder`] if the folder of the images is missing, and [`Error::EmptySplit`] for an empty
///   list.
/// - [`Error::Line`] for an invalid line of a list or of `vehicle_info.txt`, and for an identity with two
///   spellings.
/// - [`Error::Line`] for an image that does not exist, is listed twice or has no camera.
/// - [`Error::OneIdentity`] if the training split has only one identity.
/// - [`Error::Io`] if a file or folder cannot be read.
///
/// ```
/// use reid_core::Camera;
/// use reid_data::dataset::{TestSize, veri_wild};
///
/// # let root = tempfile::tempdir()?;
/// # for image in ["00001/000001.jpg", "00002/000002.jpg", "00003/000003.jpg", "00003/000004.jpg"] {
/// #     let path = root.path().join("images").join(image);
/// #     std::fs::create_dir_all(path.parent().expect("has one"))?;
/// #     std::fs::write(path, "")?;
/// # }
/// # std::fs::create_dir(root.path().join("train_test_split"))?;
/// for (list, text) in [
///     ("train_list.txt", "00001/000001\n00002/000002\n"),
///     ("test_3000_query.txt", "00003/000003\n"),
///     ("test_3000.txt", "00003/000004\n"),
///     ("vehicle_info.txt", "id/image;Camera ID;Time;Model;Type;Color\n\
///         00001/000001;16;2018-03-11 09:31:52;Audi;SUV;white\n\
///         00002/000002;2;2018-03-11 09:31:52;Audi;SUV;white\n\
///         00003/000003;16;2018-03-11 09:31:52;Audi;SUV;white\n\
///         00003/000004;174;2018-03-11 09:31:52;Audi;SUV;white\n"),
/// ] {
///     std::fs::write(root.path().join("train_test_split").join(list), text)?;
/// }
/// let splits = veri_wild::load(root.path(), TestSize::Small)?;
/// assert_eq!(splits.gallery[0].camera, Some(Camera::new(174)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(root: impl AsRef<Path>, size: TestSize) -> Result<Splits, Error> {
    let root = unpacked(root.as_ref());
    let vehicles = match size {
        TestSize::Small => 3_000,
        TestSize::Medium => 5_000,
        TestSize::Large => 10_000,
    };
    let list = |split| match split {
        Split::Train => first(&root, ["train_list.txt", "train_list_start0.txt"]),
        Split::Query => first(
            &root,
            [
                &format!("test_{vehicles}_query.txt"),
                &format!("test_{vehicles}_id_query.txt"),
            ],
        ),
        Split::Gallery => first(
            &root,
            [
                &format!("test_{vehicles}.txt"),
                &format!("test_{vehicles}_id.txt"),
            ],
        ),
    };
    let cameras = cameras(&root.join(LISTS).join(INFO))?;
    let mut images = Images {
        named: Named::below(root.join("images"), LAYOUT)?,
        spellings: Spellings::default(),
        cameras,
    };
    let mut samples = |split| images.samples(split, &list(split));
    let splits = Splits::new(listing::name(&root))
        .with_train(samples(Split::Train)?)
        .with_query(samples(Split::Query)?)
        .with_gallery(samples(Split::Gallery)?)
        .with_layout("the VERI-Wild layout");
    check::checked(splits, list, LINES)
}

/// Whether this dataset is in `root`.
pub(super) fn is_at(root: &Path) -> bool {
    unpacked(root).join(LISTS).join(INFO).exists()
}

fn unpacked(root: &Path) -> PathBuf {
    listing::unpacked(root, LISTS, &ARCHIVES)
}

/// The path of the second list if only that one exists, otherwise of the first.
fn first(root: &Path, names: [&str; 2]) -> PathBuf {
    let [first, second] = names.map(|name| root.join(LISTS).join(name));
    if !first.exists() && second.exists() {
        second
    } else {
        first
    }
}

/// The key of an image: its vehicle and its file name without extension.
type Key = (i64, String);

/// Reads the camera of each image from `vehicle_info.txt`.
fn cameras(info: &Path) -> Result<HashMap<Key, Camera>, Error> {
    let text = lines::text(info)?;
    let mut cameras = HashMap::new();
    for (at, (location, line)) in lines::non_empty(info, &text).enumerate() {
        let wrong = || location.wrong("00001/000001;16;… (vehicle, image, camera)", line);
        let mut fields = line.split(';');
        let image = fields.next().unwrap_or_default().trim();
        let is_header = at == 0 && image.bytes().any(|byte| byte.is_ascii_alphabetic());
        if is_header && parse(image).is_none() {
            continue;
        }
        let (_, key) = parse(image).ok_or_else(wrong)?;
        let camera = fields.next().and_then(|text| digits::number(text.trim()));
        let camera = camera.map(Camera::new).ok_or_else(wrong)?;
        if cameras.insert(key, camera).is_some() {
            return Err(location.wrong("an image that no earlier line lists", line));
        }
    }
    Ok(cameras)
}

/// Checks and converts the lines of the lists of images.
struct Images {
    named: Named,
    spellings: Spellings,
    cameras: HashMap<Key, Camera>,
}

impl Images {
    /// Reads the samples of a list.
    fn samples(&mut self, split: Split, list: &Path) -> Result<Vec<Sample>, Error> {
        let text = lines::text(list)?;
        lines::non_empty(list, &text)
            .map(|(location, line)| self.sample(split, location, line))
            .collect()
    }

    fn sample(
        &mut self,
        split: Split,
        location: Location<'_>,
        line: &str,
    ) -> Result<Sample, Error> {
        let image = line.split_whitespace().next().and_then(parse);
        let (file, key) = image.ok_or_else(|| location.wrong(LINE, line))?;
        let vehicle = file.split('/').next().unwrap_or_default();
        self.spellings.check_line(location, vehicle)?;
        let camera = self.cameras.get(&key).copied();
        let claim = Claim {
            split,
            identity: vehicle.to_owned(),
            camera,
        };
        let path = self.named.take(location, &file, claim)?;
        let camera = camera
            .ok_or_else(|| location.wrong(format!("an image with a camera in {INFO}"), line))?;
        Ok(Sample::new(path, Identity::new(key.0)).with_camera(camera))
    }
}

/// Parses `00001/000001` to the path of the image file and the key of the image.
fn parse(image: &str) -> Option<(String, Key)> {
    let (vehicle, image) = image.split_once('/')?;
    let label: i64 = digits::number(vehicle).filter(|label| *label > 0)?;
    let image = image.strip_suffix(".jpg").unwrap_or(image);
    digits::number::<u64>(image)?;
    Some((format!("{vehicle}/{image}.jpg"), (label, image.to_owned())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::dataset::testing::{published, tree};

    const INFO_LINES: &str = "id/image;Camera ID;Time;Model;Type;Color\n00001/000001;16;t;m\n\
                              00002/000002;2;t;m\n00003/000003;16;t;m\n00003/000004;174\n";
    const TRAIN_LINES: &str = "00002/000002\n00001/000001\n";

    fn set(train: &str, info: &[u8]) -> TempDir {
        let root = tree::with_files(&[
            "images/00001/000001.jpg",
            "images/00002/000002.jpg",
            "images/00003/000003.jpg",
            "images/00003/000004.jpg",
            "images/00003/000005.jpg",
        ]);
        for (list, text) in [
            ("train_list.txt", train),
            ("test_5000_id_query.txt", "00003/000003.jpg 0 16\n"),
            ("test_5000_id.txt", "00003/000004.jpg 0 174\n"),
        ] {
            tree::write(root.path(), &format!("{LISTS}/{list}"), text);
        }
        fs::write(root.path().join(LISTS).join(INFO), info).unwrap();
        root
    }

    fn message(train: &str, info: &str) -> String {
        let error = load(set(train, info.as_bytes()).path(), TestSize::Medium);
        error.expect_err("something is wrong").to_string()
    }

    #[test]
    fn lists_of_both_versions_are_read() {
        let root = set(TRAIN_LINES, INFO_LINES.as_bytes());
        assert!(is_at(root.path()));
        let splits = load(root.path(), TestSize::Medium).unwrap();
        assert_eq!(tree::labels(&splits.train), [(2, 2), (1, 16)]);
        assert_eq!(tree::labels(&splits.query), [(3, 16)]);
        assert_eq!(tree::labels(&splits.gallery), [(3, 174)]);
        assert!(splits.train[0].path.ends_with("images/00002/000002.jpg"));
    }

    #[test]
    fn a_list_without_a_header_keeps_its_first_line() {
        let (_, info) = INFO_LINES.split_once('\n').unwrap();
        let root = set(TRAIN_LINES, info.as_bytes());
        let splits = load(root.path(), TestSize::Medium).unwrap();
        assert_eq!(tree::labels(&splits.train), [(2, 2), (1, 16)]);
        assert_eq!(splits.layout, "the VERI-Wild layout");

        let message = message(TRAIN_LINES, &info.replacen("00001/000001", "00001", 1));
        let expected = "vehicle_info.txt: line 1: expected 00001/000001;16;… (vehicle, image, camera), \
                        found `00001;16;t;m`";
        assert!(message.ends_with(expected), "{message}");
    }

    #[test]
    fn truncated_lists_are_read_or_rejected() {
        for end in 0..INFO_LINES.len() {
            let root = set(TRAIN_LINES, &INFO_LINES.as_bytes()[..end]);
            drop(load(root.path(), TestSize::Medium));
        }
        for end in 0..TRAIN_LINES.len() {
            let root = set(&TRAIN_LINES[..end], INFO_LINES.as_bytes());
            // Only the last line end may be missing.
            let whole = end == TRAIN_LINES.len() - 1;
            assert_eq!(load(root.path(), TestSize::Medium).is_ok(), whole, "{end}");
        }
    }

    #[test]
    fn car_model_names_may_be_in_another_encoding() {
        let info = INFO_LINES.as_bytes().to_vec();
        let root = set(
            TRAIN_LINES,
            &[&info[..], b"00003/000005;1;t;\xb0\xc2\xb5\xcf\n"].concat(),
        );
        assert!(load(root.path(), TestSize::Medium).is_ok());
    }

    #[test]
    fn bad_lines_are_reported() {
        for (line, expected) in [
            (
                "00001",
                "expected 00001/000001 (vehicle from 1, image), found `00001`",
            ),
            (
                "00000/000001",
                "(vehicle from 1, image), found `00000/000001`",
            ),
            ("a/000001", "(vehicle from 1, image), found `a/000001`"),
            ("00001/x", "(vehicle from 1, image), found `00001/x`"),
            (
                "00001/../000001",
                "(vehicle from 1, image), found `00001/../000001`",
            ),
            ("00001/000009", "`, found `00001/000009.jpg`"),
            ("00009/000001", "`, found `00009/000001.jpg`"),
            (
                "00001/000001",
                "expected an image that is not already listed in line 2 of train_list.txt, \
                 found `00001/000001.jpg`",
            ),
            (
                "1/000001",
                "expected the spelling `00001` of this identity, as in line 2 of train_list.txt, found `1`",
            ),
            (
                "00003/000005",
                "expected an image with a camera in vehicle_info.txt, found `00003/000005`",
            ),
        ] {
            let message = message(&format!("{TRAIN_LINES}{line}"), INFO_LINES);
            assert!(message.contains("train_list.txt: line 3: "), "{message}");
            assert!(message.ends_with(expected), "{message}");
        }
    }

    #[test]
    fn bad_lines_of_vehicle_info_are_reported() {
        for (line, expected) in [
            (
                "00003/000005",
                "expected 00001/000001;16;… (vehicle, image, camera), found `00003/000005`",
            ),
            ("00003/000005;c1;t", "found `00003/000005;c1;t`"),
            ("00003;1;t", "found `00003;1;t`"),
            (
                "00003/000004;1",
                "expected an image that no earlier line lists, found `00003/000004;1`",
            ),
        ] {
            let message = message(TRAIN_LINES, &format!("{INFO_LINES}{line}"));
            assert!(message.contains("vehicle_info.txt: line 6: "), "{message}");
            assert!(message.ends_with(expected), "{message}");
        }
    }

    #[test]
    fn missing_and_empty_files_are_reported() {
        let root = set(TRAIN_LINES, INFO_LINES.as_bytes());
        let error = load(root.path(), TestSize::Small).expect_err("no such list");
        assert!(
            error.to_string().contains("test_3000_query.txt: "),
            "{error}"
        );
        fs::remove_dir_all(root.path().join("images")).unwrap();
        let error = load(root.path(), TestSize::Medium).expect_err("no images");
        assert!(
            error.to_string().contains("images: no such folder"),
            "{error}"
        );
        assert!(message("", INFO_LINES).contains("train_list.txt: no images for the train split"));
        assert!(message("00001/000001", INFO_LINES).ends_with("found only identity 1"));
    }

    #[test]
    #[ignore = "needs the dataset: set REID_VERI_WILD to its folder"]
    fn published_counts() {
        for (size, vehicles, gallery) in [
            (TestSize::Small, 3_000, 38_861),
            (TestSize::Medium, 5_000, 64_389),
            (TestSize::Large, 10_000, 128_517),
        ] {
            let counts = [(30_671, 277_797), (vehicles, vehicles), (vehicles, gallery)];
            published::assert_counts("REID_VERI_WILD", |root| load(root, size), counts);
        }
    }
}
