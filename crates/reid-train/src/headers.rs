//! Checks before a run that all images can be opened, and reports the progress.

use std::{panic::resume_unwind, path::Path, sync::mpsc, thread};

use reid_data::segmentation::PixelSample;

use crate::{
    error::Error,
    event::{Event, Observer},
    recipe::openable,
};

/// Reads the header of every image and of the label map of every sample, so that a file that cannot be opened stops
/// the run before it starts.
pub(crate) fn check(
    images: &[&Path],
    samples: &[&PixelSample],
    observer: &mut dyn Observer,
) -> Result<(), Error> {
    let of = images.len() + samples.len();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let checked = scope.spawn(move || {
            openable(images, samples, |images| {
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
