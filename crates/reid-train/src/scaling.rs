//! Loss scaling, for gradients in half precision (Micikevicius et al., ICLR 2018, §3.2).

use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use crate::gradients::{Squares, scaled};

/// What a loss is multiplied by before its gradients are computed, so that small ones do not vanish in half
/// precision: halved when gradients leave its range, doubled after so many steps that did not, as `PyTorch`'s
/// `GradScaler` does. A power of two, so that it changes no gradient but for its exponent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LossScale {
    /// Of 2.
    exponent: i32,
    /// Steps since it last changed.
    steps: u32,
}

impl Default for LossScale {
    fn default() -> Self {
        Self {
            exponent: 16,
            steps: 0,
        }
    }
}

impl LossScale {
    /// After how many steps without an overflow it doubles.
    const PATIENCE: u32 = 2000;
    /// Far above what half precision could hold of any loss.
    const MOST: i32 = 24;

    pub(crate) fn apply(self, loss: Tensor<1>) -> Tensor<1> {
        loss * 2_f32.powi(self.exponent)
    }

    /// The gradients of the loss itself, from those of the scaled one, of two modules.
    ///
    /// # Errors
    /// The name of a parameter whose gradient is not finite, in which case the step is to be skipped.
    pub(crate) fn unscaled<A: Module, B: Module>(
        &mut self,
        [of_one, of_other]: [GradientsParams; 2],
        squares: &Squares,
        (one, other): (&A, &B),
    ) -> Result<[GradientsParams; 2], String> {
        let values = squares.values().map(Tensor::into_data);
        let values: Vec<f64> = values.map_or_else(Vec::new, |values| values.iter().collect());
        let not_finite = squares.not_finite(&values);
        let inverse = 2_f32.powi(-self.exponent);
        self.moved(not_finite.is_none());
        if let Some(name) = not_finite {
            return Err(name.to_owned());
        }
        let factor = |device: &Device| Tensor::from_data([inverse], device);
        Ok([scaled(one, of_one, factor), scaled(other, of_other, factor)])
    }

    /// Whether gradients left their range although the loss was not scaled up.
    pub(crate) fn is_spent(self) -> bool {
        self.exponent < 0
    }

    fn moved(&mut self, finite: bool) {
        self.steps += 1;
        if !finite {
            self.exponent -= 1;
            self.steps = 0;
        } else if self.steps == Self::PATIENCE {
            self.exponent = (self.exponent + 1).min(Self::MOST);
            self.steps = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;

    use super::*;

    #[test]
    fn it_halves_at_an_overflow_and_doubles_after_patience() {
        let mut scale = LossScale::default();
        scale.moved(false);
        assert_eq!(scale.exponent, 15);
        for _ in 1..LossScale::PATIENCE {
            scale.moved(true);
        }
        assert_eq!(scale.exponent, 15);
        scale.moved(true);
        assert_eq!(scale.exponent, 16);
        for _ in 0..16 {
            scale.moved(false);
        }
        assert!(!scale.is_spent());
        scale.moved(false);
        assert!(scale.is_spent());
    }

    #[test]
    fn gradients_are_those_of_the_loss_and_infinite_ones_are_left_out() {
        let device = Device::default().autodiff();
        let modules = [(); 2].map(|()| LinearConfig::new(1, 1).with_bias(false).init(&device));
        let [one, other] = &modules;
        let mut scale = LossScale::default();
        for (factor, expected) in [(3.0, Some(3.0)), (f32::INFINITY, None)] {
            let loss = one.weight.val().sum() * factor + other.weight.val().sum();
            let mut gradients = scale.apply(loss).backward();
            let gradients = [
                GradientsParams::from_module(&mut gradients, one),
                GradientsParams::from_module(&mut gradients, other),
            ];
            let [of_one, of_other] = &gradients;
            let squares = Squares::of_module(one, of_one);
            let squares = squares.with_criterion(Squares::of_module(other, of_other));
            let found = scale.unscaled(gradients, &squares, (one, other));
            let found = found.ok().map(|[of_one, _]| {
                let gradient = of_one.get::<2>(one.weight.id).expect("a gradient");
                gradient.into_scalar::<f32>()
            });
            assert_eq!(found, expected);
        }
    }
}
