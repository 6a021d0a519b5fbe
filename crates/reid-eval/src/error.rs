//! Errors: what is wrong with embeddings, labels or settings, with numbers.

use std::path::PathBuf;

use reid_core::{Identity, Problems, Split};

use crate::Protocol;

/// Embeddings, labels or settings that cannot be evaluated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
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
        /// What the labels are: cameras or image numbers.
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
         give them by `with_cameras`, or choose `Protocol::CameraLess`"
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
        /// One image: its side, and its place there from 0.
        one: (Split, usize),
        /// The other.
        other: (Split, usize),
    },
    /// There is nothing to average.
    #[error(
        "none of {queries} queries has a match among {gallery} gallery images \
         in the {protocol} protocol: are identities and cameras labelled alike on both sides?"
    )]
    NoMatch {
        /// Queries.
        queries: usize,
        /// Gallery images.
        gallery: usize,
        /// The protocol that decides what is a match.
        protocol: Protocol,
    },
    /// Only pairs of one kind can be made, so that nothing can be told apart.
    #[error("expected pairs of one identity and of two, found {genuine} and {impostors}")]
    Pairs {
        /// Pairs of one identity.
        genuine: u64,
        /// Pairs of two.
        impostors: u64,
    },
    /// No pair is near enough for the false accept rate that is wanted.
    #[error(
        "no threshold has a false accept rate of at most {wanted}: even the nearest pair of one \
         identity is farther than that many of {impostors} pairs of two"
    )]
    Rate {
        /// The rate.
        wanted: f64,
        /// Pairs of two identities.
        impostors: u64,
    },
    /// Open-set identification needs queries that are in the gallery and queries that are not.
    #[error(
        "expected queries with and without a match in the gallery, found {known} and {unknown}"
    )]
    OpenSet {
        /// Queries with a match.
        known: usize,
        /// Queries without one.
        unknown: usize,
    },
    /// Two reports are on different queries.
    #[error("expected reports on the same queries, found {one} and {other} of them")]
    Compared {
        /// Queries of one report.
        one: usize,
        /// Queries of the other.
        other: usize,
    },
    /// Two reports are on queries that show different people.
    #[error(
        "expected reports on the same queries in the same order: query {query} shows {one} in one and \
         {other} in the other"
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
        "the report does not say who query {query} shows: evaluate again, or draw queries \
         (`ResamplingUnit::Queries`)"
    )]
    Unidentified {
        /// The first such query, from 0.
        query: usize,
    },
    /// A track shows several identities or cameras.
    #[error("track {track} has rows {first} and {row}, which differ in identity or camera")]
    Track {
        /// The track.
        track: u64,
        /// Its first image.
        first: usize,
        /// One that differs.
        row: usize,
    },
    /// Sets that should be of the same images are not.
    #[error(
        "the sets show different identities at row {row}: expected the same images in the same order"
    )]
    Mixed {
        /// The first image that differs.
        row: usize,
    },
    /// Descriptors do not vary, so that they cannot be whitened.
    #[error("whitening needs at least 2 images with different descriptors, found {images} images")]
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
    #[error("there is no query {query} among {queries}; the first is query 0")]
    Query {
        /// The query asked for, from 0.
        query: usize,
        /// Queries.
        queries: usize,
    },
    /// A source of distances failed, for a reason from outside.
    #[error("distances of queries {first} to {last}: {reason}")]
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
