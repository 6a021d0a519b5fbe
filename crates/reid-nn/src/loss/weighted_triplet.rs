//! Weighted regularised triplet loss (Ye et al., Deep Learning for Person Re-identification: A Survey and
//! Outlook, TPAMI 2021, arXiv:2001.04193, §4.2), a part of AGW.

use burn::{
    config::Config,
    module::Module,
    tensor::{
        Bool, Tensor,
        activation::{softmax, softplus},
    },
};

use crate::{
    criterion::{Criterion, CriterionConfig, NamedLoss},
    distance::Distance,
    head::{OutputShape, ReidOutput},
    init::Init,
    loss::pairs::{PairLoss, PairLossConfig, Pairs, UNSELECTED, selected_mean},
    targets::Targets,
};

/// Configuration of [`WeightedRegularisedTriplet`], whose documentation has an example.
#[derive(Config, Debug)]
pub struct WeightedRegularisedTripletConfig {
    /// The distance between features; Euclidean in AGW.
    #[config(default = "Distance::Euclidean")]
    pub distance: Distance,
}

/// Computes the weighted regularised triplet loss of every image of a batch as an anchor. All positives and
/// negatives count, the hardest most, and there is no margin.
///
/// ```text
/// w_p(i, j) = exp(d(i, j)) / Σ_{k ∈ P_i} exp(d(i, k))         P_i = { j : id_j = id_i, j ≠ i }
/// w_n(i, j) = exp(-d(i, j)) / Σ_{k ∈ N_i} exp(-d(i, k))       N_i = { j : id_j ≠ id_i }
/// L = mean_i ln(1 + exp( Σ_{j ∈ P_i} w_p(i, j) d(i, j) - Σ_{j ∈ N_i} w_n(i, j) d(i, j) ))
/// ```
///
/// The weights have gradients, as in the authors' code. There, an image is its own positive too; here it is
/// not. The losses of branches are summed. An anchor without a positive or without a negative is skipped; the
/// loss of a batch without any anchor is 0.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::Seed;
/// use reid_nn::{Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets};
/// use reid_nn::loss::WeightedRegularisedTripletConfig;
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let criterion = WeightedRegularisedTripletConfig::new().init(&OutputShape::single(1, 2), &init);
/// let features = Tensor::<2>::from_data([[0.0], [1.0], [3.0]], &device);
/// let output = ReidOutput::single(features.clone(), features);
/// // ln(1 + exp(1 - 3)) = 0.1269 and ln(1 + exp(1 - 2)) = 0.3133; the third image has no positive.
/// let loss = criterion.forward(&output, &Targets::new(&[0, 0, 1], &device));
/// assert!((loss.into_scalar::<f32>() - (0.126_928 + 0.313_262) / 2.0).abs() < 1e-5);
/// ```
#[derive(Module, Debug)]
pub struct WeightedRegularisedTriplet {
    #[module(skip)]
    distance: Distance,
}

impl CriterionConfig for WeightedRegularisedTripletConfig {
    type Criterion = WeightedRegularisedTriplet;

    fn init(&self, _output: &OutputShape, _init: &Init<'_>) -> WeightedRegularisedTriplet {
        WeightedRegularisedTriplet {
            distance: self.distance,
        }
    }

    fn compares_images(&self) -> bool {
        true
    }
}

impl PairLossConfig for WeightedRegularisedTripletConfig {}

impl Criterion for WeightedRegularisedTriplet {
    fn uses_logits(&self) -> bool {
        false
    }

    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        self.batch_losses(output, targets)
    }
}

impl PairLoss for WeightedRegularisedTriplet {
    fn loss_name(&self) -> &'static str {
        "weighted triplet"
    }

    fn pair_loss(&self, anchors: &Tensor<2>, references: &Tensor<2>, pairs: &Pairs) -> Tensor<1> {
        let positive = pairs.positive_distances(self.distance, anchors, references);
        let negative = pairs.distances(self.distance, anchors, references);
        let farthest = weighted_mean(positive.clone(), positive, pairs.positive.clone());
        let nearest = weighted_mean(negative.clone(), negative.neg(), pairs.negative.clone());
        selected_mean(softplus(farthest - nearest, 1.0), pairs.anchor.clone())
    }
}

/// Computes the mean of the selected distances of each row, weighted by the softmax of `scores`.
///
/// # Shapes
/// - `distances`, `scores`, `selected`: `[anchors, references]`
/// - result: `[anchors, 1]`, arbitrary for a row without selected distances
fn weighted_mean(distances: Tensor<2>, scores: Tensor<2>, selected: Tensor<2, Bool>) -> Tensor<2> {
    let weights = softmax(scores.mask_fill(selected.bool_not(), UNSELECTED), 1);
    (weights * distances).sum_dim(1)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::fixtures;

    fn loss(features: Tensor<2>, labels: &[usize]) -> Tensor<1> {
        let device = features.device();
        let criterion = WeightedRegularisedTripletConfig::new();
        let criterion = criterion.init(&OutputShape::single(2, 3), &fixtures::init(&device));
        let output = ReidOutput::single(features.clone(), features);
        criterion.forward(&output, &Targets::new(labels, &device))
    }

    #[test]
    fn a_batch_without_anchors_has_loss_0() {
        let features = || fixtures::tensor::<2>([3, 2], -1.0..1.0, &Device::default());
        for labels in [[2; 3], [0, 1, 2]] {
            let found = loss(features(), &labels).into_scalar::<f32>();
            assert!(found.abs() < f32::EPSILON, "{labels:?}: {found}");
        }
    }

    /// Equal distances to positives and negatives cost ln 2.
    #[test]
    fn identical_features_have_the_loss_ln_2_and_a_finite_gradient() {
        let device = Device::default().autodiff();
        for value in [0.0, 1.0, 4096.0] {
            let features = Tensor::<2>::full([4, 2], value, &device).require_grad();
            let loss = loss(features.clone(), &[0, 0, 1, 1]);
            let found = loss.clone().into_scalar::<f32>();
            assert!((found - 2_f32.ln()).abs() < 1e-5, "{value}: {found}");
            let gradient = features.grad(&loss.backward()).expect("a gradient");
            assert!(gradient.abs().sum().into_scalar::<f32>().is_finite());
        }
    }
}
