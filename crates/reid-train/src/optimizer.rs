//! Optimizers, as `PyTorch` and the papers define them.

mod adam;
mod centralised;
mod lookahead;
mod radam;

pub use centralised::Centralised;
pub use lookahead::{Lookahead, LookaheadState};
pub use radam::{Radam, WeightDecay};

use std::ops::Bound;

use burn::optim::{ModuleOptimizer, SgdConfig, decay::WeightDecayConfig, momentum::MomentumConfig};
use reid_core::{Problems, Validate};
use serde::{Deserialize, Serialize};

/// An optimizer and its hyper-parameters. The learning rate comes from the [`Schedule`](crate::Schedule).
///
/// Weight decay is coupled, as in `PyTorch`'s `Adam` and `SGD`: `weight_decay · w` is added to the gradient.
/// In `AdamW` and Ranger it is decoupled. Frozen parameters are not decayed.
///
/// ```
/// use reid_train::OptimizerConfig;
///
/// let json = serde_json::to_string(&OptimizerConfig::adam())?;
/// assert_eq!(json, r#"{"adam":{"beta1":0.9,"beta2":0.999,"epsilon":1e-8,"weight_decay":0.0005}}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum OptimizerConfig {
    /// Adam (Kingma and Ba, ICLR 2015, arXiv:1412.6980).
    Adam {
        /// The decay of the mean of the gradients, in `[0, 1)`.
        beta1: f32,
        /// The decay of the mean of the squared gradients, in `[0, 1)`.
        beta2: f32,
        /// Added to the square root in the denominator, in `(0, 1]`.
        epsilon: f32,
        /// Weight decay, 0 to 1000.
        weight_decay: f32,
    },
    /// `AdamW`: Adam with decoupled weight decay, `w ← (1 - rate·weight_decay)·w` before the step (Loshchilov
    /// and Hutter, ICLR 2019, arXiv:1711.05101).
    AdamW {
        /// The decay of the mean of the gradients, in `[0, 1)`.
        beta1: f32,
        /// The decay of the mean of the squared gradients, in `[0, 1)`.
        beta2: f32,
        /// Added to the square root in the denominator, in `(0, 1]`.
        epsilon: f32,
        /// Weight decay, 0 to 1000.
        weight_decay: f32,
    },
    /// Stochastic gradient descent with momentum.
    Sgd {
        /// Momentum, in `[0, 1)`.
        momentum: f64,
        /// Whether to use Nesterov momentum.
        nesterov: bool,
        /// Weight decay, 0 to 1000.
        weight_decay: f32,
    },
    /// Ranger: [`Lookahead`] around [`Radam`], with decoupled weight decay.
    Ranger {
        /// The decay of the mean of the gradients, in `[0, 1)`.
        beta1: f64,
        /// The decay of the mean of the squared gradients, in `[0, 1)`.
        beta2: f64,
        /// Added to the square root in the denominator, in `(0, 1]`.
        epsilon: f64,
        /// Weight decay, 0 to 1000.
        weight_decay: f64,
        /// The step of the slow weights towards the weights, in `(0, 1]`.
        alpha: f64,
        /// The number of steps between updates of the slow weights, at least 1.
        period: usize,
        /// Whether gradients are [centralised](Centralised); they are not in the first version of Ranger.
        centralised: bool,
    },
}

impl OptimizerConfig {
    /// Adam with the defaults of `PyTorch`, and the weight decay 5e-4 of the strong baseline. The defaults are betas
    /// 0.9 and 0.999, and epsilon 1e-8.
    #[must_use]
    pub const fn adam() -> Self {
        Self::Adam {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 5e-4,
        }
    }

    /// `AdamW` with the defaults of `PyTorch`: betas 0.9 and 0.999, epsilon 1e-8 and weight decay 0.01.
    #[must_use]
    pub const fn adam_w() -> Self {
        Self::AdamW {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
        }
    }

    /// SGD without momentum or weight decay: `w ← w - rate·g`.
    #[must_use]
    pub const fn plain_sgd() -> Self {
        Self::Sgd {
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
        }
    }

    /// SGD with momentum 0.9 and weight decay 5e-4.
    #[must_use]
    pub const fn sgd() -> Self {
        Self::Sgd {
            momentum: 0.9,
            nesterov: false,
            weight_decay: 5e-4,
        }
    }

