//! Triplet loss (Schroff et al., CVPR 2015, arXiv:1503.03832) with the batch-hard mining of Hermans,
//! Beyer, Leibe, 2017, arXiv:1703.07737, with semi-hard mining, or over all triplets.

use burn::{
    module::Module,
    tensor::{Bool, Int, Tensor, activation::softplus},
};
use reid_core::Problems;
use serde::{Deserialize, Serialize};

use crate::{
    criterion::{Criterion, CriterionConfig, NamedLoss},
    distance::Distance,
    head::{OutputShape, ReidOutput},
    init::Init,
    loss::{
        MAX_WEIGHT,
        pairs::{PairLoss, PairLossConfig, Pairs, selected_mean, selected_sum},
    },
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

/// How the losses of the anchors or triplets are reduced to one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reduction {
    /// The mean over the mined triplets, as in most toolkits. For batch-hard mining, they are one for each
    /// anchor that has a positive and a negative.
    Mean,
    /// The mean over the mined triplets whose loss is above 0, as by default in pytorch-metric-learning.
    NonZeroMean,
    /// The sum over the mined triplets, as in FNC's equation 6.
    Sum,
}

/// The triplets of an anchor, a positive and a negative that a [`TripletLoss`] is computed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TripletMining {
    /// For each anchor its farthest positive and its nearest negative (Hermans et al., eq. 5).
    #[default]
    BatchHard,
    /// For each positive pair the nearest negative that is farther from the anchor than the positive (Schroff
    /// et al., §3.2). A pair without such a negative is skipped.
    SemiHard,
    /// All triplets of the batch (Hermans et al., eq. 6).
    All,
}

impl TripletMining {
    /// Whether this is the default.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    const fn is_batch_hard(&self) -> bool {
        matches!(self, Self::BatchHard)
    }
}

/// Configuration of [`TripletLoss`], whose documentation has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TripletLossConfig {
    /// The margin; a hard margin of 0.3 by default, as in the strong baseline.
    pub margin: Margin,
    /// The distance between features; Euclidean by default.
    pub distance: Distance,
    /// The reduction over triplets; the mean by default.
    pub reduction: Reduction,
    /// The mining of triplets; batch-hard by default. The others take memory and time proportional to the
    /// cube of the number of images.
    #[serde(default, skip_serializing_if = "TripletMining::is_batch_hard")]
    pub mining: TripletMining,
}

impl Default for TripletLossConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl TripletLossConfig {
    /// Batch-hard triplet loss with the defaults of the fields.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            margin: Margin::Hard(0.3),
            distance: Distance::Euclidean,
            reduction: Reduction::Mean,
            mining: TripletMining::BatchHard,
        }
    }

    /// Sets the margin.
    #[must_use]
    pub const fn with_margin(mut self, margin: Margin) -> Self {
        self.margin = margin;
        self
    }

    /// Sets the distance between features.
    #[must_use]
    pub const fn with_distance(mut self, distance: Distance) -> Self {
        self.distance = distance;
        self
    }

    /// Sets the reduction over triplets.
    #[must_use]
    pub const fn with_reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Sets the mining of triplets.
    #[must_use]
    pub const fn with_mining(mut self, mining: TripletMining) -> Self {
        self.mining = mining;
        self
    }
}

