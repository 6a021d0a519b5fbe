//! Parquet files: a set of embeddings as a table with one row per image.
//!
//! The columns have the same names as the arrays in the other formats: `features` is a list of floats in single
//! or half precision, `ids`, `cameras`, `images` and `tracks` are integers, and `paths` is text. Every other text
//! column is an attribute.

mod blocks;
mod read;
mod write;

pub(super) use blocks::{Blocks, labels};
pub(super) use read::read;
pub(super) use write::{Table, write};

/// The name of the column of embeddings.
const FEATURES: &str = "features";
/// The names of the columns that are not attributes.
const NAMES: [&str; 6] = [FEATURES, "ids", "cameras", "images", "tracks", "paths"];
