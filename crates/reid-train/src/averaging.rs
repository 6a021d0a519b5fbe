//! The settings of averaged weights, and what a checkpoint holds about them besides the average.

use reid_core::{Problems, Validate};
use serde::{Deserialize, Serialize};

/// The largest number of steps between the weights in a mean, and of batches of a renewal.
pub(crate) const MAX_STEPS: usize = 1_000_000_000;

/// Stochastic weight averaging (SWA): the arithmetic mean of the weights at several points of a run (Izmailov et
/// al., Averaging Weights Leads to Wider Optima and Better Generalization, UAI 2018, arXiv:1803.05407).
///
/// ```text
/// average ← average + (weights - average)/(n + 1)        n: the number of weights in the mean so far
/// ```
///
/// The mean is a second model, which is evaluated and opened; the trained weights do not change. Before the first
/// weights are in the mean, the trained model is evaluated. In the paper, the rate of these epochs is constant or
/// cyclic, and higher than at the end of a usual schedule.
///
/// The running statistics of batch normalisation are computed anew before the mean is evaluated
/// ([`Recipe::renewal_batches`](crate::Recipe::renewal_batches)).
///
/// ```
/// use reid_train::Swa;
///
/// // The mean of the weights at the end of each epoch from the 91st on.
/// let swa = Swa::from_epoch(90);
/// assert_eq!(serde_json::to_string(&swa)?, r#"{"first_epoch":90}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Swa {
    /// The first epoch whose weights are in the mean, counted from 0; below the number of epochs.
    pub first_epoch: usize,
    /// The number of training steps between weights in the mean, 1 to 1,000,000,000, counted from the start of
    /// the first epoch; at most the number of steps from there to the end of the run. `None`, the default, takes
    /// those at the end of each epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_steps: Option<usize>,
}

impl Swa {
    /// The mean of the weights at the end of each epoch from this one on, counted from 0.
    #[must_use]
    pub const fn from_epoch(first_epoch: usize) -> Self {
        Self {
            first_epoch,
            every_steps: None,
        }
    }

    /// Takes the weights after every so many steps, instead of at the end of each epoch.
    #[must_use]
    pub const fn with_every_steps(self, steps: usize) -> Self {
        Self {
            every_steps: Some(steps),
            ..self
        }
    }
}

impl Validate for Swa {
    fn validate(&self, problems: &mut Problems) {
        if let Some(steps) = self.every_steps {
            problems.count("every_steps", steps, 1..=MAX_STEPS);
        }
    }
}

/// What a checkpoint holds about averaged weights, besides the average.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Averaged {
    /// The number of weights in the mean of SWA.
    pub(crate) models: usize,
    /// The number of training steps since the first epoch of SWA began.
    pub(crate) steps: usize,
    /// The epoch of the last update of the average, counted from 0. Renewals use the batches of this epoch, so that
    /// the result does not depend on when they happen.
    #[serde(default)]
    pub(crate) epoch: usize,
    /// Whether the running statistics of the average were renewed after its last update.
    pub(crate) renewed: bool,
}
