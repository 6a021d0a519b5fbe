//! Multi-similarity loss (Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep Metric
//! Learning, CVPR 2019, arXiv:1904.06627).

use burn::{
    config::Config,
    module::Module,
    tensor::{Bool, Tensor},
};
use reid_core::Problems;

use crate::{
    criterion::{Criterion, CriterionConfig, NamedLoss},
    head::{OutputShape, ReidOutput},
    init::Init,
    loss::{
        MAX_WEIGHT, MIN_SCALE,
        pairs::{PairLoss, PairLossConfig, Pairs, UNSELECTED},
    },
    targets::Targets,
};

/// Configuration of [`MultiSimilarity`], whose documentation has an example.
#[derive(Config, Debug)]
pub struct MultiSimilarityConfig {
    /// The margin ε of the mining, from 0 to 1e6; 0.1 in the paper, 0.7 in `LightMBN`. With 2 or more, no
    /// pair is skipped.
    #[config(default = 0.1)]
    pub margin: f64,
    /// The similarity λ from which pairs weigh more or less, from -1 to 1; 0.5 in the authors' code.
    #[config(default = 0.5)]
    pub threshold: f64,
    /// The scale α of positive pairs, from 1e-6 to 1e6; 2 in the paper.
    #[config(default = 2.0)]
    pub positive_scale: f64,
    /// The scale β of negative pairs, from 1e-6 to 1e6; 50 in the paper, 40 in the authors' code and
    /// in `LightMBN`.
    #[config(default = 50.0)]
    pub negative_scale: f64,
}

/// Computes the multi-similarity loss of every image of a batch as an anchor.
///
/// ```text
/// s(i, j) = cos(f_i, f_j)
/// P_i = { j : id_j = id_i, j ≠ i, s(i, j) < max_{id_k ≠ id_i} s(i, k) + ε }
/// N_i = { j : id_j ≠ id_i,        s(i, j) > min_{id_k = id_i, k ≠ i} s(i, k) - ε }
/// L = 1/m Σ_i [ 1/α ln(1 + Σ_{j ∈ P_i} exp(-α(s(i, j) - λ))) + 1/β ln(1 + Σ_{j ∈ N_i} exp(β(s(i, j) - λ))) ]
/// ```
///
/// m is the number of images of the batch. The losses of branches are summed. An anchor without a positive or
/// without a negative has loss 0. The authors' code skips positives with a similarity of 1 up to rounding, to
/// exclude the anchor itself; here only the anchor is excluded.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::Seed;
/// use reid_nn::{Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets};
/// use reid_nn::loss::MultiSimilarityConfig;
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let config = MultiSimilarityConfig::new().with_negative_scale(2.0);
/// let criterion = config.init(&OutputShape::single(2, 2), &init);
/// let features = Tensor::<2>::from_data([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]], &device);
/// let output = ReidOutput::single(features.clone(), features);
/// // Both anchors have a positive of similarity 1 and a negative of similarity 0. The difference exceeds the
/// // margin, so no pair is left.
/// let loss = criterion.forward(&output, &Targets::new(&[0, 0, 1], &device));
/// assert!(loss.into_scalar::<f32>() < 1e-6);
/// // With other labels, anchors 0 and 2 have a positive of similarity 0. Their negatives have 1 and 0.
/// // Each positive costs ½·ln(1 + e) = 0.6566; the negatives cost 0.6566 and ½·ln(1 + 1/e) = 0.1566.
/// let loss = criterion.forward(&output, &Targets::new(&[0, 1, 0], &device));
/// assert!((loss.into_scalar::<f32>() - (3.0 * 0.656_631 + 0.156_631) / 3.0).abs() < 1e-5);
/// ```
#[derive(Module, Debug)]
pub struct MultiSimilarity {
    margin: f64,
    threshold: f64,
    positive_scale: f64,
    negative_scale: f64,
}

impl CriterionConfig for MultiSimilarityConfig {
    type Criterion = MultiSimilarity;

    fn init(&self, _output: &OutputShape, _init: &Init<'_>) -> MultiSimilarity {
        Problems::refuse("a multi-similarity loss", |problems| {
            self.validate(problems);
        });
        MultiSimilarity {
            margin: self.margin,
            threshold: self.threshold,
            positive_scale: self.positive_scale,
            negative_scale: self.negative_scale,
        }
    }

