//! Global average pooling as an extension of Burn's backends, and its backward pass.
//!
//! The gradient with respect to the features is one value per channel of an image. It is registered as a
//! broadcast view: it is added in place to other gradients of the features, or expanded where it is read.

#[cfg(native_cube)]
use burn::backend::fusion::custom::TensorSpec;
use burn::{
    backend::{
        Autodiff, Backend, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        tensor::FloatTensor,
    },
    tensor::{DType, Shape},
};

/// Global average pooling to `[batch, channels]`, in single precision.
#[backend_extension(
    Flex: cfg(native_flex),
    Cube: cfg(native_cube),
    Autodiff,
    Fusion: cfg(native_cube),
)]
pub(crate) trait AvgPool: Backend {
    /// Computes the mean of each feature map.
    #[fusion(meta = |maps| {
        TensorSpec::new([maps.shape[0], maps.shape[1]].into(), DType::F32)
    })]
    fn global_average(maps: FloatTensor<Self>) -> FloatTensor<Self>;
}

#[derive(Debug)]
struct AvgPoolBackward;

impl<B: AvgPool> Backward<B, 1> for AvgPoolBackward {
    /// Shape and dtype of the feature maps.
    type State = (Shape, DType);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let (shape, dtype) = ops.state;
        let [parent] = ops.parents;
        if let Some(node) = parent {
            let positions = (shape[2] * shape[3]) as f64;
            let share = B::float_mul_scalar(gradient, positions.recip().into());
            let share = B::float_cast(share, dtype.into());
            let share = B::float_reshape(share, Shape::new([shape[0], shape[1], 1, 1]));
            // A view: the values are not repeated in memory.
            grads.register::<B>(node.id, B::float_expand(share, shape));
        }
    }
}

impl<B: AvgPool, C: CheckpointStrategy> AvgPool for Autodiff<B, C> {
    fn global_average(maps: FloatTensor<Self>) -> FloatTensor<Self> {
        let (node, maps) = (maps.node(), maps.into_primitive());
        let state = (maps.shape(), maps.dtype());
        let output = B::global_average(maps);
        match AvgPoolBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(state, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}
