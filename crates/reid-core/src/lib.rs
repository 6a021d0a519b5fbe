//! The basic types of re-identification, shared by every `reid` crate.
//!
//! | type | meaning |
//! |---|---|
//! | [`Identity`] | the ID of the person, vehicle or object that an image shows |
//! | [`Camera`] | the number of the camera that took an image |
//! | [`Track`] | the number of a track: images that one camera took of one identity |
//! | [`Source`] | which of several merged datasets a sample comes from |
//! | [`Sample`] | one labelled image on disk |
//! | [`Splits`] | the training, query and gallery samples of a dataset, with [`Statistics`] |
//! | [`Notice`] | what a loader skipped in a dataset, or found worth reporting |
//! | [`InputSize`] | the height and width of a network's input images |
//! | [`FeatureShape`] | the channels, height and width of a feature map |
//! | [`HeatMap`] | the importance of each position of an image |
//! | [`SimilarityMap`] | the contribution of each pair of positions of two images to their similarity |
//! | [`Seed`] | the source of all randomness; derives independent named streams |
//! | [`Problems`] | every invalid value of a configuration, with its path |
//! | [`Communicator`], [`Ranks`], [`Threads`] | the exchange between the threads or processes that train one model |
//!
//! Several crates also share two utilities: [`interpolation`], and [`write_atomic`], which writes a file
//! completely or not at all. This crate contains no tensors and no image formats, and does not depend on
//! Burn.
//!
//! Use it to write a loader, a sampler, a protocol or a communicator that works with the other crates.
//! Programs get the same types from the crate `reid`, as `reid::core`. Datasets are read by `reid-data`, not
//! here.
//!
//! ```
//! use reid_core::{Camera, Identity, Sample, Seed, Splits};
//!
//! let image = |path: &str, identity, camera| {
//!     Sample::new(path, Identity::new(identity)).with_camera(Camera::new(camera))
//! };
//! let splits = Splits::new("office")
//!     .with_query(vec![image("anna-1.jpg", 1, 1)])
//!     .with_gallery(vec![image("anna-2.jpg", 1, 2), image("bert-2.jpg", 2, 2)]);
//! assert_eq!(splits.statistics().gallery.identities, 2);
//!
//! // Every random stream is derived from one seed, by a name and by indices.
//! let seed = Seed::new(1);
//! assert_ne!(seed.named("weights").at(0), seed.named("sampler").at(0));
//! ```

#![doc(test(attr(deny(warnings))))]

mod camera;
mod debug_error;
mod feature_shape;
mod heat_map;
mod identity;
mod input_size;
pub mod interpolation;
mod merge;
mod notice;
mod ranks;
mod sample;
mod seed;
mod similarity_map;
mod source;
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
pub use merge::MergeError;
pub use notice::Notice;
pub use ranks::{Communicator, RankError, Ranks, Threads};
pub use sample::Sample;
pub use seed::{Seed, Stream};
pub use similarity_map::{Link, SimilarityMap};
pub use source::Source;
pub use splits::{SourceStatistics, Split, SplitStatistics, Splits, Statistics};
pub use strict::strict;
pub use track::Track;
pub use validate::{MAX_WEIGHTS, Problem, Problems, Validate};
pub use write::{replace_atomic, write_atomic};
