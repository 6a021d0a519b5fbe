//! All gradients of a module together: how long they are, scaled, and clipped.

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor},
};

/// Scales all gradients of a module so that together they are no longer than `limit`.
///
/// ```text
/// g ← g · min(1, limit / √Σ‖g‖²)
/// ```
///
/// Burn's own clipping works on each tensor alone, which changes the direction of the step.
pub(crate) fn clipped<M: Module>(
    module: &M,
    gradients: GradientsParams,
    limit: f64,
) -> GradientsParams {
    let Some(squares) = squares(module, &gradients) else {
        return gradients;
    };
    // As PyTorch: the quotient's tiny summand keeps a gradient of 0 as it is.
    let scale = ((squares.sqrt() + 1e-6).recip() * limit).clamp_max(1.0);
    scaled(module, gradients, |_| scale.clone())
}

/// Σ‖g‖² of all gradients of a module; none if it has none.
pub(crate) fn squares<M: Module>(module: &M, gradients: &GradientsParams) -> Option<Tensor<1>> {
    let mut squares = Squares {
        gradients,
        sum: None,
    };
    module.visit(&mut squares);
    squares.sum
}

/// All gradients of a module, multiplied by one number.
pub(crate) fn scaled<M: Module>(
    module: &M,
    gradients: GradientsParams,
    factor: impl Fn(&Device) -> Tensor<1>,
) -> GradientsParams {
    let mut scaled = Scale {
        gradients,
        factor,
        result: GradientsParams::new(),
    };
    module.visit(&mut scaled);
    scaled.result
}

struct Squares<'a> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let square = gradient.square().sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + square,
                None => square,
            });
        }
    }
}

struct Scale<F> {
    gradients: GradientsParams,
    factor: F,
    result: GradientsParams,
}

impl<F: Fn(&Device) -> Tensor<1>> ModuleVisitor for Scale<F> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            let scale = (self.factor)(&gradient.device()).reshape([1; D]);
            self.result.register(param.id, gradient * scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        nn::LinearConfig,
        tensor::{TensorData, Tolerance},
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
            let found = clipped(&linear, gradients, limit);
            let weight = found.get::<2>(linear.weight.id).expect("a gradient");
            let bias = found.get::<1>(bias.id).expect("a gradient");
            let both = Tensor::cat(vec![weight.reshape([1]), bias], 0).into_data();
            both.assert_approx_eq::<f32>(&TensorData::from(expected), Tolerance::default());
        }
    }
}
