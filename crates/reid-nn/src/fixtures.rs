//! Numbers for tests that look into them: the same whatever other tests draw meanwhile, where Burn's
//! generator belongs to the process.

use std::ops::Range;

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Device, Tensor, TensorData},
};
use rand::RngExt;
use reid_core::{Seed, Stream};

pub(crate) fn tensor<const D: usize>(
    shape: [usize; D],
    range: Range<f32>,
    device: &Device,
) -> Tensor<D> {
    let mut stream = Seed::new(1).stream();
    values(&mut stream, shape, range, device)
}

/// The module with invented weights in place of its matrices and kernels.
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

/// Weights that do not depend on the test.
pub(crate) fn init(device: &Device) -> crate::Init<'_> {
    crate::Init::new(Seed::new(3), device)
}
