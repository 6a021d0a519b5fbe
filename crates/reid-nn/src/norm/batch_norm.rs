//! Batch normalisation (Ioffe and Szegedy, ICML 2015, arXiv:1502.03167).

use burn::{
    config::Config,
    module::{Content, Flag, Module, ModuleDisplay, Param},
    tensor::{DType, Device, Tensor},
};
use reid_ops::{BatchNormParams, Epilogue, RunningStatistics, batch_norm, batch_norm_update};

use super::{renewal, running_statistic::RunningStatistic, synchronised::Synchronised};
use crate::{block::Block, precision::widened};

/// Configuration of [`BatchNorm`], whose documentation has an example.
#[derive(Config, Debug)]
pub struct BatchNormConfig {
    /// The number of channels, at least 1.
    pub channels: usize,
    /// The constant ε added to the variance, above 0; 1e-5 as in PyTorch.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// The weight of a new batch in the running statistics, in `[0, 1]`; 0.1 as in PyTorch.
    #[config(default = 0.1)]
    pub momentum: f64,
}

impl BatchNormConfig {
    /// Builds the layer with weight 1, bias 0, running mean 0 and running variance 1.
    ///
    /// # Panics
    /// If `channels` is 0, `epsilon` is not above 0, or `momentum` is outside `[0, 1]`.
    #[must_use]
    pub fn init(&self, device: &Device) -> BatchNorm {
        let (channels, epsilon, momentum) = (self.channels, self.epsilon, self.momentum);
        assert!(
            channels > 0,
            "batch normalisation needs at least 1 channel, found 0"
        );
        assert!(
            epsilon > 0.0,
            "batch normalisation needs an epsilon above 0, found {epsilon}"
        );
        assert!(
            (0.0..=1.0).contains(&momentum),
            "batch normalisation needs a momentum in [0, 1], found {momentum}"
        );
        BatchNorm {
            weight: Param::from_tensor(Tensor::ones([channels], device)),
            bias: Param::from_tensor(Tensor::zeros([channels], device)),
            training: Param::from_bool(true),
            running_mean: RunningStatistic::new(Tensor::zeros([channels], device)),
            running_var: RunningStatistic::new(Tensor::ones([channels], device)),
            epsilon,
            momentum,
        }
    }
}

/// Normalises each channel: by the statistics of the batch in training, by the running statistics otherwise.
///
/// ```text
/// y = γ·(x - μ)/√(σ² + ε) + β
/// ```
///
/// The layer normalises by the statistics of the batch, and updates the running statistics, if its
/// [`training`](Self::training) flag is on and it is on an autodiff device. It does not matter whether its
/// parameters take gradients, or on which device the features are. The effects of Burn's switches:
///
/// | | statistics | γ and β are trained |
/// |---|---|---|
/// | `model` on an autodiff device | batch | yes |
/// | `model.no_grad()` | batch | no |
/// | [`freeze_statistics(model)`](super::freeze_statistics) | running | yes |
/// | `model.freeze()` | running | no |
/// | `model.valid()`, or any model on a plain device | running | no |
///
/// Inside [`synchronise_batch_norm`](super::synchronise_batch_norm), the batch is that of all ranks.
///
/// The result has the dtype of the input, whatever the dtype of the weights; the layer computes in at least
/// single precision. As in PyTorch, the running variance is unbiased (Burn's own layer keeps a biased one).
/// The fields have PyTorch's names, so weights load without renaming. Copies are independent; see
/// [`RunningStatistic`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::norm::BatchNormConfig;
///
/// let training = Device::default().autodiff();
/// let norm = BatchNormConfig::new(1).init(&training);
/// norm.forward(Tensor::<4>::from_data([[[[1.0, 3.0]]]], &training));
/// // Mean 2, unbiased variance 2: 0.9·0 + 0.1·2 and 0.9·1 + 0.1·2.
/// assert!((norm.running_mean.value().into_scalar::<f32>() - 0.2).abs() < 1e-6);
/// assert!((norm.running_var.value().into_scalar::<f32>() - 1.1).abs() < 1e-6);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct BatchNorm {
    /// The weight γ, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// The bias β, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// Whether the layer uses the statistics of the batch when it is on an autodiff device; see above.
    pub training: Param<Flag>,
    /// The running mean, `[channels]`.
    pub running_mean: RunningStatistic,
    /// The running variance, `[channels]`.
    pub running_var: RunningStatistic,
    epsilon: f64,
    momentum: f64,
}

impl BatchNorm {
    /// Normalises features.
    ///
    /// # Shapes
    /// - `features` and result: `[batch, channels, ...]`
    ///
    /// # Panics
    /// If the layer was built for another number of channels.
    pub fn forward<const D: usize>(&self, features: Tensor<D>) -> Tensor<D> {
        self.forward_epilogue(features, Epilogue::None)
    }

