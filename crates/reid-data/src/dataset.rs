//! Data sets: where the images are, and whom they show.
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
//! | any of them, by what is there | [`load`] |
//!
//! All of them leave out junk, keep distractors, put images in the order of their names or lines,
//! and refuse empty splits and training splits with one identity only. Lists and labels that name
//! an image that is not there are refused, and so are links that lead nowhere and names that are not
//! Unicode. What is left out of a folder is counted in [`Splits::notices`], and `Splits::statistics` prints
//! it. Images are not opened until they are loaded; queries are compared with gallery images of the same
//! size in bytes, so that a copy of a query is known as the same image ([`Sample::same_as`]).
//!
//! # Identities
//!
//! One rule makes identities of labels, in every layout:
//!
//! - Spaces around a label are no part of it, and composed and decomposed accents are the same letter.
//! - A label of digits is a whole number. Zeros in front of it are no part of the number (`0002` is 2), and
//!   neither is a fraction of zeros, which pandas writes (`9.0` is 9).
//! - `-1` is junk, which is left out. `0` (in Market-1501's names `0000`) is a distractor, an ordinary
//!   identity that no query asks for. They are so beside any other labels. Other negative numbers are an
//!   error.
//! - In CSV lists and in names of folders, any other text is an identity too, and capital letters count. If
//!   all labels are whole numbers, these are the identities. If one is text, all but `-1` and `0` are
//!   numbered from 1 in the order of their bytes, alike in every split.
//! - Nothing, `nan`, `None`, `null`, `NA` and other words that tools write for a missing label are an error.
//! - The same number written in two ways in one data set (`01` and `1`, `1e+05` and `100000`) is an error,
//!   because nothing tells whether it is one identity or two. Zeros in front of every number are one way.
//!
//! Names and lists of published data sets allow less: digits, and `-1` in [`market1501`]. The lists of
//! [`msmt17`] and [`vehicle_id`] count from 0, where 0 is no distractor, so that their identities are the
//! numbers plus 1 or more; those of [`veri_wild`] and [`aic20`] count from 1, and 0 is an error.

pub mod aic20;
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

/// A layout, and what tells it.
struct Layout {
    name: &'static str,
    is_at: fn(&Path) -> bool,
    load: fn(&Path) -> Result<Splits, Error>,
}

