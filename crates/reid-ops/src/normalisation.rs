//! Batch normalisation, by the statistics of the batch or by given ones.

#[cfg(any(feature = "flex", feature = "_cube"))]
use burn::tensor::Device;
use burn::tensor::{DType, Tensor, activation::relu, module};

#[cfg(feature = "_cube")]
mod cube;
#[cfg(any(feature = "flex", feature = "_cube"))]
mod extension;

#[cfg(feature = "flex")]
pub(crate) use extension::TrainingNorm;

/// A batch normalisation by given statistics, as a network computes it in evaluation.
///
/// ```text
/// y = γ·(x - μ)/√(σ² + ε) + β        y = max(0, γ·(x - μ)/√(σ² + ε) + β)
/// ```
#[derive(Clone, Debug)]
pub struct Normalisation {
    /// γ, `[channels]`.
    pub gain: Tensor<1>,
    /// β, `[channels]`.
    pub bias: Tensor<1>,
    /// μ, `[channels]`.
    pub mean: Tensor<1>,
    /// σ², `[channels]`.
    pub variance: Tensor<1>,
    /// ε
    pub epsilon: f64,
    /// Whether negative results become 0.
    pub rectify: bool,
}

impl Normalisation {
    /// The same as a map `scale·x + shift`, both `[channels]`, without the rectifier.
    #[must_use]
    pub fn affine(self) -> (Tensor<1>, Tensor<1>) {
        let scale = self.gain / (self.variance + self.epsilon).sqrt();
        let shift = self.bias - self.mean * scale.clone();
        (scale, shift)
    }

    /// Whether numbers of so many channels and a type, on a plain device, are computed here.
    #[cfg(feature = "flex")]
    pub(crate) fn is_native(&self, channels: usize, device: &Device, dtype: DType) -> bool {
        let all = [&self.gain, &self.bias, &self.mean, &self.variance];
        let fits = all
            .iter()
            .all(|of| of.dims() == [channels] && of.dtype() == dtype && !of.device().is_autodiff());
        fits && !device.is_autodiff() && crate::is_native(device, &[dtype])
    }
}

/// What [`batch_norm_train`] gives.
#[derive(Clone, Debug)]
pub struct Normalised<const D: usize> {
    /// The normalised features, in the shape of the input.
    pub output: Tensor<D>,
    /// The mean of each channel, `[channels]`, without gradient.
    pub mean: Tensor<1>,
    /// The biased variance of each channel, `[channels]`, without gradient.
    pub variance: Tensor<1>,
}

/// Normalises each channel by the mean and the variance of the batch (Ioffe and Szegedy, ICML
/// 2015); with `rectify`, negative results become 0.
///
/// ```text
/// y = γ·(x - μ)/√(σ² + ε) + β        y = max(0, γ·(x - μ)/√(σ² + ε) + β)
/// ```
///
/// The output has the type of the input. In between numbers are in at least single precision, as the
/// statistics are that are returned.
///
/// # Shapes
/// - `input`: `[batch, channels, ...]`
/// - `gain`, `bias`: `[channels]`
///
/// # Panics
/// If the number of channels is another, or the input is empty.
#[must_use]
pub fn batch_norm_train<const D: usize>(
    input: Tensor<D>,
    gain: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
    rectify: bool,
) -> Normalised<D> {
    crate::expect_numbers("normalisation", &input.dims());
    let dtype = input.dtype();
    // What sums of half precision numbers would lose, statistics keep.
    let wide = match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        _ => dtype,
    };
    let [gain, bias] = [gain, bias].map(|of| of.cast(wide));
    #[cfg(any(feature = "flex", feature = "_cube"))]
    {
        use burn::backend::Dispatch;

        use extension::TrainingNorm;
        let channels = input.dims()[1];
        let fits = [gain.dims(), bias.dims()] == [[channels]; 2];
        if fits && trains_natively(&input.device(), dtype) {
            let (output, mean, variance) = <Dispatch as TrainingNorm>::normalise(
                input.into_dispatch(),
                gain.into_dispatch(),
                bias.into_dispatch(),
                epsilon,
                rectify,
            );
            return Normalised {
                output: Tensor::from_dispatch(output),
                mean: Tensor::from_dispatch(mean),
                variance: Tensor::from_dispatch(variance),
            };
        }
    }
    let batch = module::batch_norm_train(input.cast(wide), gain, bias, epsilon);
    let output = if rectify {
        relu(batch.output)
    } else {
        batch.output
    };
    Normalised {
        output: output.cast(dtype),
        mean: batch.mean.detach(),
        variance: batch.variance.detach(),
    }
}

