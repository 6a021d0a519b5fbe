//! Datasets, samplers, image transforms and data loaders for re-identification.
//!
//! | module | content |
//! |---|---|
//! | [`dataset`] | readers of datasets: published ones of people and vehicles, CSV files, folders |
//! | [`sampler`] | samplers, which choose the images of each batch |
//! | [`transform`] | image transforms, and [`Augmentation`](transform::Augmentation), which selects them |
//! | [`segmentation`] | datasets with a label for every pixel, and crops of them |
//! | [`loader`] | data loaders, whose worker threads prepare batches of plain `f32` values |
//!
//! A [`Frame`] is an image in memory, from which a detector's boxes are cropped.
//!
//! Batches are plain vectors, not tensors: the crate does not depend on Burn. All randomness comes from a
//! [`Seed`](reid_core::Seed). The batches of an epoch depend on the seed, but not on the number of threads.
//!
//! Use it to read a dataset, to prepare images as published networks expect them, or to feed a custom training
//! loop. `Trainer` of `reid-train` and `Embedder` of `reid-zoo` load images on their own: programs that call
//! them need at most [`dataset`]. Videos are not decoded here; a [`Frame`] takes the images of any decoder.
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
//! #     std::fs::create_dir_all(path.parent().expect("a parent"))?;
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
#![expect(
    clippy::inline_always,
    reason = "only code that is inlined into a function compiled for wide vectors uses wide vectors"
)]

pub mod dataset;
mod decode;
mod error;
mod frame;
mod headers;
pub mod loader;
mod resize;
pub mod sampler;
pub mod segmentation;
pub mod transform;

pub use decode::{
    FileKind, MAX_PIXELS, RawImage, decode, dimensions, file_kind, image_from_bytes, open_image,
    open_label_map,
};
pub use error::Error;
pub use frame::{BoundingBox, BoxFault, BoxProblem, Frame, Region};
pub use headers::{unopenable, unopenable_label_maps};
pub use resize::resize;
