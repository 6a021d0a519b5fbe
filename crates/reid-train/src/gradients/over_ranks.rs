//! The means of gradients over ranks.

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{DType, Tensor},
};
use reid_core::Ranks;
use reid_nn::traversal;
use reid_ops::sum_over_ranks;

/// Replaces the gradients of a module by their means over all ranks, which are bit-identical on all of them.
///
/// ```text
/// g = (((g₀ + g₁) + g₂) + …) / n
/// ```
///
/// All gradients are exchanged at once, in the order of the parameters. A parameter with a gradient on some ranks only
/// counts as 0 on the others. A parameter without a gradient on any rank gets none, so that its weights do not decay.
pub(crate) fn mean_over_ranks<M: Module>(
    module: &M,
    gradients: GradientsParams,
    ranks: &Ranks,
) -> GradientsParams {
    let mut flat = Flatten {
        gradients,
        parts: Vec::new(),
        holders: Vec::new(),
    };
    traversal::visit(module, &mut flat);
    let Flatten {
        parts, mut holders, ..
    } = flat;
    if parts.is_empty() {
        return GradientsParams::new();
    }
    let is_double = parts.iter().any(|part| part.dtype() == DType::F64);
    let dtype = if is_double { DType::F64 } else { DType::F32 };
    let parts = parts.into_iter().map(|part| part.cast(dtype)).collect();
    let all = sum_over_ranks(Tensor::cat(parts, 0), ranks) / ranks.size() as f64;
    ranks.sum_f32(&mut holders);
    let mut split = Split {
        all,
        at: 0,
        holders: holders.into_iter(),
        result: GradientsParams::new(),
    };
    traversal::visit(module, &mut split);
    split.result
}

/// Flattens the gradients of trained parameters, in order.
struct Flatten {
    gradients: GradientsParams,
    parts: Vec<Tensor<1>>,
    /// For each parameter, how many ranks have a gradient: 0 or 1.
    holders: Vec<f32>,
}

impl ModuleVisitor for Flatten {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let length = param.dims().iter().product::<usize>();
        let gradient = self.gradients.remove::<D>(param.id);
        self.holders.push(f32::from(u8::from(gradient.is_some())));
        self.parts.push(if let Some(gradient) = gradient {
            gradient.without_autodiff().reshape([length])
        } else {
            let device = param.lazy_device().without_autodiff();
            Tensor::zeros([length], (&device, param.dtype()))
        });
    }
}

/// Restores the shapes of flattened gradients.
struct Split {
    all: Tensor<1>,
    at: usize,
    holders: std::vec::IntoIter<f32>,
    result: GradientsParams,
}

impl ModuleVisitor for Split {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let dims = param.dims();
        let length = dims.iter().product::<usize>();
        let gradient = self.all.clone().narrow(0, self.at, length);
        self.at += length;
        if self.holders.next().is_some_and(|holders| holders > 0.0) {
            let gradient: Tensor<D> = gradient.reshape(dims).cast(param.dtype());
            self.result.register(param.id, gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        nn::{Linear, LinearConfig},
        tensor::Device,
    };
    use reid_core::Threads;

    use super::*;

    /// Rank r has the loss (r + 1)·w·3, with the gradient 3·(r + 1), and only rank 1 has a loss of the bias. The second
    /// layer has no loss.
    #[test]
    fn gradients_are_averaged_and_missing_ones_are_0() {
        let found = Threads::run(2, |communicator| {
            let (ranks, device) = (Ranks::new(communicator), Device::default().autodiff());
            let layer = |_| LinearConfig::new(1, 1).init(&device);
            let layers: Vec<Linear> = (0..2).map(layer).collect();
            let input = Tensor::<2>::full([1, 1], 3.0, &device);
            let own = 1.0 + ranks.rank() as f64;
            let mut loss = input.matmul(layers[0].weight.val()).sum() * own;
            let bias = layers[0].bias.as_ref().expect("a bias");
            if ranks.rank() == 1 {
                loss = loss + bias.val().sum() * 8.0;
            }
            let gradients = GradientsParams::from_grads(loss.backward(), &layers[0]);
            let means = mean_over_ranks(&layers, gradients, &ranks);
            let weight = means.get::<2>(layers[0].weight.id).expect("a gradient");
            let bias = means.get::<1>(bias.id).expect("a gradient");
            let other = means.get::<2>(layers[1].weight.id);
            let values = [weight.into_scalar::<f32>(), bias.into_scalar::<f32>()];
            (values, other.is_some(), ranks.check())
        });
        assert_eq!(found, vec![([4.5, 4.0], false, Ok(())); 2]);
    }
}
