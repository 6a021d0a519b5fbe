//! The backward pass.

use burn_cubecl::{kernel::into_contiguous, tensor::CubeTensor};

use super::kernels::{input_gradient, parameters, passed_totals, totals};
use crate::cube::{Rows, channels_second, rows::Plan, single, values};

/// A normalisation whose gradients are computed.
pub(super) struct Backward {
    rows: Rows,
    /// By the output.
    gradient: Rows,
    plan: Plan,
    /// Gain, bias, mean and variance.
    of_channels: [CubeTensor; 4],
    epsilon: f32,
}

impl Backward {
    pub(super) fn new(
        input: CubeTensor,
        gradient: CubeTensor,
        of_channels: [CubeTensor; 4],
        epsilon: f64,
    ) -> Self {
        let (rows, gradient) = (Rows::new(input), Rows::new(gradient));
        Self {
            plan: Plan::new(&rows, &[rows.pitch, gradient.pitch]),
            rows,
            gradient,
            of_channels: of_channels.map(into_contiguous),
            epsilon: single(epsilon),
        }
    }

    /// The gradient by the output.
    pub(super) fn gradient(&self) -> CubeTensor {
        channels_second(self.gradient.tensor.clone())
    }

    /// Sums over chunks.
    pub(super) fn totals(&self, relu: bool) -> CubeTensor {
        let (plan, rows) = (&self.plan, &self.rows);
        let [gamma, bias, mean, variance] = self.of_channels.clone();
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
            values(rows.tensor.dtype),
        );
        partial
    }

    /// The same, where the gradient is first made to be what passes back through a rectifier with this output.
    pub(super) fn passed_totals(&mut self, output: CubeTensor) -> CubeTensor {
        let (rows, output) = (&self.rows, Rows::new(output));
        let plan = Plan::new(rows, &[rows.pitch, self.gradient.pitch, output.pitch]);
        let [_, _, mean, _] = self.of_channels.clone();
        let (partial, passed) = (rows.per_channel(2 * plan.chunks), rows.empty_like());
        passed_totals::launch(
            &rows.tensor.client,
            plan.cubes(plan.chunks),
            plan.cube(),
            plan.vector,
            rows.tensor.clone().into_tensor_arg(),
            output.tensor.into_tensor_arg(),
            self.gradient.tensor.clone().into_tensor_arg(),
            passed.clone().into_tensor_arg(),
            partial.clone().into_tensor_arg(),
            mean.into_buffer_arg(),
            plan.rows,
            plan.width,
            rows.pitch / plan.vector,
            output.pitch / plan.vector,
            self.gradient.pitch / plan.vector,
            plan.per_chunk,
            plan.units(),
            values(rows.tensor.dtype),
        );
        let pitch = rows.channels();
        self.gradient = Rows {
            tensor: passed,
            pitch,
        };
        self.plan = plan;
        partial
    }

    /// The gradients by input, gain and bias.
    pub(super) fn gradients(
        self,
        partial: CubeTensor,
        relu: bool,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let Self {
            rows,
            gradient,
            plan,
            of_channels: [gamma, bias, mean, variance],
            epsilon,
        } = self;
        let (client, dtype) = (rows.tensor.client.clone(), values(rows.tensor.dtype));
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
