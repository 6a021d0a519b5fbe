//! Cross-batch memory (Wang et al., Cross-Batch Memory for Embedding Learning, CVPR 2020, arXiv:1912.06798).

use burn::{
    module::Module,
    tensor::{DType, Int, Tensor},
};
use reid_core::{Problems, strict};
use serde::{Deserialize, Serialize};

use crate::{
    criterion::{self, Criterion, CriterionConfig, NamedLoss},
    head::{OutputShape, ReidOutput},
    init::Init,
    loss::pairs::{PairLoss, PairLossConfig, Pairs},
    norm::RunningStatistic,
    targets::Targets,
};

/// The largest capacity, about ten times the training images of the largest datasets.
const MAX_CAPACITY: usize = 1 << 20;

/// The largest number of batches before the memory is used.
const MAX_BATCHES: usize = 1_000_000;

/// Configuration of [`CrossBatchMemory`], whose documentation has an example.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "C: Deserialize<'de>"))]
#[non_exhaustive]
pub struct CrossBatchMemoryConfig<C> {
    /// The number of images in the memory, from 1 to 1,048,576; 1024 by default. The paper has up to all
    /// images of the dataset.
    pub capacity: usize,
    /// The number of batches before the memory is used, from 0 to 1,000,000; 1000 in the paper. Embeddings
    /// change too fast in the first batches.
    pub start: usize,
    /// The loss of the pairs.
    #[serde(deserialize_with = "strict")]
    pub criterion: C,
}

impl<C> CrossBatchMemoryConfig<C> {
    /// A memory of 1024 images after 1000 batches.
    #[must_use]
    pub const fn new(criterion: C) -> Self {
        Self {
            capacity: 1024,
            start: 1000,
            criterion,
        }
    }

    /// Sets the number of images in the memory.
    #[must_use]
    pub fn with_capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// Sets the number of batches before the memory is used.
    #[must_use]
    pub fn with_start(mut self, start: usize) -> Self {
        self.start = start;
        self
    }
}

/// Computes a loss of the pairs of a batch and the images of earlier batches, whose embeddings are kept
/// without gradient.
///
/// ```text
/// L = l(f, M)
/// M ← the last `capacity` rows of [M; f]       after each batch but the first `start`
/// ```
///
/// l is the loss of the pairs with the anchors f and the references M. The pairs within the batch are not
/// among them. Use the loss of the batch too, as in the authors' code: a tuple of the loss and this one. The
/// paper adds the batch to the memory before the loss is computed, so that pairs of the batch count there as
/// well. While the memory has no image to compare with, the loss is 0.
///
/// The memory belongs to the criterion, like the running statistics of a normalisation. It is saved in
/// checkpoints, so that a resumed run is bit-identical, and takes 4 bytes for each image and dimension of
/// the features. It is updated where gradients are computed, that is with features on an autodiff device.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::Seed;
/// use reid_nn::{Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets};
/// use reid_nn::loss::{CrossBatchMemoryConfig, TripletLossConfig};
///
/// let device = Device::default().autodiff();
/// let init = Init::new(Seed::new(1), &device);
/// let config = CrossBatchMemoryConfig::new(TripletLossConfig::new()).with_capacity(3).with_start(0);
/// let criterion = config.init(&OutputShape::single(1, 2), &init);
/// let loss = |features: [[f32; 1]; 2], labels: [usize; 2]| {
///     let features = Tensor::<2>::from_data(features, &device);
///     let output = ReidOutput::single(features.clone(), features);
///     criterion.forward(&output, &Targets::new(&labels, &device)).into_scalar::<f32>()
/// };
/// assert_eq!(loss([[0.0], [1.0]], [0, 1]), 0.0); // the memory is empty
/// // The anchor at 2 has a positive at 0 and a negative at 1: 2 - 1 + 0.3. That at 5 has 4 - 5 + 0.3 → 0.
/// assert!((loss([[2.0], [5.0]], [0, 1]) - 0.65).abs() < 1e-6);
/// // The memory holds 1, 2 and 5. The anchors have 2 - 1 + 0.3 and 2 - 1 + 0.3.
/// assert!((loss([[0.0], [3.0]], [0, 1]) - 1.3).abs() < 1e-6);
/// ```
#[derive(Module, Debug)]
pub struct CrossBatchMemory<C> {
    /// The loss of the pairs.
    pub criterion: C,
    /// The features in the memory for each branch, oldest first, `[capacity, dimensions]`.
    features: Vec<RunningStatistic<2>>,
    /// The labels of the features, `[capacity]`; -1 is an empty slot.
    labels: RunningStatistic,
    /// The number of batches so far, up to `start`, `[1]`.
    batches: RunningStatistic,
    #[module(skip)]
    start: usize,
}

