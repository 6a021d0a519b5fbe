//! Recipes, training loop, optimizers, schedules and checkpoints for re-identification, classification and
//! semantic segmentation.
//!
//! | type | purpose |
//! |---|---|
//! | [`Recipe`], [`SegmentationRecipe`] | all settings of a run, as one JSON file |
//! | [`Trainer`] | the training loop; a run that was interrupted at any step resumes bit-identically |
//! | [`UnlabelledTrainer`] | training without labels, in rounds of clustering and training |
//! | [`Task`] | what differs between tasks: batches, training step, evaluation |
//! | [`ParallelConfig`] | several ranks, each of which trains on its share of every batch |
//! | [`Teacher`] | a trained model whose embeddings another one learns to reproduce |
//! | [`Learner`] | a model, its criterion and their training step, for custom training steps |
//! | [`Schedule`] | the learning rate of each epoch: a warm-up, then decay by steps, halvings or a cosine |
//! | [`OptimizerConfig`] | Adam, `AdamW`, SGD and Ranger, as `PyTorch` and the papers define them |
//! | [`Swa`] | stochastic weight averaging, beside the exponential moving average of a recipe |
//! | [`Checkpoints`] | the last and the best checkpoint of a run, safe against kills and power cuts |
//! | [`Extractor`] | computes the embeddings of whole splits |
//! | [`Segmenter`] | computes the classes of all pixels of whole images |
//! | [`Observer`] | receives the events of a run: [`Console`], [`JsonLines`] or a custom type |
//!
//! Use it to train a network of `reid-zoo`, or a custom one whose parts implement the traits of `reid-nn`. To
//! compute embeddings with a trained network, `Embedder` of `reid-zoo` is simpler. For a training loop of your
//! own, the losses of `reid-nn` and the loaders of `reid-data` work without this crate.
//!
//! ```
//! use reid_core::InputSize;
//! use reid_nn::{backbone::ResNetConfig, head::BnNeckConfig};
//! use reid_train::Recipe;
//!
//! let network = (ResNetConfig::resnet18(), BnNeckConfig::new());
//! let mut recipe = Recipe::strong_baseline("people", InputSize::PERSON, network);
//! (recipe.epochs, recipe.sampling.identities) = (60, 8);
//! recipe.check()?; // an error lists all invalid settings
//!
//! // A warm-up of ten epochs, and decay from epoch 40 on.
//! let rate = |epoch| recipe.schedule.rate(epoch, recipe.epochs);
//! assert!(rate(0) < rate(10) && rate(10) > rate(59));
//! # Ok::<(), reid_train::Error>(())
//! ```
//!
//! [`Trainer`] runs the recipe; its documentation has a whole program.

#![doc(test(attr(deny(warnings))))]

mod averaging;
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
mod parallel;
mod recipe;
mod run;
mod scaling;
mod schedule;
mod segmenter;
mod settings;
mod task;
mod teacher;
mod trainer;
mod unlabelled;

pub use averaging::Swa;
pub use checkpoint::{CheckpointKind, Checkpoints};
pub use console::Console;
pub use error::Error;
pub use event::{Event, Observer, StepReport};
pub use extract::Extractor;
pub use groups::{GroupRate, ParameterGroup};
pub use history::{EpochSummary, Scores};
pub use interrupt::Interrupt;
pub use json_lines::JsonLines;
pub use learner::{
    Learner, LearnerParts, PixelCriterion, ReidLearner, SegmentationLearner, StepOutput,
};
pub use losses::LossesConfig;
pub use optimizer::{Centralised, Lookahead, LookaheadState, OptimizerConfig, Radam, WeightDecay};
pub use parallel::{ParallelConfig, Scope};
pub use recipe::{Recipe, Sampling, SegmentationRecipe};
pub use schedule::{Decay, Progress, RateSchedule, Schedule, WarmUp};
pub use segmenter::{SegmentedImage, Segmenter};
pub use task::{EpochBatches, Evaluation, ImageTask, PixelTask, Task};
pub use teacher::Teacher;
pub use trainer::{Outcome, Trainer};
pub use unlabelled::{ClusterSummary, RoundSummary, UnlabelledOutcome, UnlabelledTrainer};
