//! The threads on which kernels run.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::heap::keep_memory;

/// Whether a computation of [`on_workers`] runs.
static BUSY: AtomicBool = AtomicBool::new(false);

/// Runs a computation on a thread of [rayon]'s pool and waits for it. On a thread of the pool, it runs at once.
///
/// A kernel that is called from another thread hands its tasks to the pool and sleeps until they are done. For a
/// network of many small operations, this takes longer than the operations. On a thread of the pool, the same
/// kernel starts with the first task itself, and the others help.
///
/// Only one computation is moved at a time; others run on the thread that calls. A worker that waits for the tasks of
/// one could otherwise begin another, and would have to finish it first.
///
/// `work` must not wait for other threads, and does not see the thread-local values of the calling thread.
///
/// ```
/// let threads = reid_kernels::on_workers(rayon::current_thread_index);
/// assert!(threads.is_some());
/// ```
///
/// The first call also makes glibc keep up to 64 MB of freed memory for each thread that frees memory; other allocators
/// are not affected. By default, glibc returns the memory of feature maps to the system when a network is done with
/// them, and the next network waits for the same pages again.
///
/// # Panics
/// If `work` panics.
pub fn on_workers<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    keep_memory();
    let inside = rayon::current_thread_index().is_some();
    if inside || BUSY.swap(true, Ordering::Acquire) {
        return work();
    }
    let _done = Done;
    rayon::scope(|_| work())
}

/// Lets the next computation begin, also after a panic.
struct Done;

impl Drop for Done {
    fn drop(&mut self) {
        BUSY.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::{panic, sync::Barrier, thread};

    use super::*;

    #[test]
    fn computations_at_the_same_time_do_not_wait_for_each_other() {
        // Both threads are inside of their computation before either ends.
        let both = Barrier::new(2);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| on_workers(|| both.wait()));
            }
        });
        // After a panic, the next computation is moved to the pool again.
        let failed = panic::catch_unwind(|| on_workers(|| panic!("in the pool")));
        assert!(failed.is_err());
        let inside = (0..1000).any(|_| on_workers(rayon::current_thread_index).is_some());
        assert!(inside);
    }
}
