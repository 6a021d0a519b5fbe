//! Parquet: a set of embeddings as a table, one row per image.
//!
//! Columns have the names of the arrays in other files: `features` is a list of floats, `ids`, `cameras`, `images`
//! and `tracks` are integers, `paths` is text. Every further column of text is an attribute.

mod read;
mod write;

pub(super) use read::read;
pub(super) use write::write;

/// The column of the embeddings.
const FEATURES: &str = "features";
/// Columns that are no attributes.
const NAMES: [&str; 6] = [FEATURES, "ids", "cameras", "images", "tracks", "paths"];
