//! Gradient clipping by the norm of all gradients together.

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::Tensor,
};

/// Scales all gradients of a module so that together they are no longer than `limit`.
///
/// ```text
/// g ← g · min(1, limit / √Σ‖g‖²)
/// ```
///
/// Burn's own clipping works on each tensor alone, which changes the direction of the step.
pub(crate) fn by_norm<M: Module>(
    module: &M,
    gradients: GradientsParams,
    limit: f64,
) -> GradientsParams {
    let mut norm = Norm {
        gradients: &gradients,
        squares: None,
    };
    module.visit(&mut norm);
    let Some(squares) = norm.squares else {
        return gradients;
    };
    // As PyTorch: the quotient's tiny summand keeps a gradient of 0 as it is.
    let scale = ((squares.sqrt() + 1e-6).recip() * limit).clamp_max(1.0);
    let mut scaled = Scale {
        gradients,
        factor: scale,
        result: GradientsParams::new(),
    };
    module.visit(&mut scaled);
    scaled.result
}

struct Norm<'a> {
    gradients: &'a GradientsParams,
    squares: Option<Tensor<1>>,
}

impl ModuleVisitor for Norm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let square = gradient.square().sum();
            self.squares = Some(match self.squares.take() {
                Some(squares) => squares + square,
                None => square,
            });
        }
    }
}

struct Scale {
    gradients: GradientsParams,
    factor: Tensor<1>,
    result: GradientsParams,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            let scale = self.factor.clone().reshape([1; D]);
            self.result.register(param.id, gradient * scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        nn::LinearConfig,
        tensor::{Device, TensorData, Tolerance},
    };

    use super::*;

    #[test]
    fn long_gradients_shrink_together_and_short_ones_stay() {
        let device = Device::default().autodiff();
        let linear = LinearConfig::new(1, 1).init(&device);
        let input = Tensor::<2>::from_data([[3.0]], &device);
        // d/dw = 3·2 = 6 and d/db = 1·8 → from 2·w·3 + 8·b; norm 10.
        let bias = linear.bias.as_ref().expect("a bias");
        for (limit, expected) in [(5.0, [3.0_f32, 4.0]), (20.0, [6.0, 8.0])] {
            let weighted = input.clone().matmul(linear.weight.val()) * 2.0;
            let loss = weighted.sum() + bias.val() * 8.0;
            let gradients = GradientsParams::from_grads(loss.backward(), &linear);
            let clipped = by_norm(&linear, gradients, limit);
            let weight = clipped.get::<2>(linear.weight.id).expect("a gradient");
            let bias = clipped.get::<1>(bias.id).expect("a gradient");
            let found = Tensor::cat(vec![weight.reshape([1]), bias], 0).into_data();
            found.assert_approx_eq::<f32>(&TensorData::from(expected), Tolerance::default());
        }
    }
}
