//! Verdict: what a gallery image is to a query.

use reid_core::{Camera, Split};
use serde::{Deserialize, Serialize};

use crate::{Error, Labels, Protocol};

/// What a gallery image is to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relevance {
    /// It shows the query's identity.
    #[serde(alias = "right")]
    Match,
    /// It shows somebody else, or a distractor.
    #[serde(alias = "wrong")]
    NonMatch,
    /// The [`Protocol`] takes it out of the ranking.
    Ignored,
}

/// A protocol with the labels it needs at hand.
#[derive(Debug)]
pub(crate) struct ProtocolRule<'a> {
    pub(crate) query: &'a Labels,
    pub(crate) gallery: &'a Labels,
    rule: Rule<'a>,
}

/// What is taken out besides junk; the query's labels come first.
#[derive(Debug)]
enum Rule<'a> {
    SameIdentityAndCamera(&'a [Camera], &'a [Camera]),
    SameImage(&'a [u64], &'a [u64]),
    Nothing,
}

impl<'a> ProtocolRule<'a> {
    pub(crate) fn new(
        protocol: Protocol,
        query: &'a Labels,
        gallery: &'a Labels,
    ) -> Result<Self, Error> {
        for (labels, split) in [(query, Split::Query), (gallery, Split::Gallery)] {
            if labels.is_empty() {
                return Err(Error::Empty { split });
            }
        }
        let rule = match protocol {
            Protocol::Market => Rule::SameIdentityAndCamera(
                query.cameras().ok_or(Error::Cameras {
                    split: Split::Query,
                })?,
                gallery.cameras().ok_or(Error::Cameras {
                    split: Split::Gallery,
                })?,
            ),
            Protocol::NoCameras => match (query.images(), gallery.images()) {
                (Some(query), Some(gallery)) => Rule::SameImage(query, gallery),
                (None, None) => Rule::Nothing,
                (query, _) => {
                    let split = if query.is_none() {
                        Split::Query
                    } else {
                        Split::Gallery
                    };
                    return Err(Error::Images { split });
                }
            },
        };
        Ok(Self {
            query,
            gallery,
            rule,
        })
    }

    /// What gallery image `gallery` is to query `query`, both counted from 0.
    #[inline]
    pub(crate) fn relevance(&self, query: usize, gallery: usize) -> Relevance {
        let found = self.gallery.identities()[gallery];
        let right = self.query.identities()[query] == found;
        let ignored = found.is_junk()
            || match self.rule {
                Rule::SameIdentityAndCamera(from, to) => right && from[query] == to[gallery],
                Rule::SameImage(from, to) => from[query] == to[gallery],
                Rule::Nothing => false,
            };
        match (ignored, right) {
            (true, _) => Relevance::Ignored,
            (false, true) => Relevance::Match,
            (false, false) => Relevance::NonMatch,
        }
    }
}

#[cfg(test)]
mod tests {
    use reid_core::Identity;

    use super::*;

    fn labels(identities: &[i64]) -> Labels {
        Labels::new(identities.iter().copied().map(Identity::new).collect())
    }

    fn relevances(rule: &ProtocolRule<'_>, query: usize) -> Vec<Relevance> {
        let gallery = 0..rule.gallery.len();
        gallery.map(|image| rule.relevance(query, image)).collect()
    }

    #[test]
    fn market_ignores_junk_and_the_own_camera_but_not_distractors() {
        let cameras = |values: &[u32]| values.iter().copied().map(Camera::new).collect();
        let query = labels(&[1]).with_cameras(cameras(&[1])).expect("one");
        let gallery = labels(&[1, 1, 2, 0, -1])
            .with_cameras(cameras(&[1, 2, 1, 2, 2]))
            .expect("five");
        let rule = ProtocolRule::new(Protocol::Market, &query, &gallery).expect("cameras");
        let [r, w, i] = [Relevance::Match, Relevance::NonMatch, Relevance::Ignored];
        assert_eq!(relevances(&rule, 0), [i, r, w, w, i]);
    }

    #[test]
    fn without_cameras_only_the_own_image_is_ignored() {
        let [r, w, i] = [Relevance::Match, Relevance::NonMatch, Relevance::Ignored];
        let (query, gallery) = (labels(&[1]), labels(&[1, 1, 2, -1]));
        let rule = ProtocolRule::new(Protocol::NoCameras, &query, &gallery).expect("no images");
        assert_eq!(relevances(&rule, 0), [r, r, w, i]);

        let query = query.with_images(vec![30]).expect("one");
        let gallery = gallery.with_images(vec![10, 30, 20, 40]).expect("four");
        let rule = ProtocolRule::new(Protocol::NoCameras, &query, &gallery).expect("images");
        assert_eq!(relevances(&rule, 0), [r, i, w, i]);
    }

    #[test]
    fn missing_labels_are_named() {
        let refused = |protocol, query: &Labels, gallery: &Labels| {
            let rule = ProtocolRule::new(protocol, query, gallery);
            rule.map(|_| ()).expect_err("missing labels").to_string()
        };
        let (none, one) = (labels(&[]), labels(&[1]));
        let filmed = one.clone().with_cameras(vec![Camera::new(1)]).expect("one");
        let numbered = one.clone().with_images(vec![1]).expect("one");
        assert_eq!(
            refused(Protocol::Market, &none, &one),
            "the query has no images, expected at least 1"
        );
        assert_eq!(
            refused(Protocol::NoCameras, &one, &none),
            "the gallery has no images, expected at least 1"
        );
        assert_eq!(
            refused(Protocol::Market, &filmed, &one),
            "the gallery has no cameras, which the market protocol needs: \
             give them by `with_cameras`, or choose `Protocol::CameraLess`"
        );
        assert_eq!(
            refused(Protocol::NoCameras, &one, &numbered),
            "the query has no image numbers but the other side has: \
             give them to both by `with_images`, or to neither"
        );
        assert!(refused(Protocol::NoCameras, &numbered, &one).starts_with("the gallery has no"));
    }
}