/// Running means and variances, a part of the way towards those of a batch, without gradient.
///
/// ```text
/// μ' = (1 - momentum)·μ + momentum·μ_batch        σ²' = (1 - momentum)·σ² + momentum·unbiased·σ²_batch
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::default();
/// let one = |value: f32| Tensor::<1>::from_data([value], &device);
/// let batch = [one(4.0), one(3.0)];
/// // Of three samples: their unbiased variance is 3/2 of the biased one.
/// let [mean, variance] = reid_ops::move_statistics([one(0.0), one(1.0)], batch, 0.5, 1.5);
/// assert_eq!((mean.into_scalar::<f32>(), variance.into_scalar::<f32>()), (2.0, 2.75));
/// ```
///
/// # Shapes
/// - all: `[channels]`
///
/// # Panics
/// If the shapes differ.
#[must_use]
pub fn move_statistics(
    running: [Tensor<1>; 2],
    batch: [Tensor<1>; 2],
    momentum: f64,
    unbiased: f64,
) -> [Tensor<1>; 2] {
    let shape = running[0].dims();
    assert!(
        running.iter().chain(&batch).all(|of| of.dims() == shape),
        "statistics of {shape:?} channels"
    );
    let dtype = running[0].dtype();
    let batch = batch.map(|of| of.detach().cast(dtype));
    #[cfg(any(feature = "flex", feature = "_cube"))]
    if running[1].dtype() == dtype
        && trains_natively(&running[0].device(), dtype)
        && dtype == DType::F32
    {
        use burn::backend::Dispatch;

        use extension::TrainingNorm;
        let [mean, variance] = running.map(Tensor::into_dispatch);
        let [batch_mean, batch_variance] = batch.map(Tensor::into_dispatch);
        let (mean, variance) = <Dispatch as TrainingNorm>::moved(
            mean,
            variance,
            batch_mean,
            batch_variance,
            momentum,
            unbiased,
        );
        return [mean, variance].map(Tensor::from_dispatch);
    }
    let [mean, variance] = running;
    let [batch_mean, batch_variance] = batch;
    let move_towards = |running: Tensor<1>, batch: Tensor<1>| {
        (running * (1.0 - momentum) + batch * momentum).detach()
    };
    [
        move_towards(mean, batch_mean),
        move_towards(variance, batch_variance * unbiased),
    ]
}

/// Whether features of a type on this device are normalised here in training.
#[cfg(any(feature = "flex", feature = "_cube"))]
fn trains_natively(device: &Device, dtype: DType) -> bool {
    #[cfg(feature = "_cube")]
    if crate::is_cube(device, &[dtype]) {
        return true;
    }
    #[cfg(feature = "flex")]
    if crate::is_native(device, &[dtype]) {
        return true;
    }
    false
}

/// Normalises each channel by a given mean and variance.
///
/// # Shapes
/// - `input` and result: `[batch, channels, ...]`
///
/// # Panics
/// If the number of channels is another, or the input is empty.
#[must_use]
pub fn batch_norm<const D: usize>(input: Tensor<D>, normalisation: Normalisation) -> Tensor<D> {
    crate::expect_numbers("normalisation", &input.dims());
    #[cfg(feature = "flex")]
    {
        use burn::backend::Dispatch;

        use crate::extension::ReidOps;
        if normalisation.is_native(input.dims()[1], &input.device(), input.dtype()) {
            return Tensor::from_dispatch(Dispatch::normalise_by(
                input.into_dispatch(),
                normalisation.gain.into_dispatch(),
                normalisation.bias.into_dispatch(),
                normalisation.mean.into_dispatch(),
                normalisation.variance.into_dispatch(),
                normalisation.epsilon,
                normalisation.rectify,
            ));
        }
    }
    let Normalisation {
        gain,
        bias,
        mean,
        variance,
        epsilon,
        rectify,
    } = normalisation;
    let output = module::batch_norm(input, gain, bias, mean, variance, epsilon);
    if rectify { relu(output) } else { output }
}
