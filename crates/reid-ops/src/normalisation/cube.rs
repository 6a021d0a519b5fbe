//! Batch normalisation in training on GPUs: two passes over the features forward, and two backward, where a
//! chain of operations takes a dozen.
//!
//! Features lie with channels innermost, as convolutions leave them there: rows of channels. Statistics
//! are in single precision, features in single or half.

use burn_cubecl::{
    CubeBackend,
    cubecl::{calculate_cube_count_elemwise, prelude::*},
    kernel::into_contiguous,
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};

mod kernels;

use kernels::{AHEAD, apply, follow, moments, parameters, pull_back, statistics, totals};

use super::extension::TrainingNorm;
use crate::cube::{Rows, channels_second, numbers};

/// Units of a cube, at most.
const UNITS: u32 = 256;
/// Cubes that keep a large GPU busy.
const CUBES: usize = 512;

/// How the work is shared out.
struct Plan {
    /// Numbers of a vector.
    vector: usize,
    /// Vectors of a row.
    width: usize,
    rows: usize,
    chunks: usize,
    per_chunk: usize,
    /// Units across channels and down rows.
    units: [u32; 2],
}

impl Plan {
    /// For rows at these distances.
    fn new(rows: &Rows, pitches: &[usize]) -> Self {
        let (channels, client) = (rows.channels(), &rows.tensor.client);
        let fits = |vector: &usize| {
            let fits = |of: &usize| of.is_multiple_of(*vector);
            fits(&channels) && pitches.iter().all(fits)
        };
        let sizes = client.io_optimized_vector_sizes(size_of::<f32>());
        let vector = sizes.filter(fits).max().unwrap_or(1);
        let width = channels / vector;
        let most = client.properties().hardware.max_units_per_cube.min(UNITS);
        let most = 1 << most.ilog2();
        let across = u32::try_from(width.next_power_of_two()).map_or(32, |width| width.min(32));
        let down = most / across;
        let rows = rows.count();
        let columns = width.div_ceil(across as usize);
        let wanted = CUBES.div_ceil(columns).min(u16::MAX.into());
        let per_chunk = rows
            .div_ceil(wanted)
            .next_multiple_of((down * AHEAD) as usize);
        Self {
            vector,
            width,
            rows,
            chunks: rows.div_ceil(per_chunk),
            per_chunk,
            units: [across, down],
        }
    }

    fn cube(&self) -> CubeDim {
        CubeDim::new_2d(self.units[0], self.units[1])
    }

    fn units(&self) -> usize {
        (self.units[0] * self.units[1]) as usize
    }

    /// Cubes for so many chunks.
    fn cubes(&self, chunks: usize) -> CubeCount {
        let columns = self.width.div_ceil(self.units[0] as usize);
        let of = |count: usize| u32::try_from(count).expect("cubes of a launch");
        CubeCount::Static(of(columns), of(chunks), 1)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "statistics are in single precision"
)]
fn single(value: f64) -> f32 {
    value as f32
}

impl TrainingNorm for CubeBackend {
    fn normalise(
        input: CubeTensor,
        gain: CubeTensor,
        bias: CubeTensor,
        epsilon: f64,
        rectify: bool,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let rows = Rows::new(input);
        let plan = Plan::new(&rows, &[rows.pitch]);
        let (client, dtype) = (rows.tensor.client.clone(), numbers(rows.tensor.dtype));
        let [gain, bias] = [gain, bias].map(into_contiguous);
        let (partial, output) = (rows.per_channel(2 * plan.chunks), rows.empty_like());
        let [mean, variance] = [(); 2].map(|()| rows.per_channel(1));
        let pitch = rows.pitch / plan.vector;
        moments::launch(
            &client,
            plan.cubes(plan.chunks),
            plan.cube(),
            plan.vector,
            rows.tensor.clone().into_tensor_arg(),
            partial.clone().into_tensor_arg(),
            plan.rows,
            plan.width,
            pitch,
            plan.per_chunk,
            plan.units(),
            dtype,
        );
        statistics::launch(
            &client,
            plan.cubes(1),
            plan.cube(),
            plan.vector,
            rows.tensor.clone().into_tensor_arg(),
            partial.into_tensor_arg(),
            mean.clone().into_tensor_arg(),
            variance.clone().into_tensor_arg(),
            plan.chunks,
            plan.width,
            plan.rows as f32,
            plan.units(),
            dtype,
        );
        apply::launch(
            &client,
            plan.cubes(plan.chunks),
            plan.cube(),
            plan.vector,
            rows.tensor.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            gain.into_buffer_arg(),
            bias.into_buffer_arg(),
            mean.clone().into_buffer_arg(),
            variance.clone().into_buffer_arg(),
            single(epsilon),
            plan.rows,
            plan.width,
            pitch,
            plan.per_chunk,
            rectify,
            dtype,
        );
        (channels_second(output), mean, variance)
    }

