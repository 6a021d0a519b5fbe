//! The words of re-identification, shared by every `reid` crate.
//!
//! | word | meaning |
//! |---|---|
//! | [`Identity`] | who (or which vehicle, which object) an image shows |
//! | [`Camera`] | which camera took it |
//! | [`Track`] | which images one camera took of one passing |
//! | [`Sample`] | one labelled image on disk |
//! | [`Splits`] | training, query and gallery samples, with [`Statistics`] |
//! | [`Notice`] | what a loader left out of a data set, or noticed in it |
//! | [`InputSize`] | height and width of the images a network takes |
//! | [`FeatureShape`] | channels, height and width of a feature map |
//! | [`HeatMap`] | how much each position of an image matters |
//! | [`Seed`] | the only source of randomness: independent named streams |
//! | [`Problems`] | everything that is wrong with a configuration, each with its path |
//!
//! Two things are here because several crates need them: [`interpolation`], and [`write_atomic`] for files
//! that are whole or not there. The crate knows no tensors, no file formats and no Burn.

#![doc(test(attr(deny(warnings))))]

mod camera;
mod debug_error;
mod feature_shape;
mod heat_map;
mod identity;
mod input_size;
pub mod interpolation;
mod notice;
mod sample;
mod seed;
mod splits;
mod strict;
mod track;
mod validate;
mod write;

pub use camera::Camera;
pub use debug_error::debug_error;
pub use feature_shape::FeatureShape;
pub use heat_map::{HeatMap, HeatMapError};
pub use identity::Identity;
pub use input_size::{InputSize, ParseInputSizeError};
pub use notice::Notice;
pub use sample::Sample;
pub use seed::{Seed, Stream};
pub use splits::{Split, SplitStatistics, Splits, Statistics};
pub use strict::strict;
pub use track::Track;
pub use validate::{MAX_WEIGHTS, Problem, Problems, Validate};
pub use write::write_atomic;
