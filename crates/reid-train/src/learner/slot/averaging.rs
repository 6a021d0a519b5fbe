//! The averaged model of a slot.

use std::cell::Cell;

use burn::module::Module;
use reid_core::Seed;
use reid_nn::norm::renew_batch_norm;

use super::Slot;
use crate::{
    error::Error,
    learner::{LearnerParts, visitors::Values},
    task::{EpochBatches, Task},
};

/// A renewal of running statistics: which batches it uses.
pub(crate) struct Renewal {
    /// The epoch whose batches are used, counted from 0.
    pub(crate) epoch: usize,
    /// The largest number of batches.
    pub(crate) most: usize,
    /// The seed of random choices in the forward passes.
    pub(crate) seed: Seed,
}

impl<L: LearnerParts, T: Task<L>> Slot<L, T> {
    /// Starts an average that is equal to the model, unless it was started before.
    pub(super) fn start_average(&mut self) {
        if self.average.is_none() {
            self.average = Some(self.model().valid());
        }
    }

    pub(super) fn update_average(&mut self, decay: f64) {
        if let Some(average) = self.average.take() {
            let values = Values::of_module(self.model());
            self.average = Some(values.averaged(average, decay));
        }
    }

    /// Computes the running statistics of the average anew. The criterion of the passes is a copy, because a
    /// training step may change its running statistics. A model without running statistics needs no pass. If
    /// `proceed` returns `false`, nothing is changed.
    pub(super) fn renew(
        &mut self,
        renewal: &Renewal,
        proceed: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<bool, Error> {
        let Some(average) = &self.average else {
            return Ok(true);
        };
        let (model, criterion) = self.learner().clone().into_parts();
        let model = Values::of_module(average).replaced_in(model);
        let learner = L::from_parts(model, criterion);

        let EpochBatches { count, rest } = self.task.epoch(renewal.epoch, 0)?;
        let of = count.min(renewal.most);
        let (mut done, mut failed, stopped) = (0, None, Cell::new(false));
        let batches = rest.take(of).map_while(|batch| match batch {
            _ if stopped.get() => None,
            Ok(batch) => Some(batch),
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        let learner = renew_batch_norm(learner, batches, |learner, batch| {
            let seed = renewal.seed.at(done as u64);
            self.task.forward_train(learner, &batch, seed);
            done += 1;
            stopped.set(!proceed(done, of));
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        if stopped.get() {
            return Ok(false);
        }
        let (model, _) = learner.into_parts();
        self.average = Some(model.valid());
        Ok(true)
    }
}
