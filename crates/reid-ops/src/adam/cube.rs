//! Steps of Adam on GPUs: one kernel per step, in place where no other tensor shares the memory of weights
//! or moments.

use burn::backend::{Backend, backend_extension, tensor::FloatTensor};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, calculate_cube_count_elemwise, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{AdamStep, Corrected};
use crate::cube::{empty, single};

/// Steps of Adam in single precision.
#[backend_extension(
    Cube: cfg(native_cube),
    Fusion: cfg(native_cube),
)]
pub(super) trait GpuSteps: Backend {
    /// Computes the weights and both moments after a step.
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

/// The memory that a result is written to.
struct Target {
    tensor: CubeTensor,
    argument: BufferArg,
}

impl Target {
    /// The memory of `tensor`, which is argument number `argument` of the kernel, if no other tensor shares
    /// it; otherwise fresh memory.
    fn new(tensor: &CubeTensor, argument: usize) -> Self {
        if tensor.can_mut() {
            return Self {
                argument: tensor.as_tensor_alias(argument).into_buffer_arg(),
                tensor: tensor.clone(),
            };
        }
        let tensor = empty(tensor, tensor.meta.shape().clone(), tensor.dtype);
        Self {
            argument: tensor.clone().into_buffer_arg(),
            tensor,
        }
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
        let [new_weights, new_mean, new_square] = [(&weights, 0), (&mean, 2), (&square, 3)]
            .map(|(tensor, argument)| Target::new(tensor, argument));
        let sizes = client.io_optimized_vector_sizes(size_of::<f32>());
        let vector = sizes.filter(|vector| count.is_multiple_of(*vector)).max();
        let vector = vector.unwrap_or(1);
        let total = count / vector;
        let cube = CubeDim::new(&client, total);
        let Corrected { rate, epsilon } = step.corrected();
        adam::launch(
            &client,
            calculate_cube_count_elemwise(&client, total, cube),
            cube,
            vector,
            weights.into_buffer_arg(),
            gradient.into_buffer_arg(),
            mean.into_buffer_arg(),
            square.into_buffer_arg(),
            new_weights.argument,
            new_mean.argument,
            new_square.argument,
            total,
            step.beta1,
            step.beta2,
            step.decay,
            single(rate),
            epsilon,
        );
        (new_weights.tensor, new_mean.tensor, new_square.tensor)
    }
}
