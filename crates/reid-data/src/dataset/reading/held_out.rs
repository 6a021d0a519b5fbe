//! Held out: a validation set of whole identities, with one query each.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use rand::{RngExt, seq::SliceRandom};
use reid_core::{Camera, Identity, Sample, Seed, Splits};

use crate::Error;

/// Splits labelled samples: `amount` identities, drawn among those that two cameras or more have
/// seen, become query (one image of each, drawn as well) and gallery (the others), and what is left is
/// for training. Samples stay in order.
///
/// With the same seed, more identities include those of fewer, and each has the same query. `list`
/// is for the error message.
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

    /// Identities 1 to 5 by cameras 1 and 2, three images each; identity 6 by camera 1 alone.
    fn samples() -> Vec<Sample> {
        let of = |identity: i64| {
            [1, 2, 2].map(|camera| {
                let camera = Camera::new(if identity == 6 { 1 } else { camera });
                Sample::new("a.jpg", Identity::new(identity)).with_camera(camera)
            })
        };
        (1..=6).flat_map(of).collect()
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
    fn more_include_fewer_and_one_camera_is_never_held_out() {
        for seed in 0..20 {
            let (few, many) = (held(2, seed).unwrap(), held(4, seed).unwrap());
            assert!(few.query.iter().all(|query| many.query.contains(query)));
            assert!(identities(&many.train).contains(&6));
        }
    }

    #[test]
    fn too_few_are_refused() {
        let message = held(5, 0).expect_err("two must stay").to_string();
        assert!(
            message.starts_with("labels.xml: expected 5 identities seen by 2 cameras"),
            "{message}"
        );
        assert!(message.ends_with("found 4 to hold out"), "{message}");
        assert!(split(Vec::new(), 1, Seed::new(0), Path::new("")).is_err());
    }
}
