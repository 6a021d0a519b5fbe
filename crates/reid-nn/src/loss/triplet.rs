//! Batch-hard triplet loss (Hermans, Beyer, Leibe, 2017, arXiv:1703.07737).

use burn::{
    config::Config,
    module::Module,
    tensor::{Bool, Device, Int, Tensor, activation::softplus},
};
use serde::{Deserialize, Serialize};

use crate::{
    criterion::{self, Criterion, CriterionConfig, NamedLoss},
    distance::Distance,
    head::{OutputShape, ReidOutput},
};

/// How much nearer a positive should be than a negative.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Margin {
    /// By at least this much: `max(0, d_ap - d_an + margin)`.
    Hard(f64),
    /// The more the better: `ln(1 + exp(d_ap - d_an))`.
    Soft,
}

/// How the losses of the anchors become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// Their mean over the anchors that have a positive and a negative, as toolkits do.
    Mean,
    /// Their sum, as FNC's equation 6 has it.
    Sum,
}

/// Configuration of [`BatchHardTriplet`].
#[derive(Config, Debug)]
pub struct BatchHardTripletConfig {
    /// Hard margin of 0.3 by default, as in the strong baseline.
    #[config(default = "Margin::Hard(0.3)")]
    pub margin: Margin,
    /// Euclidean by default.
    #[config(default = "Distance::Euclidean")]
    pub distance: Distance,
    /// Mean by default.
    #[config(default = "Reduction::Mean")]
    pub reduction: Reduction,
}

/// Every image of a batch is an anchor, with its farthest positive and its nearest negative.
///
/// ```text
/// d_ap(i) = max { d(i, j) : id_j = id_i, j ≠ i }
/// d_an(i) = min { d(i, j) : id_j ≠ id_i }
/// L = mean_i max(0, d_ap(i) - d_an(i) + margin)     or     mean_i ln(1 + exp(d_ap(i) - d_an(i)))
/// ```
///
/// Losses of branches are summed. Identities may have different numbers of images. An anchor
/// without a positive or without a negative is left out; a batch without any anchor costs 0.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::{Criterion, CriterionConfig, OutputShape, ReidOutput, loss::BatchHardTripletConfig};
///
/// let device = Device::default();
/// let criterion = BatchHardTripletConfig::new().init(&OutputShape::single(1, 2), &device);
/// let features = Tensor::<2>::from_data([[0.0], [1.0], [1.5]], &device);
/// let output = ReidOutput::single(features.clone(), features);
/// // Anchors 0: 1 - 1.5 + 0.3 < 0 → 0; 1: 1 - 0.5 + 0.3 = 0.8; 2 has no positive. Mean of two: 0.4.
/// let loss = criterion.forward(&output, Tensor::from_data([0, 0, 1], &device));
/// assert!((loss.into_scalar::<f32>() - 0.4).abs() < 1e-6);
/// ```
#[derive(Module, Debug)]
pub struct BatchHardTriplet {
    #[module(skip)]
    margin: Margin,
    #[module(skip)]
    distance: Distance,
    #[module(skip)]
    reduction: Reduction,
}

impl CriterionConfig for BatchHardTripletConfig {
    type Criterion = BatchHardTriplet;

    fn init(&self, _output: &OutputShape, _device: &Device) -> BatchHardTriplet {
        if let Margin::Hard(margin) = self.margin {
            assert!(
                margin.is_finite() && margin >= 0.0,
                "a triplet loss needs a finite margin of at least 0, found {margin}"
            );
        }
        BatchHardTriplet {
            margin: self.margin,
            distance: self.distance,
            reduction: self.reduction,
        }
    }
}

impl Criterion for BatchHardTriplet {
    fn name(&self) -> &'static str {
        "triplet"
    }

    fn forward(&self, output: &ReidOutput, identities: Tensor<1, Int>) -> Tensor<1> {
        criterion::total(self.losses(output, identities), output)
    }

    fn losses(&self, output: &ReidOutput, identities: Tensor<1, Int>) -> Vec<NamedLoss> {
        let pairs = Pairs::of(identities);
        let branches = output.features.iter();
        let losses = branches.map(|features| self.branch(features.clone(), &pairs));
        criterion::by_branch(self.name(), losses)
    }
}

