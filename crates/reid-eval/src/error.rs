//! The error type of this crate: embeddings, labels or settings that cannot be evaluated.

use std::{fmt, path::PathBuf};

use reid_core::{Identity, Problems, Split};

use crate::{Protocol, no_match::match_condition};

/// An error in the embeddings, labels or settings of an evaluation.
#[derive(Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The number of values is not images x dimensions, or the number of dimensions is 0.
    #[error(
        "embeddings of {identities} images with {dimensions} dimensions need {identities} x {dimensions} \
         values, and at least 1 dimension: found {values} values"
    )]
    Shape {
        /// Number of values found.
        values: usize,
        /// Number of dimensions.
        dimensions: usize,
        /// Number of identities, which is the number of images.
        identities: usize,
    },
    /// The class scores or the label of an image cannot be evaluated.
    #[error("image {image}: expected {expected}, found {found}")]
    Scores {
        /// The index of the image, from 0.
        image: usize,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// An embedding holds an infinite value or NaN.
    #[error("embedding value at row {row}, column {column} is {value}, expected a finite number")]
    Value {
        /// Row: the index of the image.
        row: usize,
        /// Column: the index of the dimension.
        column: usize,
        /// The value.
        value: f32,
    },
    /// The number of labels differs from the number of images.
    #[error("expected {expected} {labels}, one per image, found {found}")]
    Labels {
        /// The kind of label, such as cameras.
        labels: &'static str,
        /// Number of images.
        expected: usize,
        /// Number of labels.
        found: usize,
    },
    /// The query and the gallery embeddings have different numbers of dimensions.
    #[error("query embeddings have {query} dimensions, gallery embeddings have {gallery}")]
    Dimensions {
        /// Dimensions of the query embeddings.
        query: usize,
        /// Dimensions of the gallery embeddings.
        gallery: usize,
    },
    /// Embeddings do not have the dimensions that an operation expects.
    #[error("{operation} expects embeddings of {expected} dimensions, found {found}")]
    OtherDimensions {
        /// The operation.
        operation: &'static str,
        /// The dimensions that it expects.
        expected: usize,
        /// The dimensions of the embeddings.
        found: usize,
    },
    /// The query or the gallery has no images.
    #[error("the {split} has no images, expected at least 1")]
    Empty {
        /// The split concerned: query or gallery.
        split: Split,
    },
    /// The protocol needs the camera of each image.
    #[error(
        "the {split} has no cameras, which the market protocol needs: \
         set them with `with_cameras`, or choose `Protocol::NoCameras`"
    )]
    Cameras {
        /// The split concerned: query or gallery.
        split: Split,
    },
    /// Some images of a split have a camera and others do not.
    #[error(
        "{} has no camera, but {} has: give a camera to every image or to none",
        without.display(),
        with.display()
    )]
    MixedCameras {
        /// The first image with a camera.
        with: PathBuf,
        /// The first image without one.
        without: PathBuf,
    },
    /// A protocol needs an attribute that the images do not have.
    #[error(
        "the {split} has no attribute `{expected}`, found {}: \
         set one value per image with `Labels::with_attribute`",
        listed(found)
    )]
    Attribute {
        /// The split concerned: query or gallery.
        split: Split,
        /// Name of the attribute.
        expected: String,
        /// Names of the attributes found.
        found: Vec<String>,
    },
    /// A custom protocol rejects the labels.
    #[error("the protocol `{protocol}`: {reason}")]
    Protocol {
        /// Name of the protocol.
        protocol: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// A custom protocol was read from a file, which holds only the name, so its rule is missing.
    #[error(
        "the protocol `{protocol}` is not built in: set its rule in code with \
         `with_protocol(Protocol::custom(rule))`"
    )]
    NoRule {
        /// Name of the protocol.
        protocol: String,
    },
    /// Only one of query and gallery has image IDs, so the query's own image cannot be recognised.
    #[error(
        "the {split} has no image IDs, but the other split has: \
         set them for both with `with_images`, or for neither"
    )]
    Images {
        /// The split without image IDs.
        split: Split,
    },
    /// The size of a distance matrix does not match the labels.
    #[error("expected {queries} queries x {gallery} gallery distances, found {found}")]
    Matrix {
        /// Number of queries.
        queries: usize,
        /// Number of gallery images.
        gallery: usize,
        /// Number of distances.
        found: usize,
    },
    /// A distance is infinite or NaN: it was given like that, or it is too large for an `f32`.
    #[error(
        "the distance from query {query} to gallery image {gallery} (both from 0) is not a finite `f32`, \
         so the gallery cannot be ranked"
    )]
    Distance {
        /// Row: the index of the query.
        query: usize,
        /// Column: the index of the gallery image.
        gallery: usize,
    },
    /// The distance between two images is infinite or NaN.
    #[error(
        "the distance between {} image {} and {} image {} (both from 0), or its square, is not a finite \
         `f32`, so the images cannot be ranked", one.0, one.1, other.0, other.1
    )]
    Pair {
        /// One image: its split and its index in the split, from 0.
        one: (Split, usize),
        /// The other image.
        other: (Split, usize),
    },
    /// No query has a match, so there is nothing to average.
    #[error(
        "mAP and CMC need at least one query with a match {}: {reason}",
        match_condition(protocol)
    )]
    NoMatch {
        /// Number of queries.
        queries: usize,
        /// Number of gallery images.
        gallery: usize,
        /// The protocol that defines what a match is.
        protocol: Protocol,
        /// Why no query has a match.
        reason: String,
    },
    /// No query has a match in both of two compared reports.
    #[error(
        "a comparison needs at least one query with a match in both reports, \
         found none among {queries} queries"
    )]
    NothingInCommon {
        /// Number of queries in each report.
        queries: usize,
    },
    /// All pairs are genuine or all pairs are impostors, so there is nothing to tell apart.
    #[error(
        "a ROC curve needs pairs of the same identity and pairs of different identities, found {genuine} and \
         {impostor}: give images of at least two identities, at least one of them in both query and gallery"
    )]
    Pairs {
        /// Number of pairs of the same identity.
        genuine: u64,
        /// Number of pairs of different identities.
        impostor: u64,
    },
    /// No threshold reaches the wanted false accept rate.
    #[error(
        "no threshold that accepts a pair of the same identity has a false accept rate of at most {wanted}: \
         more than this fraction of the {impostor} pairs of different identities are at least as close as \
         the closest pair of the same identity"
    )]
    Rate {
        /// The wanted false accept rate.
        wanted: f64,
        /// Number of pairs of different identities.
        impostor: u64,
    },
    /// Open-set identification needs queries with a match in the gallery and queries without one.
    #[error(
        "open-set identification needs queries with and without a match in the gallery, found {in_gallery} \
         and {not_in_gallery}: change `held_out`, the fraction of identities removed from the gallery"
    )]
    OpenSet {
        /// Number of queries with a match.
        in_gallery: usize,
        /// Number of queries without a match.
        not_in_gallery: usize,
    },
    /// Two compared reports have different numbers of queries.
    #[error("a comparison needs two reports on the same queries, found {one} and {other} queries")]
    Compared {
        /// Number of queries in the first report.
        one: usize,
        /// Number of queries in the second report.
        other: usize,
    },
    /// The same query has different identities in two compared reports.
    #[error(
        "a comparison needs two reports on the same queries in the same order: query {query} (from 0) has \
         identity {one} in the first report and {other} in the second"
    )]
    ComparedIdentities {
        /// Index of the first query that differs, from 0.
        query: usize,
        /// Identity of the query in the first report.
        one: Identity,
        /// Identity of the query in the second report.
        other: Identity,
    },
    /// Identities are to be resampled, but the report was written by an older version without them.
    #[error(
        "resampling identities needs the identity of each query, but the report has none for query {query} \
         (from 0): evaluate again, or resample queries (`ResamplingUnit::Queries`)"
    )]
    Unidentified {
        /// Index of the first query without an identity, from 0.
        query: usize,
    },
    /// Images without tracks cannot be pooled by track.
    #[error("pooling by track needs a track for each image: set them with `with_tracks`")]
    Tracks,
    /// A track has images of several identities or cameras.
    #[error(
        "a track must have one identity and one camera: \
         images {first} and {row} (from 0) of track {track} differ"
    )]
    Track {
        /// Number of the track.
        track: u64,
        /// Index of the first image of the track, from 0.
        first: usize,
        /// Index of the image that differs from it, from 0.
        row: usize,
    },
    /// Sets of embeddings that should be of the same images are not.
    #[error(
        "expected embeddings of the same images in the same order: image {row} (from 0) has another identity"
    )]
    Mixed {
        /// Index of the first image that differs, from 0.
        row: usize,
    },
    /// The embeddings do not vary, so they cannot be whitened.
    #[error(
        "whitening needs at least 2 images with different embeddings, \
         but the embeddings of {images} images do not vary"
    )]
    Spread {
        /// Number of images.
        images: usize,
    },
    /// A setting is negative or NaN.
    #[error("{setting} is {found}, expected 0 or more")]
    Negative {
        /// Name of the setting.
        setting: &'static str,
        /// The value found.
        found: f64,
    },
    /// A query index is out of range.
    #[error("query index {query} is out of range for {queries} queries (indices start at 0)")]
    Query {
        /// The query index, from 0.
        query: usize,
        /// Number of queries.
        queries: usize,
    },
    /// A source of distances failed, for a reason outside this crate, or does not fit the labels.
    #[error("the distances of queries {first} to {last} (from 0) cannot be used: {reason}")]
    Source {
        /// Index of the first requested query, from 0.
        first: usize,
        /// Index of the last requested query, inclusive.
        last: usize,
        /// Why they cannot be used.
        reason: String,
    },
    /// A fraction is outside 0 to 1.
    #[error("{setting} is {found}, expected a fraction from 0 to 1")]
    Share {
        /// Name of the setting.
        setting: &'static str,
        /// The value found.
        found: f64,
    },
    /// The settings of an evaluation are invalid.
    #[error("evaluation: {problems}")]
    Evaluation {
        /// Each invalid setting with its path.
        problems: Problems,
    },
    /// The settings of clustering are invalid.
    #[error("clustering: {problems}")]
    Clustering {
        /// Each invalid setting with its path.
        problems: Problems,
    },
    /// The settings of a track bank are invalid.
    #[error("track bank: {problems}")]
    TrackBank {
        /// Each invalid setting with its path.
        problems: Problems,
    },
    /// A frame is before an earlier one.
    #[error("expected frame {expected} or a later one, found frame {found}")]
    FrameOrder {
        /// The last frame.
        expected: u64,
        /// The frame found.
        found: u64,
    },
    /// A setting is 0 but must be at least 1.
    #[error("{setting} is 0, expected at least 1")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
    },
    /// A text is none of the allowed choices.
    #[error("expected {expected}, found `{found}`")]
    Choice {
        /// The allowed choices.
        expected: &'static str,
        /// The text found.
        found: String,
    },
}

/// Formats names in backquotes, separated by commas.
fn listed(names: &[String]) -> String {
    match names {
        [] => "no attributes".to_owned(),
        names => format!("`{}`", names.join("`, `")),
    }
}

/// Formats the message like [`reid_core::debug_error`].
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_format_is_the_message() {
        let error: Box<dyn std::error::Error> = Box::new(Error::Dimensions {
            query: 512,
            gallery: 2048,
        });
        assert_eq!(
            format!("{error:?}"),
            "query embeddings have 512 dimensions, gallery embeddings have 2048"
        );
    }
}
