//! Steps of Adam.
//!
//! On Flex and on GPUs, a step in single precision is one pass over the weights, in place where no other
//! tensor shares the memory. On Flex the new weights overwrite the gradient.

use burn::tensor::Tensor;

#[cfg(native_cube)]
mod cube;

/// The hyper-parameters and the index of one [`adam`] step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// The learning rate, at least 0.
    pub rate: f64,
    /// β₁, the decay rate of the first moment, in `[0, 1)`.
    pub beta1: f32,
    /// β₂, the decay rate of the second moment, in `[0, 1)`.
    pub beta2: f32,
    /// ε, added to the square root of the second moment; above 0.
    pub epsilon: f32,
    /// The weight decay, at least 0: this multiple of each weight is added to its gradient.
    pub decay: f32,
    /// t, the index of the step, counted from 1.
    pub time: usize,
}

/// Learning rate and epsilon of a step, with the bias correction of both moments folded in.
struct Corrected {
    rate: f64,
    epsilon: f32,
}

impl AdamStep {
    fn corrected(self) -> Corrected {
        let time = i32::try_from(self.time).unwrap_or(i32::MAX);
        let root = (1.0 - self.beta2.powi(time)).sqrt();
        Corrected {
            rate: self.rate * f64::from(root / (1.0 - self.beta1.powi(time))),
            epsilon: self.epsilon * root,
        }
    }
}

/// Computes one step of Adam with coupled weight decay, as PyTorch's `Adam` (Kingma and Ba, ICLR 2015,
/// arXiv:1412.6980). `means` are the first and the second moment, m and v. Returns the new weights and
/// moments. All tensors have the shape of the weights.
///
/// ```text
/// g += decay·w        m = β₁·m + (1 - β₁)·g        v = β₂·v + (1 - β₂)·g²
/// w -= rate · m/(1 - β₁ᵗ) / (√(v/(1 - β₂ᵗ)) + ε)
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_ops::{AdamStep, adam};
///
/// let device = Device::default();
/// let step = AdamStep { rate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.0, time: 1 };
/// let weights = Tensor::<1>::from_data([1.0, 1.0], &device);
/// let gradient = Tensor::from_data([3.0, -0.5], &device);
/// let zeros = weights.zeros_like();
/// let (weights, _) = adam(weights, gradient, [zeros.clone(), zeros], step);
/// // Whatever the gradient, the first step is as long as the learning rate.
/// let left = weights - Tensor::from_data([0.9, 1.1], &device);
/// assert!(left.abs().max().into_scalar::<f32>() < 1e-6);
/// ```
///
/// # Panics
/// If the shapes differ, or the weights are on an autodiff device.
#[must_use]
pub fn adam<const D: usize>(
    weights: Tensor<D>,
    gradient: Tensor<D>,
    means: [Tensor<D>; 2],
    step: AdamStep,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    let shape = weights.dims();
    let others = [gradient.dims(), means[0].dims(), means[1].dims()];
    assert_eq!(
        others, [shape; 3],
        "shapes of gradient and moments for weights of shape {shape:?}"
    );
    assert!(
        !weights.device().is_autodiff(),
        "Adam updates weights without autodiff: convert them with `Tensor::inner`"
    );
    #[cfg(any(native_flex, native_cube))]
    {
        let all = [&weights, &gradient, &means[0], &means[1]];
        let types = all.map(Tensor::dtype);
        #[cfg(native_cube)]
        if types == [burn::tensor::DType::F32; 4] && crate::is_cube(&weights.device(), &types) {
            return on_gpu(weights, gradient, means, step);
        }
        #[cfg(native_flex)]
        if crate::is_native(&weights.device(), &types) {
            return on_flex(weights, gradient, means, step);
        }
    }
    let [mean, square] = means;
    let gradient = if step.decay > 0.0 {
        gradient + weights.clone() * step.decay
    } else {
        gradient
    };
    let mean = mean * step.beta1 + gradient.clone() * (1.0 - step.beta1);
    let square = square * step.beta2 + gradient.square() * (1.0 - step.beta2);
    let Corrected { rate, epsilon } = step.corrected();
    let moved = mean.clone() * rate / (square.clone().sqrt() + epsilon);
    (weights - moved, [mean, square])
}

#[cfg(native_flex)]
fn on_flex<const D: usize>(
    weights: Tensor<D>,
    gradient: Tensor<D>,
    [mean, square]: [Tensor<D>; 2],
    step: AdamStep,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    use burn::backend::Dispatch;

    use crate::extension::ReidOps;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "weights are in single precision"
    )]
    let rate = step.rate as f32;
    let (weights, mean, square) = <Dispatch as ReidOps>::adam(
        weights.into_dispatch(),
        gradient.into_dispatch(),
        mean.into_dispatch(),
        square.into_dispatch(),
        reid_kernels::Adam {
            rate,
            beta1: step.beta1,
            beta2: step.beta2,
            epsilon: step.epsilon,
            decay: step.decay,
            time: i32::try_from(step.time).unwrap_or(i32::MAX),
        },
    );
    let [weights, mean, square] = [weights, mean, square].map(Tensor::from_dispatch);
    (weights, [mean, square])
}

#[cfg(native_cube)]
fn on_gpu<const D: usize>(
    weights: Tensor<D>,
    gradient: Tensor<D>,
    [mean, square]: [Tensor<D>; 2],
    step: AdamStep,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    use burn::backend::Dispatch;
    use cube::GpuSteps;

    let (weights, mean, square) = <Dispatch as GpuSteps>::step(
        weights.into_dispatch(),
        gradient.into_dispatch(),
        mean.into_dispatch(),
        square.into_dispatch(),
        step,
    );
    let [weights, mean, square] = [weights, mean, square].map(Tensor::from_dispatch);
    (weights, [mean, square])
}
