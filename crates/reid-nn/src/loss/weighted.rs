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

/// Configuration of [`Weighted`], whose documentation has an example.
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
/// With a weight of 0, a criterion that uses a teacher has no loss, and needs no teacher.
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
    /// Whether the criterion is computed. With a weight of 0, a loss of a teacher is not, as there may be none.
    #[module(skip)]
    is_computed: bool,
}

impl<C: CriterionConfig> CriterionConfig for WeightedConfig<C> {
    type Criterion = Weighted<C::Criterion>;

    fn init(&self, output: &OutputShape, init: &Init<'_>) -> Self::Criterion {
        Problems::refuse("a weighted loss", |problems| self.validate(problems));
        let weight = self.weight;
        Weighted {
            criterion: self.criterion.init(output, init),
            weight,
            is_computed: weight > 0.0 || !self.criterion.uses_teacher(),
        }
    }

    fn compares_images(&self) -> bool {
        self.weight > 0.0 && self.criterion.compares_images()
    }

    fn uses_teacher(&self) -> bool {
        self.weight > 0.0 && self.criterion.uses_teacher()
    }

    fn validate(&self, problems: &mut Problems) {
        problems.number("weight", self.weight, 0.0..=MAX_WEIGHT);
        problems.at("criterion", |problems| self.criterion.validate(problems));
    }

    fn validate_teacher(&self, student: usize, teacher: Option<usize>, problems: &mut Problems) {
        if self.weight == 0.0 {
            return;
        }
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
        if !self.is_computed {
            return Vec::new();
        }
        let mut losses = self.criterion.losses(output, targets);
        for loss in &mut losses {
            loss.value = loss.value.clone() * self.weight;
        }
        losses
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::{
        fixtures,
        loss::{DistillationConfig, IdentityLossConfig},
    };

    #[test]
    fn a_weight_of_0_needs_no_teacher() {
        let device = Device::default();
        let (shape, init) = (OutputShape::single(2, 2), fixtures::init(&device));
        let features = Tensor::<2>::ones([2, 2], &device);
        let output = ReidOutput::single(features.clone(), features);
        let targets = Targets::new(&[0, 1], &device);
        for (weight, without_teacher) in [(0.0, 0), (2.0, 1)] {
            let distillation = WeightedConfig {
                weight,
                criterion: DistillationConfig::new(),
            };
            assert_eq!(distillation.uses_teacher(), weight > 0.0);
            let mut problems = Problems::new();
            distillation.validate_teacher(2, None, &mut problems);
            assert_eq!(problems.len(), without_teacher);
            // The other parts of a sum are not affected.
            let identity = WeightedConfig {
                weight: 0.0,
                criterion: IdentityLossConfig::new(),
            };
            let criterion = (Some(distillation), vec![identity]);
            assert_eq!(criterion.uses_teacher(), weight > 0.0);
            if weight == 0.0 {
                let losses = criterion.init(&shape, &init).losses(&output, &targets);
                assert_eq!(losses.len(), 1);
            }
        }
    }
}
