//! Supervised contrastive loss (Khosla et al., Supervised Contrastive Learning, `NeurIPS` 2020,
//! arXiv:2004.11362).

use burn::{config::Config, module::Module, tensor::Tensor};
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

/// Configuration of [`SupervisedContrastive`], whose documentation has an example.
#[derive(Config, Debug)]
pub struct SupervisedContrastiveConfig {
    /// The temperature τ, from 1e-6 to 1e6; 0.1 in the paper, 0.07 in the authors' code.
    #[config(default = 0.1)]
    pub temperature: f64,
}

/// Computes the supervised contrastive loss of every image of a batch as an anchor.
///
/// ```text
/// s_ij = cos(f_i, f_j) / τ                 P_i = { j : id_j = id_i, j ≠ i }
/// L = mean_i 1/|P_i| Σ_{p ∈ P_i} -ln( exp(s_ip) / Σ_{j ≠ i} exp(s_ij) )
/// ```
///
/// This is equation 2 of the paper, `L_out`. The losses of branches are summed. An anchor without a positive
/// is skipped; the loss of a batch without positive pairs is 0. In a batch of one identity the positives
/// compete with each other: n images with the same embedding have the loss `ln(n - 1)`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::Seed;
/// use reid_nn::{Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets};
/// use reid_nn::loss::SupervisedContrastiveConfig;
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let config = SupervisedContrastiveConfig::new().with_temperature(1.0);
/// let criterion = config.init(&OutputShape::single(2, 2), &init);
/// let features = Tensor::<2>::from_data([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]], &device);
/// let output = ReidOutput::single(features.clone(), features);
/// // Both anchors have a positive of similarity 1 and a negative of similarity 0: ln(1 + 1/e).
/// let loss = criterion.forward(&output, &Targets::new(&[0, 0, 1], &device));
/// assert!((loss.into_scalar::<f32>() - 0.313_261_7).abs() < 1e-6);
/// ```
#[derive(Module, Debug)]
pub struct SupervisedContrastive {
    temperature: f64,
}

impl CriterionConfig for SupervisedContrastiveConfig {
    type Criterion = SupervisedContrastive;

    fn init(&self, _output: &OutputShape, _init: &Init<'_>) -> SupervisedContrastive {
        Problems::refuse("a supervised contrastive loss", |problems| {
            self.validate(problems);
        });
        SupervisedContrastive {
            temperature: self.temperature,
        }
    }

    fn compares_images(&self) -> bool {
        true
    }

    fn validate(&self, problems: &mut Problems) {
        problems.number("temperature", self.temperature, MIN_SCALE..=MAX_WEIGHT);
    }
}

impl PairLossConfig for SupervisedContrastiveConfig {}

impl Criterion for SupervisedContrastive {
    fn uses_logits(&self) -> bool {
        false
    }

    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        self.batch_losses(output, targets)
    }
}

impl PairLoss for SupervisedContrastive {
    fn loss_name(&self) -> &'static str {
        "contrastive"
    }

    fn pair_loss(&self, anchors: &Tensor<2>, references: &Tensor<2>, pairs: &Pairs) -> Tensor<1> {
        let logits = pairs.similarities(anchors, references) / self.temperature;
        let (positive, negative) = (&pairs.positive, &pairs.negative);
        let others = positive.clone().bool_or(negative.clone());
        let log_probability = logits.clone() - log_sum_exp(logits, others);
        let sum = log_probability
            .mask_fill(positive.clone().bool_not(), 0.0)
            .sum_dim(1);
        let count = positive.clone().int().sum_dim(1).float().clamp_min(1.0);
        let count = count.cast(sum.dtype());
        selected_mean(sum.neg() / count, positive.clone().any_dim(1))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::fixtures;

    fn loss(config: &SupervisedContrastiveConfig, features: Tensor<2>, labels: &[usize]) -> f32 {
        let device = features.device();
        let criterion = config.init(&OutputShape::single(2, 3), &fixtures::init(&device));
        let output = ReidOutput::single(features.clone(), features);
        let loss = criterion.forward(&output, &Targets::new(labels, &device));
        loss.into_scalar()
    }

    /// ln 3 for equal embeddings of one identity; nothing to compare without positives.
    #[test]
    fn batches_without_negatives_or_positives_have_the_documented_loss() {
        let config = SupervisedContrastiveConfig::new();
        let features = || Tensor::<2>::ones([4, 2], &Device::default());
        let found = loss(&config, features(), &[5; 4]);
        assert!((found - 3_f32.ln()).abs() < 1e-5, "{found}");
        let found = loss(&config, features(), &[0, 1, 2, 3]);
        assert!(found.abs() < f32::EPSILON, "{found}");
    }

    #[test]
    fn extreme_temperatures_have_finite_values_and_gradients() {
        let device = Device::default().autodiff();
        for temperature in [MIN_SCALE, 1.0, MAX_WEIGHT] {
            for value in [0.0, 1.0, 1e15] {
                let features = Tensor::<2>::full([4, 2], value, &device).require_grad();
                let config = SupervisedContrastiveConfig::new().with_temperature(temperature);
                let criterion = config.init(&OutputShape::single(2, 2), &fixtures::init(&device));
                let output = ReidOutput::single(features.clone(), features.clone());
                let loss = criterion.forward(&output, &Targets::new(&[0, 0, 1, 1], &device));
                let gradient = features.grad(&loss.clone().backward()).expect("a gradient");
                let sum = gradient.abs().sum() + loss.inner().abs();
                let sum = sum.into_scalar::<f32>();
                assert!(sum.is_finite(), "τ = {temperature}, features of {value}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "temperature: expected 0.000001 to 1000000, found 0")]
    fn a_temperature_of_0_panics() {
        let config = SupervisedContrastiveConfig::new().with_temperature(0.0);
        let _ = config.init(
            &OutputShape::single(2, 2),
            &fixtures::init(&Device::default()),
        );
    }
}
