//! Batch normalisation, by the statistics of the batch or by given ones.

use burn::tensor::{Tensor, activation::relu, module};

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

/// Normalises each channel by a given mean and variance, as a network does in evaluation; with
/// `rectify`, negative results become 0.
///
/// ```text
/// y = γ·(x - μ)/√(σ² + ε) + β        y = max(0, γ·(x - μ)/√(σ² + ε) + β)
/// ```
///
/// # Shapes
/// - `input` and result: `[batch, channels, ...]`
/// - `gain`, `bias`, and `mean` and `variance` of `statistics`: `[channels]`
///
/// # Panics
/// If the number of channels is another, or the input is empty.
#[must_use]
pub fn batch_norm<const D: usize>(
    input: Tensor<D>,
    [gain, bias]: [Tensor<1>; 2],
    [mean, variance]: [Tensor<1>; 2],
    epsilon: f64,
    rectify: bool,
) -> Tensor<D> {
    crate::expect_numbers("normalisation", &input.dims());
    #[cfg(feature = "flex")]
    {
        use burn::backend::Dispatch;

        use crate::extension::ReidOps;
        let all = [&gain, &bias, &mean, &variance];
        let types = [
            input.dtype(),
            gain.dtype(),
            bias.dtype(),
            mean.dtype(),
            variance.dtype(),
        ];
        let fits = all.iter().all(|of| of.dims() == [input.dims()[1]]);
        let plain =
            !input.device().is_autodiff() && all.iter().all(|of| !of.device().is_autodiff());
        if fits && plain && crate::is_native(&input.device(), &types) {
            return Tensor::from_dispatch(Dispatch::normalise_by(
                input.into_dispatch(),
                gain.into_dispatch(),
                bias.into_dispatch(),
                mean.into_dispatch(),
                variance.into_dispatch(),
                epsilon,
                rectify,
            ));
        }
    }
    let output = module::batch_norm(input, gain, bias, mean, variance, epsilon);
    if rectify { relu(output) } else { output }
}
