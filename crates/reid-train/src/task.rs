//! Tasks: what differs between re-identification, classification and segmentation.

mod images;
mod pixels;

use std::path::Path;

use reid_core::Seed;
use reid_data::loader::Batches;
use reid_eval::{Classification, Report, SegmentationReport};

use crate::{
    error::Error,
    history::Scores,
    learner::{LearnerParts, StepOutput},
};

pub use images::ImageTask;
pub use pixels::PixelTask;

/// What differs between the tasks of a [`Trainer`](crate::Trainer), with a learner `L`: the batches, the
/// training step on a batch, and the evaluation. The training loop, checkpoints, optimizers and schedules are
/// the same for all.
///
/// | task | labels | evaluation |
/// |---|---|---|
/// | re-identification: [`ImageTask`] | one per image | mAP and CMC of the queries |
/// | classification: [`ImageTask`] | one per image | error on the test images |
/// | semantic segmentation: [`PixelTask`] | one per pixel | mIoU of the validation images |
///
/// A trainer builds its task from the recipe and the data. Re-identification and classification are one task,
/// because only their evaluation differs, and a dataset may have both queries and test images.
pub trait Task<L: LearnerParts> {
    /// A batch of training data.
    type Batch;

    /// Checks before the first step that the task can train this learner. The default accepts every learner.
    ///
    /// # Errors
    /// If it cannot.
    fn validate(&self, learner: &L) -> Result<(), Error> {
        let _ = learner;
        Ok(())
    }

    /// Prepares the batches of an epoch, starting at batch `first`, both counted from 0. If `first` is beyond
    /// the last batch, there are none.
    ///
    /// A batch is a pure function of the seed of the run, the epoch and the position in the epoch, because a
    /// resumed run requests the rest of an epoch again.
    ///
    /// # Errors
    /// If no batches can be drawn from the data.
    fn epoch(&self, epoch: usize, first: usize) -> Result<EpochBatches<Self::Batch>, Error>;

    /// The image files of a batch: one per image.
    fn files<'b>(&'b self, batch: &'b Self::Batch) -> Vec<&'b Path>;

    /// Computes the losses of a batch. Random choices are a function of `seed`.
    fn training_step(&self, learner: &L, batch: &Self::Batch, seed: Seed) -> StepOutput;

    /// Computes a forward pass of a batch in training mode, from which the running statistics of averaged weights
    /// are computed anew. By default this is the whole training step.
    fn forward_train(&self, learner: &L, batch: &Self::Batch, seed: Seed) {
        let _ = self.training_step(learner, batch, seed);
    }

    /// Whether the data have images to evaluate a model with.
    fn is_evaluated(&self) -> bool;

    /// Evaluates a model, which is in training mode or an average of such models.
    ///
    /// # Errors
    /// If an image cannot be read, or the model cannot be evaluated.
    fn evaluate(&self, model: &L::Model) -> Result<Evaluation, Error>;
}

/// The batches of an epoch.
#[derive(Debug)]
#[non_exhaustive]
pub struct EpochBatches<B> {
    /// The number of batches of the whole epoch.
    pub count: usize,
    /// The batches from the requested one on.
    pub rest: Batches<B>,
}

/// The results of an evaluation: those that the data have images for.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Evaluation {
    /// The retrieval of the queries.
    pub report: Option<Report>,
    /// The classification of the test images.
    pub classification: Option<Classification>,
    /// The segmentation of the validation images.
    pub segmentation: Option<SegmentationReport>,
}

impl Evaluation {
    /// The scores. Their mAP, or otherwise their accuracy or mIoU, decides which epoch is the best one.
    #[must_use]
    pub fn scores(&self) -> Scores {
        let segmentation = self.segmentation.as_ref();
        Scores {
            mean_average_precision: self
                .report
                .as_ref()
                .map(|report| report.mean_average_precision),
            rank_1: self.report.as_ref().map(|report| report.rank(1)),
            accuracy: self.classification.as_ref().map(Classification::accuracy),
            mean_intersection_over_union: segmentation
                .map(|report| report.mean_intersection_over_union),
        }
    }
}
