//! Gates on GPUs, over features with channels innermost.

use burn_cubecl::{
    CubeBackend,
    cubecl::{calculate_cube_count_elemwise, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{Broadcast, extension::Gates};
use crate::cube::{Rows, channels_second, elem_type, empty, rows::Plan};

mod kernels;

use kernels::{by_channels, by_positions, gate_channels, gate_positions};

impl Gates for CubeBackend {
    fn multiply(maps: CubeTensor, factors: CubeTensor, broadcast: Broadcast) -> CubeTensor {
        let images = maps.meta.shape()[0];
        let rows = Rows::new(maps);
        let [vector, width, total] = rows.vectors(&[rows.pitch]);
        let (factors, per_image) = (into_contiguous(factors), rows.count() / images);
        let (client, output) = (rows.tensor.client.clone(), rows.empty_like());
        let cube = CubeDim::new(&client, total);
        let launch = match broadcast {
            Broadcast::Positions => gate_channels::launch,
            Broadcast::Channels => gate_positions::launch,
        };
        launch(
            &client,
            calculate_cube_count_elemwise(&client, total, cube),
            cube,
            vector,
            rows.tensor.clone().into_tensor_arg(),
            factors.into_buffer_arg(),
            output.clone().into_tensor_arg(),
            total,
            width,
            per_image,
            rows.pitch / vector,
            elem_type(rows.tensor.dtype),
        );
        channels_second(output)
    }

    fn multiply_gradients(
        maps: CubeTensor,
        factors: CubeTensor,
        gradient: CubeTensor,
        broadcast: Broadcast,
    ) -> (CubeTensor, CubeTensor) {
        let images = maps.meta.shape()[0];
        let (rows, gradient) = (Rows::new(maps), Rows::new(gradient));
        let plan = Plan::of_images(&rows, &[rows.pitch, gradient.pitch], images);
        let (client, by_maps) = (rows.tensor.client.clone(), rows.empty_like());
        let by_factors = empty(&factors, factors.meta.shape().clone(), factors.dtype);
        let factors = into_contiguous(factors);
        let count = match broadcast {
            Broadcast::Positions => plan.cubes(images),
            Broadcast::Channels => plan.rows_at_once(),
        };
        let launch = match broadcast {
            Broadcast::Positions => by_channels::launch,
            Broadcast::Channels => by_positions::launch,
        };
        launch(
            &client,
            count,
            plan.cube(),
            plan.vector,
            rows.tensor.clone().into_tensor_arg(),
            factors.into_buffer_arg(),
            gradient.tensor.into_tensor_arg(),
            by_maps.clone().into_tensor_arg(),
            by_factors.clone().into_buffer_arg(),
            plan.rows,
            plan.width,
            plan.per_chunk,
            rows.pitch / plan.vector,
            gradient.pitch / plan.vector,
            plan.units(),
            elem_type(rows.tensor.dtype),
        );
        (channels_second(by_maps), by_factors)
    }
}
