//! Batch normalisation, by the statistics of the batch (training) or by given statistics (evaluation).

#[cfg(any(native_flex, native_cube))]
use burn::tensor::Device;
use burn::tensor::{DType, Tensor, module};

use crate::epilogue::Epilogue;

#[cfg(native_cube)]
mod cube;
#[cfg(any(native_flex, native_cube))]
mod extension;
#[cfg(native_flex)]
mod flex;

#[cfg(any(native_flex, native_cube))]
use extension::{Step, TrainingNorm};
#[cfg(native_flex)]
pub(crate) use flex::{Affine, given};

/// A batch normalisation by given statistics, as in evaluation mode.
///
/// ```text
/// y = γ·(x - μ)/√(σ² + ε) + β
/// ```
#[derive(Clone, Debug)]
pub struct BatchNormParams {
    /// γ, `[channels]`.
    pub weight: Tensor<1>,
    /// β, `[channels]`.
    pub bias: Tensor<1>,
    /// μ, `[channels]`.
    pub mean: Tensor<1>,
    /// σ², `[channels]`.
    pub variance: Tensor<1>,
    /// ε, added to the variance; above 0, 1e-5 in PyTorch.
    pub epsilon: f64,
}

impl BatchNormParams {
    /// The normalisation as `scale·x + shift`, both `[channels]`.
    #[must_use]
    pub fn affine(self) -> (Tensor<1>, Tensor<1>) {
        let scale = self.weight / (self.variance + self.epsilon).sqrt();
        let shift = self.bias - self.mean * scale.clone();
        (scale, shift)
    }

    /// The normalisation with a preceding bias folded into its mean: `batch_norm(x + bias)` as a function
    /// of `x`.
    #[cfg(any(native_flex, native_cube))]
    pub(crate) fn after(mut self, bias: Option<Tensor<1>>) -> Self {
        if let Some(bias) = bias {
            self.mean = self.mean - bias;
        }
        self
    }

    /// Whether the CPU kernels compute this normalisation: matching channels, dtype and device, and no
    /// autodiff.
    #[cfg(native_flex)]
    pub(crate) fn is_native(&self, channels: usize, device: &Device, dtype: DType) -> bool {
        let all = [&self.weight, &self.bias, &self.mean, &self.variance];
        let fits = all
            .iter()
            .all(|of| of.dims() == [channels] && of.dtype() == dtype && !of.device().is_autodiff());
        fits && !device.is_autodiff() && crate::is_native(device, &[dtype])
    }
}

/// The result of [`batch_norm_train`].
#[derive(Clone, Debug)]
pub struct BatchNormOutput<const D: usize> {
    /// The normalised features, in the shape of the input.
    pub output: Tensor<D>,
    /// The mean of each channel, `[channels]`, without gradient.
    pub mean: Tensor<1>,
    /// The biased variance of each channel, `[channels]`, without gradient.
    pub variance: Tensor<1>,
}

/// Normalises each channel by the mean and the biased variance of the batch (Ioffe and Szegedy, ICML 2015),
/// and applies an [epilogue](Epilogue).
///
/// ```text
/// y = γ·(x - μ)/√(σ² + ε) + β
/// ```
///
/// The output has the dtype of the input. Intermediate values and the returned statistics are in at least
/// single precision.
///
/// # Shapes
/// - `input`: `[batch, channels, ...]`
/// - `gamma`, `bias`: `[channels]`
///
/// # Panics
/// If `gamma` or `bias` does not have one value per channel, or the input is empty.
#[must_use]
pub fn batch_norm_train<const D: usize>(
    input: Tensor<D>,
    gamma: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
    epilogue: Epilogue<D>,
) -> BatchNormOutput<D> {
    crate::expect_not_empty("normalisation", &input.dims());
    let dtype = input.dtype();
    // Sums in half precision would be too inexact for statistics.
    let wide = match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        _ => dtype,
    };
    let [gamma, bias] = [gamma, bias].map(|of| of.cast(wide));
    #[cfg(any(native_flex, native_cube))]
    {
        use burn::backend::Dispatch;
        let channels = input.dims()[1];
        let fits = [gamma.dims(), bias.dims()] == [[channels]; 2];
        if fits && trains_natively(&input.device(), dtype) {
            let (relu, epilogue) = epilogue.split();
            let (output, mean, variance) = <Dispatch as TrainingNorm>::normalise(
                input.into_dispatch(),
                gamma.into_dispatch(),
                bias.into_dispatch(),
                epsilon,
                relu,
            );
            return BatchNormOutput {
                output: epilogue.apply(Tensor::from_dispatch(output)),
                mean: Tensor::from_dispatch(mean),
                variance: Tensor::from_dispatch(variance),
            };
        }
    }
    let batch = module::batch_norm_train(input.cast(wide), gamma, bias, epsilon);
    BatchNormOutput {
        output: epilogue.apply(batch.output.cast(dtype)),
        mean: batch.mean.detach(),
        variance: batch.variance.detach(),
    }
}

