//! Running statistics of batch normalisations that each rank updates by its own batches.

use burn::{
    module::Module,
    tensor::{Tensor, TensorData},
};
use reid_core::Ranks;

use super::renewal::Statistics;
use crate::traversal;

/// Replaces the running statistics of every batch normalisation by their means over all ranks.
///
/// Without [`synchronise_batch_norm`](super::synchronise_batch_norm), each rank normalises by its own batch, and the
/// running statistics of the ranks differ. The means are computed in double precision, so that equal statistics stay
/// bit-identical.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{Ranks, Threads};
/// use reid_nn::norm::{BatchNormConfig, average_statistics};
///
/// let means = Threads::run(2, |communicator| {
///     let (ranks, device) = (Ranks::new(communicator), Device::default());
///     let norm = BatchNormConfig::new(1).init(&device);
///     norm.running_mean.set(Tensor::full([1], ranks.rank() as f32, &device));
///     let norm = average_statistics(norm, &ranks);
///     norm.running_mean.value().into_scalar::<f32>()
/// });
/// assert_eq!(means, [0.5, 0.5]);
/// ```
#[must_use]
pub fn average_statistics<M: Module>(module: M, ranks: &Ranks) -> M {
    let mut statistics = Statistics::default();
    traversal::visit(&module, &mut statistics);
    // The statistics of a batch normalisation are vectors.
    let vectors = statistics.found.iter().filter_map(|(path, value)| {
        let value = value.downcast_ref::<Tensor<1>>()?;
        Some((path.clone(), value.clone()))
    });
    let mut vectors: Vec<(String, Tensor<1>)> = vectors.collect();
    if vectors.is_empty() {
        return module;
    }
    vectors.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let all = Tensor::cat(vectors.iter().map(|(_, value)| value.clone()).collect(), 0);
    let mut values: Vec<f64> = all.into_data().iter::<f64>().collect();
    ranks.sum_f64(&mut values);
    if ranks.check().is_err() {
        return module;
    }
    let mut means = values.into_iter().map(|sum| sum / ranks.size() as f64);
    for (path, before) in vectors {
        let [channels] = before.dims();
        let mean: Vec<f64> = means.by_ref().take(channels).collect();
        let mean = TensorData::new(mean, [channels]).convert_dtype(before.dtype());
        let mean = Tensor::<1>::from_data(mean, (&before.device(), before.dtype()));
        statistics.found.insert(path, Box::new(mean));
    }
    traversal::map(module, &mut statistics)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use reid_core::Threads;

    use super::*;
    use crate::norm::{BatchNorm, BatchNormConfig};

    /// Each rank has two layers on an autodiff device, with the variances 1 and 1 + rank.
    #[test]
    fn statistics_become_means_and_equal_ones_stay_bit_identical() {
        let device = Device::default().autodiff();
        let third = [1.0_f32 / 3.0, 0.1, 1e-30];
        let found = Threads::run(3, |communicator| {
            let ranks = Ranks::new(communicator);
            let layers = [BatchNormConfig::new(3), BatchNormConfig::new(1)];
            let layers: Vec<BatchNorm> = layers.iter().map(|one| one.init(&device)).collect();
            layers[0]
                .running_mean
                .set(Tensor::from_data(third, &device));
            let own = 1.0 + ranks.rank() as f32;
            layers[1].running_var.set(Tensor::full([1], own, &device));
            let layers = average_statistics(layers, &ranks);
            assert!(layers[1].running_var.value().is_autodiff());
            let read = |of: Tensor<1>| of.into_data().try_to_vec::<f32>().expect("f32");
            let mean = read(layers[0].running_mean.value());
            (mean, read(layers[1].running_var.value()))
        });
        assert_eq!(found, vec![(third.to_vec(), vec![2.0]); 3]);
    }
}
