//! Passes the events of a round to the observer, as those of an epoch of one run.

use std::time::Duration;

use crate::{
    event::{Event, Observer, StepReport},
    history::EpochSummary,
};

/// Replaces the epoch of each event by the round.
pub(super) struct RoundEvents<'a> {
    pub(super) observer: &'a mut dyn Observer,
    /// The round, counted from 0.
    pub(super) round: usize,
    pub(super) rounds: usize,
    /// Whether this is the first round of the process.
    pub(super) is_first: bool,
    /// The highest mAP of the rounds before.
    pub(super) highest: f64,
    /// The time of a step.
    pub(super) per_step: Duration,
}

impl Observer for RoundEvents<'_> {
    fn observe(&mut self, event: &Event<'_>) {
        let (round, rounds) = (self.round, self.rounds);
        match *event {
            Event::Started {
                images,
                identities,
                parameters,
                ..
            } if self.is_first => self.observer.observe(&Event::Started {
                epochs: rounds,
                epochs_done: round,
                images,
                identities,
                parameters,
            }),
            // Each round starts and checks the images again, and warnings were passed on before the first
            // one.
            Event::Started { .. } | Event::Warning(_) => {}
            Event::Checking { .. } if !self.is_first => {}
            Event::Step(step) => self.step(step),
            Event::Epoch(summary) => self.observer.observe(&Event::Epoch(&EpochSummary {
                epoch: round + 1,
                ..summary.clone()
            })),
            Event::Evaluated { report, .. } => self.observer.observe(&Event::Evaluated {
                epoch: round + 1,
                report,
                best: report.mean_average_precision > self.highest,
            }),
            _ => self.observer.observe(event),
        }
    }
}

impl RoundEvents<'_> {
    fn step(&mut self, step: &StepReport) {
        let small = |steps: usize| u32::try_from(steps).unwrap_or(u32::MAX);
        // The last step of a round does not know the time of a step.
        if let Some(left) = step.steps.checked_sub(step.step).filter(|left| *left > 0) {
            self.per_step = step.time_left / small(left);
        }
        let later = (self.rounds - self.round - 1).saturating_mul(step.steps);
        let later = self.per_step.saturating_mul(small(later));
        self.observer.observe(&Event::Step(&StepReport {
            epoch: self.round + 1,
            epochs: self.rounds,
            time_left: step.time_left.saturating_add(later),
            ..step.clone()
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Steps(Vec<(usize, usize, u64)>);

    impl Observer for Steps {
        fn observe(&mut self, event: &Event<'_>) {
            if let Event::Step(step) = event {
                self.0
                    .push((step.epoch, step.epochs, step.time_left.as_secs()));
            }
        }
    }

    #[test]
    fn a_step_has_the_number_of_its_round_and_the_time_of_later_rounds() {
        let mut steps = Steps::default();
        let mut events = RoundEvents {
            observer: &mut steps,
            round: 1,
            rounds: 4,
            is_first: false,
            highest: 0.0,
            per_step: Duration::ZERO,
        };
        for (step, seconds) in [(4, 12), (10, 0)] {
            events.observe(&Event::Step(&StepReport {
                epoch: 1,
                epochs: 1,
                step,
                steps: 10,
                losses: Vec::new(),
                accuracy: None,
                diagnostics: Vec::new(),
                learning_rate: 0.1,
                images_per_second: 1.0,
                time_left: Duration::from_secs(seconds),
            }));
        }
        // 2 s per step, and two more rounds of 10 steps: 40 s.
        assert_eq!(steps.0, [(2, 4, 52), (2, 4, 40)]);
    }
}