/// Computes the triplet loss of the images of a batch. Every image is an anchor, by default with its farthest
/// positive and its nearest negative.
///
/// ```text
/// L = mean_{a, p, n} max(0, d_ap - d_an + margin)     or     mean_{a, p, n} ln(1 + exp(d_ap - d_an))
///
/// batch-hard   d_ap = max { d_aj : id_j = id_a, j ≠ a }     d_an = min { d_aj : id_j ≠ id_a }
/// semi-hard    all a, p                                     d_an = min { d_aj : id_j ≠ id_a, d_aj > d_ap }
/// all          all a, p ≠ a, n with id_p = id_a and id_n ≠ id_a
/// ```
///
/// The losses of branches are summed. Identities may have different numbers of images. An anchor without a
/// positive or without a negative is skipped; the loss of a batch without any triplet is 0.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::Seed;
/// use reid_nn::{Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets};
/// use reid_nn::loss::{TripletLossConfig, TripletMining};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let features = Tensor::<2>::from_data([[0.0], [1.0], [1.5], [4.0]], &device);
/// let output = ReidOutput::single(features.clone(), features);
/// let loss = |config: TripletLossConfig| {
///     let criterion = config.init(&OutputShape::single(1, 3), &init);
///     let loss = criterion.forward(&output, &Targets::new(&[0, 0, 1, 2], &device));
///     loss.into_scalar::<f32>()
/// };
/// // Anchor 0: 1 - 1.5 + 0.3 < 0 → 0; anchor 1: 1 - 0.5 + 0.3 = 0.8; the others have no positive. Mean 0.4.
/// assert!((loss(TripletLossConfig::new()) - 0.4).abs() < 1e-6);
/// // Semi-hard: the nearest negative of anchor 1 beyond its positive is at 3, so its loss is 0 too.
/// assert!(loss(TripletLossConfig::new().with_mining(TripletMining::SemiHard)) < 1e-6);
/// // All: four triplets, of which one has the loss 0.8.
/// assert!((loss(TripletLossConfig::new().with_mining(TripletMining::All)) - 0.2).abs() < 1e-6);
/// ```
#[derive(Module, Debug)]
pub struct TripletLoss {
    #[module(skip)]
    margin: Margin,
    #[module(skip)]
    distance: Distance,
    #[module(skip)]
    reduction: Reduction,
    #[module(skip)]
    mining: TripletMining,
}

impl CriterionConfig for TripletLossConfig {
    type Criterion = TripletLoss;

    fn init(&self, _output: &OutputShape, _init: &Init<'_>) -> TripletLoss {
        Problems::refuse("a triplet loss", |problems| self.validate(problems));
        TripletLoss {
            margin: self.margin,
            distance: self.distance,
            reduction: self.reduction,
            mining: self.mining,
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

impl PairLossConfig for TripletLossConfig {
    /// Accepts batch-hard mining only. The others would compare all pairs of the images in the memory.
    fn validate_for_memory(&self, problems: &mut Problems) {
        self.validate(problems);
        let found = match self.mining {
            TripletMining::BatchHard => return,
            TripletMining::SemiHard => "semi-hard",
            TripletMining::All => "all",
        };
        let expected = "batch-hard for a loss with a memory";
        problems.require("mining", false, expected, found);
    }
}

impl Criterion for TripletLoss {
    fn uses_logits(&self) -> bool {
        false
    }

    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        self.batch_losses(output, targets)
    }
}

impl PairLoss for TripletLoss {
    fn loss_name(&self) -> &'static str {
        "triplet"
    }

    fn pair_loss(&self, anchors: &Tensor<2>, references: &Tensor<2>, pairs: &Pairs) -> Tensor<1> {
        if self.mining == TripletMining::BatchHard {
            let difference = self.batch_hard(anchors, references, pairs);
            return self.reduced(difference, pairs.anchor.clone());
        }
        let positive = pairs.positive_distances(self.distance, anchors, references);
        let negative = pairs.distances(self.distance, anchors, references);
        if self.mining == TripletMining::SemiHard {
            let (difference, found) = semi_hard(positive, negative, pairs);
            return self.reduced(difference, found);
        }
        let difference = positive.unsqueeze_dim::<3>(2) - negative.unsqueeze_dim::<3>(1);
        self.reduced(difference, triplets(pairs))
    }
}

impl TripletLoss {
    /// Reduces the losses of the selected triplets, whose `d_ap - d_an` is given.
    fn reduced<const D: usize>(
        &self,
        difference: Tensor<D>,
        selected: Tensor<D, Bool>,
    ) -> Tensor<1> {
        let losses = match self.margin {
            Margin::Hard(margin) => (difference + margin).clamp_min(0.0),
            Margin::Soft => softplus(difference, 1.0),
        };
        match self.reduction {
            Reduction::Sum => selected_sum(losses, selected),
            Reduction::Mean => selected_mean(losses, selected),
            Reduction::NonZeroMean => {
                let positive = losses.clone().detach().greater_elem(0.0);
                selected_mean(losses, selected.bool_and(positive))
            }
        }
    }

