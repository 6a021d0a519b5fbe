//! Data sets, samplers, transforms and loading for re-identification.
//!
//! | module | what is in it |
//! |---|---|
//! | [`dataset`] | where the images are and whom they show: published sets of people and vehicles, CSV, folders |
//! | [`sampler`] | which images make a batch |
//! | [`transform`] | what is done to a picture, and [`Augmentation`](transform::Augmentation) |
//! | [`loader`] | batches of plain `f32`, made ahead by worker threads |
//!
//! The crate yields numbers, not tensors, and does not know Burn. Everything random comes from a
//! [`Seed`](reid_core::Seed): an epoch is a pure function of it, whatever the number of threads.
//!
//! ```
//! use reid_core::{InputSize, Seed};
//! use reid_data::{
//!     dataset::folder,
//!     loader::TrainLoader,
//!     sampler::{EpochDefinition, IdentitySampler, Sampler},
//!     transform::Augmentation,
//! };
//!
//! # let root = tempfile::tempdir()?;
//! # for name in ["anna/1", "anna/2", "bert/1"] {
//! #     let path = root.path().join(name).with_extension("png");
//! #     std::fs::create_dir_all(path.parent().expect("has one"))?;
//! #     image::RgbImage::new(4, 8).save(path)?;
//! # }
//! let (seed, epoch) = (Seed::new(1), 0);
//! let samples = folder::load_split(root.path())?;
//! let loader = TrainLoader::new(samples, InputSize::new(16, 8), seed)
//!     .with_augmentation(&Augmentation::default());
//!
//! let sampler = IdentitySampler::new(2, 2, EpochDefinition::EachIdentityOnce);
//! let batches = sampler.batches(loader.samples(), seed.named("sampler").at(epoch))?;
//! for batch in loader.epoch(epoch, batches) {
//!     let batch = batch?;
//!     assert_eq!(batch.images.len(), 4 * 3 * 16 * 8);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![doc(test(attr(deny(warnings))))]

pub mod dataset;
mod decode;
mod error;
mod headers;
pub mod loader;
mod resize;
pub mod sampler;
pub mod transform;

pub use decode::{
    FileKind, MAX_PIXELS, decode, dimensions, file_kind, image_from_bytes, open_image,
};
pub use error::Error;
pub use headers::unopenable;
pub use resize::resize;