    /// Ranger with the defaults of its authors' code (github.com/lessw2020/Ranger-Deep-Learning-Optimizer),
    /// and the weight decay 5e-4 of the strong baseline. The defaults are betas 0.95 and 0.999, epsilon
    /// 1e-5, alpha 0.5, period 6, and no centralisation.
    #[must_use]
    pub const fn ranger() -> Self {
        Self::Ranger {
            beta1: 0.95,
            beta2: 0.999,
            epsilon: 1e-5,
            weight_decay: 5e-4,
            alpha: 0.5,
            period: 6,
            centralised: false,
        }
    }

    /// Builds the optimizer.
    #[must_use]
    pub fn init(&self) -> ModuleOptimizer {
        match *self {
            Self::Adam {
                beta1,
                beta2,
                epsilon,
                weight_decay,
            } => ModuleOptimizer::from(adam::Adam {
                beta1,
                beta2,
                epsilon,
                decay: weight_decay,
            }),
            Self::AdamW {
                beta1,
                beta2,
                epsilon,
                weight_decay,
            } => ModuleOptimizer::from(adam::AdamW {
                decay: weight_decay,
                adam: adam::Adam {
                    beta1,
                    beta2,
                    epsilon,
                    decay: 0.0,
                },
            }),
            Self::Sgd {
                momentum,
                nesterov,
                weight_decay,
            } => sgd(momentum, nesterov, weight_decay),
            Self::Ranger {
                beta1,
                beta2,
                epsilon,
                weight_decay,
                alpha,
                period,
                centralised,
            } => {
                let decay = WeightDecay::Decoupled(weight_decay);
                let radam = Radam {
                    beta1,
                    beta2,
                    epsilon,
                    decay,
                };
                ranger(radam, alpha, period, centralised)
            }
        }
    }
}

fn sgd(momentum: f64, nesterov: bool, weight_decay: f32) -> ModuleOptimizer {
    // The default dampening is 0.1 in Burn and 0 in PyTorch.
    let momentum = (momentum > 0.0).then(|| {
        MomentumConfig::new()
            .with_momentum(momentum)
            .with_dampening(0.0)
            .with_nesterov(nesterov)
    });
    let decay = (weight_decay > 0.0).then(|| WeightDecayConfig::new(weight_decay));
    SgdConfig::new()
        .with_momentum(momentum)
        .with_weight_decay(decay)
        .init()
}

fn ranger(radam: Radam, alpha: f64, period: usize, centralised: bool) -> ModuleOptimizer {
    if centralised {
        let inner = Centralised { inner: radam };
        ModuleOptimizer::from(Lookahead {
            inner,
            alpha,
            period,
        })
    } else {
        let inner = radam;
        ModuleOptimizer::from(Lookahead {
            inner,
            alpha,
            period,
        })
    }
}

impl Validate for OptimizerConfig {
    fn validate(&self, problems: &mut Problems) {
        let above = (Bound::Excluded(0.0), Bound::Included(1.0));
        match *self {
            Self::Adam {
                beta1,
                beta2,
                epsilon,
                weight_decay,
            }
            | Self::AdamW {
                beta1,
                beta2,
                epsilon,
                weight_decay,
            } => {
                let name = match self {
                    Self::Adam { .. } => "adam",
                    _ => "adam-w",
                };
                problems.at(name, |problems| {
                    problems.number("beta1", beta1, 0.0..1.0);
                    problems.number("beta2", beta2, 0.0..1.0);
                    problems.number("epsilon", epsilon, above);
                    problems.number("weight_decay", weight_decay, 0.0..=MAX_DECAY);
                });
            }
            Self::Sgd {
                momentum,
                weight_decay,
                ..
            } => {
                problems.at("sgd", |problems| {
                    problems.number("momentum", momentum, 0.0..1.0);
                    problems.number("weight_decay", weight_decay, 0.0..=MAX_DECAY);
                });
            }
            Self::Ranger {
                beta1,
                beta2,
                epsilon,
                weight_decay,
                alpha,
                period,
                ..
            } => {
                problems.at("ranger", |problems| {
                    problems.number("beta1", beta1, 0.0..1.0);
                    problems.number("beta2", beta2, 0.0..1.0);
                    problems.number("epsilon", epsilon, above);
                    problems.number("weight_decay", weight_decay, 0.0..=MAX_DECAY);
                    problems.number("alpha", alpha, above);
                    problems.count("period", period, 1..=usize::MAX);
                });
            }
        }
    }
}

/// The largest weight decay; those in papers are below 0.1.
const MAX_DECAY: f64 = 1000.0;
