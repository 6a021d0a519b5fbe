//! Batch-hard triplet loss (Hermans, Beyer, Leibe, 2017, arXiv:1703.07737).

use burn::{
    config::Config,
    module::Module,
    tensor::{Bool, Int, Tensor, activation::softplus},
};
use reid_core::Problems;
use serde::{Deserialize, Serialize};

use crate::{
    criterion::{self, Criterion, CriterionConfig, NamedLoss},
    distance::Distance,
    head::{OutputShape, ReidOutput},
    init::Init,
    loss::MAX_WEIGHT,
    targets::Targets,
};

/// The margin by which a positive should be nearer to the anchor than a negative.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Margin {
    /// A hard margin from 0 to 1e6: `max(0, d_ap - d_an + margin)`.
    Hard(f64),
    /// A soft margin: `ln(1 + exp(d_ap - d_an))`.
    Soft,
}

/// How the losses of the anchors are reduced to one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// The mean over the anchors that have a positive and a negative, as in most toolkits.
    Mean,
    /// The sum over the anchors, as in FNC's equation 6.
    Sum,
}

/// Configuration of [`BatchHardTriplet`].
#[derive(Config, Debug)]
pub struct BatchHardTripletConfig {
    /// The margin; a hard margin of 0.3 by default, as in the strong baseline.
    #[config(default = "Margin::Hard(0.3)")]
    pub margin: Margin,
    /// The distance between features; Euclidean by default.
    #[config(default = "Distance::Euclidean")]
    pub distance: Distance,
    /// The reduction over anchors; the mean by default.
    #[config(default = "Reduction::Mean")]
    pub reduction: Reduction,
}

/// Computes the triplet loss of every image of a batch as an anchor, with its farthest positive and its
/// nearest negative.
///
/// ```text
/// d_ap(i) = max { d(i, j) : id_j = id_i, j ≠ i }
/// d_an(i) = min { d(i, j) : id_j ≠ id_i }
/// L = mean_i max(0, d_ap(i) - d_an(i) + margin)     or     mean_i ln(1 + exp(d_ap(i) - d_an(i)))
/// ```
///
/// The losses of branches are summed. Identities may have different numbers of images. An anchor without a
/// positive or without a negative is skipped; the loss of a batch without any anchor is 0.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::Seed;
/// use reid_nn::{Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets, loss::BatchHardTripletConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let criterion = BatchHardTripletConfig::new().init(&OutputShape::single(1, 2), &init);
/// let features = Tensor::<2>::from_data([[0.0], [1.0], [1.5]], &device);
/// let output = ReidOutput::single(features.clone(), features);
/// // Anchors 0: 1 - 1.5 + 0.3 < 0 → 0; 1: 1 - 0.5 + 0.3 = 0.8; 2 has no positive. Mean of two: 0.4.
/// let loss = criterion.forward(&output, &Targets::new(&[0, 0, 1], &device));
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

    fn init(&self, _output: &OutputShape, _init: &Init<'_>) -> BatchHardTriplet {
        Problems::refuse("a triplet loss", |problems| self.validate(problems));
        BatchHardTriplet {
            margin: self.margin,
            distance: self.distance,
            reduction: self.reduction,
        }
    }

    fn compares_images(&self) -> bool {
        true
    }

    fn validate(&self, problems: &mut Problems) {
        if let Margin::Hard(margin) = self.margin {
            problems.number("margin.hard", margin, 0.0..=MAX_WEIGHT);
        }
    }
}

impl Criterion for BatchHardTriplet {
    fn uses_logits(&self) -> bool {
        false
    }

    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        let pairs = Pairs::from_labels(targets.labels.clone());
        let branches = output.features.iter();
        let losses = branches.map(|features| self.branch(features, &pairs));
        criterion::by_branch("triplet", losses)
    }
}

impl BatchHardTriplet {
    /// Finds the index in the batch of the farthest positive and of the nearest negative of each anchor. The
    /// index is arbitrary where there is none.
    ///
    /// Distances to positives are computed after the mean of the identity is subtracted. Training produces
    /// features that are long but close together, and rounding would otherwise hide their differences.
    fn hardest(&self, features: Tensor<2>, pairs: &Pairs) -> [Tensor<1, Int>; 2] {
        let within = pairs.means.clone().cast(features.dtype());
        let positive = self.distance.within_groups(features.clone(), within);
        let positive = positive.mask_fill(pairs.positive.clone().bool_not(), -1.0);
        let distances = self.distance.pairwise(features);
        let unreachable = (distances.clone().max() + 1.0).reshape([1, 1]);
        let unreachable = unreachable.expand(distances.dims());
        let negative = distances.mask_where(pairs.negative.clone().bool_not(), unreachable);
        [positive.argmax(1), negative.argmin(1)].map(|indices| indices.squeeze_dim(1))
    }

