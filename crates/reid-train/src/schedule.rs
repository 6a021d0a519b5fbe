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
/// Papers count epochs from 0 or from 1. `first_epoch` is that number, so that milestones can be copied
/// from a paper.
///
/// ```
/// use reid_train::{Decay, Schedule, WarmUp};
///
/// // The strong baseline: ten epochs of warm-up from 1 %, then a tenth of the rate from epochs 40 and 70.
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
    /// The number of the first epoch: 0 or 1.
    pub first_epoch: usize,
    /// The warm-up to the base rate, if any.
    pub warm_up: Option<WarmUp>,
    /// The decay after the warm-up.
    pub decay: Decay,
}

/// The rise of the learning rate to the base rate. `n` is the number of the epoch, as in [`Schedule`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum WarmUp {
    /// Linear: the rate is `base · (from + (1 - from)·n/epochs)`.
    Linear {
        /// The number of the first epoch after the warm-up, 0 to 1,000,000.
        epochs: usize,
        /// The fraction of the base rate at `n = 0`, in `[0, 1]`.
        from: f64,
    },
    /// In steps of equal height: the rate is `base · (⌊n/every⌋ + 1)·every/epochs`.
    Staircase {
        /// The number of the first epoch after the warm-up, 1 to 1,000,000.
        epochs: usize,
        /// The number of epochs per step, 1 to `epochs`.
        every: usize,
    },
}

/// The fall of the learning rate from the base rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Decay {
    /// No decay.
    Constant,
    /// The rate is multiplied by `factor` at each milestone.
    MultiStep {
        /// The numbers of the epochs, in ascending order.
        milestones: Vec<usize>,
        /// The factor, in `[0, 1]`.
        factor: f64,
    },
    /// The rate is halved at epoch `first`, and again every `every` epochs until `last`.
    Halving {
        /// The number of the epoch of the first halving.
        first: usize,
        /// The number of epochs between halvings, at least 1.
        every: usize,
        /// The last epoch in which the rate may be halved, at least `first`.
        last: usize,
    },
    /// Half a cosine: the rate is `base · (floor + (1 - floor)·(1 + cos πt)/2)`. The progress `t` goes from
    /// 0 at the end of the warm-up to 1 at the last epoch.
    Cosine {
        /// The fraction of the base rate in the last epoch, in `[0, 1]`.
        floor: f64,
    },
    /// A power of the remaining fraction of the run (poly): the rate is `base · (1 - t)ᵖ`. The progress `t`
    /// goes from 0 at the end of the warm-up to 1 at the end of the run. It changes with every training step
    /// (Chen et al., DeepLab, arXiv:1606.00915).
    Polynomial {
        /// The exponent p, from 0 to 100; 0.9 in DeepLab, `PSPNet` and OCNet.
        power: f64,
    },
}

impl Schedule {
    /// A schedule with a constant rate.
    #[must_use]
    pub const fn constant(base: f64) -> Self {
        Self {
            base,
            first_epoch: 0,
            warm_up: None,
            decay: Decay::Constant,
        }
    }

    /// Computes the learning rate of an epoch, counted from 0, in a run of `epochs` epochs. For
    /// [`Decay::Polynomial`] it is that of the first step of the epoch.
    #[must_use]
    pub fn rate(&self, epoch: usize, epochs: usize) -> f64 {
        self.rate_within(epoch, 0.0, epochs)
    }

    /// Computes the learning rate after a fraction of an epoch, counted from 0.
    fn rate_within(&self, epoch: usize, fraction: f64, epochs: usize) -> f64 {
        let number = epoch + self.first_epoch;
        let warm = self
            .warm_up
            .as_ref()
            .and_then(|warm_up| warm_up.share(number));
        let share = warm.unwrap_or_else(|| self.decay_share(number, fraction, epochs));
        self.base * share
    }

    fn decay_share(&self, number: usize, fraction: f64, epochs: usize) -> f64 {
        let start = self.warm_up.map_or(self.first_epoch, WarmUp::epochs);
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
                let end = (epochs + self.first_epoch).saturating_sub(1).max(start + 1);
                let done = number.saturating_sub(start) as f64 / (end - start) as f64;
                let wave = f64::midpoint(1.0, (std::f64::consts::PI * done.min(1.0)).cos());
                floor + (1.0 - floor) * wave
            }
            Decay::Polynomial { power } => {
                let end = (epochs + self.first_epoch).max(start + 1);
                let done = number.saturating_sub(start) as f64 + fraction;
                (1.0 - done / (end - start) as f64).max(0.0).powf(*power)
            }
        }
    }
}

/// The largest number of epochs of a run and of its schedule.
pub(crate) const MAX_EPOCHS: usize = 1_000_000;

/// The position of a training step in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The epoch, counted from 0.
    pub epoch: usize,
    /// The number of epochs of the run.
    pub epochs: usize,
    /// The step of the epoch, counted from 0; `steps` after the last one.
    pub step: usize,
    /// The number of steps of the epoch.
    pub steps: usize,
}

/// The learning rate of each training step: a [`Schedule`], or a custom type for
/// [`Trainer::with_schedule`](crate::Trainer::with_schedule).
///
/// The rate is a function of the position in the run, so a resumed run has the same rates. Checkpoints hold
/// the `Debug` output of a custom schedule, and a run does not resume if it differs.
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
    /// Computes the learning rate of a training step.
    fn rate(&self, at: &Progress) -> f64;
}

impl RateSchedule for Schedule {
    fn rate(&self, at: &Progress) -> f64 {
        let fraction = at.step as f64 / at.steps.max(1) as f64;
        self.rate_within(at.epoch, fraction, at.epochs)
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
            Self::Polynomial { power } => {
                problems.number("polynomial.power", *power, 0.0..=100.0);
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

    /// The fraction of the base rate during the warm-up; `None` after it.
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
                "epoch {number}: expected {rate}, found {found}"
            );
        }
    }

    #[test]
    fn rates_of_the_strong_baseline() {
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
    fn a_cosine_ends_at_its_floor() {
        let schedule = Schedule {
            decay: Decay::Cosine { floor: 0.1 },
            ..Schedule::constant(2.0)
        };
        // The middle one of 5 epochs has t = 1/2: 0.1 + 0.9·0.5.
        assert_rates(&schedule, 5, &[(0, 2.0), (2, 1.1), (4, 0.2)]);
        assert_rates(&schedule, 1, &[(0, 2.0)]);
    }

    /// The rate of OCNet for iteration i of N is 0.01 · (1 - i/N)^0.9.
    #[test]
    fn a_polynomial_changes_with_every_step_and_ends_at_0() {
        for first_epoch in [0, 1] {
            let schedule = Schedule {
                first_epoch,
                decay: Decay::Polynomial { power: 0.9 },
                ..Schedule::constant(0.01)
            };
            for iteration in 0..=40 {
                let at = Progress {
                    epoch: iteration / 10,
                    epochs: 4,
                    step: iteration % 10,
                    steps: 10,
                };
                let expected = 0.01 * (1.0 - iteration as f64 / 40.0).powf(0.9);
                let found = RateSchedule::rate(&schedule, &at);
                assert!((found - expected).abs() < 1e-15, "iteration {iteration}");
            }
        }
    }
}
