//! Notices: what a loader leaves out, counted by reason.

use std::{collections::BTreeMap, path::Path};

use reid_core::Notice;

use crate::Error;

/// What has been left out so far, and whether images are among it.
#[derive(Default)]
pub(crate) struct Notices {
    /// Files that may show somebody.
    images: BTreeMap<String, Notice>,
    /// Everything else.
    others: BTreeMap<String, Notice>,
}

impl Notices {
    /// A file or folder is left out that may hold images of somebody.
    pub(crate) fn image(&mut self, reason: &str, path: &Path) {
        add(&mut self.images, reason, path);
    }

    /// A file is left out that shows nobody.
    pub(crate) fn other(&mut self, reason: &str, path: &Path) {
        add(&mut self.others, reason, path);
    }

    /// All of them, those about images first.
    pub(crate) fn into_vec(self) -> Vec<Notice> {
        self.images
            .into_values()
            .chain(self.others.into_values())
            .collect()
    }

    /// An error if images have been left out: for loaders whose result has no place for notices.
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
        .or_insert_with(|| Notice::new(format!("left out, {reason}"), [""; 0]));
    notice.add(path.display().to_string());
}
