//! Data sets: where the images are, and whom they show.
//!
//! | layout | function |
//! |---|---|
//! | Market-1501's three folders | [`market1501::load`] |
//! | a CSV list | [`csv::load`] |
//! | a folder per identity | [`folder::load`], [`folder::load_split`] |
//! | any of them, by what is there | [`load`] |
//!
//! All of them leave out junk, keep distractors, put images in the order of their names or lines,
//! and refuse empty splits and training splits with one identity only. Images are not opened until
//! they are loaded.

pub mod csv;
pub mod folder;
pub mod market1501;
pub mod synthetic;

use std::path::Path;

use reid_core::Splits;

use crate::Error;

/// Reads a data set in whichever layout is there: a CSV list or a folder with an `index.csv`, a
/// folder with `train` in it (a folder per identity), otherwise Market-1501's.
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
    } else if path.join("train").exists() {
        folder::load(path)
    } else {
        market1501::load(path)
    }
}

mod check;
mod listing;
mod numbering;
