//! Loss scaling, for gradients in half precision (Micikevicius et al., ICLR 2018, §3.2).

use burn::{
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use crate::{gradients::Squares, learner::AnyLearner};

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

    /// The gradients of the loss itself, from those of the scaled one.
    ///
    /// # Errors
    /// The name of a parameter whose gradient is not finite, in which case the step is to be skipped.
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
        self.moved(not_finite.is_none());
        if let Some(name) = not_finite {
            return Err(name.to_owned());
        }
        let factor = |device: &Device| Tensor::from_data([inverse], device);
        Ok(learner.scaled(gradients, &factor, true))
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
}
