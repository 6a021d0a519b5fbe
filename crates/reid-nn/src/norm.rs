//! Normalisation.

mod batch_norm;
mod running;

pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use running::Running;