impl<C: PairLossConfig> CriterionConfig for CrossBatchMemoryConfig<C> {
    type Criterion = CrossBatchMemory<C::Criterion>;

    fn init(&self, output: &OutputShape, init: &Init<'_>) -> Self::Criterion {
        Problems::refuse("a cross-batch memory", |problems| self.validate(problems));
        let options = || (init.device(), DType::F32);
        let features = |&dimensions: &usize| {
            RunningStatistic::new(Tensor::zeros([self.capacity, dimensions], options()))
        };
        CrossBatchMemory {
            criterion: self.criterion.init(output, init),
            features: output.features.iter().map(features).collect(),
            labels: RunningStatistic::new(Tensor::full([self.capacity], -1.0, options())),
            batches: RunningStatistic::new(Tensor::zeros([1], options())),
            start: self.start,
        }
    }

    fn validate(&self, problems: &mut Problems) {
        problems.count("capacity", self.capacity, 1..=MAX_CAPACITY);
        problems.count("start", self.start, 0..=MAX_BATCHES);
        problems.at("criterion", |problems| {
            self.criterion.validate_for_memory(problems);
        });
    }
}

impl<C: PairLoss> Criterion for CrossBatchMemory<C> {
    fn uses_logits(&self) -> bool {
        false
    }

    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        let (built, found) = (self.features.len(), output.features.len());
        assert_eq!(
            built, found,
            "the cross-batch memory was built for {built} branches and got {found}"
        );
        let labels = targets.labels.clone();
        let stored = self.labels.value().int().cast(labels.dtype());
        let pairs = Pairs::with_references(labels.clone(), stored);
        let branches = self.features.iter().zip(&output.features);
        let losses = branches.map(|(memory, features)| {
            let memory = memory.value();
            let ([_, built], [_, found]) = (memory.dims(), features.dims());
            assert_eq!(
                built, found,
                "the cross-batch memory was built for features of {built} dimensions and got {found}"
            );
            let memory = memory.cast(features.dtype());
            self.criterion.pair_loss(features, &memory, &pairs)
        });
        let name = format!("{} memory", self.criterion.loss_name());
        let losses = criterion::by_branch(name, losses);
        if output.embedding.device().is_autodiff() {
            self.store(output, labels);
        }
        losses
    }
}

impl<C> CrossBatchMemory<C> {
    /// Adds a batch to the memory. The first batches are stored without their labels, as empty slots.
    fn store(&self, output: &ReidOutput, labels: Tensor<1, Int>) {
        for (memory, features) in self.features.iter().zip(&output.features) {
            memory.set(appended(memory.value(), features.clone().detach()));
        }
        let batches = self.batches.value();
        let early = batches.clone().lower_elem(self.start as f64);
        let labels = labels.float();
        let labels = labels.clone().mask_fill(early.expand(labels.dims()), -1.0);
        self.labels.set(appended(self.labels.value(), labels));
        self.batches
            .set((batches + 1.0).clamp_max(self.start as f64));
    }
}

