//! What the ranks of a run agree on: start, interrupts, gradients, and the rank that writes.

use burn::optim::GradientsParams;
use reid_core::Seed;

use super::{Parts, Run};
use crate::{
    error::Error,
    history::Measured,
    learner::AnyLearner,
    parallel::{Parallel, Scope},
};

impl Run<'_> {
    /// The number of ranks.
    pub(super) fn ranks(&self) -> usize {
        self.parallel.as_ref().map_or(1, |all| all.ranks.size())
    }

    /// Whether this rank writes checkpoints: the first one.
    pub(super) fn writes(&self) -> bool {
        self.parallel
            .as_ref()
            .is_none_or(|all| all.ranks.rank() == 0)
    }

    /// Waits for all ranks.
    pub(super) fn wait(&self) -> Result<(), Error> {
        let Some(Parallel { ranks, .. }) = &self.parallel else {
            return Ok(());
        };
        ranks.barrier();
        Ok(ranks.check()?)
    }

    /// Whether everything was exchanged so far.
    pub(super) fn check_ranks(&self) -> Result<(), Error> {
        match &self.parallel {
            Some(Parallel { ranks, .. }) => Ok(ranks.check()?),
            None => Ok(()),
        }
    }

    /// Whether the run stops now. All ranks stop if one of them was asked to.
    pub(crate) fn stops(&self) -> Result<bool, Error> {
        let asked = self.interrupt.is_requested();
        let Some(Parallel { ranks, .. }) = &self.parallel else {
            return Ok(asked);
        };
        let mut count = [f32::from(u8::from(asked))];
        ranks.sum_f32(&mut count);
        ranks.check()?;
        Ok(count[0] > 0.0)
    }

    /// Rejects ranks that do not start from the same recipe, data, checkpoint and weights.
    pub(crate) fn agree(&self, learner: &dyn AnyLearner) -> Result<(), Error> {
        let Some(Parallel { ranks, config }) = &self.parallel else {
            return Ok(());
        };
        let state = &self.state;
        let start = [
            ("recipe", state.recipe.to_string()),
            ("custom parts", format!("{:?}", state.own_parts)),
            ("settings of the ranks", format!("{config:?}")),
            ("training images", format!("{:?}", state.images)),
            ("use of checkpoints", self.checkpoints.is_some().to_string()),
            ("last checkpoint", format!("{} {}", state.epoch, state.step)),
            ("weights", learner.hash()),
        ];
        for (what, own) in start {
            let all = ranks.all_gather(own.as_bytes());
            ranks.check()?;
            if let Some(rank) = all.iter().position(|other| *other != all[0]) {
                return Err(Error::OtherRank { rank, what });
            }
        }
        Ok(())
    }

    /// The seed of the random choices of this rank. The first rank has that of one process.
    pub(super) fn seed_of_rank(&self, seed: Seed) -> Seed {
        match &self.parallel {
            Some(Parallel { ranks, .. }) if ranks.rank() > 0 => {
                seed.named("rank").at(ranks.rank() as u64)
            }
            _ => seed,
        }
    }

    /// Replaces gradients, and running statistics that differ, by their means over all ranks.
    pub(super) fn mean_over_ranks(
        &self,
        parts: &mut Parts<'_>,
        gradients: GradientsParams,
    ) -> Result<GradientsParams, Error> {
        let Some(Parallel { ranks, .. }) = &self.parallel else {
            return Ok(gradients);
        };
        let gradients = parts.learner.mean_over_ranks(gradients, ranks);
        self.average_statistics(parts, false)?;
        Ok(gradients)
    }

    /// Replaces the running statistics of the model, or of the average, by their means over all ranks, if each rank
    /// has its own.
    pub(super) fn average_statistics(
        &self,
        parts: &mut Parts<'_>,
        of_average: bool,
    ) -> Result<(), Error> {
        let Some(Parallel { ranks, config }) = &self.parallel else {
            return Ok(());
        };
        if config.batch_norm == Scope::PerRank {
            parts.learner.average_statistics(ranks, of_average);
        }
        self.check_ranks()
    }

    /// Replaces measured values by their means over all ranks.
    pub(super) fn measured_over_ranks(&self, measured: Measured) -> Result<Measured, Error> {
        let Some(Parallel { ranks, .. }) = &self.parallel else {
            return Ok(measured);
        };
        let mut measured = measured;
        let mut values: Vec<f64> = measured.values_mut().map(|value| *value).collect();
        ranks.sum_f64(&mut values);
        ranks.check()?;
        for (value, sum) in measured.values_mut().zip(values) {
            *value = sum / ranks.size() as f64;
        }
        Ok(measured)
    }
}
