//! Headers of images: whether all can be opened, told as it is found out.

use std::{panic::resume_unwind, sync::mpsc, thread};

use reid_core::Splits;

use crate::{
    error::Error,
    event::{Event, Observer},
    recipe::{images, openable},
};

/// Reads the header of every image, so that one that cannot be opened stops a run before it begins.
pub(crate) fn check(splits: &Splits, observer: &mut dyn Observer) -> Result<(), Error> {
    let of = images(splits).len();
    let (told, heard) = mpsc::channel();
    thread::scope(|scope| {
        let checked = scope.spawn(move || {
            openable(splits, |images| {
                // Nobody listens any more only if the caller's thread panics.
                let _ = told.send(images);
            })
        });
        for images in heard {
            observer.observe(&Event::Checking { images, of });
        }
        checked.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