/// Appends rows to a memory, whose oldest rows are dropped.
fn appended<const D: usize>(memory: Tensor<D>, newest: Tensor<D>) -> Tensor<D> {
    let newest = newest.cast(memory.dtype());
    let (capacity, added) = (memory.dims()[0], newest.dims()[0]);
    if added >= capacity {
        return newest.narrow(0, added - capacity, capacity);
    }
    let kept = memory.narrow(0, added, capacity - added);
    Tensor::cat(vec![kept, newest], 0)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{
        fixtures,
        loss::{TripletLoss, TripletLossConfig, TripletMining},
    };

    type Memory = CrossBatchMemory<TripletLoss>;

    fn memory(capacity: usize, start: usize, device: &Device) -> Memory {
        let config = CrossBatchMemoryConfig::new(TripletLossConfig::new());
        let config = config.with_capacity(capacity).with_start(start);
        config.init(&OutputShape::single(1, 9), &fixtures::init(device))
    }

    /// Trains on a batch of features that equal their labels.
    fn train(memory: &Memory, labels: &[usize], device: &Device) {
        let features: Vec<f32> = labels.iter().map(|&label| label as f32).collect();
        let features = Tensor::<1>::from_data(features.as_slice(), device);
        let features = features.reshape([labels.len(), 1]);
        let output = ReidOutput::single(features.clone(), features);
        let _ = memory.losses(&output, &Targets::new(labels, device));
    }

    fn stored(memory: &Memory) -> [Vec<f64>; 2] {
        let features = memory.features[0].value().into_data();
        let labels = memory.labels.value().into_data();
        [features.iter().collect(), labels.iter().collect()]
    }

    #[test]
    fn the_last_images_are_stored_in_order() {
        let device = Device::default().autodiff();
        let memory = memory(5, 0, &device);
        assert_eq!(stored(&memory), [vec![0.0; 5], vec![-1.0; 5]]);
        train(&memory, &[1, 2, 3], &device);
        let expected = [0.0, 0.0, 1.0, 2.0, 3.0].to_vec();
        assert_eq!(
            stored(&memory),
            [expected, [-1.0, -1.0, 1.0, 2.0, 3.0].to_vec()]
        );
        train(&memory, &[4, 5, 6], &device);
        let expected = [2.0, 3.0, 4.0, 5.0, 6.0].to_vec();
        assert_eq!(stored(&memory), [expected.clone(), expected]);
        train(&memory, &[1, 2, 3, 4, 5, 6, 7], &device);
        let expected = [3.0, 4.0, 5.0, 6.0, 7.0].to_vec();
        assert_eq!(stored(&memory), [expected.clone(), expected]);
    }

    #[test]
    fn the_first_batches_are_not_compared_with() {
        let device = Device::default().autodiff();
        let memory = memory(2, 2, &device);
        for (batch, expected) in [[-1.0; 2], [-1.0; 2], [3.0, 4.0]].into_iter().enumerate() {
            train(&memory, &[3, 4], &device);
            let [_, labels] = stored(&memory);
            assert_eq!(labels, expected, "after batch {batch}");
        }
    }

    /// A copy, such as one for evaluation, and a pass without gradients leave the memory as it is.
    #[test]
    fn only_training_changes_the_memory() {
        let device = Device::default().autodiff();
        let memory = memory(2, 0, &device);
        train(&memory, &[3, 4], &device);
        let expected = stored(&memory);
        train(&memory.clone(), &[5, 6], &device);
        let evaluated = memory.valid();
        train(&evaluated, &[5, 6], &Device::default());
        assert_eq!(stored(&evaluated), expected);
        assert_eq!(stored(&memory), expected);
    }

    #[test]
    #[should_panic(
        expected = "a cross-batch memory: capacity: expected 1 to 1048576, found 0\n\
                    criterion.mining: expected batch-hard for a loss with a memory, found all"
    )]
    fn invalid_hyper_parameters_panic() {
        let triplet = TripletLossConfig::new().with_mining(TripletMining::All);
        let config = CrossBatchMemoryConfig::new(triplet).with_capacity(0);
        let _ = config.init(
            &OutputShape::single(2, 2),
            &fixtures::init(&Device::default()),
        );
    }
}
