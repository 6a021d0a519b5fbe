//! Checks that every loaded dataset must pass.

use std::{collections::BTreeSet, path::PathBuf};

use reid_core::{Identity, Notice, Sample, Split, Splits};

use super::copies;
use crate::Error;

/// Removes junk from the splits, checks them, and marks copies of queries in the gallery.
///
/// Adds notices of the junk and of queries that are also in the gallery. For error messages, `location` is
/// the folder or list of a split, and `expected` names the files or lines that would count as its images.
///
/// # Errors
/// [`Error::EmptySplit`] if a split has no images, [`Error::OneIdentity`] if the training split has only
/// one identity, and [`Error::Io`] if an image cannot be compared.
pub(crate) fn checked(
    mut splits: Splits,
    location: impl Fn(Split) -> PathBuf,
    expected: &'static str,
) -> Result<Splits, Error> {
    let mut junk = Notice::new("skipped junk (identity -1)", [""; 0]);
    let by_split = [
        (Split::Train, &mut splits.train),
        (Split::Query, &mut splits.query),
        (Split::Gallery, &mut splits.gallery),
    ];
    for (split, samples) in by_split {
        for sample in drop_junk(samples) {
            junk.add(sample.path.display().to_string());
        }
        if samples.is_empty() {
            return Err(Error::EmptySplit {
                path: location(split),
                split,
                expected,
            });
        }
    }
    trainable(&splits.train, || location(Split::Train))?;
    if junk.count > 0 {
        splits.notices.push(junk);
    }
    copies::mark(&mut splits)?;
    Ok(splits)
}

/// Rejects training samples that all have the same identity.
pub(crate) fn trainable(train: &[Sample], location: impl FnOnce() -> PathBuf) -> Result<(), Error> {
    let identities: BTreeSet<Identity> = train.iter().map(|s| s.identity).collect();
    match identities.first() {
        Some(&identity) if identities.len() == 1 => Err(Error::OneIdentity {
            path: location(),
            identity,
        }),
        _ => Ok(()),
    }
}

/// Removes the junk from `samples` and returns it.
pub(crate) fn drop_junk(samples: &mut Vec<Sample>) -> Vec<Sample> {
    samples
        .extract_if(.., |sample| sample.identity.is_junk())
        .collect()
}
