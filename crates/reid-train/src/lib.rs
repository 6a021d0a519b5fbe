//! Training for re-identification, of anything that has the three traits of `reid-nn`.
//!
//! | part | what it is |
//! |---|---|
//! | [`Recipe`] | everything that decides a run, as one JSON file |
//! | [`Trainer`] | the loop: learn, evaluate, save; interrupted at any step, it resumes to the same bits |
//! | [`Schedule`] | learning rate by epoch: warm-up, then steps, halvings or a cosine |
//! | [`OptimizerConfig`] | Adam and SGD as `PyTorch` defines them |
//! | [`Checkpoints`] | last and best state of a run, written so that a kill cannot lose both |
//! | [`Extractor`] | descriptors of whole splits |
//! | [`Observer`] | who is told: a [`Console`], [`JsonLines`], or one's own |

#![doc(test(attr(deny(warnings))))]

mod checkpoint;
mod clock;
mod console;
mod difference;
mod error;
mod event;
mod extract;
mod gradients;
mod groups;
mod headers;
mod history;
mod interrupt;
mod json;
mod json_lines;
mod learner;
mod losses;
mod optimizer;
mod recipe;
mod run;
mod scaling;
mod schedule;
mod trainer;

pub use checkpoint::{CheckpointKind, Checkpoints};
pub use console::Console;
pub use error::Error;
pub use event::{Event, Observer, StepReport};
pub use extract::Extractor;
pub use groups::{GroupRate, ParameterGroup};
pub use history::{EpochSummary, Scores};
pub use interrupt::Interrupt;
pub use json_lines::JsonLines;
pub use learner::{Learner, ReidLearner, StepOutput};
pub use losses::LossesConfig;
pub use optimizer::{Centralised, Lookahead, LookaheadState, OptimizerConfig, Radam, WeightDecay};
pub use recipe::{Recipe, Sampling};
pub use schedule::{Decay, Progress, RateSchedule, Schedule, WarmUp};
pub use trainer::{Outcome, Trainer};
