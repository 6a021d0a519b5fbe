//! Synchronised batch normalisation: the statistics are those of the batches of all ranks (Zhang et al., Context
//! Encoding for Semantic Segmentation, CVPR 2018, arXiv:1803.08904, §3.3).

use std::cell::RefCell;

use burn::tensor::Tensor;
use reid_core::Ranks;
use reid_ops::{Epilogue, RunningStatistics};

use crate::{precision::widened, ranks::gather};

thread_local! {
    /// The ranks whose batches are normalised together on this thread.
    static RANKS: RefCell<Option<Ranks>> = const { RefCell::new(None) };
}

/// Runs a function in which every [`BatchNorm`](super::BatchNorm) of this thread that normalises by the statistics of
/// the batch uses those of the batches of all ranks.
///
/// ```text
/// μ = Σ_r n_r·μ_r / n        σ² = Σ_r n_r·(σ²_r + (μ_r - μ)²) / n        n = Σ_r n_r
/// ```
///
/// `μ_r` and `σ²_r` are the mean and the variance of rank r, and `n_r` its number of values per channel. Each layer
/// exchanges these numbers once in the forward pass, and their gradients once in the backward pass. The mean over
/// ranks of the gradients of a parameter is then that of one process with the whole batch.
///
/// The layer is composed of Burn's operations, which takes several times as long as the native operation of one rank.
/// Layers of Burn itself, and the closed form of Grad-CAM in training, use the batch of this rank.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{Ranks, Threads};
/// use reid_nn::norm::{BatchNormConfig, synchronise_batch_norm};
///
/// let means = Threads::run(2, |communicator| {
///     let (ranks, device) = (Ranks::new(communicator), Device::default().autodiff());
///     let norm = BatchNormConfig::new(1).with_momentum(1.0).init(&device);
///     let values = Tensor::<2>::full([3, 1], 4.0 * ranks.rank() as f32, &device);
///     synchronise_batch_norm(&ranks, || norm.forward(values));
///     norm.running_mean.value().into_scalar::<f32>()
/// });
/// assert_eq!(means, [2.0, 2.0]);
/// ```
pub fn synchronise_batch_norm<R>(ranks: &Ranks, work: impl FnOnce() -> R) -> R {
    let several = (ranks.size() > 1).then(|| ranks.clone());
    let _before = Before(RANKS.replace(several));
    work()
}

/// The ranks outside of the function, which are set again when it ends or panics.
struct Before(Option<Ranks>);

impl Drop for Before {
    fn drop(&mut self) {
        RANKS.set(self.0.take());
    }
}

/// A normalisation by the statistics of all ranks.
pub(super) struct Synchronised {
    ranks: Ranks,
    epsilon: f64,
    /// The weight of the batch in the running statistics.
    momentum: f64,
}

impl Synchronised {
    /// The normalisation on this thread; `None` if batch normalisations are not synchronised.
    pub(super) fn find(epsilon: f64, momentum: f64) -> Option<Self> {
        let ranks = RANKS.with_borrow(Clone::clone)?;
        Some(Self {
            ranks,
            epsilon,
            momentum,
        })
    }

    /// Normalises features and updates running statistics, as [`reid_ops::batch_norm_update`].
    ///
    /// # Shapes
    /// - `features` and output: `[batch, channels, ...]`
    /// - `weight`, `bias` and statistics: `[channels]`
    pub(super) fn forward<const D: usize>(
        &self,
        features: Tensor<D>,
        parameters: [Tensor<1>; 2],
        epilogue: Epilogue<D>,
        running: RunningStatistics,
    ) -> (Tensor<D>, RunningStatistics) {
        let (dtype, channels) = (features.dtype(), features.dims()[1]);
        // The statistics of a layer in training are on its autodiff device, wherever the features are.
        let features = widened(features).autodiff();
        let wide = features.dtype();
        let [mean, variance, unbiased] = self.statistics(&features);
        let parameters = parameters.map(|of| of.cast(wide).reshape([1, channels]));
        let [weight, bias]: [Tensor<2>; 2] = parameters;
        let scale = weight / (variance.clone() + self.epsilon).sqrt();
        let of_channels = |values: Tensor<2>| -> Tensor<D> {
            let mut shape = [1; D];
            shape[1] = channels;
            values.reshape(shape)
        };
        let output = (features - of_channels(mean.clone())) * of_channels(scale);
        let output = output + of_channels(bias);
        let updated = RunningStatistics {
            mean: self.moved(running.mean, mean),
            variance: self.moved(running.variance, variance * unbiased),
        };
        (epilogue.apply(output.cast(dtype)), updated)
    }

    /// The mean and the biased variance of each channel over all ranks, `[1, channels]`, and the factor to the
    /// unbiased variance, `[1, 1]`.
    fn statistics<const D: usize>(&self, features: &Tensor<D>) -> [Tensor<2>; 3] {
        let (device, dtype, channels) = (features.device(), features.dtype(), features.dims()[1]);
        let values = features.shape().num_elements() / channels;
        let mean = mean_of_channels(features.clone());
        let variance = mean_of_channels((features.clone() - mean.clone()).square());
        let flat = [mean, variance].map(|of| of.reshape([1, channels]));
        let [mean, variance]: [Tensor<2>; 2] = flat;
        let count = Tensor::<2>::full([1, 1], values as f64, (&device, dtype));
        let all = gather(Tensor::cat(vec![mean, variance, count], 1), &self.ranks);

        let means = all.clone().narrow(1, 0, channels);
        let variances = all.clone().narrow(1, channels, channels);
        let counts = all.detach().narrow(1, 2 * channels, 1);
        let total = counts.clone().sum_dim(0);
        let shares = counts / total.clone();
        let mean = (means.clone() * shares.clone()).sum_dim(0);
        let variance = variances + (means - mean.clone()).square();
        let unbiased = total.clone() / (total.clamp_min(2.0) - 1.0);
        [mean, (variance * shares).sum_dim(0), unbiased]
    }

