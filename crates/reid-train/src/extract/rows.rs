//! Embeddings in rows, also those that several ranks share.

use std::{fmt, sync::Arc};

use burn::tensor::Tensor;
use reid_core::{Ranks, Sample};

use super::Extractor;
use crate::{checkpoint::Fingerprint, error::Error};

/// The embeddings so far, in rows.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) values: Vec<f32>,
    pub(super) dimensions: usize,
}

impl Rows {
    pub(super) fn add(&mut self, embeddings: Tensor<2>) {
        self.dimensions = embeddings.dims()[1];
        let data = embeddings.into_data().convert::<f32>();
        self.values.extend(data.iter::<f32>());
    }

    /// The index of the first row with a value that is not finite.
    pub(super) fn not_finite(&self) -> Option<usize> {
        let value = self.values.iter().position(|value| !value.is_finite())?;
        Some(value / self.dimensions)
    }

    /// The rows of all ranks, in the order of the ranks, which are those of `samples`. Ranks with other samples are
    /// rejected.
    pub(super) fn gathered(self, samples: &[Sample], ranks: &Ranks) -> Result<Self, Error> {
        let list = ranks.all_gather(Fingerprint::of_samples(samples).sha256.as_bytes());
        ranks.check()?;
        if let Some(rank) = list.iter().position(|other| *other != list[0]) {
            let what = "images to embed";
            return Err(Error::OtherRank { rank, what });
        }
        let bytes = self.values.iter().flat_map(|value| value.to_le_bytes());
        let all = ranks.all_gather(&bytes.collect::<Vec<u8>>());
        ranks.check()?;
        let all = all.iter().flat_map(|bytes| bytes.as_chunks::<4>().0);
        let values: Vec<f32> = all.map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok(Self {
            dimensions: values.len() / samples.len(),
            values,
        })
    }
}

/// The part of a list that this rank computes: all of it for a single rank.
pub(super) fn share<'a, T>(all: &'a [T], ranks: Option<&Ranks>) -> &'a [T] {
    let [rank, ranks] = ranks.map_or([0, 1], |ranks| [ranks.rank(), ranks.size()]);
    &all[all.len() * rank / ranks..all.len() * (rank + 1) / ranks]
}

impl Extractor {
    /// Shares the images of [`embed`](Self::embed) among ranks. Each gets all embeddings.
    pub(crate) fn with_ranks(self, ranks: Ranks) -> Self {
        let ranks = Some(ranks);
        Self { ranks, ..self }
    }
}

/// A callback with the number of images done and of all images.
#[derive(Clone)]
pub(super) struct Progress(pub(super) Arc<dyn Fn(usize, usize) + Send + Sync>);

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use reid_core::{Identity, Threads};

    use super::*;

    fn samples(count: usize) -> Vec<Sample> {
        let sample = |image: usize| Sample::new(format!("{image}.jpg"), Identity::new(1));
        (0..count).map(sample).collect()
    }

    #[test]
    fn ranks_with_other_images_are_rejected() {
        let errors = Threads::run(2, |communicator| {
            let ranks = Ranks::new(communicator);
            let mut own = samples(2);
            if ranks.rank() == 1 {
                own.reverse();
            }
            let found = Rows::default().gathered(&own, &ranks);
            found.err().map(|error| error.to_string())
        });
        let expected = "rank 1 differs from rank 0 in its images to embed";
        assert!(
            errors
                .iter()
                .flatten()
                .all(|error| error.contains(expected)),
            "{errors:?}"
        );
        assert_eq!(errors.iter().flatten().count(), 2);
    }

    /// With two images, the first of three ranks has none.
    #[test]
    fn ranks_share_rows_and_gather_them() {
        for images in [2, 7] {
            let all: Vec<f32> = (0..images).map(|image| image as f32).collect();
            let samples = samples(images);
            let found = Threads::run(3, |communicator| {
                let ranks = Ranks::new(communicator);
                let mut rows = Rows::default();
                for &image in share(&all, Some(&ranks)) {
                    rows.add(Tensor::full([1, 2], image, &Device::default()));
                }
                let rows = rows.gathered(&samples, &ranks).expect("no rank ended");
                (rows.values, rows.dimensions)
            });
            let expected: Vec<f32> = all.iter().flat_map(|image| [*image; 2]).collect();
            assert_eq!(found, vec![(expected, 2); 3]);
        }
        assert_eq!(share(&[1, 2, 3], None), [1, 2, 3]);
    }
}