    /// Normalises features and applies ReLU, in one pass where the backend has a fused operation.
    ///
    /// # Shapes
    /// - `features` and result: `[batch, channels, ...]`
    ///
    /// # Panics
    /// If the layer was built for another number of channels.
    pub fn forward_relu<const D: usize>(&self, features: Tensor<D>) -> Tensor<D> {
        self.forward_epilogue(features, Epilogue::Relu)
    }

    /// Normalises features and applies an epilogue.
    pub(crate) fn forward_epilogue<const D: usize>(
        &self,
        features: Tensor<D>,
        epilogue: Epilogue<D>,
    ) -> Tensor<D> {
        let [channels] = self.weight.shape().dims();
        assert_eq!(
            features.dims()[1],
            channels,
            "batch normalisation was built for {channels} channels and got {:?}",
            features.dims()
        );
        if self.uses_batch_statistics() {
            return self.forward_train(features, epilogue);
        }
        let dtype = features.dtype();
        let features = widened(features);
        let running_params = self.running_params(features.dtype());
        if features.dtype() == dtype {
            return batch_norm(features, running_params, epilogue);
        }
        epilogue.apply(batch_norm(features, running_params, Epilogue::None).cast(dtype))
    }

    /// The parameters of the normalisation by running statistics, in the given dtype.
    pub(crate) fn running_params(&self, dtype: DType) -> BatchNormParams {
        BatchNormParams {
            weight: self.weight.val().cast(dtype),
            bias: self.bias.val().cast(dtype),
            mean: self.running_mean.value().cast(dtype),
            variance: self.running_var.value().cast(dtype),
            epsilon: self.epsilon,
        }
    }

    /// Whether features are normalised by the statistics of the batch.
    pub(crate) fn uses_batch_statistics(&self) -> bool {
        self.training.is_enabled() && self.weight.lazy_device().is_autodiff()
    }

    /// Computes the gradient of a loss with respect to the input of the layer from the gradient with respect
    /// to its output, without an autodiff graph. If `by_batch`, the statistics are those of the batch,
    /// otherwise the running statistics.
    ///
    /// ```text
    /// running   dx = γ/√(σ² + ε) · dy
    /// batch     dx = γ/√(σ² + ε) · (dy - mean(dy) - x̂·mean(dy ⊙ x̂))       x̂ = (x - μ)/√(σ² + ε)
    /// ```
    ///
    /// # Shapes
    /// - `input`, `gradient` and result: `[batch, channels]`, on a plain device
    pub(crate) fn backward(
        &self,
        input: Tensor<2>,
        gradient: Tensor<2>,
        by_batch: bool,
    ) -> Tensor<2> {
        if !by_batch {
            let (scale, _) = self.affine();
            let scale = scale.without_autodiff().cast(input.dtype());
            return gradient * scale.unsqueeze();
        }
        let weight = self.weight.val().without_autodiff().cast(input.dtype());
        let centred = input.clone() - input.mean_dim(0);
        let deviation = (centred.clone().square().mean_dim(0) + self.epsilon).sqrt();
        let standard = centred / deviation.clone();
        let along = (gradient.clone() * standard.clone()).mean_dim(0);
        let uncoupled = gradient.clone() - gradient.mean_dim(0) - standard * along;
        uncoupled * (weight.unsqueeze::<2>() / deviation)
    }

    fn forward_train<const D: usize>(
        &self,
        features: Tensor<D>,
        epilogue: Epilogue<D>,
    ) -> Tensor<D> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let batch = renewal::count_batch(self);
        let momentum = batch.map_or(self.momentum, |number| 1.0 / number as f64);
        // The first batch of a renewal replaces the statistics.
        let before = |statistic: &RunningStatistic| match batch {
            Some(1) => statistic.value().zeros_like(),
            _ => statistic.value(),
        };
        let running = RunningStatistics {
            mean: before(&self.running_mean),
            variance: before(&self.running_var),
        };
        let synchronised = Synchronised::find(self.epsilon, momentum);
        let (output, updated) = if let Some(norm) = synchronised {
            norm.forward(features, [weight, bias], epilogue, running)
        } else {
            let running = (running, momentum);
            batch_norm_update(features, [weight, bias], self.epsilon, epilogue, running)
        };
        self.running_mean.set(updated.mean);
        self.running_var.set(updated.variance);
        output
    }

    /// Returns the `scale` and the `shift` of the evaluation-time layer `scale·x + shift`, both `[channels]`
    /// and without autodiff history.
    #[must_use]
    pub fn affine(&self) -> (Tensor<1>, Tensor<1>) {
        let (scale, shift) = self.running_params(self.weight.val().dtype()).affine();
        (scale.detach(), shift.detach())
    }
}

impl Block for BatchNorm {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        Self::forward(self, features)
    }
}

