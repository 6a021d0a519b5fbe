//! The settings of an engine of `USearch`.

use reid_eval::Metric;
use serde::{Deserialize, Serialize};

/// The settings of a [`UsearchEngine`](super::UsearchEngine).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct UsearchConfig {
    /// The distance between embeddings. Default: cosine.
    pub metric: Metric,
    /// The number of neighbours of a vector in the graph (M in the paper), at least 2. Default: 16.
    pub connectivity: usize,
    /// The number of candidates while a vector is added (efConstruction), at least 1. Default: 128.
    pub expansion_add: usize,
    /// The number of candidates of a search (ef), at least 1. More find more of the nearest, and take longer.
    /// A search for more entries has as many candidates as entries. Default: 64.
    pub expansion_search: usize,
    /// The number of threads that add vectors, at least 1. With several, the graph differs from run to run.
    /// Default: 1.
    pub threads: usize,
}

impl Default for UsearchConfig {
    fn default() -> Self {
        Self {
            metric: Metric::default(),
            connectivity: 16,
            expansion_add: 128,
            expansion_search: 64,
            threads: 1,
        }
    }
}

impl UsearchConfig {
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

    /// Sets the number of threads that add vectors.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The error of a setting that is too small.
    pub(super) fn check(&self) -> Result<(), String> {
        let least = [
            ("connectivity", self.connectivity, 2),
            ("expansion_add", self.expansion_add, 1),
            ("expansion_search", self.expansion_search, 1),
            ("threads", self.threads, 1),
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
