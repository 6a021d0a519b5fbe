//! The backward pass of a batch normalisation on GPUs.

use burn_cubecl::{kernel::into_contiguous, tensor::CubeTensor};

use super::kernels::{input_gradient, parameters, relu_totals, totals};
use crate::cube::{Rows, channels_second, elem_type, rows::Plan, single};

/// The operands of a backward pass.
pub(super) struct Backward {
    rows: Rows,
    /// The gradient with respect to the output.
    gradient: Rows,
    plan: Plan,
    /// Weight, bias, mean and variance, each `[channels]`.
    per_channel: [CubeTensor; 4],
    epsilon: f32,
}

impl Backward {
    pub(super) fn new(
        input: CubeTensor,
        gradient: CubeTensor,
        per_channel: [CubeTensor; 4],
        epsilon: f64,
    ) -> Self {
        let (rows, gradient) = (Rows::new(input), Rows::new(gradient));
        Self {
            plan: Plan::new(&rows, &[rows.pitch, gradient.pitch]),
            rows,
            gradient,
            per_channel: per_channel.map(into_contiguous),
            epsilon: single(epsilon),
        }
    }

    /// The gradient with respect to the output.
    pub(super) fn gradient(&self) -> CubeTensor {
        channels_second(self.gradient.tensor.clone())
    }

    /// Computes the sums of each chunk.
    pub(super) fn totals(&self, relu: bool) -> CubeTensor {
        let (plan, rows) = (&self.plan, &self.rows);
        let [gamma, bias, mean, variance] = self.per_channel.clone();
        let partial = rows.per_channel(2 * plan.chunks);
        totals::launch(
            &rows.tensor.client,
            plan.cubes(plan.chunks),
            plan.cube(),
            plan.vector,
            rows.tensor.clone().into_tensor_arg(),
            self.gradient.tensor.clone().into_tensor_arg(),
            partial.clone().into_tensor_arg(),
            gamma.into_buffer_arg(),
            bias.into_buffer_arg(),
            mean.into_buffer_arg(),
            variance.into_buffer_arg(),
            self.epsilon,
            plan.rows,
            plan.width,
            rows.pitch / plan.vector,
            self.gradient.pitch / plan.vector,
            plan.per_chunk,
            relu,
            plan.units(),
            elem_type(rows.tensor.dtype),
        );
        partial
    }

    /// As [`totals`](Self::totals), after it replaces the gradient by its product with the derivative of
    /// the ReLU that gave `output`.
    pub(super) fn relu_totals(&mut self, output: CubeTensor) -> CubeTensor {
        let (rows, output) = (&self.rows, Rows::new(output));
        let plan = Plan::new(rows, &[rows.pitch, self.gradient.pitch, output.pitch]);
        let [_, _, mean, _] = self.per_channel.clone();
        let (partial, masked) = (rows.per_channel(2 * plan.chunks), rows.empty_like());
        relu_totals::launch(
            &rows.tensor.client,
            plan.cubes(plan.chunks),
            plan.cube(),
            plan.vector,
            rows.tensor.clone().into_tensor_arg(),
            output.tensor.into_tensor_arg(),
            self.gradient.tensor.clone().into_tensor_arg(),
            masked.clone().into_tensor_arg(),
            partial.clone().into_tensor_arg(),
            mean.into_buffer_arg(),
            plan.rows,
            plan.width,
            rows.pitch / plan.vector,
            output.pitch / plan.vector,
            self.gradient.pitch / plan.vector,
            plan.per_chunk,
            plan.units(),
            elem_type(rows.tensor.dtype),
        );
        let pitch = rows.channels();
        self.gradient = Rows {
            tensor: masked,
            pitch,
        };
        self.plan = plan;
        partial
    }

    /// Computes the gradients with respect to input, weight and bias from the sums of all chunks.
    pub(super) fn gradients(
        self,
        partial: CubeTensor,
        relu: bool,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let Self {
            rows,
            gradient,
            plan,
            per_channel: [gamma, bias, mean, variance],
            epsilon,
        } = self;
        let (client, dtype) = (rows.tensor.client.clone(), elem_type(rows.tensor.dtype));
        let [by_gamma, by_bias] = [(); 2].map(|()| rows.per_channel(1));
        parameters::launch(
            &client,
            plan.cubes(1),
            plan.cube(),
            plan.vector,
            partial.into_tensor_arg(),
            variance.clone().into_tensor_arg(),
            by_gamma.clone().into_tensor_arg(),
            by_bias.clone().into_tensor_arg(),
            epsilon,
            plan.chunks,
            plan.width,
            plan.units(),
        );
        let [pitch, gradient_pitch] = [rows.pitch, gradient.pitch].map(|of| of / plan.vector);
        let result = rows.empty_like();
        input_gradient::launch(
            &client,
            plan.cubes(plan.chunks),
            plan.cube(),
            plan.vector,
            rows.tensor.into_tensor_arg(),
            gradient.tensor.into_tensor_arg(),
            result.clone().into_tensor_arg(),
            gamma.into_buffer_arg(),
            bias.into_buffer_arg(),
            mean.into_buffer_arg(),
            variance.into_buffer_arg(),
            by_gamma.clone().into_buffer_arg(),
            by_bias.clone().into_buffer_arg(),
            epsilon,
            plan.rows as f32,
            plan.rows,
            plan.width,
            pitch,
            gradient_pitch,
            plan.per_chunk,
            relu,
            dtype,
        );
        (channels_second(result), by_gamma, by_bias)
    }
}
