//! Data-parallel training: several ranks train one model, each on its share of every batch.

use reid_core::Ranks;

use crate::error::Error;

/// The name of the ranks among the custom parts of a checkpoint.
pub(crate) const RANKS: &str = "ranks";

/// Which images a computation of several ranks covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// The share of the batch that this rank trains on, as in FastReID and PyTorch's `DistributedDataParallel`.
    #[default]
    PerRank,
    /// The whole batch, as in one process.
    WholeBatch,
}

/// How several ranks train one model ([`Trainer::with_ranks`](crate::Trainer::with_ranks)).
///
/// With both settings over the whole batch, the weights equal those of one process with the same batches, up to
/// rounding. By default both are per rank.
///
/// ```
/// use reid_train::{ParallelConfig, Scope};
///
/// assert_eq!(ParallelConfig::default().losses, Scope::PerRank);
/// assert_eq!(ParallelConfig::exact().batch_norm, Scope::WholeBatch);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParallelConfig {
    /// The images whose statistics a batch normalisation uses.
    ///
    /// Per rank, the running statistics are the means of those of the ranks. Over the whole batch, each layer exchanges
    /// its statistics in the forward pass and their gradients in the backward pass
    /// ([`synchronise_batch_norm`](reid_nn::norm::synchronise_batch_norm)).
    pub batch_norm: Scope,
    /// The images that the losses compare.
    ///
    /// Per rank, triplets are mined within the share of a rank, and the loss is the mean of the losses of the ranks. A
    /// criterion with values that are not trained, such as a cross-batch memory, is rejected. Over the whole batch, the
    /// outputs of all ranks are [gathered](reid_nn::ReidOutput::gathered), with their gradients, and every rank computes
    /// the same losses.
    pub losses: Scope,
}

impl ParallelConfig {
    /// Batch normalisation and losses over the whole batch.
    #[must_use]
    pub const fn exact() -> Self {
        Self {
            batch_norm: Scope::WholeBatch,
            losses: Scope::WholeBatch,
        }
    }

    /// Sets the images whose statistics a batch normalisation uses.
    #[must_use]
    pub const fn with_batch_norm(self, batch_norm: Scope) -> Self {
        Self { batch_norm, ..self }
    }

    /// Sets the images that the losses compare.
    #[must_use]
    pub const fn with_losses(self, losses: Scope) -> Self {
        Self { losses, ..self }
    }

    /// What checkpoints hold about the ranks; `None` if the run is that of one process.
    pub(crate) fn note(self, ranks: usize) -> Option<String> {
        let words = |scope| match scope {
            Scope::PerRank => "per rank",
            Scope::WholeBatch => "over the whole batch",
        };
        (self != Self::exact()).then(|| {
            let (batch_norm, losses) = (words(self.batch_norm), words(self.losses));
            format!("{ranks} with batch normalisation {batch_norm} and losses {losses}")
        })
    }
}

/// The ranks of a run and their settings.
#[derive(Clone, Debug)]
pub(crate) struct Parallel {
    pub(crate) ranks: Ranks,
    pub(crate) config: ParallelConfig,
}

/// Runs the part of a rank. If it fails or panics, the run ends on all ranks.
pub(crate) fn guarded<T>(
    ranks: Option<Ranks>,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut running = Running(ranks);
    let result = work();
    if let (Some(ranks), Err(error)) = (running.0.take(), &result) {
        ranks.fail(&error.to_string());
    }
    result
}

/// The ranks while one of them runs.
struct Running(Option<Ranks>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(ranks) = &self.0 {
            ranks.fail("it panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_that_differs_from_one_process_is_noted() {
        assert_eq!(ParallelConfig::exact().note(2), None);
        let mixed = ParallelConfig::exact().with_losses(Scope::PerRank);
        assert_eq!(
            mixed.note(3).as_deref(),
            Some("3 with batch normalisation over the whole batch and losses per rank")
        );
        let default = ParallelConfig::exact()
            .with_losses(Scope::PerRank)
            .with_batch_norm(Scope::PerRank);
        assert_eq!(default, ParallelConfig::default());
    }
}
