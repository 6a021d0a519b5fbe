//! Averages of the weights of a run.

use reid_core::Problems;

use super::{Parts, Run};
use crate::{
    error::Error,
    event::{Event, Observer},
    learner::{AnyLearner, Renewal},
    recipe::refused,
};

impl Run<'_> {
    /// Updates the average of the weights at the end of a training step. `updated` is false if the step was
    /// skipped.
    pub(super) fn average(&mut self, parts: &mut Parts<'_>, updated: bool) {
        let averaged = &mut self.state.averaged;
        if let (Some(decay), true) = (self.settings.average_decay, updated) {
            parts.learner.average(decay);
            (averaged.epoch, averaged.renewed) = (self.state.epoch, false);
        }
        let Some(swa) = self.settings.swa else {
            return;
        };
        if self.state.epoch < swa.first_epoch {
            return;
        }
        averaged.steps += 1;
        let is_due = match swa.every_steps {
            Some(every) => averaged.steps.is_multiple_of(every),
            None => self.state.step + 1 == self.steps,
        };
        if is_due {
            let models = averaged.models as f64;
            parts.learner.begin_average();
            parts.learner.average(models / (models + 1.0));
            averaged.models += 1;
            (averaged.epoch, averaged.renewed) = (self.state.epoch, false);
        }
    }

    /// Rejects a mean of weights with more steps between weights than there are. It is called when the number of steps
    /// of an epoch is known, and rejects only before the first step of a run: a few steps may differ from epoch to
    /// epoch.
    pub(super) fn validate_swa(&self) -> Result<(), Error> {
        let Some(swa) = self.settings.swa else {
            return Ok(());
        };
        let (Some(every), (0, 0)) = (swa.every_steps, (self.state.epoch, self.state.step)) else {
            return Ok(());
        };
        let epochs = self.settings.epochs.saturating_sub(swa.first_epoch);
        let most = epochs.saturating_mul(self.steps);
        let mut problems = Problems::new();
        let expected = format!("at most {most}, {epochs} epochs of {} steps", self.steps);
        problems.require("swa.every_steps", every <= most, expected, every);
        refused(None, problems)
    }

    /// Whether the running statistics of the average are to be computed anew now. The checkpoint of the epoch is
    /// already saved, so that a failure or a kill during the pass loses no epoch.
    pub(crate) fn renewal_is_due(&self, learner: &dyn AnyLearner) -> bool {
        let (epoch, step) = (self.state.epoch, self.state.step);
        let is_needed = self.settings.renewal().is_some()
            && learner.is_averaged()
            && !self.state.averaged.renewed;
        let at_end = epoch >= self.settings.epochs;
        epoch > 0 && step == 0 && is_needed && (at_end || self.evaluation_is_due(learner))
    }

    /// Computes the running statistics of the average anew, from batches of the epoch of its last update, and saves a
    /// checkpoint with them. After an interrupt nothing is changed.
    pub(crate) fn renew(
        &mut self,
        parts: &mut Parts<'_>,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let epoch = self.state.averaged.epoch;
        let seed = self.settings.seed.named("renewal").at(epoch as u64);
        let renewal = Renewal {
            epoch,
            most: self.settings.renewal().unwrap_or(0),
            seed: self.seed_of_rank(seed),
        };
        // A learner that was just loaded is not frozen yet.
        parts.optimizers.freeze(parts.learner, epoch);
        let completed = parts.learner.renew_average(&renewal, &mut |batches, of| {
            observer.observe(&Event::Renewing { batches, of });
            matches!(self.stops(), Ok(false))
        })?;
        self.check_ranks()?;
        if completed {
            self.average_statistics(parts, true)?;
            if let Some(name) = parts.learner.not_finite() {
                let epoch = epoch + 1;
                return Err(Error::StatisticsNotFinite { epoch, name });
            }
            self.state.averaged.renewed = true;
            self.saved = None; // the checkpoint of this epoch has other statistics
            self.save(parts, observer)?;
        }
        Ok(())
    }
}
