//! A criterion multiplied by a constant weight.

use burn::module::Module;
use reid_core::{Problems, strict};
use serde::{Deserialize, Serialize};

use crate::{
    criterion::{Criterion, CriterionConfig, NamedLoss},
    head::{OutputShape, ReidOutput},
    init::Init,
    loss::MAX_WEIGHT,
    targets::Targets,
};

/// Configuration of [`Weighted`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "C: Deserialize<'de>"))]
pub struct WeightedConfig<C> {
    /// The weight, from 0 to 1e6.
    pub weight: f64,
    /// The criterion that is scaled.
    #[serde(deserialize_with = "strict")]
    pub criterion: C,
}

/// A criterion multiplied by a constant: `weight · loss`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::Seed;
/// use reid_nn::{Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets};
/// use reid_nn::loss::{IdentityLossConfig, WeightedConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let config = WeightedConfig { weight: 2.0, criterion: IdentityLossConfig::new() };
/// let criterion = config.init(&OutputShape::single(2, 2), &init);
/// let zeros = Tensor::<2>::zeros([1, 2], &device);
/// let loss = criterion.forward(&ReidOutput::single(zeros.clone(), zeros), &Targets::new(&[0], &device));
/// assert!((loss.into_scalar::<f32>() - 2.0 * 2.0_f32.ln()).abs() < 1e-6);
/// ```
#[derive(Module, Debug)]
pub struct Weighted<C> {
    /// The criterion.
    pub criterion: C,
    weight: f64,
}

impl<C: CriterionConfig> CriterionConfig for WeightedConfig<C> {
    type Criterion = Weighted<C::Criterion>;

    fn init(&self, output: &OutputShape, init: &Init<'_>) -> Self::Criterion {
        Problems::refuse("a weighted loss", |problems| self.validate(problems));
        let weight = self.weight;
        Weighted {
            criterion: self.criterion.init(output, init),
            weight,
        }
    }

    fn compares_images(&self) -> bool {
        self.weight > 0.0 && self.criterion.compares_images()
    }

    fn validate(&self, problems: &mut Problems) {
        problems.number("weight", self.weight, 0.0..=MAX_WEIGHT);
        problems.at("criterion", |problems| self.criterion.validate(problems));
    }

    fn validate_teacher(&self, student: usize, teacher: Option<usize>, problems: &mut Problems) {
        problems.at("criterion", |problems| {
            let criterion = &self.criterion;
            criterion.validate_teacher(student, teacher, problems);
        });
    }
}

impl<C: Criterion> Criterion for Weighted<C> {
    fn uses_logits(&self) -> bool {
        self.criterion.uses_logits()
    }

    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        let mut losses = self.criterion.losses(output, targets);
        for loss in &mut losses {
            loss.value = loss.value.clone() * self.weight;
        }
        losses
    }
}
