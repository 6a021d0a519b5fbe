//! Retrieval task: the distances from queries to a gallery, with labels and a protocol.

use std::fmt;

use crate::{DistanceRows, Labels, Protocol};

/// The input of verification, open-set identification and breakdowns: a source of distances, the labels of
/// query and gallery, and a protocol.
///
/// It borrows its parts, so it is cheap to copy.
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
/// let task = RetrievalTask::new(&distances, query.labels(), gallery.labels())
///     .with_protocol(&Protocol::NoCameras);
/// assert_eq!(Verification::from_task(&task)?.equal_error_rate(), 0.0);
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct RetrievalTask<'a> {
    /// The source of the distances.
    pub distances: &'a dyn DistanceRows,
    /// Labels of the queries.
    pub query: &'a Labels,
    /// Labels of the gallery.
    pub gallery: &'a Labels,
    /// The protocol, which defines matches, non-matches and ignored images.
    pub protocol: &'a Protocol,
}

impl<'a> RetrievalTask<'a> {
    /// Creates a task with the protocol of Market-1501 ([`Protocol::Market`]).
    #[must_use]
    pub fn new(distances: &'a dyn DistanceRows, query: &'a Labels, gallery: &'a Labels) -> Self {
        Self {
            distances,
            query,
            gallery,
            protocol: &Protocol::Market,
        }
    }

    /// Sets the protocol.
    #[must_use]
    pub fn with_protocol(self, protocol: &'a Protocol) -> Self {
        Self { protocol, ..self }
    }
}

impl fmt::Debug for RetrievalTask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetrievalTask")
            .field("queries", &self.query.len())
            .field("gallery", &self.gallery.len())
            .field("protocol", self.protocol)
            .finish_non_exhaustive()
    }
}
