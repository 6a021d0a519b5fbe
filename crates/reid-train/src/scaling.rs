//! Loss scaling, for gradients in half precision (Micikevicius et al., ICLR 2018, §3.2).

use burn::{
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use crate::{gradients::Squares, learner::AnyLearner};

/// The factor of the loss before the backward pass, so that small gradients do not underflow in half
/// precision.
///
/// It is halved when gradients overflow and doubled after 2000 steps without an overflow, as by the
/// `GradScaler` of `PyTorch`. It is a power of two, so it changes only the exponents of the gradients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LossScale {
    /// The factor is 2 to the power of this.
    exponent: i32,
    /// The number of steps since the last change or overflow.
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
    /// The number of steps without an overflow after which the factor doubles.
    const PATIENCE: u32 = 2000;
    /// The largest exponent.
    const MOST: i32 = 24;

    pub(crate) fn apply(self, loss: Tensor<1>) -> Tensor<1> {
        loss * 2_f32.powi(self.exponent)
    }

    /// Divides the gradients by the factor, and updates the factor.
    ///
    /// # Errors
    /// The name of the first parameter whose gradient is not finite. The step must then be skipped.
    pub(crate) fn unscaled(
        &mut self,
        learner: &dyn AnyLearner,
        gradients: GradientsParams,
        squares: &Squares,
    ) -> Result<GradientsParams, String> {
        let values = squares.values().map(Tensor::into_data);
        let values: Vec<f64> = values.map_or_else(Vec::new, |values| values.iter().collect());
        let not_finite = squares.not_finite(&values);
        let inverse = 2_f32.powi(-self.exponent);
        self.update(not_finite.is_none());
        if let Some(name) = not_finite {
            return Err(name.to_owned());
        }
        let factor = |device: &Device| Tensor::from_data([inverse], device);
        Ok(learner.scaled(gradients, &factor, true))
    }

    /// Whether the factor has fallen below 1: gradients overflowed although the loss was not scaled up.
    pub(crate) fn is_spent(self) -> bool {
        self.exponent < 0
    }

    fn update(&mut self, finite: bool) {
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
    use super::*;

    #[test]
    fn the_scale_halves_at_an_overflow_and_doubles_after_2000_steps() {
        let mut scale = LossScale::default();
        scale.update(false);
        assert_eq!(scale.exponent, 15);
        for _ in 1..LossScale::PATIENCE {
            scale.update(true);
        }
        assert_eq!(scale.exponent, 15);
        scale.update(true);
        assert_eq!(scale.exponent, 16);
        for _ in 0..16 {
            scale.update(false);
        }
        assert!(!scale.is_spent());
        scale.update(false);
        assert!(scale.is_spent());
    }
}