    /// A running statistic, `[channels]`, after a batch with this statistic, `[1, channels]`.
    fn moved(&self, running: Tensor<1>, batch: Tensor<2>) -> Tensor<1> {
        let batch = batch.detach().squeeze_dim::<1>(0).cast(running.dtype());
        running * (1.0 - self.momentum) + batch * self.momentum
    }
}

/// Computes the mean of each channel, `[1, channels, 1, ...]`.
fn mean_of_channels<const D: usize>(features: Tensor<D>) -> Tensor<D> {
    let others = (0..D).filter(|&dimension| dimension != 1);
    others.fold(features, Tensor::mean_dim)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};
    use reid_core::Threads;

    use super::*;
    use crate::{
        fixtures,
        norm::{BatchNorm, BatchNormConfig},
    };

    /// Output, running statistics, and gradients with respect to features, weight and bias.
    type Results = [Vec<f64>; 6];

    fn layer(device: &Device, dtype: DType) -> BatchNorm {
        let mut norm = BatchNormConfig::new(2).init(device);
        let of = |values: [f64; 2]| Tensor::<1>::from_data(values, (device, dtype));
        norm.weight = norm.weight.map(|_| of([0.5, 2.0]).require_grad());
        norm.bias = norm.bias.map(|_| of([1.0, -1.0]).require_grad());
        norm.running_mean.set(of([3.0, 4.0]));
        norm.running_var.set(of([5.0, 6.0]));
        norm
    }

    /// Trains a layer on rows of a batch of five images. The loss weighs every value differently.
    fn train(rows: std::ops::Range<usize>, ranks: Option<&Ranks>, dtype: DType) -> Results {
        let device = Device::default().autodiff();
        let batch = fixtures::tensor::<4>([5, 2, 3, 1], 7.0..9.0, &device).cast(dtype);
        let weights = fixtures::tensor::<4>([5, 2, 3, 1], -1.0..2.0, &device).cast(dtype);
        let rows_of = |of: Tensor<4>| of.narrow(0, rows.start, rows.len());
        let features = rows_of(batch).detach().require_grad();
        let norm = layer(&device, dtype);
        let output = match ranks {
            Some(ranks) => synchronise_batch_norm(ranks, || norm.forward_relu(features.clone())),
            None => norm.forward_relu(features.clone()),
        };
        let loss = (output.clone().square() * rows_of(weights)).sum();
        let gradients = loss.backward();
        let values = |of: burn::tensor::TensorData| of.iter::<f64>().collect();
        [
            values(output.into_data()),
            values(norm.running_mean.value().into_data()),
            values(norm.running_var.value().into_data()),
            values(features.grad(&gradients).expect("a gradient").into_data()),
            values(
                norm.weight
                    .grad(&gradients)
                    .expect("a gradient")
                    .into_data(),
            ),
            values(
                norm.bias
                    .val()
                    .grad(&gradients)
                    .expect("a gradient")
                    .into_data(),
            ),
        ]
    }

    fn assert_close(found: &[f64], expected: &[f64], allowed: f64) {
        assert_eq!(found.len(), expected.len());
        let largest = expected
            .iter()
            .fold(1.0, |most: f64, value| most.max(value.abs()));
        for (found, expected) in found.iter().zip(expected) {
            let difference = (found - expected).abs();
            assert!(difference <= allowed * largest, "{found}, {expected}");
        }
    }

    /// Ranks with two and three images normalise and differentiate as one process with all five, in which the loss is
    /// the sum of theirs.
    #[test]
    fn unequal_ranks_equal_one_process() {
        for (dtype, allowed) in [(DType::F32, 1e-4), (DType::F64, 1e-12)] {
            let whole = train(0..5, None, dtype);
            let parts = Threads::run(2, |communicator| {
                let ranks = Ranks::new(communicator);
                let rows = [0..2, 2..5][ranks.rank()].clone();
                let results = train(rows, Some(&ranks), dtype);
                ranks.check().map(|()| results)
            });
            let parts: Result<Vec<Results>, _> = parts.into_iter().collect();
            let parts = parts.expect("no rank ended");
            for index in [0, 3] {
                let both = [&*parts[0][index], &*parts[1][index]].concat();
                assert_close(&both, &whole[index], allowed);
            }
            for part in &parts {
                assert_close(&part[1], &whole[1], allowed);
                assert_close(&part[2], &whole[2], allowed);
            }
            for index in [4, 5] {
                let pairs = parts[0][index].iter().zip(&parts[1][index]);
                let sums: Vec<f64> = pairs.map(|(one, other)| one + other).collect();
                assert_close(&sums, &whole[index], allowed);
            }
        }
    }

    #[test]
    fn only_layers_inside_the_function_are_synchronised() {
        let synchronised = Threads::run(2, |communicator| {
            let ranks = Ranks::new(communicator);
            let is_found = || Synchronised::find(1e-5, 0.1).is_some();
            let inside = synchronise_batch_norm(&ranks, is_found);
            [inside, is_found()]
        });
        assert_eq!(synchronised, [[true, false]; 2]);
        let single = Ranks::new(std::sync::Arc::new(Threads::new(1).remove(0)));
        let is_found = || Synchronised::find(1e-5, 0.1).is_some();
        assert!(!synchronise_batch_norm(&single, is_found));
    }
}
