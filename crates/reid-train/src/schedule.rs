//! Schedules: the learning rate of each epoch.

use std::{fmt, ops::Bound};

use reid_core::{Problems, Validate};
use serde::{Deserialize, Serialize};

/// The learning rate of each epoch: a warm-up to the base rate, then a decay.
///
/// ```text
/// rate(e) = base · warm(n)   while n < warm-up epochs       n = e + first_epoch
/// rate(e) = base · decay(n)  from then on                   e = 0, 1, 2, …
/// ```
///
/// Publications count epochs from 0 or from 1; `first_epoch` says which, so that their milestones
/// can be written as printed.
///
/// ```
/// use reid_train::{Decay, Schedule, WarmUp};
///
/// // The strong baseline: ten epochs of warm-up from 1 %, then a tenth at 40 and at 70.
/// let schedule = Schedule {
///     base: 3.5e-4,
///     first_epoch: 1,
///     warm_up: Some(WarmUp::Linear { epochs: 10, from: 0.01 }),
///     decay: Decay::MultiStep { milestones: vec![40, 70], factor: 0.1 },
/// };
/// assert!((schedule.rate(0, 120) - 3.815e-5).abs() < 1e-12);
/// assert!((schedule.rate(9, 120) - 3.5e-4).abs() < 1e-12); // epoch 10
/// assert!((schedule.rate(39, 120) - 3.5e-5).abs() < 1e-12); // epoch 40
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The base learning rate, above 0.
    pub base: f64,
    /// What the first epoch is called: 0 or 1.
    pub first_epoch: usize,
    /// How the rate rises to the base.
    pub warm_up: Option<WarmUp>,
    /// How the rate falls from the base.
    pub decay: Decay,
}

/// How the learning rate rises to its base.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum WarmUp {
    /// In a straight line: `from + (1 - from)·n/epochs` of the base.
    Linear {
        /// Epochs until the base is reached.
        epochs: usize,
        /// The share of the base at `n = 0`, in `[0, 1]`.
        from: f64,
    },
    /// In stairs: `(⌊n/every⌋ + 1)·every/epochs` of the base.
    Staircase {
        /// Epochs until the base is reached.
        epochs: usize,
        /// Epochs per stair.
        every: usize,
    },
}

/// How the learning rate falls from its base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Decay {
    /// Not at all.
    Constant,
    /// Times `factor` at each milestone.
    MultiStep {
        /// The epochs, ascending.
        milestones: Vec<usize>,
        /// What the rate is multiplied by.
        factor: f64,
    },
    /// Halved at `first`, and again every `every` epochs until `last`.
    Halving {
        /// The epoch of the first halving.
        first: usize,
        /// Epochs between halvings, at least 1.
        every: usize,
        /// No halving after this epoch.
        last: usize,
    },
    /// Half a cosine from the end of the warm-up to the last epoch, down to `floor` of the base:
    /// `floor + (1 - floor)·(1 + cos πt)/2`.
    Cosine {
        /// The share of the base at the end, in `[0, 1]`.
        floor: f64,
    },
}

impl Schedule {
    /// A schedule that never changes.
    #[must_use]
    pub const fn constant(base: f64) -> Self {
        Self {
            base,
            first_epoch: 0,
            warm_up: None,
            decay: Decay::Constant,
        }
    }

    /// The learning rate of an epoch, counted from 0, of a run of `epochs`.
    #[must_use]
    pub fn rate(&self, epoch: usize, epochs: usize) -> f64 {
        let number = epoch + self.first_epoch;
        let warm = self
            .warm_up
            .as_ref()
            .and_then(|warm_up| warm_up.share(number));
        let share = warm.unwrap_or_else(|| self.decay_share(number, epochs));
        self.base * share
    }

    fn decay_share(&self, number: usize, epochs: usize) -> f64 {
        match &self.decay {
            Decay::Constant => 1.0,
            Decay::MultiStep { milestones, factor } => {
                let passed = milestones.iter().filter(|&&milestone| milestone <= number);
                passed.fold(1.0, |share, _| share * factor)
            }
            Decay::Halving { first, every, last } => {
                let milestones = (*first..=number.min(*last)).step_by((*every).max(1));
                milestones.fold(1.0, |share, _| share * 0.5)
            }
            Decay::Cosine { floor } => {
                let start = self.warm_up.map_or(self.first_epoch, WarmUp::epochs);
                let end = (epochs + self.first_epoch).saturating_sub(1).max(start + 1);
                let done = number.saturating_sub(start) as f64 / (end - start) as f64;
                let wave = f64::midpoint(1.0, (std::f64::consts::PI * done.min(1.0)).cos());
                floor + (1.0 - floor) * wave
            }
        }
    }
}

/// Epochs that a run and its schedule may have: a million.
pub(crate) const MAX_EPOCHS: usize = 1_000_000;

/// Where in a run a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The epoch, counted from 0.
    pub epoch: usize,
    /// How many epochs the run has.
    pub epochs: usize,
    /// The step of the epoch, counted from 0.
    pub step: usize,
    /// How many steps the epoch has.
    pub steps: usize,
}

