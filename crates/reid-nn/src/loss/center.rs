//! Center loss: the distance of features to the learnt centre of their identity (Wen et al., ECCV 2016).

use burn::{
    config::Config,
    module::{Module, Param},
    nn::Initializer,
    tensor::Tensor,
};

use reid_core::Problems;

use crate::{
    criterion::{Criterion, CriterionConfig, NamedLoss},
    head::{OutputShape, ReidOutput},
    init::Init,
    loss::MAX_WEIGHT,
    targets::Targets,
};

/// Configuration of [`CenterLoss`], whose documentation has an example.
#[derive(Config, Debug)]
pub struct CenterLossConfig {
    /// The weight w of the loss, from 0 to 1e6; 5e-4 in the strong baseline.
    #[config(default = 5e-4)]
    pub weight: f64,
}

/// Computes the mean squared distance of the features to the centres of their identities, which are learnt.
///
/// ```text
/// L = w · Σ_branches mean_i ‖f_i - c_{id_i}‖²
/// gradients: ∂L/∂f for the features, ∂(L / w)/∂c for the centres
/// ```
///
/// The gradient of the centres does not contain the weight. The strong baseline divides by the weight before
/// the separate optimizer of the centres (SGD with a learning rate of 0.5) takes its step.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::Seed;
/// use reid_nn::{Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets, loss::CenterLossConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let config = CenterLossConfig::new().with_weight(0.5);
/// let mut criterion = config.init(&OutputShape::single(2, 1), &init);
/// criterion.centers[0] = burn::module::Param::from_tensor(Tensor::zeros([1, 2], &device));
/// let features = Tensor::<2>::from_data([[3.0, 4.0], [0.0, 1.0]], &device);
/// let output = ReidOutput::single(features.clone(), features);
/// // 0.5 · (25 + 1) / 2
/// let loss = criterion.forward(&output, &Targets::new(&[0, 0], &device));
/// assert!((loss.into_scalar::<f32>() - 6.5).abs() < 1e-6);
/// ```
#[derive(Module, Debug)]
pub struct CenterLoss {
    /// The centres of each branch, `[classes, dimensions]`, initialised from N(0, 1).
    pub centers: Vec<Param<Tensor<2>>>,
    weight: f64,
}

impl CriterionConfig for CenterLossConfig {
    type Criterion = CenterLoss;

    fn init(&self, output: &OutputShape, init: &Init<'_>) -> CenterLoss {
        Problems::refuse("center loss", |problems| self.validate(problems));
        let weight = self.weight;
        let normal = Initializer::Normal {
            mean: 0.0,
            std: 1.0,
        };
        let centers = |&dimensions: &usize| {
            let shape = [output.classes, dimensions];
            init.tensor(shape, &normal, shape)
        };
        CenterLoss {
            centers: output.features.iter().map(centers).collect(),
            weight,
        }
    }

    fn validate(&self, problems: &mut Problems) {
        problems.number("weight", self.weight, 0.0..=MAX_WEIGHT);
    }
}

impl Criterion for CenterLoss {
    fn uses_logits(&self) -> bool {
        false
    }

    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        assert_eq!(
            self.centers.len(),
            output.features.len(),
            "the center loss was built for {} branches and got {}",
            self.centers.len(),
            output.features.len()
        );
        let branches = self.centers.iter().zip(&output.features);
        let losses = branches.map(|(centers, features)| {
            let ([_, built], [_, found]) = (centers.dims(), features.dims());
            assert_eq!(
                built, found,
                "the center loss was built for features of {built} dimensions and got {found}"
            );
            targets.check_classes(centers.dims()[0]);
            let own = centers.val().select(0, targets.labels.clone());
            let features = features.clone();
            let pull = mean_squared_distance(features.clone(), own.clone().detach());
            let follow = mean_squared_distance(features.detach(), own);
            // `follow` contributes its gradient to the loss and 0 to its value.
            pull * self.weight + (follow.clone() - follow.detach())
        });
        let pulls = losses.reduce(Tensor::add);
        let pulls = pulls.map(|value| NamedLoss::new("center", value));
        pulls.into_iter().collect()
    }
}

fn mean_squared_distance(features: Tensor<2>, centers: Tensor<2>) -> Tensor<1> {
    let squared = (features - centers).square().sum_dim(1);
    squared.clamp(1e-12, 1e12).mean()
}
