//! The evaluation of an epoch.

use super::{Parts, Run};
use crate::{
    error::Error,
    event::{Event, Observer},
    history::Scores,
    learner::AnyLearner,
    task::Evaluation,
};

impl Run<'_> {
    /// Whether the last finished epoch is still to be evaluated. The final epoch is evaluated once in every
    /// process, because the report of an earlier process is not saved.
    pub(crate) fn evaluation_is_due(&self, learner: &dyn AnyLearner) -> bool {
        let (epoch, every) = (self.state.epoch, self.settings.evaluate_every);
        let Some(last) = self.state.history.last() else {
            return false;
        };
        if self.state.step > 0 || !learner.is_evaluated() {
            return false;
        }
        if epoch >= self.settings.epochs {
            return self.evaluation.is_none() || last.scores.is_none();
        }
        every > 0 && epoch.is_multiple_of(every) && last.scores.is_none()
    }

    /// Evaluates the last finished epoch, and adds its scores to the last checkpoint.
    pub(crate) fn evaluate(
        &mut self,
        parts: &Parts<'_>,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let evaluation = parts.learner.evaluate()?;
        let scores = evaluation.scores();
        let best = self.set_scores(scores);
        if let Some(checkpoints) = &self.checkpoints {
            if self.writes() {
                checkpoints.record(scores, best)?;
            }
            self.wait()?;
        }
        report(&evaluation, self.state.epoch, best, observer);
        self.evaluation = Some(evaluation);
        Ok(())
    }

    /// Records the scores of the last finished epoch. Returns whether it is the best so far
    /// ([`Scores::best_by`]).
    fn set_scores(&mut self, scores: Scores) -> bool {
        let Some((last, before)) = self.state.history.split_last_mut() else {
            return false;
        };
        last.scores = Some(scores);
        let mut before = before.iter().filter_map(|epoch| epoch.scores);
        before.all(|before| scores.best_by().total_cmp(&before.best_by()).is_gt())
    }
}

/// Passes each result of an evaluation to the observer.
fn report(evaluation: &Evaluation, epoch: usize, best: bool, observer: &mut dyn Observer) {
    if let Some(report) = &evaluation.report {
        observer.observe(&Event::Evaluated {
            epoch,
            report,
            best,
        });
    }
    if let Some(report) = &evaluation.classification {
        observer.observe(&Event::Classified {
            epoch,
            report,
            best,
        });
    }
    if let Some(report) = &evaluation.segmentation {
        observer.observe(&Event::Segmented {
            epoch,
            report,
            best,
        });
    }
}
