//! Loader configuration: threads and memory.

use std::thread;

use serde::{Deserialize, Serialize};

/// The threads and memory that a data loader may use. These settings never change the content of batches.
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
    /// The number of worker threads; 0 means 1. Default: one per core, at most 8.
    pub workers: usize,
    /// The number of finished batches that may wait in the queue, rounded up to a multiple of `workers`. Each
    /// worker may hold one more batch that it is preparing. Default: 8.
    pub prefetch: usize,
    /// The size of the cache of decoded and resized images, in bytes. Images that do not fit are decoded
    /// again each time. Default: 1 GiB, which is 10 922 images of 256 x 128.
    ///
    /// Each loader has its own cache, which its clones share. A loader from
    /// [`TrainLoader::eval_loader`](super::TrainLoader::eval_loader) shares the cache of the training loader.
    pub cache_bytes: usize,
}

impl LoaderConfig {
    /// Creates the default configuration.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of worker threads; 0 means 1.
    #[must_use]
    pub fn with_workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// Sets the number of finished batches that may wait in the queue.
    #[must_use]
    pub fn with_prefetch(self, prefetch: usize) -> Self {
        Self { prefetch, ..self }
    }

    /// Sets the size of the cache of decoded images, in bytes; 0 disables it.
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
