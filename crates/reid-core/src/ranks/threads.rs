//! Ranks as threads of one process.

use std::{
    ops::AddAssign,
    panic,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use super::{Communicator, RankError};

/// A rank of one process: one thread among several that exchange values through memory.
///
/// It serves several devices in one machine, and tests.
///
/// If a rank is dropped, its thread panics, or it [fails](Communicator::fail), the others get [`RankError::Ended`]
/// with its number at once, also those that already wait for it. A rank of [`Threads::new`] is dropped when nothing
/// holds it any more; a tensor that was summed over the ranks and has not been differentiated yet holds it too.
///
/// ```
/// use reid_core::Threads;
///
/// let gathered = Threads::run(2, |rank| rank.all_gather(&[rank.rank() as u8]));
/// assert!(gathered.iter().all(|bytes| *bytes == Ok(vec![vec![0], vec![1]])));
/// ```
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// What each rank exchanges in this round; `None` until it has arrived.
    parts: Vec<Option<Part>>,
    arrived: usize,
    /// The number of exchanges so far.
    round: u64,
    /// The result of the last exchange. The next one cannot end before every rank has read it.
    result: Result<Arc<Combined>, RankError>,
    /// The first rank that has ended, and why.
    ended: Option<(usize, String)>,
}

/// What a rank exchanges.
#[derive(Debug)]
enum Part {
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bytes(Vec<u8>),
}

/// The result of an exchange, the same for all ranks.
#[derive(Debug)]
enum Combined {
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bytes(Vec<Vec<u8>>),
}

impl Threads {
    /// Creates ranks, in order. Each is given to its own thread.
    ///
    /// # Panics
    /// If `size` is 0.
    #[must_use]
    pub fn new(size: usize) -> Vec<Self> {
        assert!(size > 0, "expected at least 1 rank, found 0");
        let shared = Arc::new(Shared {
            size,
            state: Mutex::new(State {
                parts: (0..size).map(|_| None).collect(),
                arrived: 0,
                round: 0,
                result: Ok(Arc::new(Combined::Bytes(Vec::new()))),
                ended: None,
            }),
            changed: Condvar::new(),
        });
        let rank = |rank| Self {
            rank,
            shared: Arc::clone(&shared),
        };
        (0..size).map(rank).collect()
    }

