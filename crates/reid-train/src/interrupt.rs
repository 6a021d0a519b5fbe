//! A request to stop a run.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A request to stop a run after the current training step. Clones share the request, so a signal handler or
/// another thread can make it.
///
/// The training loop checks it after every step. If a stop was requested, the loop saves a checkpoint and
/// returns. The run resumes from there bit-identically.
///
/// ```
/// use reid_train::Interrupt;
///
/// let interrupt = Interrupt::new();
/// let handler = interrupt.clone();
/// handler.request();
/// assert!(interrupt.is_requested());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Returns an interrupt that has not been requested yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests a stop after the current step.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