impl ModuleDisplay for BatchNorm {
    fn custom_content(&self, content: Content) -> Option<Content> {
        let [channels] = self.weight.shape().dims();
        content.add("channels", &channels).optional()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    fn read(statistic: &RunningStatistic) -> Vec<f32> {
        statistic
            .value()
            .into_data()
            .try_to_vec()
            .expect("f32 statistics")
    }

    /// A layer that was trained on one batch of two channels, and another batch.
    fn trained() -> (BatchNorm, Tensor<4>) {
        let device = Device::default().autodiff();
        let norm = BatchNormConfig::new(2).init(&device);
        let random = || Tensor::<4>::random([4, 2, 3, 3], Distribution::Normal(3.0, 2.0), &device);
        let _ = norm.forward(random());
        (norm, random())
    }

    #[test]
    fn evaluation_does_not_update_the_statistics() {
        let (norm, batch) = trained();
        let before = read(&norm.running_mean);
        let _ = norm.valid().forward(batch.clone().inner());
        let _ = norm.valid().forward(batch);
        assert_eq!(read(&norm.running_mean), before);
    }

    #[test]
    fn a_training_layer_uses_batch_statistics_of_features_on_a_plain_device() {
        let (norm, batch) = trained();
        let copy = norm.clone();
        let expected = norm.forward(batch.clone()).into_data();
        let found = copy.forward(batch.inner()).into_data();
        assert_eq!(found, expected);
        assert_eq!(read(&copy.running_mean), read(&norm.running_mean));
    }

    #[test]
    fn a_plain_layer_uses_running_statistics_for_features_on_an_autodiff_device() {
        let (norm, batch) = trained();
        let plain = norm.valid();
        let expected = plain.forward(batch.clone().inner());
        let difference = (plain.forward(batch).inner() - expected).abs().max();
        assert!(difference.into_scalar::<f32>() < 1e-5);
        let fresh = BatchNormConfig::new(2).init(&Device::default());
        let features = Tensor::ones([2, 2, 1, 1], &Device::default().autodiff());
        let _ = fresh.forward::<4>(features);
        assert_eq!(read(&fresh.running_mean), [0.0, 0.0]);
    }

    #[test]
    fn freeze_stops_updates_of_the_statistics_and_no_grad_does_not() {
        let (norm, batch) = trained();
        let before = read(&norm.running_var);
        let frozen = norm.clone().freeze();
        let _ = frozen.forward(batch.clone());
        assert_eq!(read(&frozen.running_var), before);
        let no_grad = norm.no_grad();
        let _ = no_grad.forward(batch);
        assert_ne!(read(&no_grad.running_var), before);
    }

    #[test]
    fn frozen_statistics_leave_the_weight_and_bias_trainable() {
        let (norm, batch) = trained();
        let expected = norm.valid().forward(batch.clone().inner());
        let before = read(&norm.running_mean);
        let norm = crate::norm::freeze_statistics(norm);
        let output = norm.forward(batch);
        let difference = (output.clone().inner() - expected).abs().max();
        assert!(difference.into_scalar::<f32>() < 1e-5);
        assert_eq!(read(&norm.running_mean), before);
        let gradients = output.sum().backward();
        for parameter in [&norm.weight, &norm.bias] {
            assert!(parameter.val().grad(&gradients).is_some());
        }
    }

    #[test]
    fn records_and_validation_copies_hold_the_latest_statistics() {
        let (norm, batch) = trained();
        let _ = norm.forward(batch);
        let now = read(&norm.running_mean);
        assert_eq!(read(&norm.valid().running_mean), now);
        let fresh = BatchNormConfig::new(2).init(&Device::default());
        let loaded = fresh.load_record(norm.into_record());
        assert_eq!(read(&loaded.running_mean), now);
    }

    #[test]
    fn copies_do_not_share_statistics() {
        let (norm, batch) = trained();
        let before = read(&norm.running_mean);
        let copy = norm.clone();
        let _ = copy.forward(batch);
        assert_eq!(read(&norm.running_mean), before);
        assert_ne!(read(&copy.running_mean), before);
    }

    #[test]
    fn mapping_a_copy_leaves_the_original_unchanged() {
        struct Zero;
        impl burn::module::ModuleMapper for Zero {
            fn map_float<const D: usize>(&mut self, p: Param<Tensor<D>>) -> Param<Tensor<D>> {
                p.map(|value| value.detach().zeros_like())
            }
        }
        let (norm, _) = trained();
        let before = read(&norm.running_mean);
        let zeroed = norm.clone().map(&mut Zero);
        assert_eq!(read(&zeroed.running_mean), [0.0, 0.0]);
        assert_eq!(read(&norm.running_mean), before);
    }

    #[test]
    #[should_panic(expected = "built for 3 channels and got [2, 4, 1, 1]")]
    fn another_number_of_channels_panics() {
        let device = Device::default();
        let norm = BatchNormConfig::new(3).init(&device);
        let _ = norm.forward(Tensor::<4>::zeros([2, 4, 1, 1], &device));
    }
}