    fn compares_images(&self) -> bool {
        true
    }

    fn validate(&self, problems: &mut Problems) {
        problems.number("margin", self.margin, 0.0..=MAX_WEIGHT);
        problems.number("threshold", self.threshold, -1.0..=1.0);
        let scales = [
            ("positive_scale", self.positive_scale),
            ("negative_scale", self.negative_scale),
        ];
        for (field, scale) in scales {
            problems.number(field, scale, MIN_SCALE..=MAX_WEIGHT);
        }
    }
}

impl PairLossConfig for MultiSimilarityConfig {}

impl Criterion for MultiSimilarity {
    fn uses_logits(&self) -> bool {
        false
    }

    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        self.batch_losses(output, targets)
    }
}

impl PairLoss for MultiSimilarity {
    fn loss_name(&self) -> &'static str {
        "multi-similarity"
    }

    fn pair_loss(&self, anchors: &Tensor<2>, references: &Tensor<2>, pairs: &Pairs) -> Tensor<1> {
        let similarity = pairs.similarities(anchors, references);
        let [batch, _] = similarity.dims();
        let [positive, negative] = self.mined(similarity.clone().detach(), pairs);
        let above = similarity - self.threshold;
        let positive = soft_plus_sum(above.clone() * -self.positive_scale, positive);
        let negative = soft_plus_sum(above * self.negative_scale, negative);
        let anchors = positive / self.positive_scale + negative / self.negative_scale;
        anchors.sum() / batch as f64
    }
}

impl MultiSimilarity {
    /// The positive and the negative pairs that are not skipped, of anchors that have both.
    fn mined(&self, similarity: Tensor<2>, pairs: &Pairs) -> [Tensor<2, Bool>; 2] {
        // No similarity is farther from 0 than 1, up to rounding.
        let least = |of: &Tensor<2, Bool>, beyond: f64| {
            similarity.clone().mask_fill(of.clone().bool_not(), beyond)
        };
        let hardest_positive = least(&pairs.positive, 4.0).min_dim(1);
        let hardest_negative = least(&pairs.negative, -4.0).max_dim(1);
        let shape = similarity.dims();
        let farther = similarity
            .clone()
            .lower((hardest_negative + self.margin).expand(shape));
        let nearer = similarity.greater((hardest_positive - self.margin).expand(shape));
        let anchor = pairs.anchor.clone().expand(shape);
        [(&pairs.positive, farther), (&pairs.negative, nearer)]
            .map(|(pairs, hard)| pairs.clone().bool_and(hard).bool_and(anchor.clone()))
    }
}

