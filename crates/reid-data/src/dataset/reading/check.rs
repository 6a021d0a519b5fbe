//! Check: what every data set must have.

use std::{collections::BTreeSet, path::PathBuf};

use reid_core::{Identity, Notice, Sample, Split, Splits};

use super::copies;
use crate::Error;

/// The splits without junk, if each has an image and training shows two identities or more, with notices of
/// the junk and of queries that are in the gallery.
///
/// `place` says where the images of a split were looked for, `expected` what would count as one.
pub(crate) fn checked(
    mut splits: Splits,
    place: impl Fn(Split) -> PathBuf,
    expected: &'static str,
) -> Result<Splits, Error> {
    let mut junk = Notice::new("left out, junk (identity -1)", [""; 0]);
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
                path: place(split),
                split,
                expected,
            });
        }
    }
    trainable(&splits.train, || place(Split::Train))?;
    if junk.count > 0 {
        splits.notices.push(junk);
    }
    copies::mark(&mut splits)?;
    Ok(splits)
}

/// Refuses samples to train on that show one identity only.
pub(crate) fn trainable(train: &[Sample], place: impl FnOnce() -> PathBuf) -> Result<(), Error> {
    let identities: BTreeSet<Identity> = train.iter().map(|s| s.identity).collect();
    match identities.first() {
        Some(&identity) if identities.len() == 1 => Err(Error::OneIdentity {
            path: place(),
            identity,
        }),
        _ => Ok(()),
    }
}

/// Takes out detections of nobody in particular.
pub(crate) fn drop_junk(samples: &mut Vec<Sample>) -> Vec<Sample> {
    samples
        .extract_if(.., |sample| sample.identity.is_junk())
        .collect()
}
