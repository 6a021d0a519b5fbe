//! Holds whole identities out for validation, with one query each.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use rand::{RngExt, seq::SliceRandom};
use reid_core::{Camera, Identity, Sample, Seed, Splits};

use crate::Error;

/// Splits labelled samples into training, query and gallery samples by identity.
///
/// `amount` identities are drawn at random from those seen by at least two cameras. One random image of each
/// is its query, and its other images are the gallery. The remaining identities are the training samples.
/// The order of the samples is kept.
///
/// With the same seed, a larger `amount` includes the identities of a smaller one, with the same queries.
/// `list` is the path in the error message.
///
/// # Errors
/// [`Error::HeldOut`] if there are not enough such identities, or fewer than two others would remain.
pub(crate) fn split(
    samples: Vec<Sample>,
    amount: usize,
    seed: Seed,
    list: &Path,
) -> Result<Splits, Error> {
    let seed = seed.named("held out");
    let mut cameras: BTreeMap<Identity, BTreeSet<Option<Camera>>> = BTreeMap::new();
    let mut images: BTreeMap<Identity, Vec<usize>> = BTreeMap::new();
    for (at, sample) in samples.iter().enumerate() {
        cameras
            .entry(sample.identity)
            .or_default()
            .insert(sample.camera);
        images.entry(sample.identity).or_default().push(at);
    }
    let seen_twice = cameras.iter().filter(|(_, cameras)| cameras.len() > 1);
    let mut candidates: Vec<Identity> = seen_twice.map(|(identity, _)| *identity).collect();
    let found = candidates.len().min(images.len().saturating_sub(2));
    if found < amount {
        return Err(Error::HeldOut {
            path: list.to_owned(),
            expected: amount,
            found,
        });
    }
    candidates.shuffle(&mut seed.stream());
    candidates.truncate(amount);
    let queries: BTreeMap<Identity, usize> = candidates
        .into_iter()
        .map(|identity| {
            let mut stream = seed.at(identity.label().cast_unsigned()).stream();
            let images = &images[&identity];
            (identity, images[stream.random_range(0..images.len())])
        })
        .collect();

    let mut splits = Splits::default();
    for (at, sample) in samples.into_iter().enumerate() {
        match queries.get(&sample.identity) {
            None => splits.train.push(sample),
            Some(&query) if query == at => splits.query.push(sample),
            Some(_) => splits.gallery.push(sample),
        }
    }
    Ok(splits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Identities 1 to 5 with cameras 1 and 2 and identity 6 with camera 1 only, three images each.
    fn samples() -> Vec<Sample> {
        let images_of = |identity: i64| {
            [1, 2, 2].map(|camera| {
                let camera = Camera::new(if identity == 6 { 1 } else { camera });
                Sample::new("a.jpg", Identity::new(identity)).with_camera(camera)
            })
        };
        (1..=6).flat_map(images_of).collect()
    }

    fn held(amount: usize, seed: u64) -> Result<Splits, Error> {
        split(samples(), amount, Seed::new(seed), Path::new("labels.xml"))
    }

    fn identities(samples: &[Sample]) -> BTreeSet<i64> {
        samples
            .iter()
            .map(|sample| sample.identity.label())
            .collect()
    }

    #[test]
    fn whole_identities_are_held_out_with_one_query_each() {
        let splits = held(2, 7).unwrap();
        assert_eq!(splits.query.len(), 2);
        assert_eq!(splits.gallery.len(), 2 * 2);
        assert_eq!(splits.train.len(), 4 * 3);
        assert_eq!(identities(&splits.query), identities(&splits.gallery));
        assert!(identities(&splits.train).is_disjoint(&identities(&splits.query)));
        assert_eq!(splits, held(2, 7).unwrap());
        assert!((0..20).any(|seed| held(2, seed).unwrap() != splits));
    }

    #[test]
    fn a_larger_amount_includes_a_smaller_one_and_one_camera_is_never_held_out() {
        for seed in 0..20 {
            let (few, many) = (held(2, seed).unwrap(), held(4, seed).unwrap());
            assert!(few.query.iter().all(|query| many.query.contains(query)));
            assert!(identities(&many.train).contains(&6));
        }
    }

    #[test]
    fn too_few_identities_are_rejected() {
        let message = held(5, 0).expect_err("two must remain").to_string();
        assert!(
            message.starts_with("labels.xml: expected 5 identities to hold out, each seen by"),
            "{message}"
        );
        assert!(
            message.ends_with("found 4 that can be held out"),
            "{message}"
        );
        assert!(split(Vec::new(), 1, Seed::new(0), Path::new("")).is_err());
    }
}