/// Computes `ln(1 + Σ exp(x))` over the selected values of each row, without overflow.
///
/// # Shapes
/// - `values`, `selected`: `[anchors, references]`
/// - result: `[anchors, 1]`
fn soft_plus_sum(values: Tensor<2>, selected: Tensor<2, Bool>) -> Tensor<2> {
    let values = values.mask_fill(selected.bool_not(), UNSELECTED);
    let largest = values.clone().detach().max_dim(1).clamp_min(0.0);
    let sum = (values - largest.clone()).exp().sum_dim(1) + largest.clone().neg().exp();
    sum.log() + largest
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::fixtures;

    fn loss(config: &MultiSimilarityConfig, features: Tensor<2>, labels: &[usize]) -> f32 {
        let device = features.device();
        let criterion = config.init(&OutputShape::single(2, 3), &fixtures::init(&device));
        let output = ReidOutput::single(features.clone(), features);
        let loss = criterion.forward(&output, &Targets::new(labels, &device));
        loss.into_scalar()
    }

    /// Unit vectors at these angles, in degrees.
    fn at(angles: &[f32]) -> Tensor<2> {
        let values = angles.iter().flat_map(|angle| {
            let (sine, cosine) = angle.to_radians().sin_cos();
            [3.0 * cosine, 3.0 * sine]
        });
        let values = Tensor::<1>::from_floats(&values.collect::<Vec<_>>()[..], &Device::default());
        values.reshape([angles.len(), 2])
    }

    /// The anchor at 0° has positives at 75° (s = 0.26) and 95° (-0.09), and negatives at 80° (0.17) and 180°
    /// (-1). A margin of 0.1 adds the first positive, and a margin of 2 the second negative. For the anchor
    /// at 75°, a margin of 0.7 adds the negative at 180° (-0.26).
    #[test]
    fn pairs_beyond_the_margin_are_skipped() {
        let naive = |config: &MultiSimilarityConfig, angles: &[f32], labels: &[usize]| {
            let similarity = |i: usize, j: usize| {
                (f64::from(angles[i]) - f64::from(angles[j]))
                    .to_radians()
                    .cos()
            };
            let images = 0..labels.len();
            let mut sum = 0.0;
            for i in images.clone() {
                let (positive, negative): (Vec<usize>, Vec<usize>) = images
                    .clone()
                    .filter(|&j| j != i)
                    .partition(|&j| labels[j] == labels[i]);
                let nearest = negative.iter().map(|&j| similarity(i, j));
                let nearest = nearest.fold(f64::NEG_INFINITY, f64::max);
                let farthest = positive.iter().map(|&j| similarity(i, j));
                let farthest = farthest.fold(f64::INFINITY, f64::min);
                if positive.is_empty() || negative.is_empty() {
                    continue;
                }
                let soft = |scale: f64, kept: Vec<f64>| {
                    let terms = kept.iter().map(|s| (scale * (s - config.threshold)).exp());
                    (1.0 + terms.sum::<f64>()).ln() / scale.abs()
                };
                let kept = positive.iter().map(|&j| similarity(i, j));
                let kept = kept.filter(|s| *s < nearest + config.margin).collect();
                sum += soft(-config.positive_scale, kept);
                let kept = negative.iter().map(|&j| similarity(i, j));
                let kept = kept.filter(|s| *s > farthest - config.margin).collect();
                sum += soft(config.negative_scale, kept);
            }
            sum / labels.len() as f64
        };
        let (angles, labels) = ([0.0, 75.0, 95.0, 80.0, 180.0], [0, 0, 0, 1, 2]);
        let mut found = Vec::new();
        for margin in [0.0, 0.1, 0.7, 2.0] {
            let config = MultiSimilarityConfig::new().with_margin(margin);
            let config = config.with_negative_scale(2.0);
            let expected = naive(&config, &angles, &labels);
            found.push(f64::from(loss(&config, at(&angles), &labels)));
            let difference = (found[found.len() - 1] - expected).abs();
            assert!(difference < 1e-5, "margin {margin}: {found:?}, {expected}");
        }
        assert!(found.is_sorted_by(|one, other| one < other), "{found:?}");
    }

    #[test]
    fn large_scales_and_identical_features_have_finite_values_and_gradients() {
        let device = Device::default().autodiff();
        for scale in [MIN_SCALE, 1.0, MAX_WEIGHT] {
            let config = MultiSimilarityConfig::new()
                .with_positive_scale(scale)
                .with_negative_scale(scale);
            let features = Tensor::<2>::ones([4, 2], &device).require_grad();
            let criterion = config.init(&OutputShape::single(2, 2), &fixtures::init(&device));
            let output = ReidOutput::single(features.clone(), features.clone());
            let loss = criterion.forward(&output, &Targets::new(&[0, 0, 1, 1], &device));
            let gradient = features.grad(&loss.clone().backward()).expect("a gradient");
            let sum = gradient.abs().sum() + loss.inner().abs();
            assert!(sum.into_scalar::<f32>().is_finite(), "scale {scale}");
        }
    }

    #[test]
    fn a_batch_without_anchors_has_loss_0() {
        let config = MultiSimilarityConfig::new().with_margin(10.0);
        let cost = |labels: &[usize]| loss(&config, at(&[0.0, 50.0, 100.0]), labels).abs();
        assert!(cost(&[2; 3]) < f32::EPSILON, "no negative");
        assert!(cost(&[0, 1, 2]) < f32::EPSILON, "no positive");
    }

    #[test]
    #[should_panic(
        expected = "a multi-similarity loss: margin: expected 0 to 1000000, found -0.1\n\
                    threshold: expected -1 to 1, found 2\n\
                    negative_scale: expected 0.000001 to 1000000, found 0"
    )]
    fn invalid_hyper_parameters_panic() {
        let config = MultiSimilarityConfig::new()
            .with_margin(-0.1)
            .with_threshold(2.0)
            .with_negative_scale(0.0);
        let _ = config.init(
            &OutputShape::single(2, 2),
            &fixtures::init(&Device::default()),
        );
    }
}
