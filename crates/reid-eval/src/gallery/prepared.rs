//! What a gallery computes once for all searches.

use std::{collections::HashMap, sync::OnceLock};

use reid_core::Identity;

use super::GalleryEntry;
use crate::{distance::Side, screening::Screen};

/// The identities of entries as indices, and the codes of their vectors. Both are computed by the first search
/// that needs them and then kept up to date.
///
/// They follow from the entries and embeddings, so all values of this type are equal.
#[derive(Clone, Debug, Default)]
pub(super) struct Prepared {
    groups: OnceLock<Groups>,
    screen: OnceLock<Screen>,
}

impl PartialEq for Prepared {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

/// The identities of entries as indices.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    /// The index of each entry's identity.
    pub(super) of_entry: Vec<usize>,
    /// The identities in the order of their first enrolment. Forgotten ones remain.
    pub(super) identities: Vec<Identity>,
    indices: HashMap<Identity, usize>,
}

impl Groups {
    fn append(&mut self, entries: &[GalleryEntry]) {
        for entry in entries {
            let identities = &mut self.identities;
            let index = self.indices.entry(entry.identity).or_insert_with(|| {
                identities.push(entry.identity);
                identities.len() - 1
            });
            self.of_entry.push(*index);
        }
    }
}

impl Prepared {
    pub(super) fn groups(&self, entries: &[GalleryEntry]) -> &Groups {
        self.groups.get_or_init(|| {
            let mut groups = Groups::default();
            groups.append(entries);
            groups
        })
    }

    pub(super) fn screen(&self, side: &Side<'_>) -> &Screen {
        self.screen.get_or_init(|| Screen::new(side))
    }

    pub(super) fn append(&mut self, entries: &[GalleryEntry], side: &Side<'_>) {
        if let Some(groups) = self.groups.get_mut() {
            groups.append(entries);
        }
        if let Some(screen) = self.screen.get_mut() {
            screen.append(side);
        }
    }

    pub(super) fn remove(&mut self, marked: &[bool]) {
        if let Some(groups) = self.groups.get_mut() {
            let mut kept = marked.iter().map(|marked| !marked);
            groups.of_entry.retain(|_| kept.next().unwrap_or(true));
        }
        if let Some(screen) = self.screen.get_mut() {
            screen.remove(marked);
        }
    }
}