impl BatchHardTriplet {
    fn branch(&self, features: Tensor<2>, pairs: &Pairs) -> Tensor<1> {
        let distances = self.distance.pairwise(features);
        // Pairs of the wrong kind are put out of reach by values just beyond the batch's own, which
        // half precision can hold too; anchors left without a pair are masked below.
        let beyond = (distances.clone().detach().max() + 1.0).reshape([1, 1]);
        let beyond = beyond.expand(distances.dims());
        let positive = distances
            .clone()
            .mask_fill(pairs.positive.clone().bool_not(), -1.0);
        let negative = distances.mask_where(pairs.negative.clone().bool_not(), beyond);
        let difference = positive.max_dim(1) - negative.min_dim(1);

        let losses = match self.margin {
            Margin::Hard(margin) => (difference + margin).clamp_min(0.0),
            Margin::Soft => softplus(difference, 1.0),
        };
        let anchors = pairs.anchor.clone();
        let sum = losses.mask_fill(anchors.clone().bool_not(), 0.0).sum();
        match self.reduction {
            Reduction::Sum => sum,
            Reduction::Mean => {
                let count = anchors.int().sum().float().clamp_min(1.0);
                sum.clone() / count.cast(sum.dtype())
            }
        }
    }
}

/// Which pairs of a batch show one identity, which show two, and which images have both.
struct Pairs {
    positive: Tensor<2, Bool>,
    negative: Tensor<2, Bool>,
    anchor: Tensor<2, Bool>,
}

impl Pairs {
    fn of(identities: Tensor<1, Int>) -> Self {
        let [batch] = identities.dims();
        let row = identities
            .clone()
            .reshape([1, batch])
            .expand([batch, batch]);
        let column = identities.reshape([batch, 1]).expand([batch, batch]);
        let same = row.equal(column);
        let itself = Tensor::<2, Int>::eye(batch, &same.device()).bool();
        let positive = same.clone().bool_and(itself.bool_not());
        let negative = same.bool_not();
        Self {
            anchor: positive
                .clone()
                .any_dim(1)
                .bool_and(negative.clone().any_dim(1)),
            positive,
            negative,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEATURES: [[f32; 2]; 6] = [
        [0.0, 0.0],
        [1.0, 0.0],
        [3.0, 0.0],
        [3.0, 1.0],
        [0.0, 2.0],
        [0.5, 2.0],
    ];

    fn loss(config: &BatchHardTripletConfig, features: Tensor<2>, identities: &[i64]) -> f32 {
        let device = features.device();
        let criterion = config.init(&OutputShape::single(2, 3), &device);
        let output = ReidOutput::single(features.clone(), features);
        let identities = Tensor::from_data(identities, &device);
        criterion.forward(&output, identities).into_scalar()
    }

    #[test]
    fn worked_values() {
        let config = BatchHardTripletConfig::new;
        let cases = [
            (config().with_margin(Margin::Soft), 0.264_451_7),
            (config().with_margin(Margin::Hard(0.3)), 0.0),
            // Per anchor 0.5, 0.5, 0.5, 0.2639320, 0, 0.
            (config().with_margin(Margin::Hard(1.5)), 0.293_988_7),
            (
                config()
                    .with_margin(Margin::Hard(1.5))
                    .with_reduction(Reduction::Sum),
                1.763_932,
            ),
        ];
        for (config, expected) in cases {
            let features = Tensor::from_data(FEATURES, &Device::default());
            let found = loss(&config, features, &[0, 0, 1, 1, 2, 2]);
            assert!((found - expected).abs() < 1e-5, "{config:?}: {found}");
        }
    }

    #[test]
    fn coinciding_images_have_a_finite_gradient() {
        let device = Device::default().autodiff();
        let features = Tensor::<2>::ones([4, 2], &device).require_grad();
        for margin in [Margin::Hard(0.3), Margin::Soft] {
            let criterion = BatchHardTripletConfig::new()
                .with_margin(margin)
                .init(&OutputShape::single(2, 2), &device);
            let output = ReidOutput::single(features.clone(), features.clone());
            let loss = criterion.forward(&output, Tensor::from_data([0, 0, 1, 1], &device));
            let gradient = features.grad(&loss.backward()).expect("a gradient");
            assert!(gradient.abs().max().into_scalar::<f32>() < f32::EPSILON);
        }
    }

    #[test]
    fn a_batch_without_pairs_costs_nothing() {
        let features = || Tensor::<2>::from_data(FEATURES, &Device::default());
        for margin in [Margin::Hard(0.3), Margin::Soft] {
            let config = BatchHardTripletConfig::new().with_margin(margin);
            let cost = |identities: &[i64]| loss(&config, features(), identities).abs();
            assert!(cost(&[7; 6]) < f32::EPSILON, "no negative");
            assert!(cost(&[0, 1, 2, 3, 4, 5]) < f32::EPSILON, "no positive");
        }
    }

    #[test]
    #[should_panic(expected = "a finite margin of at least 0, found -0.1")]
    fn a_negative_margin_is_refused() {
        let config = BatchHardTripletConfig::new().with_margin(Margin::Hard(-0.1));
        let _ = config.init(&OutputShape::single(2, 2), &Device::default());
    }
}
