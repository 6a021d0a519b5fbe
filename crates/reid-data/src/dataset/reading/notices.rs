//! Counts the files that a loader skips, by reason.

use std::{collections::BTreeMap, path::Path};

use reid_core::Notice;

use crate::Error;

/// The files skipped so far, with possible images apart from other files.
#[derive(Default)]
pub(crate) struct Notices {
    /// Files and folders that may hold images of an identity.
    images: BTreeMap<String, Notice>,
    /// All other files.
    others: BTreeMap<String, Notice>,
}

impl Notices {
    /// Counts a skipped file or folder that may hold images of an identity.
    pub(crate) fn image(&mut self, reason: &str, path: &Path) {
        add(&mut self.images, reason, path);
    }

    /// Counts a skipped file that is not an image.
    pub(crate) fn other(&mut self, reason: &str, path: &Path) {
        add(&mut self.others, reason, path);
    }

    /// All notices, those about images first.
    pub(crate) fn into_vec(self) -> Vec<Notice> {
        self.images
            .into_values()
            .chain(self.others.into_values())
            .collect()
    }

    /// Returns an error if images were skipped, for loaders whose result cannot carry notices.
    pub(crate) fn refuse_images(self, folder: &Path) -> Result<(), Error> {
        match self.images.into_values().next() {
            None => Ok(()),
            Some(notice) => Err(Error::LeftOut {
                path: folder.to_owned(),
                notice,
            }),
        }
    }
}

fn add(to: &mut BTreeMap<String, Notice>, reason: &str, path: &Path) {
    let notice = to
        .entry(reason.to_owned())
        .or_insert_with(|| Notice::new(format!("skipped {reason}"), [""; 0]));
    notice.add(path.display().to_string());
}
