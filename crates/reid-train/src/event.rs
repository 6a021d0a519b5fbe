//! Events: what a run tells.

use std::{path::Path, time::Duration};

use reid_core::Problem;
use reid_eval::Report;

use crate::history::EpochSummary;

/// Who is told what happens in a run.
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
    /// Takes note of an event.
    fn observe(&mut self, event: &Event<'_>);
}

/// Nobody is told.
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

/// What happens in a run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The run begins or goes on.
    Started {
        /// Epochs of the run.
        epochs: usize,
        /// Epochs that are already done.
        epochs_done: usize,
        /// Training images.
        images: usize,
        /// Training identities.
        identities: usize,
        /// Parameters of the model.
        parameters: usize,
    },
    /// Something is possible, but was hardly meant.
    Warning(&'a Problem),
    /// The headers of images are read, before the first step.
    Checking {
        /// Images whose header was read.
        images: usize,
        /// Images of all splits.
        of: usize,
    },
    /// A step is done.
    Step(&'a StepReport),
    /// An epoch is done.
    Epoch(&'a EpochSummary),
    /// The model was evaluated.
    Evaluated {
        /// After which epoch, counted from 1.
        epoch: usize,
        /// The scores.
        report: &'a Report,
        /// Whether they are the best so far.
        best: bool,
    },
    /// A checkpoint was written.
    Saved(&'a Path),
    /// The run stops because someone asked; it can be resumed.
    Interrupted,
}

/// What a step came to.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Epochs of the run.
    pub epochs: usize,
    /// The step in the epoch, counted from 1.
    pub step: usize,
    /// Steps of the epoch.
    pub steps: usize,
    /// Each loss of the batch, by name.
    pub losses: Vec<(String, f64)>,
    /// Share of the batch whose identity was named.
    pub accuracy: f64,
    /// What the head told of the batch, by name: shares of it. In half precision also whether the step was left
    /// out, because its gradients overflowed: 1 or 0.
    pub diagnostics: Vec<(String, f64)>,
    /// The learning rate.
    pub learning_rate: f64,
    /// Speed since the run began or went on.
    pub images_per_second: f64,
    /// Time to the last step at that speed, evaluations not counted.
    pub time_left: Duration,
}
