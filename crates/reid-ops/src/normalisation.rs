//! Batch normalisation, by the statistics of the batch or by given ones.

#[cfg(feature = "flex")]
use burn::tensor::{DType, Device};
use burn::tensor::{Tensor, activation::relu, module};

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
    #[cfg(feature = "flex")]
    {
        use burn::backend::Dispatch;

        use crate::extension::ReidOps;
        let types = [input.dtype(), gain.dtype(), bias.dtype()];
        let channels = input.dims()[1];
        let fits = [gain.dims(), bias.dims()] == [[channels]; 2];
        if fits && crate::is_native(&input.device(), &types) {
            let (output, mean, variance) = <Dispatch as ReidOps>::normalise(
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
    let batch = module::batch_norm_train(input, gain, bias, epsilon);
    let output = if rectify {
        relu(batch.output)
    } else {
        batch.output
    };
    Normalised {
        output,
        mean: batch.mean.detach(),
        variance: batch.variance.detach(),
    }
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