/// Running means and variances: moving averages of the batch statistics.
///
/// ```text
/// μ' = (1 - momentum)·μ + momentum·μ_batch        σ²' = (1 - momentum)·σ² + momentum·n/(n - 1)·σ²_batch
/// ```
///
/// `n` is the number of values per channel, so the variance is the unbiased one. For `n = 1` it is
/// undefined, and the biased variance, 0, is used.
#[derive(Clone, Debug)]
pub struct RunningStatistics {
    /// μ, `[channels]`, in at least single precision.
    pub mean: Tensor<1>,
    /// σ², `[channels]`, in the same dtype.
    pub variance: Tensor<1>,
}

impl RunningStatistics {
    /// The statistics after a batch, detached from autodiff.
    fn updated(self, batch: [&Tensor<1>; 2], momentum: f64, unbiased: f64) -> Self {
        let move_towards = |running: Tensor<1>, batch: &Tensor<1>, share: f64| {
            let batch = batch.clone().detach().cast(running.dtype());
            (running * (1.0 - momentum) + batch * share).detach()
        };
        let [mean, variance] = batch;
        Self {
            mean: move_towards(self.mean, mean, momentum),
            variance: move_towards(self.variance, variance, momentum * unbiased),
        }
    }
}

/// Computes [`batch_norm_train`] and updates [running statistics](RunningStatistics) with `momentum` in
/// `[0, 1]`. Returns the output and the updated statistics.
///
/// `momentum` is the weight of the batch, as in PyTorch.
///
/// # Shapes
/// - `input` and output: `[batch, channels, ...]`
/// - `gamma`, `bias` and statistics: `[channels]`
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_ops::{Epilogue, RunningStatistics, batch_norm_update};
///
/// let device = Device::default();
/// let one = |value: f32| Tensor::<1>::from_data([value], &device);
/// let batch = Tensor::<2>::from_data([[1.0], [4.0], [7.0]], &device);
/// let running = RunningStatistics { mean: one(0.0), variance: one(1.0) };
/// let epilogue = Epilogue::None;
/// let (_, running) = batch_norm_update(batch, [one(1.0), one(0.0)], 1e-5, epilogue, (running, 0.5));
/// // The batch has the mean 4 and the unbiased variance 9.
/// assert_eq!(running.mean.into_scalar::<f32>(), 2.0);
/// assert_eq!(running.variance.into_scalar::<f32>(), 5.0);
/// ```
///
/// # Panics
/// As [`batch_norm_train`], and if the statistics do not have one value per channel.
#[must_use]
pub fn batch_norm_update<const D: usize>(
    input: Tensor<D>,
    [gamma, bias]: [Tensor<1>; 2],
    epsilon: f64,
    epilogue: Epilogue<D>,
    (running, momentum): (RunningStatistics, f64),
) -> (Tensor<D>, RunningStatistics) {
    crate::expect_not_empty("normalisation", &input.dims());
    let channels = input.dims()[1];
    assert_eq!(
        [running.mean.dims(), running.variance.dims()],
        [[channels]; 2],
        "shapes of the running mean and variance for {channels} channels"
    );
    let samples = input.shape().num_elements() / channels;
    let unbiased = samples as f64 / (samples.max(2) - 1) as f64;
    #[cfg(any(native_flex, native_cube))]
    {
        let fits = [gamma.dims(), bias.dims()] == [[channels]; 2]
            && [&running.mean, &running.variance]
                .iter()
                .all(|of| of.dtype() == DType::F32);
        if fits && trains_natively(&input.device(), input.dtype()) {
            let step = Step {
                epsilon,
                momentum,
                unbiased,
            };
            return update_natively(input, [gamma, bias], epilogue, running, step);
        }
    }
    let batch = batch_norm_train(input, gamma, bias, epsilon, epilogue);
    let updated = running.updated([&batch.mean, &batch.variance], momentum, unbiased);
    (batch.output, updated)
}

