//! Batch normalisation in training on GPUs.
//!
//! The forward pass reads the features twice: for the statistics, and for the output. The backward pass
//! reads them twice as well. A composition of Burn's operations would take a dozen passes. Squares are
//! summed about the first row, so that no precision is lost where the mean is large compared with the
//! deviation.
//!
//! Features have channels innermost, as convolutions write them. Statistics are in single precision,
//! features in single or half precision.

use burn_cubecl::{CubeBackend, kernel::into_contiguous, tensor::CubeTensor};

mod backward;
mod kernels;

use backward::Backward;
use kernels::{apply, apply_onto, moments, statistics, update_statistics};

use super::extension::{Step, TrainingNorm};
use crate::cube::{Rows, channels_second, elem_type, rows::Plan, single};

/// A forward pass whose sums have been computed.
struct Forward {
    rows: Rows,
    plan: Plan,
    /// The sums of each chunk.
    partial: CubeTensor,
    mean: CubeTensor,
    variance: CubeTensor,
}

impl Forward {
    /// Computes the sums of each chunk.
    fn new(input: CubeTensor) -> Self {
        let rows = Rows::new(input);
        let plan = Plan::new(&rows, &[rows.pitch]);
        let partial = rows.per_channel(2 * plan.chunks);
        moments::launch(
            &rows.tensor.client,
            plan.cubes(plan.chunks),
            plan.cube(),
            plan.vector,
            rows.tensor.clone().into_tensor_arg(),
            partial.clone().into_tensor_arg(),
            plan.rows,
            plan.width,
            rows.pitch / plan.vector,
            plan.per_chunk,
            plan.units(),
            elem_type(rows.tensor.dtype),
        );
        let [mean, variance] = [(); 2].map(|()| rows.per_channel(1));
        Self {
            rows,
            plan,
            partial,
            mean,
            variance,
        }
    }

    /// Computes the mean and variance from the sums of all chunks.
    fn statistics(&self) {
        let Self { rows, plan, .. } = self;
        statistics::launch(
            &rows.tensor.client,
            plan.cubes(1),
            plan.cube(),
            plan.vector,
            rows.tensor.clone().into_tensor_arg(),
            self.partial.clone().into_tensor_arg(),
            self.mean.clone().into_tensor_arg(),
            self.variance.clone().into_tensor_arg(),
            plan.chunks,
            plan.width,
            plan.rows as f32,
            plan.units(),
            elem_type(rows.tensor.dtype),
        );
    }

    /// As [`statistics`](Self::statistics), and computes the updated running statistics.
    fn update_statistics(&self, running: [CubeTensor; 2], step: Step) -> [CubeTensor; 2] {
        let Self { rows, plan, .. } = self;
        let [mean, variance] = running.map(into_contiguous);
        let updated = [(); 2].map(|()| rows.per_channel(1));
        let [new_mean, new_variance] = updated.clone();
        update_statistics::launch(
            &rows.tensor.client,
            plan.cubes(1),
            plan.cube(),
            plan.vector,
            rows.tensor.clone().into_tensor_arg(),
            self.partial.clone().into_tensor_arg(),
            mean.into_buffer_arg(),
            variance.into_buffer_arg(),
            self.mean.clone().into_tensor_arg(),
            self.variance.clone().into_tensor_arg(),
            new_mean.into_tensor_arg(),
            new_variance.into_tensor_arg(),
            plan.chunks,
            plan.width,
            plan.rows as f32,
            single(step.momentum),
            single(step.unbiased),
            plan.units(),
            elem_type(rows.tensor.dtype),
        );
        updated
    }

