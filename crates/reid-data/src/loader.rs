//! Data loaders: worker threads prepare batches of plain `f32` values ahead of time.
//!
//! [`TrainLoader`] augments images, and maps identities and attributes to class indices. [`EvalLoader`] only
//! resizes and normalises images. Both cache decoded images up to a memory limit. Both yield batches in
//! order, and the number of threads does not change the content of a batch.

mod attributes;
mod batches;
mod classes;
mod config;
mod eval;
mod pictures;
mod train;

pub use attributes::AttributeClasses;
pub use batches::Batches;
pub use classes::Classes;
pub use config::LoaderConfig;
pub use eval::{EvalBatch, EvalLoader};
pub use train::{Batch, TrainLoader};
