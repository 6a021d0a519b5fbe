//! Pairs of embeddings: which of them show the same identity, and losses that compare them.

use burn::tensor::{Bool, Int, Tensor};
use reid_core::Problems;

use crate::{
    criterion::{self, Criterion, CriterionConfig, NamedLoss},
    distance::Distance,
    head::ReidOutput,
    targets::Targets,
};

/// A criterion that compares anchors with references. The references are the anchors themselves, or the
/// embeddings of earlier batches in a [`CrossBatchMemory`](super::CrossBatchMemory).
///
/// ```
/// use burn::{module::Module, tensor::{Device, Tensor}};
/// use reid_nn::{Criterion, NamedLoss, ReidOutput, Targets, distance::Distance};
/// use reid_nn::loss::{PairLoss, Pairs};
///
/// /// The mean cosine distance of the positive pairs.
/// #[derive(Module, Debug)]
/// struct Attraction {}
///
/// impl PairLoss for Attraction {
///     fn loss_name(&self) -> &'static str {
///         "attraction"
///     }
///
///     fn pair_loss(&self, anchors: &Tensor<2>, references: &Tensor<2>, pairs: &Pairs) -> Tensor<1> {
///         let distances = pairs.distances(Distance::Cosine, anchors, references);
///         let count = pairs.positive.clone().float().sum().clamp_min(1.0);
///         distances.mask_fill(pairs.positive.clone().bool_not(), 0.0).sum() / count
///     }
/// }
///
/// impl Criterion for Attraction {
///     fn uses_logits(&self) -> bool {
///         false
///     }
///
///     fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
///         self.batch_losses(output, targets)
///     }
/// }
///
/// let device = Device::default();
/// let features = Tensor::<2>::from_data([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], &device);
/// let output = ReidOutput::single(features.clone(), features);
/// let loss = Attraction {}.forward(&output, &Targets::new(&[0, 0, 1], &device));
/// assert_eq!(loss.into_scalar::<f32>(), 1.0);
/// ```
pub trait PairLoss: Criterion {
    /// The name of the loss in progress reports.
    fn loss_name(&self) -> &'static str;

    /// Computes the loss of anchors and references; 0 if there is nothing to compare.
    ///
    /// # Shapes
    /// - `anchors`: `[anchors, dimensions]`
    /// - `references`: `[references, dimensions]`; `anchors` again for pairs of
    ///   [one batch](Pairs::from_labels)
    /// - result: `[1]`
    fn pair_loss(&self, anchors: &Tensor<2>, references: &Tensor<2>, pairs: &Pairs) -> Tensor<1>;

    /// Computes the losses of the pairs of a batch, one per branch.
    fn batch_losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        let pairs = Pairs::from_labels(targets.labels.clone());
        let branches = output.features.iter();
        let losses = branches.map(|features| self.pair_loss(features, features, &pairs));
        criterion::by_branch(self.loss_name(), losses)
    }
}

/// The configuration of a [`PairLoss`].
pub trait PairLossConfig: CriterionConfig<Criterion: PairLoss> {
    /// Adds the problems of the hyper-parameters for a loss with a memory. By default they are those of
    /// [`validate`](CriterionConfig::validate).
    fn validate_for_memory(&self, problems: &mut Problems) {
        self.validate(problems);
    }
}

/// The positive and the negative pairs of anchors and references.
///
/// A positive pair shows one identity, a negative pair two. In a batch, an image is not its own positive.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use reid_nn::loss::Pairs;
///
/// let device = Device::default();
/// let labels = |labels: &[i32]| Tensor::<1, Int>::from_data(labels, &device);
/// let count = |pairs: &Pairs| {
///     let [positive, negative] = [&pairs.positive, &pairs.negative];
///     [positive, negative].map(|pairs| pairs.clone().float().sum().into_scalar::<f32>())
/// };
/// assert_eq!(count(&Pairs::from_labels(labels(&[0, 0, 1]))), [2.0, 4.0]);
/// // The third reference is an empty slot.
/// assert_eq!(count(&Pairs::with_references(labels(&[0, 1]), labels(&[0, 2, -1]))), [1.0, 3.0]);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pairs {
    /// Whether a pair is positive, `[anchors, references]`.
    pub positive: Tensor<2, Bool>,
    /// Whether a pair is negative, `[anchors, references]`.
    pub negative: Tensor<2, Bool>,
    /// Whether an anchor has at least one positive and one negative pair, `[anchors, 1]`.
    pub anchor: Tensor<2, Bool>,
    /// The matrix that replaces each row by the mean of its identity, `[batch, batch]`; `None` if the
    /// references are not the anchors.
    pub(super) means: Option<Tensor<2>>,
}

impl Pairs {
    /// The pairs of a batch, whose references are the anchors.
    ///
    /// # Shapes
    /// - `labels`: `[batch]`
    #[must_use]
    pub fn from_labels(labels: Tensor<1, Int>) -> Self {
        let [batch] = labels.dims();
        let same = equal(labels.clone(), labels);
        let itself = Tensor::<2, Int>::eye(batch, &same.device()).bool();
        let positive = same.clone().bool_and(itself.bool_not());
        let negative = same.clone().bool_not();
        let same = same.float();
        let means = same.clone() / same.sum_dim(1);
        Self::new(positive, negative, Some(means))
    }

