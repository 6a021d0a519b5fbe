//! The events of a run, and observers that receive them.

use std::{path::Path, time::Duration};

use reid_core::Problem;
use reid_eval::{Classification, Clusters, Report, SegmentationReport};

use crate::{history::EpochSummary, unlabelled::ClusterSummary};

/// Receives the events of a run. A pair of observers passes each event to both; `()` ignores all events.
///
/// ```
/// use reid_train::{Event, Observer};
///
/// /// Counts steps.
/// struct Counter(usize);
///
/// impl Observer for Counter {
///     fn observe(&mut self, event: &Event<'_>) {
///         if matches!(event, Event::Step(_)) {
///             self.0 += 1;
///         }
///     }
/// }
///
/// let mut counter = Counter(0);
/// counter.observe(&Event::Interrupted);
/// assert_eq!(counter.0, 0);
/// ```
pub trait Observer {
    /// Called for each event, in order, on the thread of [`Trainer::run`](crate::Trainer::run).
    fn observe(&mut self, event: &Event<'_>);
}

/// Ignores all events.
impl Observer for () {
    fn observe(&mut self, _event: &Event<'_>) {}
}

impl<A: Observer, B: Observer> Observer for (A, B) {
    fn observe(&mut self, event: &Event<'_>) {
        self.0.observe(event);
        self.1.observe(event);
    }
}

impl<O: Observer + ?Sized> Observer for Box<O> {
    fn observe(&mut self, event: &Event<'_>) {
        (**self).observe(event);
    }
}

/// An event of a run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The run starts or resumes.
    Started {
        /// The number of epochs of the run.
        epochs: usize,
        /// The number of epochs that are already done.
        epochs_done: usize,
        /// The number of training images.
        images: usize,
        /// The number of training identities; 0 in segmentation.
        identities: usize,
        /// The number of values of all parameters of the model.
        parameters: usize,
    },
    /// A setting is valid for these data, but probably unintended.
    Warning(&'a Problem),
    /// The headers of all images are being read, before the first step.
    Checking {
        /// The number of images whose header was read.
        images: usize,
        /// The number of images of all splits.
        of: usize,
    },
    /// The running statistics of averaged weights are being computed anew, before an evaluation or at the end.
    Renewing {
        /// The number of batches done.
        batches: usize,
        /// The number of batches of the pass.
        of: usize,
    },
    /// A training step is done.
    Step(&'a StepReport),
    /// An epoch is done.
    Epoch(&'a EpochSummary),
    /// The model was evaluated.
    Evaluated {
        /// The epoch after which the model was evaluated, counted from 1.
        epoch: usize,
        /// The scores.
        report: &'a Report,
        /// Whether the mAP is the best so far.
        best: bool,
    },
    /// The model classified the test images.
    Classified {
        /// The epoch after which the model was tested, counted from 1.
        epoch: usize,
        /// The results.
        report: &'a Classification,
        /// Whether the epoch is the best so far: by its accuracy, or by its mAP if the data have queries.
        best: bool,
    },
    /// The model segmented the validation images.
    Segmented {
        /// The epoch after which the model was tested, counted from 1.
        epoch: usize,
        /// The results.
        report: &'a SegmentationReport,
        /// Whether the mIoU is the best so far.
        best: bool,
    },
    /// The training images were clustered, at the start of a round of training without labels.
    Clustered {
        /// The number of clusters and outliers, and how well they agree with known identities.
        summary: &'a ClusterSummary,
        /// The cluster of each training image.
        clusters: &'a Clusters,
    },
    /// A checkpoint was written to this folder.
    Saved(&'a Path),
    /// The run stops because of an [`Interrupt`](crate::Interrupt). It can be resumed if it has checkpoints.
    Interrupted,
}

/// The results of a training step.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// The number of epochs of the run.
    pub epochs: usize,
    /// The step in the epoch, counted from 1.
    pub step: usize,
    /// The number of steps of the epoch.
    pub steps: usize,
    /// The name and value of each loss, averaged over the batches of the step.
    pub losses: Vec<(String, f64)>,
    /// The fraction of the images whose label was predicted, from 0 to 1; `None` if no loss uses the logits.
    pub accuracy: Option<f64>,
    /// The name and value of each diagnostic, such as the fraction of images with an empty CAM. In half
    /// precision also `skipped`: 1 if the step was skipped because its gradients overflowed, otherwise 0.
    pub diagnostics: Vec<(String, f64)>,
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// The mean speed since the run started or resumed.
    pub images_per_second: f64,
    /// The estimated time to the last step, without evaluations.
    pub time_left: Duration,
}
