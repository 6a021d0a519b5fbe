//! Batch and instance normalisation.

mod batch_norm;
pub(crate) mod freeze;
mod instance_norm;
mod renewal;
mod running_statistic;
mod statistics_of_ranks;
mod synchronised;

pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use freeze::freeze_statistics;
pub use instance_norm::{InstanceNorm, InstanceNormConfig};
pub use renewal::renew_batch_norm;
pub use running_statistic::RunningStatistic;
pub use statistics_of_ranks::average_statistics;
pub use synchronised::synchronise_batch_norm;