    fn moved(
        mean: CubeTensor,
        variance: CubeTensor,
        batch_mean: CubeTensor,
        batch_variance: CubeTensor,
        momentum: f64,
        unbiased: f64,
    ) -> (CubeTensor, CubeTensor) {
        let (client, channels) = (mean.client.clone(), mean.meta.num_elements());
        let [new_mean, new_variance] = [(); 2].map(|()| {
            let shape = mean.meta.shape().clone();
            empty_device_contiguous_dtype(client.clone(), mean.device.clone(), shape, mean.dtype)
        });
        let all = [mean, variance, batch_mean, batch_variance];
        let [mean, variance, batch_mean, batch_variance] = all.map(into_contiguous);
        let cube = CubeDim::new(&client, channels);
        follow::launch(
            &client,
            calculate_cube_count_elemwise(&client, channels, cube),
            cube,
            mean.into_buffer_arg(),
            variance.into_buffer_arg(),
            batch_mean.into_buffer_arg(),
            batch_variance.into_buffer_arg(),
            new_mean.clone().into_buffer_arg(),
            new_variance.clone().into_buffer_arg(),
            channels,
            single(momentum),
            single(unbiased),
        );
        (new_mean, new_variance)
    }

    #[expect(
        clippy::too_many_lines,
        reason = "three launches, which name every argument"
    )]
    fn normalise_gradients(
        input: CubeTensor,
        gain: CubeTensor,
        bias: CubeTensor,
        mean: CubeTensor,
        variance: CubeTensor,
        gradient: CubeTensor,
        epsilon: f64,
        rectify: bool,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let (rows, gradient) = (Rows::new(input), Rows::new(gradient));
        let plan = Plan::new(&rows, &[rows.pitch, gradient.pitch]);
        let (client, dtype) = (rows.tensor.client.clone(), numbers(rows.tensor.dtype));
        let [gain, bias] = [gain, bias].map(into_contiguous);
        let (partial, result) = (rows.per_channel(2 * plan.chunks), rows.empty_like());
        let [by_gain, by_bias] = [(); 2].map(|()| rows.per_channel(1));
        let [pitch, gradient_pitch] = [rows.pitch, gradient.pitch].map(|of| of / plan.vector);
        totals::launch(
            &client,
            plan.cubes(plan.chunks),
            plan.cube(),
            plan.vector,
            rows.tensor.clone().into_tensor_arg(),
            gradient.tensor.clone().into_tensor_arg(),
            partial.clone().into_tensor_arg(),
            gain.clone().into_buffer_arg(),
            bias.clone().into_buffer_arg(),
            mean.clone().into_buffer_arg(),
            variance.clone().into_buffer_arg(),
            single(epsilon),
            plan.rows,
            plan.width,
            pitch,
            gradient_pitch,
            plan.per_chunk,
            rectify,
            plan.units(),
            dtype,
        );
        parameters::launch(
            &client,
            plan.cubes(1),
            plan.cube(),
            plan.vector,
            partial.into_tensor_arg(),
            variance.clone().into_tensor_arg(),
            by_gain.clone().into_tensor_arg(),
            by_bias.clone().into_tensor_arg(),
            single(epsilon),
            plan.chunks,
            plan.width,
            plan.units(),
        );
        pull_back::launch(
            &client,
            plan.cubes(plan.chunks),
            plan.cube(),
            plan.vector,
            rows.tensor.into_tensor_arg(),
            gradient.tensor.into_tensor_arg(),
            result.clone().into_tensor_arg(),
            gain.into_buffer_arg(),
            bias.into_buffer_arg(),
            mean.into_buffer_arg(),
            variance.into_buffer_arg(),
            by_gain.clone().into_buffer_arg(),
            by_bias.clone().into_buffer_arg(),
            single(epsilon),
            plan.rows as f32,
            plan.rows,
            plan.width,
            pitch,
            gradient_pitch,
            plan.per_chunk,
            rectify,
            dtype,
        );
        (channels_second(result), by_gain, by_bias)
    }
}
