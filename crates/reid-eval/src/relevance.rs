//! The relevance of a gallery image to a query, and the trait for custom protocols that define it.

use std::fmt;

use reid_core::{Camera, Identity, Split};
use serde::{Deserialize, Serialize};

use crate::{Error, ImageLabels, Labels, Protocol};

/// The relevance of a gallery image to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relevance {
    /// It has the query's identity.
    #[serde(alias = "right")]
    Match,
    /// It has another identity, or is a distractor.
    #[serde(alias = "wrong")]
    NonMatch,
    /// The [`Protocol`] excludes it from the ranking.
    Ignored,
    /// The identity of the query or of the gallery image is [`Identity::UNKNOWN`]. The image takes no rank
    /// and counts in no metric.
    Unknown,
}

impl Relevance {
    /// `Ignored` if the protocol ignores the pair; otherwise a match if both images have the same identity.
    pub(crate) fn from_identity(same: bool, ignored: bool) -> Self {
        match (ignored, same) {
            (true, _) => Self::Ignored,
            (false, true) => Self::Match,
            (false, false) => Self::NonMatch,
        }
    }

    /// Whether the image takes a rank: true for a match and for a non-match.
    #[must_use]
    pub fn is_ranked(self) -> bool {
        matches!(self, Self::Match | Self::NonMatch)
    }
}

/// A custom protocol: defines the relevance of a gallery image to a query.
///
/// [`RelevanceRule::relevance`] is called for pairs of a query and a gallery image. Pairs with a junk gallery
/// image or an unknown identity are decided without it. It may use all labels of both images. It is called
/// from several threads, and more than once per pair, so it must be a pure function of its arguments.
///
/// As an example, the protocol of clothes-changing re-identification (Qian et al., ACCV 2020) is that of
/// Market-1501 with one more condition: it ignores images of the query's identity in the same clothes.
///
/// ```
/// use reid_core::{Camera, Identity, Split};
/// use reid_eval::{
///     Embeddings, Error, ImageLabels, Labels, Protocol, Relevance, RelevanceRule, evaluate,
/// };
///
/// #[derive(Debug)]
/// struct ClothesChanging;
///
/// impl RelevanceRule for ClothesChanging {
///     fn name(&self) -> &str {
///         "clothes-changing"
///     }
///
///     fn check(&self, query: &Labels, gallery: &Labels) -> Result<(), Error> {
///         Protocol::Market.check(query, gallery)?;
///         query.expect_attribute("clothes", Split::Query)?;
///         gallery.expect_attribute("clothes", Split::Gallery)
///     }
///
///     fn relevance(&self, query: ImageLabels<'_>, gallery: ImageLabels<'_>) -> Relevance {
///         match Protocol::Market.relevance(query, gallery) {
///             Relevance::Match if query.attribute("clothes") == gallery.attribute("clothes") => {
///                 Relevance::Ignored
///             }
///             relevance => relevance,
///         }
///     }
/// }
///
/// let side = |values: &[f32], ids: &[i64], cameras: &[u32], clothes: &[&str]| {
///     let identities = ids.iter().copied().map(Identity::new).collect();
///     let clothes = clothes.iter().map(|&name| Some(name.to_owned())).collect();
///     Embeddings::new(values.to_vec(), 2, identities)?
///         .with_cameras(cameras.iter().copied().map(Camera::new).collect())?
///         .with_attribute("clothes", clothes)
/// };
/// let query = side(&[1.0, 0.0], &[1], &[1], &["red"])?;
/// // In order of distance: the same person in the same coat, another person, the same person in another
/// // coat.
/// let values = [1.0, 0.0, 0.8, 0.6, 0.6, 0.8];
/// let gallery = side(&values, &[1, 2, 1], &[2, 2, 2], &["red", "red", "blue"])?;
///
/// let market = evaluate(&query, &gallery, &Protocol::default())?;
/// assert_eq!(market.rank(1), 1.0);
/// let changed = evaluate(&query, &gallery, &Protocol::custom(ClothesChanging))?;
/// assert_eq!((changed.rank(1), changed.rank(2)), (0.0, 1.0));
/// # Ok::<(), reid_eval::Error>(())
/// ```
///
/// Other data, such as the time of each image, can be stored in the rule and looked up by
/// [`ImageLabels::index`].
pub trait RelevanceRule: fmt::Debug + Send + Sync {
    /// The name of the protocol in reports and files, such as `clothes-changing`.
    ///
    /// A rule with settings should include them in its name, because files hold only the name.
    fn name(&self) -> &str;

    /// Checks that all labels that the rule needs are present. By default, it accepts all labels.
    ///
    /// # Errors
    /// If labels are missing ([`Labels::expect_attribute`] returns such an error). Use [`Error::Protocol`]
    /// for other reasons.
    fn check(&self, query: &Labels, gallery: &Labels) -> Result<(), Error> {
        let _ = (query, gallery);
        Ok(())
    }

