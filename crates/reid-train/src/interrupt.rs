//! Interrupt: a polite request to stop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A polite request to stop, shared between the loop and whoever may ask, such as a signal handler.
///
/// The loop looks after every step; asked, it saves and returns, and the run resumes from there to
/// the same bits.
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
    /// A request nobody has made yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a stop after the step under way.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether someone has asked.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