    /// The pairs of anchors and other images, which none of the anchors is among. A reference with a negative
    /// label is an empty slot and in no pair.
    ///
    /// # Shapes
    /// - `labels`: `[anchors]`
    /// - `references`: the labels of the references, `[references]`
    #[must_use]
    pub fn with_references(labels: Tensor<1, Int>, references: Tensor<1, Int>) -> Self {
        let ([anchors], [count]) = (labels.dims(), references.dims());
        let empty = references.clone().lower_elem(0);
        let filled = empty.bool_not().reshape([1, count]);
        let filled = filled.expand([anchors, count]);
        let same = equal(labels, references);
        let positive = same.clone().bool_and(filled.clone());
        Self::new(positive, same.bool_not().bool_and(filled), None)
    }

    fn new(positive: Tensor<2, Bool>, negative: Tensor<2, Bool>, means: Option<Tensor<2>>) -> Self {
        let anchor = positive
            .clone()
            .any_dim(1)
            .bool_and(negative.clone().any_dim(1));
        Self {
            positive,
            negative,
            anchor,
            means,
        }
    }

    /// Computes the distances of all pairs.
    ///
    /// # Shapes
    /// - `anchors`: `[anchors, dimensions]`
    /// - `references`: `[references, dimensions]`
    /// - result: `[anchors, references]`
    #[must_use]
    pub fn distances(
        &self,
        distance: Distance,
        anchors: &Tensor<2>,
        references: &Tensor<2>,
    ) -> Tensor<2> {
        match self.means {
            Some(_) => distance.pairwise(anchors.clone()),
            None => distance.between_all(anchors.clone(), references.clone()),
        }
    }

    /// Computes the distances of the positive pairs; the values of other pairs are meaningless.
    ///
    /// In a batch, the mean of the identity is subtracted from the features first. Training produces features
    /// that are long but close together, and rounding would otherwise hide their differences.
    pub(super) fn positive_distances(
        &self,
        distance: Distance,
        anchors: &Tensor<2>,
        references: &Tensor<2>,
    ) -> Tensor<2> {
        match &self.means {
            Some(means) => {
                let means = means.clone().cast(anchors.dtype());
                distance.within_groups(anchors.clone(), means)
            }
            None => self.distances(distance, anchors, references),
        }
    }

    /// Computes the cosine similarities of all pairs, `[anchors, references]`.
    pub(super) fn similarities(&self, anchors: &Tensor<2>, references: &Tensor<2>) -> Tensor<2> {
        self.distances(Distance::Cosine, anchors, references).neg() + 1.0
    }
}

/// Whether the labels of a row and a column are equal, `[rows, columns]`.
fn equal(rows: Tensor<1, Int>, columns: Tensor<1, Int>) -> Tensor<2, Bool> {
    let ([height], [width]) = (rows.dims(), columns.dims());
    let row = columns.reshape([1, width]).expand([height, width]);
    let column = rows.reshape([height, 1]).expand([height, width]);
    row.equal(column)
}

/// Computes the sum of the selected losses.
pub(super) fn selected_sum<const D: usize>(
    losses: Tensor<D>,
    selected: Tensor<D, Bool>,
) -> Tensor<1> {
    losses.mask_fill(selected.bool_not(), 0.0).sum()
}

/// Computes the mean of the selected losses; 0 if there are none.
pub(super) fn selected_mean<const D: usize>(
    losses: Tensor<D>,
    selected: Tensor<D, Bool>,
) -> Tensor<1> {
    let count = selected.clone().int().sum().float().clamp_min(1.0);
    let sum = selected_sum(losses, selected);
    let count = count.cast(sum.dtype());
    sum / count
}

/// Computes `ln Σ exp(x)` over the selected values of each row, without overflow. The result of a row without
/// selected values is about -1e30.
///
/// # Shapes
/// - `values`, `selected`: `[rows, columns]`
/// - result: `[rows, 1]`
pub(super) fn log_sum_exp(values: Tensor<2>, selected: Tensor<2, Bool>) -> Tensor<2> {
    let values = values.mask_fill(selected.bool_not(), UNSELECTED);
    let largest = values.clone().detach().max_dim(1);
    (values - largest.clone()).exp().sum_dim(1).log() + largest
}

/// A value whose exponential is 0 beside that of any selected value.
pub(super) const UNSELECTED: f64 = -1e30;

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// ln(e⁰ + e¹) = 1.3133; values that are not selected do not count, however large they are.
    #[test]
    fn exponentials_are_summed_over_selected_values() {
        let device = Device::default();
        let values = Tensor::<2>::from_data([[0.0, 1.0, 9.0], [1e4, 1e4, 0.0], [1.0; 3]], &device);
        let selected = Tensor::<2, Int>::from_data([[1, 1, 0], [1, 1, 0], [0; 3]], &device);
        let found = log_sum_exp(values, selected.bool()).into_data();
        let found: Vec<f64> = found.iter::<f64>().collect();
        assert!((found[0] - 1.313_261_7).abs() < 1e-6, "{found:?}");
        assert!((found[1] - 1e4 - 2_f64.ln()).abs() < 1e-2, "{found:?}");
        assert!(found[2] < -0.9e30, "{found:?}");
    }

    #[test]
    fn means_of_nothing_are_0() {
        let device = Device::default();
        let losses = Tensor::<1>::from_data([1.0, 3.0, 8.0], &device);
        let mean = |selected: [i32; 3]| {
            let selected = Tensor::<1, Int>::from_data(selected, &device).bool();
            selected_mean(losses.clone(), selected).into_scalar::<f32>()
        };
        assert!((mean([1, 1, 0]) - 2.0).abs() < 1e-6);
        assert!(mean([0; 3]).abs() < f32::EPSILON);
    }
}
