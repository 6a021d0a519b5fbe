//! Sources: which of several merged datasets a sample comes from.

use serde::{Deserialize, Serialize};

/// The index of the dataset that a sample comes from, among the datasets that were merged.
///
/// [`Splits::merge`](crate::Splits::merge) sets it, and [`Splits::sources`](crate::Splits::sources) has the
/// names. The source of a sample is an `Option<Source>`: `None` if its dataset was not merged with others.
///
/// ```
/// use reid_core::{Identity, Sample, Source};
///
/// let sample = Sample::new("a.jpg", Identity::new(2)).with_source(Source::new(1));
/// assert_eq!(sample.source.map(Source::index), Some(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Source(usize);

impl Source {
    /// Creates a source from its index, from 0.
    #[must_use]
    pub const fn new(index: usize) -> Self {
        Self(index)
    }

    /// The index, from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}
