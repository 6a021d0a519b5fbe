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
//! an image that is not there are refused. Images are not opened until they are loaded.

pub mod aic20;
pub mod csv;
pub mod cuhk03;
pub mod dukemtmc;
pub mod folder;
pub mod market1501;
pub mod msmt17;
pub mod synthetic;
pub mod vehicle_id;
pub mod veri776;
pub mod veri_wild;

use std::path::Path;

use reid_core::{Seed, Splits};

use crate::Error;

pub use test_size::TestSize;

/// Reads a data set in whichever layout is there; the first of these that fits:
///
/// | what is there | layout |
/// |---|---|
/// | a CSV list, or `index.csv` | [`csv`] |
/// | `list_train.txt` | [`msmt17`], validation images trained on |
/// | `train_test_split/vehicle_info.txt` | [`veri_wild`], small test |
/// | `train_test_split/train_list.txt` and `image` | [`vehicle_id`], small test, first trial of seed 0 |
/// | `image_train` and `train_track_id.txt` or `train_track.txt` | [`aic20`], [`aic20::HELD_OUT`] held out by seed 0 |
/// | `image_train` | [`veri776`] |
/// | `train` | [`folder`], a folder per identity |
/// | `bounding_box_train`, names such as `0001_c2_f0046182.jpg` | [`dukemtmc`] |
/// | `bounding_box_train`, names such as `0001_c1_1.png` | [`cuhk03`]: its folder `labeled` or `detected` |
/// | anything else | [`market1501`] |
///
/// What is there may also lie in the folder that the archive of a data set unpacks to, CUHK03 excepted.
///
/// ```
/// use reid_data::dataset::{self, synthetic::SyntheticConfig};
///
/// # let folder = tempfile::tempdir()?;
/// SyntheticConfig::new().with_train_identities(2).with_test_identities(2).write(folder.path())?;
/// assert_eq!(dataset::load(folder.path())?.statistics().train.identities, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As the loader of that layout.
pub fn load(path: impl AsRef<Path>) -> Result<Splits, Error> {
    let path = path.as_ref();
    let is_list = path.extension().is_some_and(|extension| extension == "csv");
    if is_list || path.join("index.csv").exists() {
        csv::load(path)
    } else if msmt17::is_at(path) {
        msmt17::load(path, msmt17::Training::default())
    } else if veri_wild::is_at(path) {
        veri_wild::load(path, TestSize::default())
    } else if vehicle_id::is_at(path) {
        vehicle_id::load(path, TestSize::default(), Seed::new(0))
    } else if aic20::is_at(path) {
        aic20::load(path, aic20::HELD_OUT, Seed::new(0))
    } else if veri776::is_at(path) {
        veri776::load(path)
    } else if path.join("train").exists() {
        folder::load(path)
    } else if dukemtmc::is_at(path) {
        dukemtmc::load(path)
    } else if cuhk03::are_boxes(path) {
        cuhk03::load_boxes(path)
    } else {
        market1501::load(path)
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
