//! Partners, or donors: the images whose features replace the cut patches of an image.

use rand::RngExt;
use reid_core::Stream;
use serde::{Deserialize, Serialize};

/// The images of a batch that can be the partner of an image.
///
/// An image is its own partner only if the batch contains no candidate; its features then do not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixPartner {
    /// Images of other identities ("N" in the paper).
    #[default]
    Negative,
    /// Other images of the same identity ("P" in the paper).
    Positive,
    /// All other images ("P+N" in the paper).
    Any,
}

impl MixPartner {
    /// Draws one partner per image, uniformly and independently, and returns its index in the batch. There is one
    /// label per image: both are `[batch]`.
    ///
    /// ```
    /// use reid_core::Seed;
    /// use reid_nn::cut_mix::MixPartner;
    ///
    /// let mut stream = Seed::new(1).named("partners").stream();
    /// // The only negative of images 0 and 1 is image 2, which has no positive.
    /// assert_eq!(MixPartner::Negative.draw(&[7, 7, 9], &mut stream)[..2], [2, 2]);
    /// assert_eq!(MixPartner::Positive.draw(&[7, 7, 9], &mut stream), [1, 0, 2]);
    /// ```
    #[must_use]
    pub fn draw(self, labels: &[usize], stream: &mut Stream) -> Vec<usize> {
        let images = 0..labels.len();
        let draw = |image: usize| {
            let is_candidate = |&other: &usize| self.is_candidate(labels, image, other);
            let candidates: Vec<usize> = images.clone().filter(is_candidate).collect();
            if candidates.is_empty() {
                image
            } else {
                candidates[stream.random_range(0..candidates.len())]
            }
        };
        images.clone().map(draw).collect()
    }

    fn is_candidate(self, labels: &[usize], image: usize, other: usize) -> bool {
        let same = labels[other] == labels[image];
        let allowed = match self {
            Self::Negative => !same,
            Self::Positive => same,
            Self::Any => true,
        };
        allowed && other != image
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use reid_core::Seed;

    use super::*;

    const LABELS: [usize; 7] = [4, 4, 4, 2, 2, 9, 0];

    #[test]
    fn every_candidate_is_drawn_and_no_other_image() {
        for config in [MixPartner::Negative, MixPartner::Positive, MixPartner::Any] {
            let mut stream = Seed::new(3).stream();
            let mut drawn_for = vec![BTreeSet::new(); LABELS.len()];
            for _ in 0..500 {
                let drawn = config.draw(&LABELS, &mut stream);
                for (image, partner) in drawn.into_iter().enumerate() {
                    drawn_for[image].insert(partner);
                }
            }
            for (image, found) in drawn_for.into_iter().enumerate() {
                let same = |other: &usize| LABELS[*other] == LABELS[image];
                let mut expected: BTreeSet<usize> = (0..LABELS.len())
                    .filter(|other| match config {
                        MixPartner::Negative => !same(other),
                        MixPartner::Positive => same(other) && *other != image,
                        MixPartner::Any => *other != image,
                    })
                    .collect();
                if expected.is_empty() {
                    expected.insert(image);
                }
                assert_eq!(found, expected, "{config:?} for image {image}");
            }
        }
    }

    #[test]
    fn an_image_without_candidates_is_its_own_partner() {
        let mut stream = Seed::new(3).stream();
        assert_eq!(MixPartner::Negative.draw(&[1, 1], &mut stream), [0, 1]);
        assert_eq!(MixPartner::Positive.draw(&[1, 2], &mut stream), [0, 1]);
        assert_eq!(MixPartner::Any.draw(&[1], &mut stream), [0]);
        assert!(MixPartner::Any.draw(&[], &mut stream).is_empty());
    }
}
