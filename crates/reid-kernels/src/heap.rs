//! The memory that the process keeps after it is freed.

use std::{hint::black_box, sync::Once};

/// Half of the free memory at the end of the heap that glibc then keeps; the largest possible value is 32 MiB with the
/// header of a block.
const LARGE: usize = (32 << 20) - (64 << 10);

/// Makes glibc keep up to 64 MB of freed memory for each thread that frees memory. Other allocators are not affected.
///
/// The first call allocates and frees a large block without touching it. glibc concludes that blocks of this size are
/// short-lived: it no longer requests smaller ones from the system one by one, and keeps twice as much free memory
/// (`mallopt`, `M_MMAP_THRESHOLD`).
pub(crate) fn keep_memory() {
    static KEPT: Once = Once::new();
    KEPT.call_once(|| drop(black_box(Vec::<u8>::with_capacity(LARGE))));
}

/// Keeps the heap of glibc from shrinking while this value lives. Other allocators are not affected.
///
/// A training step frees its feature maps when it ends. glibc then returns the end of its heap to the system, and the
/// next step waits for the same pages again. This value is a block at the end of the heap. It is never written, so
/// that it takes addresses and no memory, but what is below it stays with the process.
///
/// Create it where the most memory is in use: between the forward and the backward pass. Only the heap of the thread
/// that was started first is held.
///
/// ```
/// let features = vec![1.0_f32; 1 << 20];
/// let held = reid_kernels::HeldMemory::new();
/// drop(features); // stays with the process
/// drop(held);
/// ```
#[derive(Debug)]
pub struct HeldMemory {
    _end: Vec<u8>,
}

impl HeldMemory {
    /// Holds the heap at its present size.
    #[must_use]
    pub fn new() -> Self {
        /// Below [`LARGE`], so that the blocks are in the heap.
        const BLOCK: usize = LARGE - (64 << 10);
        /// Blocks first fill gaps in the heap, and the others are at its end.
        const BLOCKS: usize = 16;
        if !cfg!(target_env = "gnu") {
            return Self { _end: Vec::new() };
        }
        keep_memory();
        let blocks = [(); BLOCKS].map(|()| {
            let mut block = Vec::<u8>::new();
            // Without addresses for it, nothing is held.
            let _ = block.try_reserve_exact(BLOCK);
            block
        });
        let end = blocks.into_iter().max_by_key(|block| block.as_ptr().addr());
        Self {
            _end: black_box(end.unwrap_or_default()),
        }
    }
}

impl Default for HeldMemory {
    fn default() -> Self {
        Self::new()
    }
}