/// A learning rate for each step: a [`Schedule`], or a type of one's own, which
/// [`Trainer::with_schedule`](crate::Trainer::with_schedule) takes.
///
/// It is a function of where the run is, so that a run that resumes has the same rates. Its `Debug` output is
/// kept in checkpoints: a run does not resume with another schedule.
///
/// ```
/// use reid_train::{Progress, RateSchedule};
///
/// /// One triangle over the whole run (Smith and Topin, 2019, arXiv:1708.07120).
/// #[derive(Debug)]
/// struct OneCycle {
///     highest: f64,
/// }
///
/// impl RateSchedule for OneCycle {
///     fn rate(&self, at: &Progress) -> f64 {
///         let done = (at.epoch as f64 + at.step as f64 / at.steps as f64) / at.epochs as f64;
///         self.highest * (1.0 - (2.0 * done - 1.0).abs()).max(0.01)
///     }
/// }
/// # let _ = OneCycle { highest: 1e-3 };
/// ```
pub trait RateSchedule: fmt::Debug {
    /// The learning rate of a step.
    fn rate(&self, at: &Progress) -> f64;
}

impl RateSchedule for Schedule {
    fn rate(&self, at: &Progress) -> f64 {
        self.rate(at.epoch, at.epochs)
    }
}

impl Validate for Schedule {
    fn validate(&self, problems: &mut Problems) {
        let above = (Bound::Excluded(0.0), Bound::Unbounded);
        problems.number("base", self.base, above);
        problems.count("first_epoch", self.first_epoch, 0..=1);
        problems.nested("warm_up", &self.warm_up);
        problems.nested("decay", &self.decay);
    }
}

impl Validate for WarmUp {
    fn validate(&self, problems: &mut Problems) {
        match *self {
            Self::Linear { epochs, from } => {
                problems.at("linear", |problems| {
                    problems.count("epochs", epochs, 0..=MAX_EPOCHS);
                    problems.number("from", from, 0.0..=1.0);
                });
            }
            Self::Staircase { epochs, every } => {
                problems.at("staircase", |problems| {
                    problems.count("epochs", epochs, 1..=MAX_EPOCHS);
                    problems.count("every", every, 1..=epochs.clamp(1, MAX_EPOCHS));
                });
            }
        }
    }
}

impl Validate for Decay {
    fn validate(&self, problems: &mut Problems) {
        match self {
            Self::Constant => {}
            Self::MultiStep { milestones, factor } => {
                problems.at("multi-step", |problems| {
                    let ascend = milestones.is_sorted();
                    let found = format_args!("{milestones:?}");
                    problems.require("milestones", ascend, "epochs that ascend", found);
                    problems.number("factor", *factor, 0.0..=1.0);
                });
            }
            Self::Halving { first, every, last } => {
                problems.at("halving", |problems| {
                    problems.count("every", *every, 1..=usize::MAX);
                    let expected = format_args!("at least the first, {first}");
                    problems.require("last", last >= first, expected, last);
                });
            }
            Self::Cosine { floor } => {
                problems.number("cosine.floor", *floor, 0.0..=1.0);
            }
        }
    }
}

impl WarmUp {
    const fn epochs(self) -> usize {
        match self {
            Self::Linear { epochs, .. } | Self::Staircase { epochs, .. } => epochs,
        }
    }

    /// The share of the base, while the warm-up lasts.
    fn share(self, number: usize) -> Option<f64> {
        let share = match self {
            Self::Linear { epochs, from } => {
                from + (1.0 - from) * number as f64 / epochs.max(1) as f64
            }
            Self::Staircase { epochs, every } => {
                ((number / every + 1) * every) as f64 / epochs.max(1) as f64
            }
        };
        (number < self.epochs()).then_some(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_rates(schedule: &Schedule, epochs: usize, expected: &[(usize, f64)]) {
        for &(number, rate) in expected {
            let found = schedule.rate(number - schedule.first_epoch, epochs);
            assert!(
                (found / rate - 1.0).abs() < 1e-9,
                "epoch {number}: {found}, not {rate}"
            );
        }
    }

    #[test]
    fn the_strong_baseline() {
        let schedule = Schedule {
            base: 3.5e-4,
            first_epoch: 1,
            warm_up: Some(WarmUp::Linear {
                epochs: 10,
                from: 0.01,
            }),
            decay: Decay::MultiStep {
                milestones: vec![40, 70],
                factor: 0.1,
            },
        };
        let expected = [
            (1, 3.815e-5),
            (2, 7.28e-5),
            (5, 1.7675e-4),
            (9, 3.1535e-4),
            (10, 3.5e-4),
            (39, 3.5e-4),
            (40, 3.5e-5),
            (69, 3.5e-5),
            (70, 3.5e-6),
        ];
        assert_rates(&schedule, 120, &expected);
    }

    #[test]
    fn a_cosine_ends_on_its_floor() {
        let schedule = Schedule {
            decay: Decay::Cosine { floor: 0.1 },
            ..Schedule::constant(2.0)
        };
        // Of 5 epochs the middle one is half way: 0.1 + 0.9·0.5.
        assert_rates(&schedule, 5, &[(0, 2.0), (2, 1.1), (4, 0.2)]);
        assert_rates(&schedule, 1, &[(0, 2.0)]);
    }
}