    fn branch(&self, features: &Tensor<2>, pairs: &Pairs) -> Tensor<1> {
        let [farthest, nearest] = self.hardest(features.clone().detach(), pairs);
        let distance_to = |other| {
            self.distance
                .between(features.clone(), features.clone().select(0, other))
        };
        let difference = distance_to(farthest) - distance_to(nearest);

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

/// The positive pairs and the negative pairs of a batch, and its anchors, which have at least one of each.
struct Pairs {
    positive: Tensor<2, Bool>,
    negative: Tensor<2, Bool>,
    anchor: Tensor<2, Bool>,
    /// The matrix that replaces each row by the mean of its identity, `[batch, batch]`.
    means: Tensor<2>,
}

impl Pairs {
    fn from_labels(labels: Tensor<1, Int>) -> Self {
        let [batch] = labels.dims();
        let row = labels.clone().reshape([1, batch]).expand([batch, batch]);
        let column = labels.reshape([batch, 1]).expand([batch, batch]);
        let same = row.equal(column);
        let itself = Tensor::<2, Int>::eye(batch, &same.device()).bool();
        let positive = same.clone().bool_and(itself.bool_not());
        let negative = same.clone().bool_not();
        let same = same.float();
        Self {
            means: same.clone() / same.sum_dim(1),
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
    use burn::tensor::Device;

    use super::*;
    use crate::fixtures;

    const FEATURES: [[f32; 2]; 6] = [
        [0.0, 0.0],
        [1.0, 0.0],
        [3.0, 0.0],
        [3.0, 1.0],
        [0.0, 2.0],
        [0.5, 2.0],
    ];

    fn loss(config: &BatchHardTripletConfig, features: Tensor<2>, labels: &[i64]) -> f32 {
        let device = features.device();
        let criterion = config.init(&OutputShape::single(2, 3), &fixtures::init(&device));
        let output = ReidOutput::single(features.clone(), features);
        let labels = Tensor::from_data(labels, &device);
        criterion.forward(&output, &labels.into()).into_scalar()
    }

    #[test]
    fn losses_match_hand_computed_ones() {
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
    fn identical_features_have_a_finite_gradient() {
        let device = Device::default().autodiff();
        let features = Tensor::<2>::ones([4, 2], &device).require_grad();
        for margin in [Margin::Hard(0.3), Margin::Soft] {
            let criterion = BatchHardTripletConfig::new()
                .with_margin(margin)
                .init(&OutputShape::single(2, 2), &fixtures::init(&device));
            let output = ReidOutput::single(features.clone(), features.clone());
            let loss = criterion.forward(&output, &Targets::new(&[0, 0, 1, 1], &device));
            let gradient = features.grad(&loss.backward()).expect("a gradient");
            assert!(gradient.abs().max().into_scalar::<f32>() < f32::EPSILON);
        }
    }

    /// The features of four people have a length of about 30, and those of one person are about 1e-2 apart.
    /// In single precision, squared distances of 1e-4 vanish beside squared lengths of 900.
    #[test]
    fn the_hardest_positives_of_long_features_are_found() {
        let device = Device::default();
        // A vector of 64 uniform values in ±√3·s/8 has length s.
        let [people, images, dimensions] = [4, 4, 64];
        let centres = fixtures::tensor::<2>([people, dimensions], -6.5..6.5, &device);
        let centres = centres.unsqueeze_dim::<3>(1).repeat_dim(1, images);
        let centres = centres.reshape([people * images, dimensions]);
        let apart = fixtures::tensor([people * images, dimensions], -2.17e-3..2.17e-3, &device);
        let features: Tensor<2> = centres + apart;

        let values: Vec<f64> = features.to_data().iter::<f64>().collect();
        let row = |at: usize| &values[at * dimensions..][..dimensions];
        let distance = |a: usize, b: usize| {
            let terms = row(a).iter().zip(row(b)).map(|(a, b)| (a - b).powi(2));
            terms.sum::<f64>().sqrt()
        };
        let all = 0..people * images;
        let distances_from = |anchor: usize, own: bool| {
            let other = all.clone();
            let other = other.filter(move |at| (at / images == anchor / images) == own);
            other.map(move |at| distance(anchor, at))
        };
        let hardest = all.clone().map(|anchor| {
            let farthest = distances_from(anchor, true).fold(0.0, f64::max);
            farthest - distances_from(anchor, false).fold(f64::INFINITY, f64::min) + 100.0
        });
        let expected = hardest.sum::<f64>() / all.len() as f64;
        // d_ap - d_an is about -40; the test is about the error of d_ap, which is about 0.015.
        let config = BatchHardTripletConfig::new().with_margin(Margin::Hard(100.0));
        let criterion = config.init(
            &OutputShape::single(dimensions, people),
            &fixtures::init(&device),
        );
        let labels: Vec<i64> = all
            .clone()
            .map(|at| (at / images).cast_signed() as i64)
            .collect();
        let labels = Tensor::from_data(labels.as_slice(), &device);
        let pairs = Pairs::from_labels(labels.clone());
        let [farthest, _] = criterion.hardest(features.clone(), &pairs);
        for (anchor, found) in farthest.into_data().iter::<i64>().enumerate() {
            let found = distance(anchor, usize::try_from(found).expect("an index"));
            let expected = distances_from(anchor, true).fold(0.0, f64::max);
            assert!(
                found >= expected * (1.0 - 1e-4),
                "anchor {anchor}: found {found}, expected {expected}"
            );
        }
        let output = ReidOutput::single(features.clone(), features);
        let found = criterion
            .forward(&output, &labels.into())
            .into_scalar::<f32>();
        assert!(
            (f64::from(found) - expected).abs() < 2e-5,
            "found {found}, expected {expected}"
        );
    }

    #[test]
    fn a_batch_without_anchors_has_loss_0() {
        let features = || Tensor::<2>::from_data(FEATURES, &Device::default());
        for margin in [Margin::Hard(0.3), Margin::Soft] {
            let config = BatchHardTripletConfig::new().with_margin(margin);
            let cost = |labels: &[i64]| loss(&config, features(), labels).abs();
            assert!(cost(&[7; 6]) < f32::EPSILON, "no negative");
            assert!(cost(&[0, 1, 2, 3, 4, 5]) < f32::EPSILON, "no positive");
        }
    }

    #[test]
    #[should_panic(expected = "margin.hard: expected 0 to 1000000, found -0.1")]
    fn a_negative_margin_panics() {
        let config = BatchHardTripletConfig::new().with_margin(Margin::Hard(-0.1));
        let _ = config.init(
            &OutputShape::single(2, 2),
            &fixtures::init(&Device::default()),
        );
    }
}
