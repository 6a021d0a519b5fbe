//! Checks before a run that all images can be opened, and reports the progress.

use std::{panic::resume_unwind, sync::mpsc, thread};

use reid_core::Splits;

use crate::{
    error::Error,
    event::{Event, Observer},
    recipe::{images, openable},
};

/// Reads the header of every image, so that an image that cannot be opened stops the run before it starts.
pub(crate) fn check(splits: &Splits, observer: &mut dyn Observer) -> Result<(), Error> {
    let of = images(splits).len();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let checked = scope.spawn(move || {
            openable(splits, |images| {
                // This fails only if the observer panicked, which dropped the receiver.
                let _ = sender.send(images);
            })
        });
        for images in receiver {
            observer.observe(&Event::Checking { images, of });
        }
        checked.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