    /// Runs a function on a new thread for each rank. Returns their results in the order of the ranks.
    ///
    /// # Panics
    /// If `size` is 0, or if a thread panics, after the others have ended too.
    pub fn run<R: Send>(size: usize, work: impl Fn(Arc<dyn Communicator>) -> R + Sync) -> Vec<R> {
        let work = &work;
        thread::scope(|scope| {
            let start = |rank: Self| {
                scope.spawn(move || {
                    let rank = Arc::new(rank);
                    // The guard is needed because `work` may keep clones.
                    let _ends = Ends(Arc::clone(&rank));
                    work(rank)
                })
            };
            let threads: Vec<_> = Self::new(size).into_iter().map(start).collect();
            let ended: Vec<_> = threads
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect();
            let result = |ended| match ended {
                Ok(result) => result,
                Err(message) => panic::resume_unwind(message),
            };
            ended.into_iter().map(result).collect()
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Exchanges parts: waits for those of all ranks.
    fn exchange(&self, part: Part) -> Result<Arc<Combined>, RankError> {
        let mut state = self.lock();
        state.check()?;
        let round = state.round;
        state.parts[self.rank] = Some(part);
        state.arrived += 1;
        if state.arrived == self.shared.size {
            let parts = state.parts.iter_mut().filter_map(Option::take).collect();
            state.result = combined(parts).map(Arc::new);
            (state.arrived, state.round) = (0, round + 1);
            self.shared.changed.notify_all();
            return state.result.clone();
        }
        loop {
            let waited = self.shared.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            if state.round != round {
                return state.result.clone();
            }
            state.check()?;
        }
    }

    fn end(&self, reason: &str) {
        let mut state = self.lock();
        let ended = (self.rank, reason.to_owned());
        state.ended.get_or_insert(ended);
        self.shared.changed.notify_all();
    }
}

impl State {
    fn check(&self) -> Result<(), RankError> {
        match self.ended.clone() {
            Some((rank, reason)) => Err(RankError::Ended { rank, reason }),
            None => Ok(()),
        }
    }
}

impl Part {
    /// What is exchanged, in words.
    fn name(&self) -> String {
        match self {
            Self::F32(values) => format!("a sum of {} values in single precision", values.len()),
            Self::F64(values) => format!("a sum of {} values in double precision", values.len()),
            Self::Bytes(_) => "bytes".to_owned(),
        }
    }
}

/// Combines the parts of all ranks, in their order.
fn combined(parts: Vec<Part>) -> Result<Combined, RankError> {
    let mut names = parts.iter().map(Part::name).enumerate();
    let (_, expected) = names.next().expect("there is at least 1 rank");
    if let Some((rank, found)) = names.find(|(_, name)| *name != expected) {
        return Err(RankError::Differs {
            rank,
            expected,
            found,
        });
    }
    let mut parts = parts.into_iter();
    let first = parts.next().expect("there is at least 1 rank");
    Ok(match first {
        Part::F32(mut sum) => {
            for part in parts {
                if let Part::F32(values) = part {
                    add(&mut sum, values);
                }
            }
            Combined::F32(sum)
        }
        Part::F64(mut sum) => {
            for part in parts {
                if let Part::F64(values) = part {
                    add(&mut sum, values);
                }
            }
            Combined::F64(sum)
        }
        Part::Bytes(bytes) => {
            let rest = parts.filter_map(|part| match part {
                Part::Bytes(bytes) => Some(bytes),
                _ => None,
            });
            Combined::Bytes([bytes].into_iter().chain(rest).collect())
        }
    })
}

fn add<T: AddAssign>(sums: &mut [T], values: Vec<T>) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

impl Communicator for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.size
    }

    fn sum_f32(&self, values: &mut [f32]) -> Result<(), RankError> {
        if let Combined::F32(sums) = &*self.exchange(Part::F32(values.to_vec()))? {
            values.copy_from_slice(sums);
        }
        Ok(())
    }

    fn sum_f64(&self, values: &mut [f64]) -> Result<(), RankError> {
        if let Combined::F64(sums) = &*self.exchange(Part::F64(values.to_vec()))? {
            values.copy_from_slice(sums);
        }
        Ok(())
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, RankError> {
        let combined = self.exchange(Part::Bytes(bytes.to_vec()))?;
        Ok(match &*combined {
            Combined::Bytes(all) => all.clone(),
            _ => Vec::new(),
        })
    }

    fn fail(&self, reason: &str) {
        self.end(reason);
    }
}

/// The other ranks must not wait for one that no longer exists.
impl Drop for Threads {
    fn drop(&mut self) {
        self.end(left());
    }
}

/// Ends a rank when its thread ends.
struct Ends(Arc<Threads>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end(left());
    }
}

/// Why a rank ends without an error of its own.
fn left() -> &'static str {
    if thread::panicking() {
        "it panicked"
    } else {
        "it ended before the others"
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// In single precision, (1 + 1e8) - 1e8 is 0, and 1e8 is lost in no other order.
    #[test]
    fn sums_are_in_the_order_of_the_ranks_and_equal_on_all() {
        let values = [1.0_f32, 1e8, -1e8];
        let sums = Threads::run(3, |rank| {
            let mut value = [values[rank.rank()], 0.5];
            rank.sum_f32(&mut value).map(|()| value.map(f32::to_bits))
        });
        let expected = [((1.0_f32 + 1e8) - 1e8).to_bits(), 1.5_f32.to_bits()];
        assert_eq!(sums, vec![Ok(expected); 3]);
        let sums = Threads::run(2, |rank| {
            let mut value = [2.0_f64.powi(-60), 1.0];
            rank.sum_f64(&mut value).map(|()| value.map(f64::to_bits))
        });
        assert_eq!(
            sums,
            vec![Ok([2.0_f64.powi(-59), 2.0].map(f64::to_bits)); 2]
        );
    }

    #[test]
    fn many_exchanges_of_each_kind_follow_each_other() {
        let counts = Threads::run(3, |rank| {
            let mut count = 0.0;
            for _ in 0..200 {
                let mut one = [1.0_f32];
                rank.sum_f32(&mut one)?;
                rank.barrier()?;
                let own = vec![7_u8; rank.rank()];
                let all = rank.all_gather(&own)?;
                assert_eq!(all, [vec![], vec![7], vec![7; 2]]);
                count += one[0];
            }
            Ok::<f32, RankError>(count)
        });
        assert_eq!(counts, vec![Ok(600.0); 3]);
    }

    /// How rank 1 of three ends while the others wait for it.
    fn errors_of_others(how: impl Fn(&dyn Communicator) + Sync) -> Vec<String> {
        let started = Instant::now();
        let errors = Threads::run(3, |rank| {
            if rank.rank() == 1 {
                thread::sleep(Duration::from_millis(20));
                how(&*rank);
                return String::new();
            }
            rank.barrier().expect_err("rank 1 never comes").to_string()
        });
        assert!(started.elapsed() < Duration::from_secs(10));
        errors
    }

    #[test]
    fn a_rank_that_ends_or_fails_ends_the_others_with_its_number() {
        let errors = errors_of_others(|_| {});
        let expected = "rank 1 has ended the run: it ended before the others";
        assert_eq!([&*errors[0], &*errors[2]], [expected; 2]);
        let errors = errors_of_others(|rank| rank.fail("the disk is full"));
        let expected = "rank 1 has ended the run: the disk is full";
        assert_eq!([&*errors[0], &*errors[2]], [expected; 2]);
    }

    #[test]
    fn a_rank_that_panics_ends_the_others() {
        let errors = Mutex::new(Vec::new());
        let panicked = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            Threads::run(2, |rank| {
                assert!(rank.rank() == 0, "rank 1 panics");
                let error = rank.barrier().expect_err("rank 1 never comes");
                errors.lock().expect("one thread").push(error);
            })
        }));
        assert!(panicked.is_err());
        let errors = errors.into_inner().expect("one thread");
        let (rank, reason) = (1, "it panicked".to_owned());
        assert_eq!(errors, [RankError::Ended { rank, reason }]);
    }

    #[test]
    fn different_exchanges_are_an_error_on_all_ranks() {
        let errors = Threads::run(2, |rank| {
            let mut values = vec![0.0_f32; 2 + rank.rank()];
            let error = rank.sum_f32(&mut values).expect_err("other lengths");
            error.to_string()
        });
        let expected = "rank 1: expected a sum of 2 values in single precision, as on rank 0, \
                        found a sum of 3 values in single precision";
        assert_eq!(errors, [expected; 2]);
    }
}
