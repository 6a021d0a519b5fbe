//! Reproducible random values for tests. Burn's generator is shared by the whole process, so its values
//! depend on the other tests.

use std::ops::Range;

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Device, Tensor, TensorData},
};
use rand::RngExt;
use reid_core::{Seed, Stream};

/// A tensor of uniform random values, the same in every call.
pub(crate) fn tensor<const D: usize>(
    shape: [usize; D],
    range: Range<f32>,
    device: &Device,
) -> Tensor<D> {
    let mut stream = Seed::new(1).stream();
    values(&mut stream, shape, range, device)
}

/// Replaces the matrices and kernels of a module by random values; vectors are unchanged.
pub(crate) fn weights<M: Module>(module: M) -> M {
    module.map(&mut Weights(Seed::new(2).stream()))
}

struct Weights(Stream);

impl ModuleMapper for Weights {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D == 1 {
            return param;
        }
        param.map(|old| {
            let weights = values(&mut self.0, old.dims(), -0.5..0.5, &old.device());
            weights.set_require_grad(old.is_require_grad())
        })
    }
}

fn values<const D: usize>(
    stream: &mut Stream,
    shape: [usize; D],
    range: Range<f32>,
    device: &Device,
) -> Tensor<D> {
    let count = shape.iter().product();
    let values: Vec<_> = (0..count)
        .map(|_| stream.random_range(range.clone()))
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// An [`Init`](crate::Init) with a fixed seed.
pub(crate) fn init(device: &Device) -> crate::Init<'_> {
    crate::Init::new(Seed::new(3), device)
}
