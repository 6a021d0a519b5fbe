//! Steps of Adam on GPUs, each in one kernel.

use burn::backend::{Backend, backend_extension, tensor::FloatTensor};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, calculate_cube_count_elemwise, prelude::*},
    kernel::into_contiguous,
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};

use super::{AdamStep, Corrected};

/// Steps of Adam in single precision.
#[backend_extension(
    Cube: cfg(feature = "_cube"),
    Fusion: cfg(feature = "fusion"),
)]
pub(super) trait GpuSteps: Backend {
    /// Weights and both means after a step.
    #[fusion(meta = |weights, _, mean, square, _| (weights.clone(), mean.clone(), square.clone()))]
    fn step(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        step: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

#[cube(launch)]
fn adam<N: Size>(
    weights: &[Vector<f32, N>],
    gradient: &[Vector<f32, N>],
    mean: &[Vector<f32, N>],
    square: &[Vector<f32, N>],
    new_weights: &mut [Vector<f32, N>],
    new_mean: &mut [Vector<f32, N>],
    new_square: &mut [Vector<f32, N>],
    total: usize,
    beta1: f32,
    beta2: f32,
    decay: f32,
    rate: f32,
    epsilon: f32,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let weight = weights[at];
        let gradient = gradient[at] + weight * Vector::new(decay);
        let mean = mean[at] * Vector::new(beta1) + gradient * Vector::new(1.0 - beta1);
        let square =
            square[at] * Vector::new(beta2) + gradient * gradient * Vector::new(1.0 - beta2);
        new_mean[at] = mean;
        new_square[at] = square;
        new_weights[at] =
            weight - mean * Vector::new(rate) / (square.sqrt() + Vector::new(epsilon));
    }
}

impl GpuSteps for CubeBackend {
    fn step(
        weights: CubeTensor,
        gradient: CubeTensor,
        mean: CubeTensor,
        square: CubeTensor,
        step: AdamStep,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [weights, gradient, mean, square] =
            [weights, gradient, mean, square].map(into_contiguous);
        let (client, count) = (weights.client.clone(), weights.meta.num_elements());
        let [new_weights, new_mean, new_square] = [&weights, &mean, &square].map(|of| {
            let shape = of.meta.shape().clone();
            empty_device_contiguous_dtype(client.clone(), of.device.clone(), shape, of.dtype)
        });
        let sizes = client.io_optimized_vector_sizes(size_of::<f32>());
        let vector = sizes.filter(|vector| count.is_multiple_of(*vector)).max();
        let vector = vector.unwrap_or(1);
        let total = count / vector;
        let cube = CubeDim::new(&client, total);
        let Corrected { rate, epsilon } = step.corrected();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "weights are in single precision"
        )]
        let rate = rate as f32;
        adam::launch(
            &client,
            calculate_cube_count_elemwise(&client, total, cube),
            cube,
            vector,
            weights.into_buffer_arg(),
            gradient.into_buffer_arg(),
            mean.into_buffer_arg(),
            square.into_buffer_arg(),
            new_weights.clone().into_buffer_arg(),
            new_mean.clone().into_buffer_arg(),
            new_square.clone().into_buffer_arg(),
            total,
            step.beta1,
            step.beta2,
            step.decay,
            rate,
            epsilon,
        );
        (new_weights, new_mean, new_square)
    }
}