/// The layouts in the order in which they are looked for.
const LAYOUTS: [Layout; 10] = [
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
        name: "a folder per identity",
        is_at: |path| path.join("train").exists() && !msmt17::is_at(path),
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

/// What tells the layouts, for error messages.
const EXPECTED: &str = "a CSV list or a folder with one of index.csv, list_train.txt (MSMT17), \
                        train_test_split (VERI-Wild, VehicleID), image_train (CityFlow-ReID, VeRi-776), train \
                        (a folder per identity), bounding_box_train (the Market-1501 layout, DukeMTMC-reID, and \
                        CUHK03 in its folders labeled and detected)";

/// Reads a data set in whichever layout is there; the first of these that fits:
///
/// | what is there | layout |
/// |---|---|
/// | a CSV list, or `index.csv`, in small or capital letters | [`csv`] |
/// | `list_train.txt` | [`msmt17`], validation images trained on |
/// | `train_test_split/vehicle_info.txt` | [`veri_wild`], small test |
/// | `train_test_split/train_list.txt` and `image` | [`vehicle_id`], small test, first trial of seed 0 |
/// | `image_train` and `train_track_id.txt` or `train_track.txt` | [`aic20`], [`aic20::HELD_OUT`] held out by seed 0 |
/// | `image_train` | [`veri776`] |
/// | `train` | [`folder`], a folder per identity |
/// | `bounding_box_train`, most names such as `0001_c2_f0046182.jpg` | [`dukemtmc`] |
/// | `bounding_box_train`, most names such as `0001_c1_1.png` | [`cuhk03`]: its folder `labeled` or `detected` |
/// | `bounding_box_train` | [`market1501`] |
///
/// What is there may also lie in the folder that the archive of a data set unpacks to, CUHK03 excepted.
/// [`Splits::layout`] says what was decided, and [`Splits::notices`] which other layouts are there as well;
/// the statistics print both.
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
/// [`Error::Layout`] if none is there, and otherwise as the loader of that layout.
pub fn load(path: impl AsRef<Path>) -> Result<Splits, Error> {
    let path = path.as_ref();
    let mut there = LAYOUTS.iter().filter(|layout| (layout.is_at)(path));
    let Some(layout) = there.next() else {
        return Err(no_layout(path));
    };
    let mut splits = (layout.load)(path)?;
    let others = Notice::new(
        "layouts that are there too and were not read",
        there.map(|other| other.name),
    );
    if others.count > 0 {
        splits.notices.insert(0, others);
    }
    Ok(splits)
}

/// Which of Market-1501, DukeMTMC-reID and CUHK03 most names of training images are from; the first of them
/// for names that are from none.
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
    fn the_layout_is_told_by_what_is_there() {
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
            let root = testing::tree::of(files);
            let message = load(root.path()).expect_err("not whole").to_string();
            assert!(message.contains(expected), "{files:?}: {message}");
        }
    }

    const CSV: &str =
        "path,identity,split\na.jpg,a,train\nb.jpg,b,train\nc.jpg,c,query\nd.jpg,c,gallery\n";

    #[test]
    fn what_was_decided_and_what_else_is_there_are_printed() {
        let root = testing::tree::of(&["a.jpg", "b.jpg", "c.jpg", "d.jpg", "train/a/1.jpg"]);
        testing::tree::write(root.path(), "INDEX.csv", CSV);
        let text = load(root.path()).unwrap().statistics().to_string();
        assert!(text.contains(", read as a CSV list\n"), "{text}");
        let other = "layouts that are there too and were not read: 1 (a folder per identity)";
        assert!(text.contains(other), "{text}");

        testing::tree::write(root.path(), "LIST.CSV", CSV);
        let splits = load(root.path().join("LIST.CSV")).unwrap();
        assert_eq!(splits.layout, "a CSV list");
        assert_eq!(splits.notices, []);
    }

    #[test]
    fn most_names_decide_not_the_first() {
        let root = testing::tree::of(&[
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
    fn where_no_layout_is_there_what_is_there_is_named() {
        let root = testing::tree::of(&["images/1.jpg", "labels.txt"]);
        let message = load(root.path()).expect_err("no layout").to_string();
        assert!(message.contains(": expected a CSV list or a folder with one of index.csv, "));
        assert!(
            message.ends_with("), found images, labels.txt"),
            "{message}"
        );
        let message = load("no/such").expect_err("nothing").to_string();
        assert!(message.starts_with("no/such: "), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn images_are_left_out_of_no_layout_without_a_word() {
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
            let root = testing::tree::of(&names);
            let text = load(root.path()).unwrap().statistics().to_string();
            assert!(text.contains("left out, AVIF images"), "{text}");

            // The same person in two ways: `0001` and `1`.
            let other = format!("{folder}/{}.jpg", good[0].trim_start_matches('0'));
            testing::tree::write(root.path(), &other, "");
            let message = load(root.path()).expect_err("two ways").to_string();
            assert!(message.contains("expected one way of writing each identity, such as `"));
            fs::remove_file(root.path().join(other)).unwrap();

            let link = root.path().join(folder).join("0003.jpg");
            std::os::unix::fs::symlink("nowhere", link).unwrap();
            let message = load(root.path()).expect_err("leads nowhere").to_string();
            assert!(
                message.contains("0003.jpg: expected a link to what is there"),
                "{message}"
            );
        }
    }

    #[test]
    fn samples_of_before_there_were_tracks_are_read() {
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
