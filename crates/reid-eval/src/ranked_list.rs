//! Ranked list: the nearest gallery images of one query, for inspection and figures.

use serde::{Deserialize, Serialize};

use crate::{
    Embeddings, Error, EvaluationConfig, Relevance,
    distance::Distances,
    distance_rows::rows,
    ranking::{Candidate, nearer},
    relevance::ProtocolRule,
};

/// The nearest gallery images of one query, nearest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RankedList {
    /// Index of the query, from 0.
    pub query: usize,
    /// The gallery images, including ignored ones.
    pub entries: Vec<RankedEntry>,
}

impl RankedList {
    /// Creates the list of a query from entries that are sorted by distance.
    #[must_use]
    pub fn new(query: usize, entries: Vec<RankedEntry>) -> Self {
        Self { query, entries }
    }
}

/// A gallery image in a [`RankedList`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RankedEntry {
    /// Index of the gallery image, from 0.
    pub gallery: usize,
    /// Its distance to the query, by the metric of the configuration.
    pub distance: f32,
    /// Its relevance to the query.
    pub relevance: Relevance,
}

impl RankedEntry {
    /// Creates an entry.
    #[must_use]
    pub fn new(gallery: usize, distance: f32, relevance: Relevance) -> Self {
        Self {
            gallery,
            distance,
            relevance,
        }
    }
}

/// Ranks the `top` nearest gallery images of one query, by the metric and the protocol of `config`.
///
/// Images that the protocol ignores are listed at their distance as [`Relevance::Ignored`], so that a figure
/// can grey them out, but do not count towards `top`. For a query of unknown identity, all images except junk
/// are [`Relevance::Unknown`] and count. If `top` exceeds the size of the gallery, the whole gallery is
/// listed. Order and distances are bit-identical to those of [`evaluate`](crate::evaluate).
///
/// # Errors
/// If `query_index` is out of range, if the query or the gallery is empty, if their dimensions differ, if
/// labels that the protocol needs are missing, or if a distance does not fit an `f32`.
///
/// ```
/// use reid_core::{Camera, Identity};
/// use reid_eval::{Embeddings, EvaluationConfig, Relevance, ranked_list};
///
/// let [anna, ben] = [1, 2].map(Identity::new);
/// let [door, hall] = [1, 2].map(Camera::new);
/// let query = Embeddings::new(vec![1.0, 0.0], 2, vec![anna])?.with_cameras(vec![door])?;
/// let gallery = Embeddings::new(vec![0.6, 0.8, 0.8, 0.6, 1.0, 0.0], 2, vec![anna, ben, anna])?
///     .with_cameras(vec![hall, hall, door])?;
///
/// let list = ranked_list(&query, &gallery, &EvaluationConfig::default(), 0, 1)?;
/// let seen: Vec<_> = list.entries.iter().map(|entry| (entry.gallery, entry.relevance)).collect();
/// assert_eq!(seen, [(2, Relevance::Ignored), (1, Relevance::NonMatch)]);
/// # Ok::<(), reid_eval::Error>(())
/// ```
pub fn ranked_list(
    query: &Embeddings,
    gallery: &Embeddings,
    config: &EvaluationConfig,
    query_index: usize,
    top: usize,
) -> Result<RankedList, Error> {
    let rule = ProtocolRule::new(&config.protocol, query.labels(), gallery.labels())?;
    if query_index >= query.len() {
        return Err(Error::Query {
            query: query_index,
            queries: query.len(),
        });
    }
    let rule = rule.at(query_index);
    let distances = Distances::between(query, gallery, config.metric)?;
    let row = rows(&distances, query_index..query_index + 1)?;
    let mut candidates: Vec<Candidate> = row.into_iter().enumerate().collect();
    candidates.sort_unstable_by(nearer);

    let mut entries = Vec::new();
    let mut counted = 0;
    for (image, distance) in candidates {
        if counted == top {
            break;
        }
        let relevance = rule.relevance(image);
        counted += usize::from(relevance != Relevance::Ignored);
        entries.push(RankedEntry::new(image, distance, relevance));
    }
    Ok(RankedList::new(query_index, entries))
}

#[cfg(test)]
mod tests {
    use reid_core::Identity;

    use super::*;
    use crate::{Metric, Protocol};

    /// One query at 0 among images on a line, without cameras.
    fn list(query: i64, gallery: &[(i64, f32)], top: usize) -> Vec<(usize, f32, Relevance)> {
        let embeddings = |of: &[(i64, f32)]| {
            let values = of.iter().map(|of| of.1).collect();
            let identities = of.iter().map(|of| Identity::new(of.0)).collect();
            Embeddings::new(values, 1, identities).expect("one dimension")
        };
        let config = EvaluationConfig::default()
            .with_protocol(Protocol::NoCameras)
            .with_metric(Metric::Euclidean);
        let list = ranked_list(
            &embeddings(&[(query, 0.0)]),
            &embeddings(gallery),
            &config,
            0,
            top,
        );
        let entries = list.expect("one query").entries.into_iter();
        entries
            .map(|entry| (entry.gallery, entry.distance, entry.relevance))
            .collect()
    }

    const GALLERY: [(i64, f32); 5] = [(1, 3.0), (2, -2.0), (-1, 1.0), (1, 2.0), (-1, 9.0)];

    #[test]
    fn ignored_images_are_listed_but_not_counted() {
        use Relevance::{Ignored, Match, NonMatch};
        // Images 1 and 3 are both at distance 2 and keep the gallery order.
        let two = [(2, 1.0, Ignored), (1, 2.0, NonMatch), (3, 2.0, Match)];
        assert_eq!(list(1, &GALLERY, 2), two);
        let rest = [(0, 3.0, Match), (4, 9.0, Ignored)];
        assert_eq!(list(1, &GALLERY, 99), [&two[..], &rest].concat());
        assert!(list(1, &GALLERY, 0).is_empty());
    }

    #[test]
    fn a_query_of_unknown_identity_is_listed() {
        use Relevance::{Ignored, Unknown};
        let junk_first = [(2, 1.0, Ignored), (1, 2.0, Unknown), (3, 2.0, Unknown)];
        assert_eq!(list(-2, &GALLERY, 2), junk_first);
    }

    #[test]
    fn a_query_index_out_of_range_is_an_error() {
        let one = Embeddings::new(vec![1.0], 1, vec![Identity::new(1)]).expect("one");
        let config = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
        let error = ranked_list(&one, &one, &config, 1, 5).expect_err("one query");
        assert_eq!(
            error.to_string(),
            "query index 1 is out of range for 1 queries (indices start at 0)"
        );
    }
}
