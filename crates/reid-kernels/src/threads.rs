//! The threads on which kernels run, and the memory that they keep.

use std::{hint::black_box, sync::Once};

/// Runs a computation on a thread of [rayon]'s pool and waits for it. On a thread of the pool, it runs at once.
///
/// A kernel that is called from another thread hands its tasks to the pool and sleeps until they are done. For a
/// network of many small operations, this takes longer than the operations. On a thread of the pool, the same
/// kernel starts with the first task itself, and the others help.
///
/// ```
/// let threads = reid_kernels::on_workers(rayon::current_thread_index);
/// assert!(threads.is_some());
/// ```
///
/// The first call also makes glibc keep up to 64 MB of freed memory; other allocators are not affected. By default,
/// glibc returns the memory of feature maps to the system when a network is done with them, and the next network
/// waits for the same pages again.
///
/// # Panics
/// If `work` panics.
pub fn on_workers<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    static KEPT: Once = Once::new();
    KEPT.call_once(keep_memory);
    rayon::scope(|_| work())
}

/// Allocates and frees a large block without touching it. glibc concludes that blocks of this size are short-lived:
/// it no longer requests smaller ones from the system one by one, and keeps twice as much free memory (`mallopt`,
/// `M_MMAP_THRESHOLD`).
fn keep_memory() {
    /// The largest size that has this effect is 32 MiB with the header of the block.
    const BLOCK: usize = (32 << 20) - (64 << 10);
    drop(black_box(Vec::<u8>::with_capacity(BLOCK)));
}