    /// The relevance of the gallery image to the query.
    fn relevance(&self, query: ImageLabels<'_>, gallery: ImageLabels<'_>) -> Relevance;
}

/// A protocol together with the labels of query and gallery.
#[derive(Debug)]
pub(crate) struct ProtocolRule<'a> {
    pub(crate) query: &'a Labels,
    pub(crate) gallery: &'a Labels,
    rule: Rule<'a>,
}

/// Which pairs are ignored besides those with junk. The first field holds the labels of the queries.
#[derive(Clone, Copy, Debug)]
enum Rule<'a> {
    SameIdentityAndCamera(&'a [Camera], &'a [Camera]),
    SameImage(&'a [u64], &'a [u64]),
    Nothing,
    Custom(&'a dyn RelevanceRule),
}

/// A protocol applied to one query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueryRule<'a> {
    pub(crate) query: usize,
    pub(crate) identity: Identity,
    identities: &'a [Identity],
    rule: RowRule<'a>,
}

/// Which gallery images are ignored for one query besides junk. The first field is the query's label.
#[derive(Clone, Copy, Debug)]
enum RowRule<'a> {
    SameIdentityAndCamera(Camera, &'a [Camera]),
    SameImage(u64, &'a [u64]),
    Nothing,
    Custom(&'a dyn RelevanceRule, ImageLabels<'a>, &'a Labels),
}

impl<'a> ProtocolRule<'a> {
    pub(crate) fn new(
        protocol: &'a Protocol,
        query: &'a Labels,
        gallery: &'a Labels,
    ) -> Result<Self, Error> {
        for (labels, split) in [(query, Split::Query), (gallery, Split::Gallery)] {
            if labels.is_empty() {
                return Err(Error::Empty { split });
            }
        }
        protocol.check(query, gallery)?;
        let cameras = query.cameras().zip(gallery.cameras());
        let images = query.images().zip(gallery.images());
        let rule = match (protocol, cameras, images) {
            (Protocol::Market, Some((from, to)), _) => Rule::SameIdentityAndCamera(from, to),
            (Protocol::NoCameras, _, Some((from, to))) => Rule::SameImage(from, to),
            (Protocol::Market | Protocol::NoCameras, ..) => Rule::Nothing,
            (Protocol::Custom(custom), ..) => Rule::Custom(custom.rule()?),
        };
        Ok(Self {
            query,
            gallery,
            rule,
        })
    }

    /// The protocol applied to the query with this index.
    #[inline]
    pub(crate) fn at(&self, query: usize) -> QueryRule<'a> {
        let rule = match self.rule {
            Rule::SameIdentityAndCamera(from, to) => {
                RowRule::SameIdentityAndCamera(from[query], to)
            }
            Rule::SameImage(from, to) => RowRule::SameImage(from[query], to),
            Rule::Nothing => RowRule::Nothing,
            Rule::Custom(rule) => RowRule::Custom(rule, self.query.at(query), self.gallery),
        };
        QueryRule {
            query,
            identity: self.query.identities()[query],
            identities: self.gallery.identities(),
            rule,
        }
    }

    /// Whether all matches of a query have its identity. Under a custom protocol, any image may be a match.
    pub(crate) fn matches_are_of_one_identity(&self) -> bool {
        !matches!(self.rule, Rule::Custom(_))
    }

    /// Whether a query is scored, which requires a known identity.
    pub(crate) fn is_scored(&self, query: usize) -> bool {
        !self.query.identities()[query].is_unknown()
    }
}

impl QueryRule<'_> {
    /// The relevance of the gallery image with this index.
    #[inline]
    pub(crate) fn relevance(&self, image: usize) -> Relevance {
        let found = self.identities[image];
        if found.is_junk() {
            return Relevance::Ignored;
        }
        if found.is_unknown() || self.identity.is_unknown() {
            return Relevance::Unknown;
        }
        let same = self.identity == found;
        let ignored = match self.rule {
            RowRule::SameIdentityAndCamera(from, to) => same && from == to[image],
            RowRule::SameImage(from, to) => from == to[image],
            RowRule::Nothing => false,
            RowRule::Custom(rule, query, gallery) => {
                return rule.relevance(query, gallery.at(image));
            }
        };
        Relevance::from_identity(same, ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(identities: &[i64]) -> Labels {
        Labels::new(identities.iter().copied().map(Identity::new).collect())
    }

    fn relevances(rule: &ProtocolRule<'_>, query: usize) -> Vec<Relevance> {
        let rule = rule.at(query);
        (0..rule.identities.len())
            .map(|image| rule.relevance(image))
            .collect()
    }

    const ALL: [Relevance; 4] = [
        Relevance::Match,
        Relevance::NonMatch,
        Relevance::Ignored,
        Relevance::Unknown,
    ];

    #[test]
    fn market_ignores_junk_and_the_query_camera_but_not_distractors() {
        let cameras = |values: &[u32]| values.iter().copied().map(Camera::new).collect();
        let query = labels(&[1]).with_cameras(cameras(&[1])).expect("one");
        let gallery = labels(&[1, 1, 2, 0, -1, -2])
            .with_cameras(cameras(&[1, 2, 1, 2, 2, 1]))
            .expect("six");
        let rule = ProtocolRule::new(&Protocol::Market, &query, &gallery).expect("cameras");
        let [m, n, i, u] = ALL;
        assert_eq!(relevances(&rule, 0), [i, m, n, n, i, u]);
    }

    #[test]
    fn no_cameras_ignores_only_junk_and_the_query_image() {
        let [m, n, i, _] = ALL;
        let (query, gallery) = (labels(&[1]), labels(&[1, 1, 2, -1]));
        let rule = ProtocolRule::new(&Protocol::NoCameras, &query, &gallery).expect("no images");
        assert_eq!(relevances(&rule, 0), [m, m, n, i]);

        let query = query.with_images(vec![30]).expect("one");
        let gallery = gallery.with_images(vec![10, 30, 20, 40]).expect("four");
        let rule = ProtocolRule::new(&Protocol::NoCameras, &query, &gallery).expect("images");
        assert_eq!(relevances(&rule, 0), [m, i, n, i]);
    }

    /// Query and gallery image both have an unknown identity: the pair is unknown, not a match.
    #[test]
    fn pairs_with_an_unknown_identity_are_unknown() {
        let [_, _, i, u] = ALL;
        let (query, gallery) = (labels(&[-2]), labels(&[-2, 1, -1]));
        let rule = ProtocolRule::new(&Protocol::NoCameras, &query, &gallery).expect("labels");
        assert_eq!(relevances(&rule, 0), [u, u, i]);
        assert!(!rule.is_scored(0));
    }

    /// A rule for which every pair is a match.
    #[derive(Debug)]
    struct Everything;

    impl RelevanceRule for Everything {
        fn name(&self) -> &'static str {
            "everything"
        }

        fn relevance(&self, _: ImageLabels<'_>, _: ImageLabels<'_>) -> Relevance {
            Relevance::Match
        }
    }

    #[test]
    fn a_rule_is_not_called_for_junk_and_unknown_identities() {
        let [m, _, i, u] = ALL;
        let (query, gallery) = (labels(&[1, -2]), labels(&[5, 1, -1, -2]));
        let protocol = Protocol::custom(Everything);
        let rule = ProtocolRule::new(&protocol, &query, &gallery).expect("labels");
        assert_eq!(relevances(&rule, 0), [m, m, i, u]);
        assert_eq!(relevances(&rule, 1), [u, u, i, u]);
    }

    /// The trait implementation of `Protocol` agrees with `QueryRule`.
    #[test]
    fn built_in_protocols_are_rules() {
        let identities: Vec<i64> = (0..60).map(|at| at * 7 % 5).collect();
        let set = |step: u32| {
            let cameras = (0..60).map(|at| Camera::new(at * step % 3)).collect();
            labels(&identities)
                .with_cameras(cameras)
                .and_then(|set| set.with_images((0..60).map(|at| at * u64::from(step)).collect()))
                .expect("one each")
        };
        let (query, gallery) = (set(1), set(2));
        let mut counts = [0; 3];
        for protocol in [Protocol::Market, Protocol::NoCameras] {
            let rule = ProtocolRule::new(&protocol, &query, &gallery).expect("labels");
            for at in 0..60 {
                for image in 0..60 {
                    let found = rule.at(at).relevance(image);
                    let expected = protocol.relevance(query.at(at), gallery.at(image));
                    assert_eq!(found, expected, "{protocol}, {at}, {image}");
                    counts[ALL.iter().position(|of| *of == found).expect("known")] += 1;
                }
            }
        }
        assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
    }

    #[test]
    fn missing_labels_are_rejected() {
        let message = |protocol, query: &Labels, gallery: &Labels| {
            let rule = ProtocolRule::new(&protocol, query, gallery);
            rule.map(|_| ()).expect_err("missing labels").to_string()
        };
        let (none, one) = (labels(&[]), labels(&[1]));
        let filmed = one.clone().with_cameras(vec![Camera::new(1)]).expect("one");
        let numbered = one.clone().with_images(vec![1]).expect("one");
        assert_eq!(
            message(Protocol::Market, &none, &one),
            "the query has no images, expected at least 1"
        );
        assert_eq!(
            message(Protocol::NoCameras, &one, &none),
            "the gallery has no images, expected at least 1"
        );
        assert_eq!(
            message(Protocol::Market, &filmed, &one),
            "the gallery has no cameras, which the market protocol needs: \
             set them with `with_cameras`, or choose `Protocol::NoCameras`"
        );
        assert_eq!(
            message(Protocol::NoCameras, &one, &numbered),
            "the query has no image IDs, but the other split has: \
             set them for both with `with_images`, or for neither"
        );
        assert!(message(Protocol::NoCameras, &numbered, &one).starts_with("the gallery has no"));
    }
}
