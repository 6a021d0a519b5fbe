//! Measures the speed of a run.

use std::time::Duration;

/// The number of images and steps so far, and the time that they took.
#[derive(Default)]
pub(crate) struct Clock {
    images: usize,
    steps: u32,
    spent: Duration,
}

impl Clock {
    pub(crate) fn add(&mut self, images: usize, time: Duration) {
        self.images += images;
        self.steps += 1;
        self.spent += time;
    }

    /// The images per second, and the time that another `steps` steps take.
    pub(crate) fn speed(&self, steps: usize) -> (f64, Duration) {
        let seconds = self.spent.as_secs_f64().max(1e-9);
        let per_step = seconds / f64::from(self.steps.max(1));
        let left = Duration::try_from_secs_f64(per_step * steps as f64);
        (self.images as f64 / seconds, left.unwrap_or(Duration::MAX))
    }
}
