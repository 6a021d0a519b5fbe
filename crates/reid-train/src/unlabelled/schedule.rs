//! The schedule of a round: that of the recipe, whose epochs are the rounds.

use std::fmt;

use crate::schedule::{Progress, RateSchedule, Schedule};

pub(super) struct RoundSchedule {
    pub(super) schedule: Schedule,
    /// The round, counted from 0.
    pub(super) round: usize,
    pub(super) rounds: usize,
}

impl RateSchedule for RoundSchedule {
    fn rate(&self, at: &Progress) -> f64 {
        let at = Progress {
            epoch: self.round,
            epochs: self.rounds,
            ..*at
        };
        RateSchedule::rate(&self.schedule, &at)
    }
}

/// Without the number of rounds, which may change when the training resumes.
impl fmt::Debug for RoundSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoundSchedule")
            .field("schedule", &self.schedule)
            .field("round", &self.round)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Decay;

    #[test]
    fn the_rate_is_that_of_the_epoch_of_the_recipe() {
        let schedule = Schedule {
            decay: Decay::Polynomial { power: 0.9 },
            ..Schedule::constant(0.5)
        };
        let round = RoundSchedule {
            schedule: schedule.clone(),
            round: 3,
            rounds: 8,
        };
        let mut at = Progress {
            epoch: 0,
            epochs: 1,
            step: 2,
            steps: 5,
        };
        let found = round.rate(&at);
        (at.epoch, at.epochs) = (3, 8);
        assert_eq!(
            found.to_bits(),
            RateSchedule::rate(&schedule, &at).to_bits()
        );
    }
}
