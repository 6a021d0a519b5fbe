//! Ranks: the threads or processes that train one model together, and what they exchange.

mod threads;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

pub use threads::Threads;

/// The exchange between ranks: the threads or processes that train one model together.
///
/// All ranks call the same methods in the same order, each with its own values. A call returns when every rank has
/// made it. [`Threads`] are ranks in one process, and the crate `reid-mpi` has ranks in processes of one or several
/// machines.
///
/// A sum is computed in the order of the ranks, so that it is bit-identical on all of them and in every run:
///
/// ```text
/// sum = ((x₀ + x₁) + x₂) + …
/// ```
pub trait Communicator: fmt::Debug + Send + Sync {
    /// The number of this rank, from 0.
    fn rank(&self) -> usize;

    /// The number of ranks, at least 1.
    fn size(&self) -> usize;

    /// Replaces values by their sums over all ranks.
    ///
    /// # Errors
    /// If a rank has ended, or the ranks have different numbers of values or call different methods.
    fn sum_f32(&self, values: &mut [f32]) -> Result<(), RankError>;

    /// As [`sum_f32`](Self::sum_f32), in double precision.
    ///
    /// # Errors
    /// As [`sum_f32`](Self::sum_f32).
    fn sum_f64(&self, values: &mut [f64]) -> Result<(), RankError>;

    /// Returns the bytes of every rank, in the order of the ranks. Their lengths may differ.
    ///
    /// # Errors
    /// If a rank has ended, or the ranks call different methods.
    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, RankError>;

    /// Waits until every rank has called it.
    ///
    /// # Errors
    /// As [`all_gather`](Self::all_gather).
    fn barrier(&self) -> Result<(), RankError> {
        self.all_gather(&[]).map(drop)
    }

    /// Ends the run on all ranks: this one cannot continue. The others get [`RankError::Ended`] with its number, or
    /// their processes are ended.
    fn fail(&self, reason: &str);
}

/// An error of the exchange between ranks.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RankError {
    /// A rank has ended, so the run of all ranks ends.
    #[error("rank {rank} has ended the run: {reason}")]
    Ended {
        /// The number of the rank, from 0.
        rank: usize,
        /// Why it ended.
        reason: String,
    },
    /// The ranks do not exchange the same: they differ in their settings or data, or in the order of operations.
    #[error("rank {rank}: expected {expected}, as on rank 0, found {found}")]
    Differs {
        /// The number of the rank, from 0.
        rank: usize,
        /// What rank 0 exchanges.
        expected: String,
        /// What this rank exchanges.
        found: String,
    },
    /// The library of the exchange reports an error, or cannot be used.
    #[error("the exchange between ranks failed: {reason}")]
    Failed {
        /// The reason.
        reason: String,
    },
}

/// Writes the message ([`debug_error`](crate::debug_error)).
impl fmt::Debug for RankError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::debug_error(self, f)
    }
}

/// The ranks of a run, for computations that return no errors, such as a forward pass.
///
/// The first error is kept. From then on nothing is exchanged, and values stay those of this rank. Call
/// [`check`](Self::check) before results are used. Clones share the error.
///
/// ```
/// use reid_core::{Ranks, Threads};
///
/// let sums = Threads::run(3, |communicator| {
///     let ranks = Ranks::new(communicator);
///     let mut values = [1.0, ranks.rank() as f32];
///     ranks.sum_f32(&mut values);
///     ranks.check().map(|()| values)
/// });
/// assert!(sums.iter().all(|sum| *sum == Ok([3.0, 3.0])));
/// ```
#[derive(Clone, Debug)]
pub struct Ranks {
    communicator: Arc<dyn Communicator>,
    error: Arc<OnceLock<RankError>>,
}

impl Ranks {
    /// The ranks of a communicator.
    #[must_use]
    pub fn new(communicator: Arc<dyn Communicator>) -> Self {
        Self {
            communicator,
            error: Arc::new(OnceLock::new()),
        }
    }

    /// The number of this rank, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.communicator.rank()
    }

    /// The number of ranks.
    #[must_use]
    pub fn size(&self) -> usize {
        self.communicator.size()
    }

    /// Replaces values by their sums over all ranks ([`Communicator::sum_f32`]). After an error they are unchanged.
    pub fn sum_f32(&self, values: &mut [f32]) {
        self.exchange(|communicator| communicator.sum_f32(values));
    }

    /// Replaces values by their sums over all ranks ([`Communicator::sum_f64`]). After an error they are unchanged.
    pub fn sum_f64(&self, values: &mut [f64]) {
        self.exchange(|communicator| communicator.sum_f64(values));
    }

    /// Returns the bytes of every rank, in the order of the ranks. After an error, all are those of this rank.
    #[must_use]
    pub fn all_gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let gathered = self.exchange(|communicator| communicator.all_gather(bytes));
        gathered.unwrap_or_else(|| vec![bytes.to_vec(); self.size()])
    }

    /// Waits until every rank has called it.
    pub fn barrier(&self) {
        self.exchange(|communicator| communicator.barrier());
    }

    /// Ends the run on all ranks ([`Communicator::fail`]).
    pub fn fail(&self, reason: &str) {
        self.communicator.fail(reason);
    }

    /// Whether everything was exchanged so far.
    ///
    /// # Errors
    /// The first error.
    pub fn check(&self) -> Result<(), RankError> {
        self.error.get().cloned().map_or(Ok(()), Err)
    }

    fn exchange<T>(
        &self,
        exchange: impl FnOnce(&dyn Communicator) -> Result<T, RankError>,
    ) -> Option<T> {
        if self.error.get().is_some() {
            return None;
        }
        exchange(&*self.communicator)
            .map_err(|error| self.error.get_or_init(|| error))
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_an_error_values_are_unchanged_and_the_first_error_is_kept() {
        let mut threads = Threads::new(2);
        let (other, own) = (threads.remove(1), threads.remove(0));
        let ranks = Ranks::new(Arc::new(own));
        other.fail("no memory");
        let mut values = [1.0, 2.0];
        ranks.sum_f64(&mut values);
        assert_eq!(values.map(f64::to_bits), [1.0_f64, 2.0].map(f64::to_bits));
        assert_eq!(ranks.all_gather(&[7]), [[7], [7]]);
        let error = ranks.check().expect_err("rank 1 ended");
        assert_eq!(error.to_string(), "rank 1 has ended the run: no memory");
    }
}
