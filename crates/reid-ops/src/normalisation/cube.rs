//! Batch normalisation in training on GPUs: two passes over the features forward, and two backward, where a
//! chain of operations takes a dozen.
//!
//! Features lie with channels innermost, as convolutions leave them there: rows of channels. Statistics
//! are in single precision, features in single or half.

use burn_cubecl::{CubeBackend, kernel::into_contiguous, tensor::CubeTensor};

mod backward;
mod kernels;

use backward::Backward;
use kernels::{apply, apply_onto, moments, moving_statistics, statistics};

use super::extension::{Step, TrainingNorm};
use crate::cube::{Rows, channels_second, rows::Plan, single, values};

/// A normalisation on its way.
struct Forward {
    rows: Rows,
    plan: Plan,
    /// Sums of each chunk.
    partial: CubeTensor,
    mean: CubeTensor,
    variance: CubeTensor,
}

impl Forward {
    /// Sums chunks of features.
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
            values(rows.tensor.dtype),
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

    /// Mean and variance of all chunks.
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
            values(rows.tensor.dtype),
        );
    }

    /// The same, and the running ones after them.
    fn moving_statistics(&self, running: [CubeTensor; 2], step: Step) -> [CubeTensor; 2] {
        let Self { rows, plan, .. } = self;
        let [mean, variance] = running.map(into_contiguous);
        let moved = [(); 2].map(|()| rows.per_channel(1));
        let [moved_mean, moved_variance] = moved.clone();
        moving_statistics::launch(
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
            moved_mean.into_tensor_arg(),
            moved_variance.into_tensor_arg(),
            plan.chunks,
            plan.width,
            plan.rows as f32,
            single(step.momentum),
            single(step.unbiased),
            plan.units(),
            values(rows.tensor.dtype),
        );
        moved
    }

    /// The normalised features.
    fn apply(
        self,
        gamma: CubeTensor,
        bias: CubeTensor,
        epsilon: f64,
        relu: bool,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let Self { rows, plan, .. } = self;
        let output = rows.empty_like();
        let dtype = values(rows.tensor.dtype);
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

    /// The normalised features, added to others and rectified.
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
        let dtype = values(rows.tensor.dtype);
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
        let [mean, variance] = forward.moving_statistics([mean, variance], step);
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
        let [mean, variance] = forward.moving_statistics([mean, variance], step);
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
        let partial = backward.passed_totals(output);
        let shortcut = backward.gradient();
        let (input, gamma, bias) = backward.gradients(partial, false);
        (input, gamma, bias, shortcut)
    }
}
