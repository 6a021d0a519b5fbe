//! Batches that worker threads prepare ahead of time, in order.

use std::{
    any::Any,
    fmt, io,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread::{Builder, JoinHandle},
};

use super::LoaderConfig;
use crate::Error;

/// An iterator over batches that worker threads prepare ahead of time. The batches come in order.
///
/// The iterator ends after an error. Dropping it stops the worker threads and waits until they have finished
/// their current batches.
///
/// [`TrainLoader`](super::TrainLoader) and [`EvalLoader`](super::EvalLoader) create it.
pub struct Batches<B> {
    /// Worker `w` of `W` prepares batches `w`, `w + W`, ... and sends them through channel `w`. Receiving
    /// from the channels round-robin therefore restores the order.
    channels: Vec<Receiver<Result<B, Error>>>,
    workers: Vec<io::Result<JoinHandle<()>>>,
    next: usize,
    end: usize,
}

impl<B: Send + 'static> Batches<B> {
    /// Starts the workers, which prepare batches `0..count` by calling `make` with the index of a batch.
    pub(crate) fn start<F>(count: usize, config: LoaderConfig, make: F) -> Self
    where
        F: Fn(usize) -> Result<B, Error> + Send + Sync + 'static,
    {
        let lanes = config.workers.max(1).min(count);
        let make = Arc::new(make);
        let start = |lane| {
            let make = Arc::clone(&make);
            let (sender, channel) = sync_channel(config.prefetch.div_ceil(lanes));
            let work = move || {
                // Sending fails once the iterator has been dropped.
                for batch in (lane..count).step_by(lanes) {
                    if sender.send(make(batch)).is_err() {
                        break;
                    }
                }
            };
            let worker = Builder::new().name(format!("reid-data-{lane}")).spawn(work);
            (channel, worker)
        };
        let (channels, workers) = (0..lanes).map(start).unzip();
        Self {
            channels,
            workers,
            next: 0,
            end: count,
        }
    }
}

impl<B> Batches<B> {
    /// Returns the reason why a worker closed its channel too early.
    fn failure(&mut self, lane: usize) -> Error {
        let reason = match self.workers.swap_remove(lane).map(JoinHandle::join) {
            Err(error) => error.to_string(),
            Ok(Err(panic)) => message(&*panic),
            Ok(Ok(())) => "it stopped before its last batch".to_owned(),
        };
        Error::Worker { reason }
    }

    /// Stops the workers and waits for them to finish.
    fn stop(&mut self) {
        self.next = self.end;
        self.channels.clear();
        for worker in self.workers.drain(..).flatten() {
            // Ignore a panic here: its batch is no longer needed.
            let _ = worker.join();
        }
    }
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it panicked without a message").to_owned()
}

impl<B> Iterator for Batches<B> {
    type Item = Result<B, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.end {
            return None;
        }
        let lane = self.next % self.channels.len();
        let item = self.channels[lane].recv();
        let item = item.unwrap_or_else(|_| Err(self.failure(lane)));
        self.next += 1;
        if item.is_err() {
            self.stop();
        }
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end - self.next;
        (left.min(1), Some(left)) // the first error ends the iterator
    }
}

impl<B> Drop for Batches<B> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<B> fmt::Debug for Batches<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches")
            .field("next", &self.next)
            .field("end", &self.end)
            .field("workers", &self.workers.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn config(workers: usize, prefetch: usize) -> LoaderConfig {
        LoaderConfig {
            workers,
            prefetch,
            cache_bytes: 0,
        }
    }

    #[test]
    fn batches_come_in_order_for_any_number_of_threads() {
        for (workers, prefetch) in [(0, 0), (1, 0), (1, 8), (3, 0), (3, 1), (3, 7), (20, 2)] {
            let batches = Batches::start(10, config(workers, prefetch), Ok);
            let numbers: Result<Vec<usize>, Error> = batches.collect();
            assert_eq!(numbers.unwrap(), (0..10).collect::<Vec<_>>());
        }
        assert!(
            Batches::<usize>::start(0, config(3, 2), Ok)
                .next()
                .is_none()
        );
    }

    #[test]
    fn no_more_batches_are_prepared_than_configured() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let mut batches = Batches::start(1000, config(2, 4), move |number| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(number)
        });
        for _ in 0..10 {
            batches.next().unwrap().unwrap();
        }
        drop(batches);
        // 10 taken, 4 waiting, 2 in preparation.
        assert!(made.load(Ordering::SeqCst) <= 16);
        assert_eq!(
            Arc::strong_count(&made),
            1,
            "a worker outlived the iterator"
        );
    }

    #[test]
    fn an_error_comes_in_order_and_ends_the_iterator() {
        let mut batches = Batches::start(9, config(2, 4), |number| match number {
            5 => Err(Error::TooFewIdentities {
                expected: 2,
                found: 1,
            }),
            _ => Ok(number),
        });
        let good: Vec<usize> = batches.by_ref().take(5).map(Result::unwrap).collect();
        assert_eq!(good, [0, 1, 2, 3, 4]);
        assert!(matches!(
            batches.next(),
            Some(Err(Error::TooFewIdentities { .. }))
        ));
        assert!(batches.next().is_none());
    }

    #[test]
    fn a_panic_in_a_worker_is_an_error_and_does_not_hang() {
        for workers in [1, 2, 3] {
            let mut batches = Batches::start(9, config(workers, 4), |number| {
                assert!(number != 4, "no batch number {number}");
                Ok(number)
            });
            let good: Vec<usize> = batches.by_ref().take(4).map(Result::unwrap).collect();
            assert_eq!(good, [0, 1, 2, 3]);
            let error = batches.next().unwrap().expect_err("batch 4 panics");
            assert!(error.to_string().ends_with("no batch number 4"), "{error}");
            assert!(batches.next().is_none());
        }
    }
}
