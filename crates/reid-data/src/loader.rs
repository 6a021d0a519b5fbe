//! Loaders: batches of plain `f32`, made ahead by worker threads.
//!
//! [`TrainLoader`] augments and numbers identities and attributes as classes; [`EvalLoader`] only
//! resizes and normalises. Both decode each image once as long as memory allows, and yield batches in order
//! whose content does not depend on the number of threads.

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
