//! Donors: whose features stand in for what is cut.

use rand::RngExt;
use reid_core::Stream;
use serde::{Deserialize, Serialize};

/// Which other images of a batch may give their features to an image.
///
/// An image never gives to itself. An image for which the batch holds no donor is its own, so that
/// nothing changes in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixPartner {
    /// Images of another identity ("N").
    #[default]
    Negative,
    /// Other images of the same identity ("P").
    Positive,
    /// Any other image ("P+N").
    Any,
}

impl MixPartner {
    /// One donor per image, each drawn evenly and alone from those it may have.
    ///
    /// ```
    /// use reid_core::Seed;
    /// use reid_nn::cut_mix::MixPartner;
    ///
    /// let mut stream = Seed::new(1).named("partners").stream();
    /// // Each of the first two has one negative, and the third has none that is positive.
    /// assert_eq!(MixPartner::Negative.draw(&[7, 7, 9], &mut stream)[..2], [2, 2]);
    /// assert_eq!(MixPartner::Positive.draw(&[7, 7, 9], &mut stream), [1, 0, 2]);
    /// ```
    #[must_use]
    pub fn draw(self, labels: &[usize], stream: &mut Stream) -> Vec<usize> {
        let images = 0..labels.len();
        let donor = |image: usize| {
            let may_give = |&other: &usize| self.may_give(labels, image, other);
            let able: Vec<usize> = images.clone().filter(may_give).collect();
            if able.is_empty() {
                image
            } else {
                able[stream.random_range(0..able.len())]
            }
        };
        images.clone().map(donor).collect()
    }

    fn may_give(self, labels: &[usize], image: usize, other: usize) -> bool {
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

    const IDENTITIES: [usize; 7] = [4, 4, 4, 2, 2, 9, 0];

    #[test]
    fn every_donor_that_may_give_does_and_no_other() {
        for partners in [MixPartner::Negative, MixPartner::Positive, MixPartner::Any] {
            let mut stream = Seed::new(3).stream();
            let mut given = vec![BTreeSet::new(); IDENTITIES.len()];
            for _ in 0..500 {
                let drawn = partners.draw(&IDENTITIES, &mut stream);
                for (image, donor) in drawn.into_iter().enumerate() {
                    given[image].insert(donor);
                }
            }
            for (image, given) in given.into_iter().enumerate() {
                let same = |other: &usize| IDENTITIES[*other] == IDENTITIES[image];
                let mut expected: BTreeSet<usize> = (0..IDENTITIES.len())
                    .filter(|other| match partners {
                        MixPartner::Negative => !same(other),
                        MixPartner::Positive => same(other) && *other != image,
                        MixPartner::Any => *other != image,
                    })
                    .collect();
                if expected.is_empty() {
                    expected.insert(image);
                }
                assert_eq!(given, expected, "{partners:?} for image {image}");
            }
        }
    }

    #[test]
    fn an_image_without_a_donor_is_its_own() {
        let mut stream = Seed::new(3).stream();
        assert_eq!(MixPartner::Negative.draw(&[1, 1], &mut stream), [0, 1]);
        assert_eq!(MixPartner::Positive.draw(&[1, 2], &mut stream), [0, 1]);
        assert_eq!(MixPartner::Any.draw(&[1], &mut stream), [0]);
        assert!(MixPartner::Any.draw(&[], &mut stream).is_empty());
    }
}
