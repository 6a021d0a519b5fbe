//! A search: distances from queries to a gallery, with labels and a protocol.

use std::fmt;

use crate::{DistanceRows, Labels, Protocol};

/// Everything that verification, open-set identification and breakdowns ask about: distances, who the
/// images show, and which pairs count.
///
/// ```
/// use reid_core::Identity;
/// use reid_eval::{Distances, Embeddings, Metric, Protocol, RetrievalTask, Verification};
///
/// let one = |values: &[f32], ids: &[i64]| {
///     Embeddings::new(values.to_vec(), 1, ids.iter().copied().map(Identity::new).collect())
/// };
/// let (query, gallery) = (one(&[0.0, 9.0], &[1, 2])?, one(&[1.0, 7.0], &[1, 2])?);
/// let distances = Distances::between(&query, &gallery, Metric::Euclidean)?;
/// let task = RetrievalTask {
///     distances: &distances,
///     query: query.labels(),
///     gallery: gallery.labels(),
///     protocol: Protocol::NoCameras,
/// };
/// assert_eq!(Verification::from_task(&task)?.equal_error_rate(), 0.0);
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct RetrievalTask<'a> {
    /// Where the distances come from.
    pub distances: &'a dyn DistanceRows,
    /// Labels of the queries.
    pub query: &'a Labels,
    /// Labels of the gallery.
    pub gallery: &'a Labels,
    /// Which gallery images are taken out of a ranking.
    pub protocol: Protocol,
}

impl fmt::Debug for RetrievalTask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search")
            .field("queries", &self.query.len())
            .field("gallery", &self.gallery.len())
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}
