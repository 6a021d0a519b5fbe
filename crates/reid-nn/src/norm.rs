//! Batch and instance normalisation.

mod batch_norm;
pub(crate) mod freeze;
mod instance_norm;
mod renewal;
mod running_statistic;

pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use freeze::freeze_statistics;
pub use instance_norm::{InstanceNorm, InstanceNormConfig};
pub use renewal::renew_batch_norm;
pub use running_statistic::RunningStatistic;
