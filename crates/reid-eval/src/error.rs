//! Errors: what is wrong with embeddings, labels or settings, with numbers.

use std::{fmt, path::PathBuf};

use reid_core::{Identity, Problems, Split};

use crate::{Protocol, no_match::place};

/// Embeddings, labels or settings that cannot be evaluated.
#[derive(Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The number of values is not images x dimensions, or there are no dimensions.
    #[error(
        "expected embeddings of {identities} images x {dimensions} dimensions (at least 1), \
         found {values} values"
    )]
    Shape {
        /// Values given.
        values: usize,
        /// Dimensions asked for.
        dimensions: usize,
        /// Identities given: one per image.
        identities: usize,
    },
    /// An embedding holds a value that is infinite or not a number.
    #[error("embedding value at row {row}, column {column} is {value}, expected a finite number")]
    Value {
        /// Row: the image.
        row: usize,
        /// Column: the dimension.
        column: usize,
        /// The value.
        value: f32,
    },
    /// There is not one label per image.
    #[error("expected {expected} {labels}, one per image, found {found}")]
    Labels {
        /// What the labels are, such as cameras.
        labels: &'static str,
        /// Images.
        expected: usize,
        /// Labels given.
        found: usize,
    },
    /// Query and gallery embeddings come from different spaces.
    #[error("query embeddings have {query} dimensions, gallery embeddings have {gallery}")]
    Dimensions {
        /// Of the query.
        query: usize,
        /// Of the gallery.
        gallery: usize,
    },
    /// There is nothing to search for, or nothing to search in.
    #[error("the {split} has no images, expected at least 1")]
    Empty {
        /// Query or gallery.
        split: Split,
    },
    /// The protocol needs to know which camera took each image.
    #[error(
        "the {split} has no cameras, which the market protocol needs: \
         give them by `with_cameras`, or choose `Protocol::NoCameras`"
    )]
    Cameras {
        /// Query or gallery.
        split: Split,
    },
    /// Some images of a split have a camera and others have none.
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
    /// A protocol needs an attribute that images do not have.
    #[error(
        "the {split} has no attribute `{expected}`, found {}: \
         give one value per image by `Labels::with_attribute`",
        listed(found)
    )]
    Attribute {
        /// Query or gallery.
        split: Split,
        /// The attribute.
        expected: String,
        /// The attributes that there are.
        found: Vec<String>,
    },
    /// A protocol of one's own refuses labels.
    #[error("the protocol `{protocol}`: {reason}")]
    Protocol {
        /// Its name.
        protocol: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// A protocol of one's own was read from a file, which holds only its name.
    #[error(
        "the protocol `{protocol}` is not built in: give its rule in code by \
         `with_protocol(Protocol::custom(rule))`"
    )]
    NoRule {
        /// Its name.
        protocol: String,
    },
    /// Images are numbered on one side only, so that the query's own image cannot be recognised.
    #[error(
        "the {split} has no image numbers but the other side has: \
         give them to both by `with_images`, or to neither"
    )]
    Images {
        /// The side without numbers.
        split: Split,
    },
    /// A distance matrix does not fit its labels.
    #[error("expected {queries} queries x {gallery} gallery distances, found {found}")]
    Matrix {
        /// Queries.
        queries: usize,
        /// Gallery images.
        gallery: usize,
        /// Distances given.
        found: usize,
    },
    /// A distance is infinite or not a number: given so, or too large for an `f32`.
    #[error(
        "the distance of query {query} to gallery image {gallery} is not a finite `f32`, \
         so they cannot be ranked"
    )]
    Distance {
        /// Row: the query.
        query: usize,
        /// Column: the gallery image.
        gallery: usize,
    },
    /// The distance of two images is infinite or not a number.
    #[error(
        "the distance of {} image {} and {} image {}, or its square, is not a finite `f32`, \
         so they cannot be ranked", one.0, one.1, other.0, other.1
    )]
    Pair {
        /// One image: its side, and its index there from 0.
        one: (Split, usize),
        /// The other.
        other: (Split, usize),
    },
    /// There is nothing to average.
    #[error(
        "mAP and CMC need at least one query with a match {}: {reason}",
        place(protocol)
    )]
    NoMatch {
        /// Queries.
        queries: usize,
        /// Gallery images.
        gallery: usize,
        /// The protocol that decides what is a match.
        protocol: Protocol,
        /// Why there is none.
        reason: String,
    },
    /// Two reports are compared, and no query has a match in both.
    #[error(
        "a comparison needs at least one query with a match in both reports, found none of {queries}"
    )]
    NothingInCommon {
        /// Queries of each report.
        queries: usize,
    },
    /// Only pairs of one kind can be made, so that nothing can be told apart.
    #[error(
        "a ROC curve needs pairs of one identity and pairs of two, found {genuine} and {impostor}: give both \
         sides images of at least two identities, one of them on both"
    )]
    Pairs {
        /// Pairs of one identity.
        genuine: u64,
        /// Pairs of two.
        impostor: u64,
    },
    /// No pair is near enough for the false accept rate that is wanted.
    #[error(
        "no threshold has a false accept rate of at most {wanted}: the nearest pair of one identity is \
         farther apart than a larger share of {impostor} pairs of two"
    )]
    Rate {
        /// The rate.
        wanted: f64,
        /// Pairs of two identities.
        impostor: u64,
    },
    /// Open-set identification needs queries that are in the gallery and queries that are not.
    #[error(
        "open-set identification needs queries with and without a match in the gallery, found {in_gallery} \
         and {not_in_gallery}: change the share of identities that are held out"
    )]
    OpenSet {
        /// Queries with a match.
        in_gallery: usize,
        /// Queries without one.
        not_in_gallery: usize,
    },
    /// Two reports are on different queries.
    #[error("a comparison needs two reports on the same queries, found {one} and {other} queries")]
    Compared {
        /// Queries of one report.
        one: usize,
        /// Queries of the other.
        other: usize,
    },
    /// Two reports are on queries that show different people.
    #[error(
        "a comparison needs two reports on the same queries in the same order: query {query} (from 0) shows \
         identity {one} in one and {other} in the other"
    )]
    ComparedIdentities {
        /// The first query that differs, from 0.
        query: usize,
        /// Who it shows in one report.
        one: Identity,
        /// Who it shows in the other.
        other: Identity,
    },
    /// Identities are to be drawn, and a report of an older version does not hold them.
    #[error(
        "intervals over identities need the identity of each query, and the report does not say whom query \
         {query} (from 0) shows: evaluate again, or draw queries (`ResamplingUnit::Queries`)"
    )]
    Unidentified {
        /// The first such query, from 0.
        query: usize,
    },
    /// Images are to be pooled by track, and they have no tracks.
    #[error("the images have no tracks to be pooled by: give one per image by `with_tracks`")]
    Tracks,
    /// A track shows several identities or cameras.
    #[error(
        "a track shows one identity by one camera: images {first} and {row} (from 0) of track {track} differ"
    )]
    Track {
        /// The track.
        track: u64,
        /// Its first image, from 0.
        first: usize,
        /// One that differs, from 0.
        row: usize,
    },
    /// Sets that should be of the same images are not.
    #[error(
        "expected embeddings of the same images in the same order: image {row} (from 0) shows another identity"
    )]
    Mixed {
        /// The first image that differs, from 0.
        row: usize,
    },
    /// Embeddings do not vary, so that they cannot be whitened.
    #[error("whitening needs at least 2 images with different embeddings, found {images} images")]
    Spread {
        /// Images.
        images: usize,
    },
    /// A setting is below 0 or not a number.
    #[error("{setting} is {found}, expected 0 or more")]
    Negative {
        /// The setting.
        setting: &'static str,
        /// What was found.
        found: f64,
    },
    /// There is no such query.
    #[error("there is no query {query} among {queries} queries, which are counted from 0")]
    Query {
        /// The query asked for, from 0.
        query: usize,
        /// Queries.
        queries: usize,
    },
    /// A source of distances failed, for a reason from outside.
    #[error("the distances of queries {first} to {last} (from 0): {reason}")]
    Source {
        /// The first query asked for, from 0.
        first: usize,
        /// The last query asked for.
        last: usize,
        /// What happened.
        reason: String,
    },
    /// A share is outside 0 to 1.
    #[error("{setting} is {found}, expected a share from 0 to 1")]
    Share {
        /// The setting.
        setting: &'static str,
        /// What was found.
        found: f64,
    },
    /// An evaluation asks for something impossible.
    #[error("evaluation: {problems}")]
    Evaluation {
        /// Each impossible setting with its path.
        problems: Problems,
    },
    /// A setting is 0 where at least 1 is needed.
    #[error("{setting} is 0, expected at least 1")]
    Setting {
        /// The setting.
        setting: &'static str,
    },
    /// A text names none of the choices.
    #[error("expected {expected}, found `{found}`")]
    Choice {
        /// The choices.
        expected: &'static str,
        /// The text.
        found: String,
    },
}

/// Names in quotes.
fn listed(names: &[String]) -> String {
    match names {
        [] => "no attributes".to_owned(),
        names => format!("`{}`", names.join("`, `")),
    }
}

/// The message, as [`reid_core::debug_error`] writes it.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ends_with_an_error_prints_its_message() {
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