    /// Computes `d_ap - d_an` of each anchor with its farthest positive and its nearest negative,
    /// `[anchors, 1]`.
    fn batch_hard(&self, anchors: &Tensor<2>, references: &Tensor<2>, pairs: &Pairs) -> Tensor<2> {
        let (fixed, fixed_references) = (anchors.clone().detach(), references.clone().detach());
        let [farthest, nearest] = self.hardest(&fixed, &fixed_references, pairs);
        let distance_to = |other| {
            self.distance
                .between(anchors.clone(), references.clone().select(0, other))
        };
        distance_to(farthest) - distance_to(nearest)
    }

    /// Finds the index of the farthest positive and of the nearest negative of each anchor. The index is
    /// arbitrary where there is none.
    fn hardest(
        &self,
        anchors: &Tensor<2>,
        references: &Tensor<2>,
        pairs: &Pairs,
    ) -> [Tensor<1, Int>; 2] {
        let positive = pairs.positive_distances(self.distance, anchors, references);
        let positive = positive.mask_fill(pairs.positive.clone().bool_not(), -1.0);
        let distances = pairs.distances(self.distance, anchors, references);
        let unreachable = (distances.clone().max() + 1.0).reshape([1, 1]);
        let unreachable = unreachable.expand(distances.dims());
        let negative = distances.mask_where(pairs.negative.clone().bool_not(), unreachable);
        [positive.argmax(1), negative.argmin(1)].map(|indices| indices.squeeze_dim(1))
    }
}

/// Whether an anchor and two references are a triplet of an anchor, a positive and a negative,
/// `[anchors, references, references]`.
fn triplets(pairs: &Pairs) -> Tensor<3, Bool> {
    let [anchors, references] = pairs.positive.dims();
    let shape = [anchors, references, references];
    let positive = pairs.positive.clone().unsqueeze_dim::<3>(2).expand(shape);
    let negative = pairs.negative.clone().unsqueeze_dim::<3>(1).expand(shape);
    positive.bool_and(negative)
}

/// Computes `d_ap - d_an` of each pair with the nearest negative that is farther than it, and whether the
/// pair is positive and has such a negative. `positive` and `negative` are the distances of these pairs.
///
/// # Shapes
/// - `positive`, `negative`, results: `[anchors, references]`
fn semi_hard(
    positive: Tensor<2>,
    negative: Tensor<2>,
    pairs: &Pairs,
) -> (Tensor<2>, Tensor<2, Bool>) {
    let selected = triplets(pairs);
    let shape = selected.dims();
    let fixed = |distances: &Tensor<2>| distances.clone().detach();
    let of_positive = fixed(&positive).unsqueeze_dim::<3>(2).expand(shape);
    let of_negative = fixed(&negative).unsqueeze_dim::<3>(1).expand(shape);
    let farther = of_negative.clone().greater(of_positive);
    let selected = selected.bool_and(farther);
    let candidates = of_negative.mask_fill(selected.clone().bool_not(), f64::from(f32::MAX));
    let nearest = candidates.argmin(2).squeeze_dim::<2>(2);
    let found = selected.any_dim(2).squeeze_dim::<2>(2);
    (positive - negative.gather(1, nearest), found)
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

    fn loss(config: &TripletLossConfig, features: Tensor<2>, labels: &[i64]) -> f32 {
        let device = features.device();
        let criterion = config.init(&OutputShape::single(2, 3), &fixtures::init(&device));
        let output = ReidOutput::single(features.clone(), features);
        let labels = Tensor::from_data(labels, &device);
        criterion.forward(&output, &labels.into()).into_scalar()
    }

    #[test]
    fn losses_match_hand_computed_ones() {
        let config = TripletLossConfig::new;
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
            let criterion = TripletLossConfig::new()
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
        let config = TripletLossConfig::new().with_margin(Margin::Hard(100.0));
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
        let [farthest, _] = criterion.hardest(&features, &features, &pairs);
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
            let config = TripletLossConfig::new().with_margin(margin);
            let cost = |labels: &[i64]| loss(&config, features(), labels).abs();
            assert!(cost(&[7; 6]) < f32::EPSILON, "no negative");
            assert!(cost(&[0, 1, 2, 3, 4, 5]) < f32::EPSILON, "no positive");
        }
    }

    #[test]
    #[should_panic(expected = "margin.hard: expected 0 to 1000000, found -0.1")]
    fn a_negative_margin_panics() {
        let config = TripletLossConfig::new().with_margin(Margin::Hard(-0.1));
        let _ = config.init(
            &OutputShape::single(2, 2),
            &fixtures::init(&Device::default()),
        );
    }
}
