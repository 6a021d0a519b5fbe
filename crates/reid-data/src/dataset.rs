//! Datasets: lists of image paths with identities, cameras and tracks, read from published layouts.
//!
//! | layout | function |
//! |---|---|
//! | Market-1501's three folders | [`market1501::load`] |
//! | `DukeMTMC-reID` | [`dukemtmc::load`] |
//! | CUHK03, new protocol, labeled and detected | [`cuhk03::load`] |
//! | MSMT17, versions 1 and 2 | [`msmt17::load`] |
//! | `VeRi-776`, with tracks | [`veri776::load`] |
//! | `VehicleID`, in trials | [`vehicle_id::load`], [`vehicle_id::test_images`] |
//! | `VERI-Wild` | [`veri_wild::load`] |
//! | CityFlow-ReID (AI City Challenge), with tracks | [`aic20::load`], [`aic20::unlabelled`] |
//! | a CSV list | [`csv::load`] |
//! | a folder per identity | [`folder::load`], [`folder::load_split`] |
//! | a folder per class, for classification | [`class_folder::load`] |
//! | CIFAR-10 and CIFAR-100, binary version | [`cifar::load`] |
//! | any of these, detected automatically | [`load`] |
//!
//! All loaders share these rules:
//!
//! - Junk is skipped and distractors are kept.
//! - Samples are in the order of their file names, or of the lines of a list.
//! - Empty splits and training splits with only one identity are rejected.
//! - A list or label that names a missing image is rejected. So are broken symbolic links, and file names
//!   that are not Unicode.
//! - Skipped files are counted in [`Splits::notices`], and `Splits::statistics` prints them. Files that
//!   operating systems create, such as `Thumbs.db`, are not counted.
//! - Classification datasets have training and test images of the same identities, and no queries.
//! - Images are not decoded. Queries are compared with gallery files of the same size by a hash of their
//!   bytes, so that a copy of a query is recognised as the same image ([`Sample::same_as`]).
//!
//! # Identities
//!
//! Labels in files and folder names become identities by one rule, in every layout:
//!
//! - Spaces around a label are ignored. Composed and decomposed accents are the same letter.
//! - A label of digits is an integer. Leading zeros are ignored (`0002` is 2), and so is a fraction of
//!   zeros, which pandas writes (`9.0` is 9).
//! - `-1` is junk and is skipped. `0` (`0000` in the file names of Market-1501) is a distractor: an ordinary
//!   identity without queries. Both keep their meaning beside text labels. Other negative integers are an
//!   error.
//! - In CSV lists and folder names, any other text is an identity too, and case matters. If all labels are
//!   integers, they are the identities. If any label is text, all labels except `-1` and `0` are sorted by
//!   their bytes and numbered from 1, with the same numbering in every split.
//! - An empty label is an error, and so are `nan`, `None`, `null`, `NA` and other markers of a missing value.
//! - An integer spelled in two ways in one dataset (`01` and `1`, `1e+05` and `100000`) is an error, because
//!   it could be one identity or two. Leading zeros are accepted if each integer is always spelled the same.
//!
//! The loaders of published datasets accept digits only, and also `-1` in [`market1501`]. The lists of
//! [`msmt17`] and [`vehicle_id`] count from 0, but their 0 is not a distractor. Their identities are
//! therefore the listed integers plus an offset of at least 1. The lists of [`veri_wild`] and [`aic20`]
//! count from 1, and 0 is an error.

pub mod aic20;
pub mod cifar;
pub mod class_folder;
pub mod csv;
pub mod cuhk03;
pub mod dukemtmc;
pub mod folder;
pub mod market1501;
pub mod msmt17;
pub mod vehicle_id;
pub mod veri776;
pub mod veri_wild;

use std::{
    fs,
    path::{Path, PathBuf},
};

#[cfg(doc)]
use reid_core::Sample;
use reid_core::{Notice, Seed, Splits};

use self::reading::three_folders::ThreeFolders;
use crate::Error;

pub use test_size::TestSize;

/// A layout: its name, how it is detected, and its loader.
struct Layout {
    name: &'static str,
    is_at: fn(&Path) -> bool,
    load: fn(&Path) -> Result<Splits, Error>,
}