    /// Computes the normalised features.
    fn apply(
        self,
        gamma: CubeTensor,
        bias: CubeTensor,
        epsilon: f64,
        relu: bool,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let Self { rows, plan, .. } = self;
        let output = rows.empty_like();
        let dtype = elem_type(rows.tensor.dtype);
        apply::launch(
            &output.client,
            plan.cubes(plan.chunks),
            plan.cube(),
            plan.vector,
            rows.tensor.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            into_contiguous(gamma).into_buffer_arg(),
            into_contiguous(bias).into_buffer_arg(),
            self.mean.clone().into_buffer_arg(),
            self.variance.clone().into_buffer_arg(),
            single(epsilon),
            plan.rows,
            plan.width,
            rows.pitch / plan.vector,
            plan.per_chunk,
            relu,
            dtype,
        );
        (channels_second(output), self.mean, self.variance)
    }

    /// Computes the normalised features, adds a shortcut and applies a ReLU.
    fn apply_onto(
        self,
        gamma: CubeTensor,
        bias: CubeTensor,
        shortcut: CubeTensor,
        epsilon: f64,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let (rows, shortcut) = (self.rows, Rows::new(shortcut));
        let plan = Plan::new(&rows, &[rows.pitch, shortcut.pitch]);
        let output = rows.empty_like();
        let dtype = elem_type(rows.tensor.dtype);
        apply_onto::launch(
            &output.client,
            plan.cubes(plan.chunks),
            plan.cube(),
            plan.vector,
            rows.tensor.into_tensor_arg(),
            shortcut.tensor.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            into_contiguous(gamma).into_buffer_arg(),
            into_contiguous(bias).into_buffer_arg(),
            self.mean.clone().into_buffer_arg(),
            self.variance.clone().into_buffer_arg(),
            single(epsilon),
            plan.rows,
            plan.width,
            rows.pitch / plan.vector,
            shortcut.pitch / plan.vector,
            plan.per_chunk,
            dtype,
        );
        (channels_second(output), self.mean, self.variance)
    }
}

impl TrainingNorm for CubeBackend {
    fn normalise(
        input: CubeTensor,
        gamma: CubeTensor,
        bias: CubeTensor,
        epsilon: f64,
        relu: bool,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let forward = Forward::new(input);
        forward.statistics();
        forward.apply(gamma, bias, epsilon, relu)
    }

    fn normalise_update(
        input: CubeTensor,
        gamma: CubeTensor,
        bias: CubeTensor,
        mean: CubeTensor,
        variance: CubeTensor,
        relu: bool,
        step: Step,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let forward = Forward::new(input);
        let [mean, variance] = forward.update_statistics([mean, variance], step);
        let (output, batch_mean, batch_variance) = forward.apply(gamma, bias, step.epsilon, relu);
        (output, batch_mean, batch_variance, mean, variance)
    }

    fn normalise_add_relu(
        input: CubeTensor,
        gamma: CubeTensor,
        bias: CubeTensor,
        mean: CubeTensor,
        variance: CubeTensor,
        shortcut: CubeTensor,
        step: Step,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let forward = Forward::new(input);
        let [mean, variance] = forward.update_statistics([mean, variance], step);
        let (output, batch_mean, batch_variance) =
            forward.apply_onto(gamma, bias, shortcut, step.epsilon);
        (output, batch_mean, batch_variance, mean, variance)
    }

    fn normalise_gradients(
        input: CubeTensor,
        gamma: CubeTensor,
        bias: CubeTensor,
        mean: CubeTensor,
        variance: CubeTensor,
        gradient: CubeTensor,
        epsilon: f64,
        relu: bool,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let backward = Backward::new(input, gradient, [gamma, bias, mean, variance], epsilon);
        let partial = backward.totals(relu);
        backward.gradients(partial, relu)
    }

    fn add_relu_gradients(
        input: CubeTensor,
        gamma: CubeTensor,
        bias: CubeTensor,
        mean: CubeTensor,
        variance: CubeTensor,
        output: CubeTensor,
        gradient: CubeTensor,
        epsilon: f64,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let mut backward = Backward::new(input, gradient, [gamma, bias, mean, variance], epsilon);
        let partial = backward.relu_totals(output);
        let shortcut = backward.gradient();
        let (input, gamma, bias) = backward.gradients(partial, false);
        (input, gamma, bias, shortcut)
    }
}
