//! Normalisation.

mod batch_norm;
mod instance_norm;
mod running_statistic;

pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use instance_norm::{InstanceNorm, InstanceNormConfig};
pub use running_statistic::RunningStatistic;
