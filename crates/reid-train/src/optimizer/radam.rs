//! `RAdam`, rectified Adam (Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, ICLR 2020,
//! arXiv:1908.03265).

use burn::{
    optim::{AdaptiveMomentumState, LearningRate, Optimizer},
    tensor::{Device, Tensor},
};

/// Rectified Adam. Its first steps do not divide by √v, until v is the mean of enough squared gradients.
///
/// ```text
/// m = β₁·m + (1 - β₁)·g        v = β₂·v + (1 - β₂)·g²        m̂ = m/(1 - β₁ᵗ)
/// ρ = ρ∞ - 2·t·β₂ᵗ/(1 - β₂ᵗ)   ρ∞ = 2/(1 - β₂) - 1
/// r = √((ρ - 4)(ρ - 2)ρ∞ / ((ρ∞ - 4)(ρ∞ - 2)ρ))
/// w -= rate · m̂ · r · √(1 - β₂ᵗ)/(√v + ε)     if ρ > 5
/// w -= rate · m̂                               otherwise
/// ```
///
/// ```
/// use burn::optim::ModuleOptimizer;
/// use reid_train::{Lookahead, Radam};
///
/// // Usable by itself or inside Lookahead.
/// let radam = ModuleOptimizer::from(Radam::default());
/// let ranger = ModuleOptimizer::from(Lookahead::new(Radam::default()));
/// # let _ = (radam, ranger);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Radam {
    /// The decay β₁ of the mean of the gradients, in `[0, 1)`; 0.9 by default.
    pub beta1: f64,
    /// The decay β₂ of the mean of the squared gradients, in `[0, 1)`; 0.999 by default.
    pub beta2: f64,
    /// The ε that is added to √v, above 0; 1e-8 by default.
    pub epsilon: f64,
    /// Weight decay; none by default.
    pub decay: WeightDecay,
}

/// How weight decay is applied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WeightDecay {
    /// `g += decay · w`, as in Adam.
    Coupled(f64),
    /// `w -= decay · rate · w` before the step, as in Ranger.
    Decoupled(f64),
}

impl Default for Radam {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            decay: WeightDecay::Coupled(0.0),
        }
    }
}

impl Radam {
    /// The factor of m, and whether the step is divided by √v + ε.
    fn factor(&self, time: usize) -> (f64, bool) {
        let time = i32::try_from(time).unwrap_or(i32::MAX);
        let [first, second] = [self.beta1, self.beta2].map(|beta| 1.0 - beta.powi(time));
        let most = 2.0 / (1.0 - self.beta2) - 1.0;
        let length = most - 2.0 * f64::from(time) * (1.0 - second) / second;
        if length <= 5.0 {
            return (1.0 / first, false);
        }
        let known = (length - 4.0) * (length - 2.0) * most;
        let rectified = (known / ((most - 4.0) * (most - 2.0) * length)).sqrt();
        (rectified * second.sqrt() / first, true)
    }
}

impl Optimizer for Radam {
    type State<const D: usize> = AdaptiveMomentumState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weights: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let (weights, gradient) = match self.decay {
            WeightDecay::Coupled(decay) if decay > 0.0 => {
                let gradient = gradient + weights.clone() * decay;
                (weights, gradient)
            }
            WeightDecay::Decoupled(decay) if decay > 0.0 => {
                (weights * (1.0 - decay * rate), gradient)
            }
            _ => (weights, gradient),
        };
        let mut state = state.unwrap_or_else(|| {
            let zeros = gradient.zeros_like();
            AdaptiveMomentumState::new(0, zeros.clone(), zeros)
        });
        state.time += 1;
        let (mean, square) = (gradient.clone(), gradient.square());
        state.moment_1 = state.moment_1 * self.beta1 + mean * (1.0 - self.beta1);
        state.moment_2 = state.moment_2 * self.beta2 + square * (1.0 - self.beta2);
        let (factor, varies) = self.factor(state.time);
        let mut step = state.moment_1.clone() * (rate * factor);
        if varies {
            step = step / (state.moment_2.clone().sqrt() + self.epsilon);
        }
        (weights - step, Some(state))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        state.to_device(device)
    }
}
