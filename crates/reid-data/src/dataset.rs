//! Data sets: where the images are, and whom they show.
//!
//! | layout | function |
//! |---|---|
//! | Market-1501's three folders | [`market1501::load`] |
//! | a CSV list | [`csv::load`] |
//! | a folder per identity | [`folder::load`], [`folder::load_split`] |
//!
//! All of them leave out junk, keep distractors, put images in the order of their names or lines,
//! and refuse empty splits and training splits with one identity only. Images are not opened until
//! they are loaded.

pub mod csv;
pub mod folder;
pub mod market1501;
pub mod synthetic;

mod check;
mod listing;
mod numbering;