/// The layouts, in the order in which they are tried.
const LAYOUTS: [Layout; 12] = [
    Layout {
        name: "a CSV list",
        is_at: |path| csv::is_list(path) || csv::in_folder(path).is_some(),
        load: |path| csv::load(path),
    },
    Layout {
        name: "MSMT17",
        is_at: msmt17::is_at,
        load: |path| msmt17::load(path, msmt17::Training::default()),
    },
    Layout {
        name: "VERI-Wild",
        is_at: veri_wild::is_at,
        load: |path| veri_wild::load(path, TestSize::default()),
    },
    Layout {
        name: "VehicleID",
        is_at: vehicle_id::is_at,
        load: |path| vehicle_id::load(path, TestSize::default(), Seed::new(0)),
    },
    Layout {
        name: "CityFlow-ReID",
        is_at: aic20::is_at,
        load: |path| aic20::load(path, aic20::HELD_OUT, Seed::new(0)),
    },
    Layout {
        name: "VeRi-776",
        is_at: |path| veri776::is_at(path) && !aic20::is_at(path),
        load: |path| veri776::load(path),
    },
    Layout {
        name: "CIFAR",
        is_at: cifar::is_at,
        load: |path| cifar::load(path),
    },
    Layout {
        name: "a folder per class",
        is_at: class_folder::is_at,
        load: |path| class_folder::load(path),
    },
    Layout {
        name: "a folder per identity",
        is_at: |path| {
            path.join("train").exists() && !msmt17::is_at(path) && !class_folder::is_at(path)
        },
        load: |path| folder::load(path),
    },
    Layout {
        name: "DukeMTMC-reID",
        is_at: |path| most_names(path, dukemtmc::unpacked) == Some(1),
        load: |path| dukemtmc::load(path),
    },
    Layout {
        name: "CUHK03",
        is_at: |path| most_names(path, Path::to_owned) == Some(2),
        load: cuhk03::load_boxes,
    },
    Layout {
        name: "Market-1501",
        is_at: |path| most_names(path, market1501::unpacked) == Some(0),
        load: |path| market1501::load(path),
    },
];

/// The files and folders that identify a layout, for error messages.
const EXPECTED: &str = "a CSV list or a folder with one of index.csv, list_train.txt (MSMT17), \
                        train_test_split (VERI-Wild, VehicleID), image_train (CityFlow-ReID, VeRi-776), \
                        test_batch.bin or test.bin (CIFAR), train and test (a folder per class), \
                        train (a folder per identity), bounding_box_train (the Market-1501 layout, \
                        DukeMTMC-reID, and CUHK03 in its folders labeled and detected)";

/// Detects the layout of a dataset and loads it. The first layout in this table whose files exist is chosen:
///
/// | files | layout |
/// |---|---|
/// | a CSV list, or `index.csv`, in lower or upper case | [`csv`] |
/// | `list_train.txt` | [`msmt17`], validation images included in training |
/// | `train_test_split/vehicle_info.txt` | [`veri_wild`], small test |
/// | `train_test_split/train_list.txt` and `image` | [`vehicle_id`], small test, first trial with seed 0 |
/// | `image_train` and `train_track_id.txt` or `train_track.txt` | [`aic20`], [`aic20::HELD_OUT`] vehicles held out with seed 0 |
/// | `image_train` | [`veri776`] |
/// | `test_batch.bin` and `data_batch_1.bin`, or `test.bin` and `train.bin` | [`cifar`] |
/// | `train` and `test`, without `query` | [`class_folder`], a folder per class |
/// | `train` | [`folder`], a folder per identity |
/// | `bounding_box_train`, most names such as `0001_c2_f0046182.jpg` | [`dukemtmc`] |
/// | `bounding_box_train`, most names such as `0001_c1_1.png` | [`cuhk03`], its folder `labeled` or `detected` |
/// | `bounding_box_train` | [`market1501`] |
///
/// `path` may also be the parent of the folder that the published archive unpacks to, except for CUHK03.
/// [`Splits::layout`] is the detected layout, and [`Splits::notices`] names other layouts that were also
/// found. The statistics print both.
///
/// ```
/// use reid_data::dataset;
///
/// # let root = tempfile::tempdir()?;
/// # for image in ["train/anna/1.jpg", "train/bert/1.jpg", "query/carl/1.jpg", "gallery/carl/2.jpg"] {
/// #     let path = root.path().join(image);
/// #     std::fs::create_dir_all(path.parent().expect("has one"))?;
/// #     std::fs::write(path, image)?;
/// # }
/// let splits = dataset::load(root.path())?;
/// assert_eq!(splits.layout, "a folder per identity");
/// assert_eq!(splits.statistics().train.identities, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Layout`] if no layout is found, [`Error::Io`] if `path` is not a readable folder, and the errors
/// of the loader of the detected layout.
pub fn load(path: impl AsRef<Path>) -> Result<Splits, Error> {
    let path = path.as_ref();
    let mut there = LAYOUTS.iter().filter(|layout| (layout.is_at)(path));
    let Some(layout) = there.next() else {
        return Err(no_layout(path));
    };
    let mut splits = (layout.load)(path)?;
    let others = Notice::new(
        "other layouts found and not read",
        there.map(|other| other.name),
    );
    if others.count > 0 {
        splits.notices.insert(0, others);
    }
    Ok(splits)
}

