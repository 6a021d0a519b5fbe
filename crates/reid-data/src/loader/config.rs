//! Loader configuration: threads and memory.

use std::thread;

use serde::{Deserialize, Serialize};

/// Threads and memory that a loader may use. No number here changes what the batches contain.
///
/// ```
/// use reid_data::loader::LoaderConfig;
///
/// let config = LoaderConfig::new().with_workers(2);
/// assert_eq!((config.prefetch, config.cache_bytes), (8, 1 << 30));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LoaderConfig {
    /// Threads that make batches; 0 counts as 1. Default: one per core, at most 8.
    pub workers: usize,
    /// Finished batches that may wait to be taken, rounded up to a multiple of the workers; each
    /// worker may hold one more that it is making. Default: 8.
    pub prefetch: usize,
    /// Memory for the pixels of decoded and resized images, in bytes. Images that do not fit are decoded
    /// anew each time. Default: 1 GiB, which is 10 922 images of 256 x 128. Each loader has so much, and a
    /// clone shares it; a training run has it once for training and evaluation together
    /// ([`TrainLoader::eval_loader`](super::TrainLoader::eval_loader)).
    pub cache_bytes: usize,
}

impl LoaderConfig {
    /// The default of every field.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Another number of threads that make batches.
    #[must_use]
    pub fn with_workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// Another number of finished batches that may wait.
    #[must_use]
    pub fn with_prefetch(self, prefetch: usize) -> Self {
        Self { prefetch, ..self }
    }

    /// Another amount of memory for decoded images, in bytes; 0 keeps none.
    #[must_use]
    pub fn with_cache_bytes(self, cache_bytes: usize) -> Self {
        Self {
            cache_bytes,
            ..self
        }
    }
}

impl Default for LoaderConfig {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            workers: cores.min(8),
            prefetch: 8,
            cache_bytes: 1 << 30,
        }
    }
}
