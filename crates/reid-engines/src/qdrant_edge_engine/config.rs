//! The settings of an engine of Qdrant Edge.

use reid_eval::Metric;
use serde::{Deserialize, Serialize};

/// The settings of a [`QdrantEdgeEngine`](super::QdrantEdgeEngine).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct QdrantEdgeConfig {
    /// The distance between embeddings. Default: cosine.
    pub metric: Metric,
    /// The number of neighbours of a vector in the graph, at least 2. Default: 16.
    pub connectivity: usize,
    /// The number of candidates while a vector is added, at least 4. Default: 128.
    pub expansion_add: usize,
    /// The number of candidates of a search, at least 1. More find more of the nearest, and take longer. Default: 64.
    pub expansion_search: usize,
}

impl Default for QdrantEdgeConfig {
    fn default() -> Self {
        Self {
            metric: Metric::default(),
            connectivity: 16,
            expansion_add: 128,
            expansion_search: 64,
        }
    }
}

impl QdrantEdgeConfig {
    /// Sets the distance between embeddings.
    #[must_use]
    pub fn with_metric(self, metric: Metric) -> Self {
        Self { metric, ..self }
    }

    /// Sets the number of neighbours of a vector in the graph.
    #[must_use]
    pub fn with_connectivity(self, connectivity: usize) -> Self {
        Self {
            connectivity,
            ..self
        }
    }

    /// Sets the number of candidates while a vector is added.
    #[must_use]
    pub fn with_expansion_add(self, expansion_add: usize) -> Self {
        Self {
            expansion_add,
            ..self
        }
    }

    /// Sets the number of candidates of a search.
    #[must_use]
    pub fn with_expansion_search(self, expansion_search: usize) -> Self {
        Self {
            expansion_search,
            ..self
        }
    }

    /// The error of a setting that is too small.
    pub(super) fn check(&self) -> Result<(), String> {
        let least = [
            ("connectivity", self.connectivity, 2),
            ("expansion_add", self.expansion_add, 4),
            ("expansion_search", self.expansion_search, 1),
        ];
        for (name, value, least) in least {
            if value < least {
                return Err(format!(
                    "expected {name} of at least {least}, found {value}"
                ));
            }
        }
        Ok(())
    }
}
