//! Ranks of `reid` as processes of MPI, on one or several machines.
//!
//! [`Mpi`] is the [`Communicator`] of a process that `mpirun` starts. It needs an MPI library and `libclang` to build,
//! such as Debian's `libopenmpi-dev` and `libclang-dev`.
//!
//! Use it to train one model on several machines, or on one machine with a process for each device. In one process,
//! [`Threads`](reid_core::Threads) need no MPI. To embed a dataset on several machines, shards of `reid-eval` need no
//! exchange at all.
//!
//! ```no_run
//! use reid_core::{Communicator, Ranks};
//! use reid_mpi::Mpi;
//!
//! let mpi = Mpi::start(|rank, reason| eprintln!("rank {rank}: {reason}"))?;
//! let ranks = Ranks::new(mpi.clone());
//! let mut values = [1.0, ranks.rank() as f32];
//! ranks.sum_f32(&mut values);
//! ranks.check()?;
//! println!("{values:?}");
//! mpi.finish();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod split;

use std::{
    fmt,
    ops::AddAssign,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mpi::{
    Count, Threading,
    datatype::{Partition, PartitionMut},
    environment::Universe,
    topology::SimpleCommunicator,
    traits::{Communicator as _, CommunicatorCollectives as _, Equivalence},
};
use reid_core::{Communicator, RankError};

use split::{CHUNK, parts};

/// A callback with the number of a rank and the reason of its failure.
type Report = Box<dyn Fn(usize, &str) + Send + Sync>;

/// A rank of MPI: one process among those that `mpirun` has started.
///
/// If a rank [fails](Communicator::fail) or is dropped before [`finish`](Self::finish), MPI ends the processes of all
/// ranks and names the rank. If a process is killed, `mpirun` does the same.
///
/// Calls may come from any thread, one at a time.
pub struct Mpi {
    rank: usize,
    size: usize,
    /// `None` after the end.
    universe: Mutex<Option<Universe>>,
    report: Report,
}

impl Mpi {
    /// Initialises MPI. `report` is called with the number of this rank and the reason before a failure ends all
    /// processes.
    ///
    /// # Errors
    /// If MPI was initialised before, or supports only one thread.
    pub fn start(
        report: impl Fn(usize, &str) + Send + Sync + 'static,
    ) -> Result<Arc<Self>, RankError> {
        let failed = |reason: &str| RankError::Failed {
            reason: reason.to_owned(),
        };
        let started = mpi::initialize_with_threading(Threading::Serialized);
        let (universe, threading) =
            started.ok_or_else(|| failed("MPI was initialised before, expected once"))?;
        if threading < Threading::Serialized {
            return Err(failed(
                "expected an MPI library that is called from several threads in turn, found one for a single thread",
            ));
        }
        let world = universe.world();
        Ok(Arc::new(Self {
            rank: length(world.rank()),
            size: length(world.size()),
            universe: Mutex::new(Some(universe)),
            report: Box::new(report),
        }))
    }

    /// Ends MPI on this rank, after all work. It waits for the other ranks.
    pub fn finish(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Universe>> {
        let universe = self.universe.lock();
        universe.unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs an exchange, unless MPI has ended.
    fn exchange<T>(
        &self,
        exchange: impl FnOnce(&SimpleCommunicator) -> Result<T, RankError>,
    ) -> Result<T, RankError> {
        match &*self.lock() {
            Some(universe) => exchange(&universe.world()),
            None => Err(RankError::Ended {
                rank: self.rank,
                reason: "it has finished".to_owned(),
            }),
        }
    }

    /// Compares what the ranks are about to exchange. Returns the length of each rank.
    fn headers(
        &self,
        world: &SimpleCommunicator,
        kind: Kind,
        length: usize,
    ) -> Result<Vec<usize>, RankError> {
        let own = [kind as u64, length as u64];
        let mut all = vec![0_u64; 2 * self.size];
        world.all_gather_into(&own[..], &mut all[..]);
        let (all, _) = all.as_chunks::<2>();
        let equal = |[other, count]: [u64; 2]| {
            other == all[0][0] && (kind == Kind::Bytes || count == all[0][1])
        };
        match all.iter().position(|&header| !equal(header)) {
            Some(rank) => Err(RankError::Differs {
                rank,
                expected: words(all[0]),
                found: words(all[rank]),
            }),
            None => Ok(all.iter().map(|header| bounded(header[1])).collect()),
        }
    }

    /// Sums values over the ranks, in their order: each rank sums one part of them, and all gather the sums.
    fn sum<T>(&self, values: &mut [T], kind: Kind) -> Result<(), RankError>
    where
        T: Equivalence + Copy + Default + AddAssign,
    {
        self.exchange(|world| {
            self.headers(world, kind, values.len())?;
            for values in values.chunks_mut(CHUNK) {
                let (counts, starts) = parts(values.len(), self.size);
                let own = length(counts[self.rank]);
                let mut received = vec![T::default(); own * self.size];
                let (equal, at) = parts(received.len(), self.size);
                let sent = Partition::new(&*values, &counts[..], &starts[..]);
                let mut target = PartitionMut::new(&mut received[..], &equal[..], &at[..]);
                world.all_to_all_varcount_into(&sent, &mut target);
                let (sums, others) = received.split_at_mut(own);
                for other in others.chunks(own.max(1)) {
                    for (sum, &value) in sums.iter_mut().zip(other) {
                        *sum += value;
                    }
                }
                let mut target = PartitionMut::new(values, &counts[..], &starts[..]);
                world.all_gather_varcount_into(&*sums, &mut target);
            }
            Ok(())
        })
    }
}

/// What is exchanged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bytes,
    F32,
    F64,
}

/// The header of an exchange in words.
fn words([kind, length]: [u64; 2]) -> String {
    match kind {
        0 => "bytes".to_owned(),
        1 => format!("a sum of {length} values in single precision"),
        _ => format!("a sum of {length} values in double precision"),
    }
}

fn length(count: Count) -> usize {
    usize::try_from(count).expect("a count of MPI is at least 0")
}

fn bounded(length: u64) -> usize {
    usize::try_from(length).expect("a length of another rank fits the memory of this one")
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum_f32(&self, values: &mut [f32]) -> Result<(), RankError> {
        self.sum(values, Kind::F32)
    }

    fn sum_f64(&self, values: &mut [f64]) -> Result<(), RankError> {
        self.sum(values, Kind::F64)
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, RankError> {
        self.exchange(|world| {
            let lengths = self.headers(world, Kind::Bytes, bytes.len())?;
            let mut all = vec![Vec::new(); self.size];
            let longest = lengths.iter().copied().max().unwrap_or(0);
            // MPI counts in 32 bits.
            let most = CHUNK / self.size;
            for start in (0..longest).step_by(most) {
                let chunk = |length: usize| length.saturating_sub(start).min(most);
                let sizes: Vec<usize> = lengths.iter().map(|&length| chunk(length)).collect();
                let (counts, starts) = split::of_lengths(&sizes);
                let mut received = vec![0_u8; sizes.iter().sum()];
                let mut target = PartitionMut::new(&mut received[..], &counts[..], &starts[..]);
                let own = &bytes[start.min(bytes.len())..][..chunk(bytes.len())];
                world.all_gather_varcount_into(own, &mut target);
                let mut rest = &received[..];
                for (part, size) in all.iter_mut().zip(sizes) {
                    let (own, after) = rest.split_at(size);
                    part.extend_from_slice(own);
                    rest = after;
                }
            }
            Ok(all)
        })
    }

    /// Reports the reason, and ends the processes of all ranks with the exit status 1.
    fn fail(&self, reason: &str) {
        (self.report)(self.rank, reason);
        SimpleCommunicator::world().abort(1)
    }
}

/// A rank that ends early must not leave the others waiting.
impl Drop for Mpi {
    fn drop(&mut self) {
        if self.lock().is_some() {
            self.fail("it ended before `Mpi::finish`");
        }
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mpi")
            .field("rank", &self.rank)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