#[cfg(any(native_flex, native_cube))]
fn update_natively<const D: usize>(
    input: Tensor<D>,
    parameters: [Tensor<1>; 2],
    epilogue: Epilogue<D>,
    running: RunningStatistics,
    step: Step,
) -> (Tensor<D>, RunningStatistics) {
    use burn::backend::Dispatch;

    let [gamma, bias] = parameters.map(|of| of.cast(DType::F32).into_dispatch());
    let (mean, variance) = (
        running.mean.into_dispatch(),
        running.variance.into_dispatch(),
    );
    let (epilogue, (output, _, _, mean, variance)) = match epilogue {
        Epilogue::AddRelu(shortcut) if crate::are_alike(&shortcut, &input) => {
            let (input, shortcut) = (input.into_dispatch(), shortcut.into_dispatch());
            let output =
                Dispatch::normalise_add_relu(input, gamma, bias, mean, variance, shortcut, step);
            (Epilogue::None, output)
        }
        other => {
            let (relu, epilogue) = other.split();
            let input = input.into_dispatch();
            let output = Dispatch::normalise_update(input, gamma, bias, mean, variance, relu, step);
            (epilogue, output)
        }
    };
    let [mean, variance] = [mean, variance].map(Tensor::from_dispatch);
    let output = epilogue.apply(Tensor::from_dispatch(output));
    (output, RunningStatistics { mean, variance })
}

/// Whether features of this dtype on this device are normalised in training by kernels of this crate.
#[cfg(any(native_flex, native_cube))]
fn trains_natively(device: &Device, dtype: DType) -> bool {
    #[cfg(native_cube)]
    if crate::is_cube(device, &[dtype]) {
        return true;
    }
    #[cfg(native_flex)]
    if crate::is_native(device, &[dtype]) {
        return true;
    }
    false
}

/// Normalises each channel by a given mean and variance, and applies an [epilogue](Epilogue).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_ops::{BatchNormParams, Epilogue, batch_norm};
///
/// let device = Device::default();
/// let [weight, bias, mean, variance] =
///     [2.0_f32, 1.0, 4.0, 3.0].map(|value| Tensor::<1>::from_data([value], &device));
/// let normalisation = BatchNormParams { weight, bias, mean, variance, epsilon: 1.0 };
/// let features = Tensor::<2>::from_data([[7.0], [-5.0]], &device);
/// let found = batch_norm(features, normalisation, Epilogue::Relu).into_data();
/// // 2·(7 - 4)/√(3 + 1) + 1 = 4, and 2·(-5 - 4)/√(3 + 1) + 1 = -8, for which the ReLU gives 0.
/// assert_eq!(found.try_to_vec::<f32>()?, [4.0, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Shapes
/// - `input` and result: `[batch, channels, ...]`
///
/// # Panics
/// If the normalisation does not have one value per channel, or the input is empty.
#[must_use]
pub fn batch_norm<const D: usize>(
    input: Tensor<D>,
    normalisation: BatchNormParams,
    epilogue: Epilogue<D>,
) -> Tensor<D> {
    crate::expect_not_empty("normalisation", &input.dims());
    #[cfg(native_flex)]
    {
        use burn::backend::Dispatch;

        use crate::extension::ReidOps;
        if normalisation.is_native(input.dims()[1], &input.device(), input.dtype()) {
            let (relu, epilogue) = epilogue.split();
            let output = Dispatch::normalise_by(
                input.into_dispatch(),
                normalisation.weight.into_dispatch(),
                normalisation.bias.into_dispatch(),
                normalisation.mean.into_dispatch(),
                normalisation.variance.into_dispatch(),
                normalisation.epsilon,
                relu,
            );
            return epilogue.apply(Tensor::from_dispatch(output));
        }
    }
    let BatchNormParams {
        weight: gamma,
        bias,
        mean,
        variance,
        epsilon,
    } = normalisation;
    epilogue.apply(module::batch_norm(
        input, gamma, bias, mean, variance, epsilon,
    ))
}
