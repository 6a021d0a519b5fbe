//! Identity loss: cross-entropy over training identities with label smoothing (Szegedy et al., CVPR
//! 2016, arXiv:1512.00567).

use burn::{
    config::Config,
    module::Module,
    tensor::{Int, Tensor, activation::log_softmax},
};
use reid_core::Problems;
use serde::{Deserialize, Serialize};

use crate::{
    criterion::{self, Criterion, CriterionConfig, NamedLoss},
    head::{OutputShape, ReidOutput},
    init::Init,
    targets::Targets,
};

/// The classes that receive the probability that label smoothing takes from the correct class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Smoothing {
    /// All K classes receive `ε/K`, so the correct class has `1 - ε + ε/K`. The form of the paper, PyTorch,
    /// the strong baseline, RGA and FNC.
    AllClasses,
    /// Each of the other classes receives `ε/(K - 1)`, and the correct class has `1 - ε`. The form of
    /// FastReID.
    OtherClasses,
}

/// Configuration of [`IdentityLoss`], whose documentation has an example.
#[derive(Config, Debug)]
pub struct IdentityLossConfig {
    /// The probability ε taken from the correct class, in `[0, 1)`; 0 by default, 0.1 in the strong baseline.
    #[config(default = 0.0)]
    pub smoothing: f64,
    /// The classes that receive this probability.
    #[config(default = "Smoothing::AllClasses")]
    pub form: Smoothing,
}

/// Computes the cross-entropy with label smoothing, averaged over the batch and summed over branches.
///
/// ```text
/// L = Σ_branches mean_i( -Σ_k q_ik · log softmax(y_i)_k )
/// q_ik = (1 - ε)·1[k = id_i] + ε/K                       (form `AllClasses`)
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::Seed;
/// use reid_nn::{Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets, loss::IdentityLossConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let criterion = IdentityLossConfig::new().with_smoothing(0.1).init(&OutputShape::single(4, 4), &init);
/// let logits = Tensor::<2>::from_data([[2.0, 0.5, -1.0, 0.0]], &device);
/// let output = ReidOutput::single(logits.clone(), logits);
/// let loss = criterion.forward(&output, &Targets::new(&[0], &device));
/// assert!((loss.into_scalar::<f32>() - 0.504_849_6).abs() < 1e-6);
/// ```
#[derive(Module, Debug)]
pub struct IdentityLoss {
    smoothing: f64,
    #[module(skip)]
    classes: usize,
    #[module(skip)]
    form: Smoothing,
}

impl CriterionConfig for IdentityLossConfig {
    type Criterion = IdentityLoss;

    fn init(&self, output: &OutputShape, _init: &Init<'_>) -> IdentityLoss {
        Problems::refuse("identity loss", |problems| self.validate(problems));
        let smoothing = self.smoothing;
        IdentityLoss {
            smoothing,
            classes: output.classes,
            form: self.form,
        }
    }

    fn validate(&self, problems: &mut Problems) {
        problems.number("smoothing", self.smoothing, 0.0..1.0);
    }
}

impl Criterion for IdentityLoss {
    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        targets.check_classes(self.classes);
        let [batch] = targets.labels.dims();
        let targets = targets.labels.clone().reshape([batch, 1]);
        let branches = output.logits.iter().enumerate();
        let losses = branches.map(|(branch, logits)| {
            let [images, classes] = logits.dims();
            assert_eq!(
                [images, classes],
                [batch, self.classes],
                "the identity loss was built for {} classes and got logits {images}x{classes} of branch \
                 {branch} for {batch} labels; logits of other labels need a custom criterion",
                self.classes
            );
            self.branch(logits.clone(), targets.clone())
        });
        criterion::by_branch("identity", losses)
    }
}

impl IdentityLoss {
    fn branch(&self, logits: Tensor<2>, targets: Tensor<2, Int>) -> Tensor<1> {
        let classes = logits.dims()[1] as f64;
        let log_probability = log_softmax(logits, 1);
        let right = log_probability.clone().gather(1, targets).mean();
        if self.smoothing == 0.0 {
            return right.neg();
        }
        // Σ_k q_k·log p_k as a weighted sum of the correct class and the mean over all classes.
        let (right_share, all_share) = match self.form {
            Smoothing::AllClasses => (1.0 - self.smoothing, self.smoothing),
            Smoothing::OtherClasses => {
                let each = self.smoothing / (classes - 1.0).max(1.0);
                (1.0 - self.smoothing - each, each * classes)
            }
        };
        (right * right_share + log_probability.mean() * all_share).neg()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Losses of the logits (2, 0.5, -1, 0) with target 0, computed by hand.
    #[test]
    fn losses_match_hand_computed_ones() {
        let device = Device::default();
        let logits = Tensor::<2>::from_data([[2.0, 0.5, -1.0, 0.0]], &device);
        let output = ReidOutput::single(logits.clone(), logits);
        let cases = [
            // log Σ exp = 2.3423496, minus 2.
            (0.0, Smoothing::AllClasses, 0.342_349_6),
            // Mean of -log p = 2.3423496 - 0.375 = 1.9673496: 0.9·0.3423496 + 0.1·1.9673496.
            (0.1, Smoothing::AllClasses, 0.504_849_6),
            // 0.9·0.3423496 + 0.1·mean of the other three (1.8423, 3.3423, 2.3423).
            (0.1, Smoothing::OtherClasses, 0.559_016_3),
        ];
        for (smoothing, form, expected) in cases {
            let config = IdentityLossConfig::new()
                .with_smoothing(smoothing)
                .with_form(form);
            let criterion =
                config.init(&OutputShape::single(4, 4), &crate::fixtures::init(&device));
            let loss = criterion.forward(&output, &Targets::new(&[0], &device));
            assert!((loss.into_scalar::<f32>() - expected).abs() < 1e-6);
        }
    }

    #[test]
    #[should_panic(expected = "built for 4 classes and got logits 2x3 of branch 0 for 2 labels")]
    fn another_number_of_logits_panics() {
        let device = Device::default();
        let criterion = IdentityLossConfig::new()
            .init(&OutputShape::single(4, 4), &crate::fixtures::init(&device));
        let logits = Tensor::<2>::zeros([2, 3], &device);
        let output = ReidOutput::single(logits.clone(), logits);
        let _ = criterion.forward(&output, &Targets::new(&[0, 1], &device));
    }

    #[test]
    #[should_panic(expected = "label 4 of image 0 is not among the 4 classes")]
    fn a_label_beyond_the_classes_panics() {
        let device = Device::default();
        let init = crate::fixtures::init(&device);
        let criterion = IdentityLossConfig::new().init(&OutputShape::single(4, 4), &init);
        let logits = Tensor::<2>::zeros([1, 4], &device);
        let output = ReidOutput::single(logits.clone(), logits);
        let _ = criterion.forward(&output, &Targets::new(&[4], &device));
    }

    #[test]
    #[should_panic(expected = "smoothing: expected at least 0 and below 1, found 1")]
    fn a_smoothing_of_1_panics() {
        let config = IdentityLossConfig::new().with_smoothing(1.0);
        let _ = config.init(
            &OutputShape::single(4, 4),
            &crate::fixtures::init(&Device::default()),
        );
    }
}