/// The index, in `FOLDERS`, of the layout that most names of training images follow.
///
/// The result is 0 (Market-1501) if no name follows any layout, and `None` if the training folder is missing.
fn most_names(root: &Path, unpacked: impl Fn(&Path) -> PathBuf) -> Option<usize> {
    const FOLDERS: [ThreeFolders; 3] = [market1501::FOLDERS, dukemtmc::FOLDERS, cuhk03::FOLDERS];
    let folder = unpacked(root).join(FOLDERS[0].train);
    if !folder.is_dir() {
        return None;
    }
    let counts = ThreeFolders::names(&FOLDERS, &folder);
    (0..counts.len()).rev().max_by_key(|&at| counts[at])
}

fn no_layout(path: &Path) -> Error {
    const SHOWN: usize = 5;
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(source) => {
            return Error::Io {
                path: path.to_owned(),
                source,
            };
        }
    };
    let names = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name());
    let mut names: Vec<String> = names.map(|name| name.display().to_string()).collect();
    names.sort_unstable();
    let more = names.len() > SHOWN;
    names.truncate(SHOWN);
    let found = match (names.is_empty(), more) {
        (true, _) => "an empty folder".to_owned(),
        (false, true) => format!("{}, …", names.join(", ")),
        (false, false) => names.join(", "),
    };
    Error::Layout {
        path: path.to_owned(),
        expected: EXPECTED,
        found,
    }
}

