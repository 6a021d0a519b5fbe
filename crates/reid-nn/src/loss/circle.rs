//! Circle loss on pairs (Sun et al., CVPR 2020, arXiv:2002.10857).

use burn::{
    config::Config,
    module::Module,
    tensor::{Tensor, activation::softplus},
};
use reid_core::Problems;

use crate::{
    criterion::{Criterion, CriterionConfig, NamedLoss},
    head::{OutputShape, ReidOutput},
    init::Init,
    loss::{
        MAX_WEIGHT, MIN_SCALE,
        pairs::{PairLoss, PairLossConfig, Pairs, log_sum_exp, selected_mean},
    },
    targets::Targets,
};

/// Configuration of [`CircleLoss`], whose documentation has an example.
#[derive(Config, Debug)]
pub struct CircleLossConfig {
    /// The relaxation margin m, from 0 to 1; 0.25 in the paper for people. The loss pulls similarities of
    /// positive pairs above `1 - m` and pushes those of negative pairs below m.
    #[config(default = 0.25)]
    pub margin: f64,
    /// The scale γ, from 1e-6 to 1e6; 64 by default, 128 in the paper for people.
    #[config(default = 64.0)]
    pub gamma: f64,
}

/// Computes the circle loss of every image of a batch as an anchor.
///
/// ```text
/// s_ij = cos(f_i, f_j)      α_ij = max(0, 1 + m - s_ij)      β_ij = max(0, s_ij + m)
/// P_i = { j : id_j = id_i, j ≠ i }                             N_i = { j : id_j ≠ id_i }
/// L = mean_i ln(1 + Σ_{j ∈ P_i} exp(-γ α_ij (s_ij - (1 - m))) · Σ_{j ∈ N_i} exp(γ β_ij (s_ij - m)))
/// ```
///
/// The weights α and β are constants for the gradient, as in the paper. The losses of branches are summed. An
/// anchor without a positive or without a negative is skipped; the loss of a batch without any anchor is 0.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::Seed;
/// use reid_nn::{Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets, loss::CircleLossConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let criterion = CircleLossConfig::new().with_gamma(1.0).init(&OutputShape::single(2, 2), &init);
/// let features = Tensor::<2>::from_data([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]], &device);
/// let output = ReidOutput::single(features.clone(), features);
/// // Both anchors have a positive of similarity 1, with the exponent -0.25·(1 - 0.75), and a negative of
/// // similarity 0, with the exponent 0.25·(0 - 0.25).
/// let loss = criterion.forward(&output, &Targets::new(&[0, 0, 1], &device));
/// let expected = (1.0 + (-0.0625_f32 - 0.0625).exp()).ln();
/// assert!((loss.into_scalar::<f32>() - expected).abs() < 1e-6);
/// ```
#[derive(Module, Debug)]
pub struct CircleLoss {
    margin: f64,
    gamma: f64,
}

impl CriterionConfig for CircleLossConfig {
    type Criterion = CircleLoss;

    fn init(&self, _output: &OutputShape, _init: &Init<'_>) -> CircleLoss {
        Problems::refuse("a circle loss", |problems| self.validate(problems));
        CircleLoss {
            margin: self.margin,
            gamma: self.gamma,
        }
    }

    fn compares_images(&self) -> bool {
        true
    }

    fn validate(&self, problems: &mut Problems) {
        problems.number("margin", self.margin, 0.0..=1.0);
        problems.number("gamma", self.gamma, MIN_SCALE..=MAX_WEIGHT);
    }
}

impl PairLossConfig for CircleLossConfig {}

impl Criterion for CircleLoss {
    fn uses_logits(&self) -> bool {
        false
    }

    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        self.batch_losses(output, targets)
    }
}

impl PairLoss for CircleLoss {
    fn loss_name(&self) -> &'static str {
        "circle"
    }

    fn pair_loss(&self, anchors: &Tensor<2>, references: &Tensor<2>, pairs: &Pairs) -> Tensor<1> {
        let similarity = pairs.similarities(anchors, references);
        let fixed = similarity.clone().detach();
        let of_positive = (fixed.clone().neg() + (1.0 + self.margin)).clamp_min(0.0);
        let of_negative = (fixed + self.margin).clamp_min(0.0);
        let positive = (similarity.clone() - (1.0 - self.margin)) * of_positive * -self.gamma;
        let negative = (similarity - self.margin) * of_negative * self.gamma;
        let exponent = log_sum_exp(positive, pairs.positive.clone())
            + log_sum_exp(negative, pairs.negative.clone());
        selected_mean(softplus(exponent, 1.0), pairs.anchor.clone())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::fixtures;

    #[test]
    fn large_scales_and_identical_features_have_finite_values_and_gradients() {
        let device = Device::default().autodiff();
        for gamma in [MIN_SCALE, 64.0, MAX_WEIGHT] {
            for value in [0.0, 1.0, 1e15] {
                let features = Tensor::<2>::full([4, 2], value, &device).require_grad();
                let config = CircleLossConfig::new().with_gamma(gamma);
                let criterion = config.init(&OutputShape::single(2, 2), &fixtures::init(&device));
                let output = ReidOutput::single(features.clone(), features.clone());
                let loss = criterion.forward(&output, &Targets::new(&[0, 0, 1, 1], &device));
                let gradient = features.grad(&loss.clone().backward()).expect("a gradient");
                let sum = gradient.abs().sum() + loss.inner().abs();
                assert!(sum.into_scalar::<f32>().is_finite(), "γ = {gamma}, {value}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "a circle loss: margin: expected 0 to 1, found 1.5\n\
                    gamma: expected 0.000001 to 1000000, found 0")]
    fn invalid_hyper_parameters_panic() {
        let config = CircleLossConfig::new().with_margin(1.5).with_gamma(0.0);
        let _ = config.init(
            &OutputShape::single(2, 2),
            &fixtures::init(&Device::default()),
        );
    }
}
