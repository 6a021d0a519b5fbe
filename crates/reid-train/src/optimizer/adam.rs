//! Adam (Kingma and Ba, ICLR 2015, arXiv:1412.6980).

use burn::{
    optim::{AdaptiveMomentumState, LearningRate, Optimizer},
    tensor::{Device, Tensor},
};
use reid_ops::AdamStep;

/// Adam with coupled weight decay, as in `PyTorch`. It takes one pass over the weights where the operation is
/// native ([`reid_ops::adam`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Adam {
    pub(super) beta1: f32,
    pub(super) beta2: f32,
    pub(super) epsilon: f32,
    pub(super) decay: f32,
}

impl Optimizer for Adam {
    type State<const D: usize> = AdaptiveMomentumState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weights: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let state = state.unwrap_or_else(|| {
            let zeros = gradient.zeros_like();
            AdaptiveMomentumState::new(0, zeros.clone(), zeros)
        });
        let step = AdamStep {
            rate,
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            decay: self.decay,
            time: state.time + 1,
        };
        let means = [state.moment_1, state.moment_2];
        let (weights, [mean, square]) = reid_ops::adam(weights, gradient, means, step);
        (
            weights,
            Some(AdaptiveMomentumState::new(step.time, mean, square)),
        )
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        state.to_device(device)
    }
}

/// Adam with decoupled weight decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AdamW {
    pub(super) adam: Adam,
    pub(super) decay: f32,
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdaptiveMomentumState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weights: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let weights = weights * (1.0 - rate * f64::from(self.decay));
        self.adam.step(rate, weights, gradient, state)
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        state.to_device(device)
    }
}
