//! Drawing weights so that they repeat.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Tensor},
};
use reid_core::Seed;

/// Burn's generators belong to the process, so whoever draws weights does so alone.
static DRAWING: Mutex<()> = Mutex::new(());

thread_local! {
    static HELD: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// The lock; none where this thread holds it already.
pub(crate) struct InitLock(Option<MutexGuard<'static, ()>>);

impl Drop for InitLock {
    fn drop(&mut self) {
        if self.0.is_some() {
            HELD.set(false);
        }
    }
}

pub(crate) fn init_lock() -> InitLock {
    if HELD.replace(true) {
        return InitLock(None);
    }
    InitLock(Some(DRAWING.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// The module that `build` gives, with its weights drawn from a seed.
///
/// Burn draws weights at first use, from a generator that belongs to the process. Here it is seeded,
/// all weights are drawn at once and in order, and no other model of this library is drawn
/// meanwhile, so the same seed gives the same weights whatever other threads do.
///
/// Do not build a [`ReidModel`](crate::ReidModel) inside: [`ReidModel::seeded`](crate::ReidModel::seeded)
/// is for that, and the two would wait for each other.
///
/// ```
/// use burn::{nn::LinearConfig, tensor::Device};
/// use reid_core::Seed;
/// use reid_nn::drawing::from_seed;
///
/// let device = Device::default();
/// let draw = || from_seed(Seed::new(1), &device, || LinearConfig::new(2, 3).init(&device));
/// assert_eq!(draw().weight.to_data(), draw().weight.to_data());
/// ```
pub fn from_seed<M: Module>(seed: Seed, device: &Device, build: impl FnOnce() -> M) -> M {
    let _alone = init_lock();
    device.seed(seed.number());
    drawn(build())
}

/// The module with all its weights drawn, in order.
pub(crate) fn drawn<M: Module>(module: M) -> M {
    struct Draw;
    impl ModuleVisitor for Draw {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            // Reading a value is what makes Burn draw it.
            let _ = param.val();
        }
    }
    module.visit(&mut Draw);
    module
}