mod reading;
mod test_size;

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use reid_core::{Identity, Sample, Track};

    use super::*;

    #[test]
    fn the_layout_is_detected_from_the_files() {
        for (files, expected) in [
            (
                &["train/a/1.jpg"][..],
                "the folders train, query and gallery",
            ),
            (&["train/0/1.jpg", "list_train.txt"], "list_val.txt"),
            (&["MSMT17_V1/list_train.txt"], "the MSMT17 layout"),
            (
                &["train_test_split/vehicle_info.txt"],
                "the VERI-Wild layout",
            ),
            (
                &["train_test_split/train_list.txt", "image/1.jpg"],
                "test_list_800.txt",
            ),
            (
                &["image_train/0001_c001_00016450_0.jpg"],
                "the VeRi-776 layout",
            ),
            (
                &["VeRi/image_train/0001_c001_00016450_0.jpg"],
                "the VeRi-776 layout",
            ),
            (
                &["image_train/000001.jpg", "train_track_id.txt"],
                "train_label.xml",
            ),
            (
                &["bounding_box_train/0001_c2_f0046182.jpg"],
                "the DukeMTMC-reID layout",
            ),
            (
                &["bounding_box_train/0001_c1_1.png"],
                "the CUHK03-NP layout",
            ),
            (
                &["bounding_box_train/0002_c1s1_000451_03.jpg"],
                "the Market-1501 layout",
            ),
            (&[], "the Market-1501 layout"),
        ] {
            let root = testing::tree::with_files(files);
            let message = load(root.path()).expect_err("incomplete").to_string();
            assert!(message.contains(expected), "{files:?}: {message}");
        }
    }

    const CSV: &str =
        "path,identity,split\na.jpg,a,train\nb.jpg,b,train\nc.jpg,c,query\nd.jpg,c,gallery\n";

    #[test]
    fn the_detected_layout_and_the_other_layouts_are_printed() {
        let root =
            testing::tree::with_files(&["a.jpg", "b.jpg", "c.jpg", "d.jpg", "train/a/1.jpg"]);
        testing::tree::write(root.path(), "INDEX.csv", CSV);
        let text = load(root.path()).unwrap().statistics().to_string();
        assert!(text.contains(", read as a CSV list\n"), "{text}");
        let other = "other layouts found and not read: 1 (a folder per identity)";
        assert!(text.contains(other), "{text}");

        testing::tree::write(root.path(), "LIST.CSV", CSV);
        let splits = load(root.path().join("LIST.CSV")).unwrap();
        assert_eq!(splits.layout, "a CSV list");
        assert_eq!(splits.notices, []);
    }

    #[test]
    fn the_layout_is_that_of_most_names_not_of_the_first() {
        let root = testing::tree::with_files(&[
            "bounding_box_train/0000.jpg",
            "bounding_box_train/0001_c2_f0046182.jpg",
            "bounding_box_train/0002_c2_f0046182.jpg",
        ]);
        let message = load(root.path())
            .expect_err("one name is wrong")
            .to_string();
        assert!(message.contains("0000.jpg: expected a name such as 0001_c2_f0046182.jpg"));
    }

    #[test]
    fn an_unknown_layout_is_reported_with_the_entries_found() {
        let root = testing::tree::with_files(&["images/1.jpg", "labels.txt"]);
        let message = load(root.path()).expect_err("no layout").to_string();
        assert!(message.contains(": expected a CSV list or a folder with one of index.csv, "));
        assert!(
            message.ends_with("), found images, labels.txt"),
            "{message}"
        );
        let message = load("no/such").expect_err("no folder").to_string();
        assert!(message.starts_with("no/such: "), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn no_layout_skips_images_silently() {
        for (folder, good) in [
            (
                "bounding_box_train",
                ["0001_c1s1_000001_00", "0002_c1s1_000001_00"],
            ),
            (
                "bounding_box_train",
                ["0001_c1_f0000001", "0002_c1_f0000001"],
            ),
            ("bounding_box_train", ["0001_c1_1", "0002_c1_1"]),
            (
                "image_train",
                ["0001_c001_00000001_0", "0002_c001_00000001_0"],
            ),
        ] {
            let folders = match folder {
                "image_train" => ["image_query", "image_test"],
                _ => ["query", "bounding_box_test"],
            };
            let mut files: Vec<String> = good.map(|name| format!("{folder}/{name}.jpg")).to_vec();
            files.extend(folders.map(|folder| format!("{folder}/{}.jpg", good[0])));
            files.push(format!("{folder}/{}.avif", good[1]));
            let names: Vec<&str> = files.iter().map(String::as_str).collect();
            let root = testing::tree::with_files(&names);
            let text = load(root.path()).unwrap().statistics().to_string();
            assert!(text.contains("skipped AVIF images"), "{text}");

            // Two spellings of the same identity: `0001` and `1`.
            let other = format!("{folder}/{}.jpg", good[0].trim_start_matches('0'));
            testing::tree::write(root.path(), &other, "");
            let message = load(root.path()).expect_err("two spellings").to_string();
            assert!(message.contains("expected the spelling `"), "{message}");
            fs::remove_file(root.path().join(other)).unwrap();

            let link = root.path().join(folder).join("0003.jpg");
            std::os::unix::fs::symlink("nowhere", link).unwrap();
            let message = load(root.path()).expect_err("a broken link").to_string();
            assert!(
                message.contains("0003.jpg: expected a link to an existing file or folder"),
                "{message}"
            );
        }
    }

    #[test]
    fn samples_saved_without_a_track_are_read() {
        let text = r#"{"path":"a.jpg","identity":2,"camera":null}"#;
        let sample: Sample = serde_json::from_str(text).unwrap();
        assert_eq!(sample, Sample::new("a.jpg", Identity::new(2)));
        assert_eq!(serde_json::to_string(&sample).unwrap(), text);
        let text = r#"{"path":"a.jpg","identity":2,"camera":1,"track":7}"#;
        let sample: Sample = serde_json::from_str(text).unwrap();
        assert_eq!(sample.track, Some(Track::new(7)));
        assert_eq!(serde_json::to_string(&sample).unwrap(), text);
    }
}
