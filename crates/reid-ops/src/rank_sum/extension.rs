//! The sum over ranks as an extension of Burn's backends, and its backward pass.

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
    tensor::read_sync,
};
use reid_core::Ranks;

/// The sum over ranks. It is the same for all backends: the values are read, exchanged and copied back.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "_cube"),
    Autodiff,
    Fusion: cfg(feature = "_cube"),
)]
pub(crate) trait RankSums: Backend {
    /// Computes the sum.
    #[fusion(default)]
    fn sum_over_ranks(tensor: FloatTensor<Self>, ranks: Ranks) -> FloatTensor<Self> {
        let device = tensor.device();
        let data = read_sync(Self::float_into_data(tensor)).expect("the values of a tensor");
        Self::float_from_data(super::summed(data, &ranks), &device)
    }
}

#[cfg(feature = "flex")]
impl RankSums for burn::backend::Flex {}

#[cfg(feature = "_cube")]
impl RankSums for burn_cubecl::CubeBackend {}

#[derive(Debug)]
struct RankSum;

impl<B: RankSums> Backward<B, 1> for RankSum {
    type State = Ranks;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let gradient = B::sum_over_ranks(gradient, ops.state);
        let [parent] = ops.parents;
        if let Some(node) = parent {
            grads.register::<B>(node.id, gradient);
        }
    }
}

impl<B: RankSums, C: CheckpointStrategy> RankSums for Autodiff<B, C> {
    fn sum_over_ranks(tensor: FloatTensor<Self>, ranks: Ranks) -> FloatTensor<Self> {
        let (node, tensor) = (tensor.node(), tensor.into_primitive());
        let output = B::sum_over_ranks(tensor, ranks.clone());
        match RankSum.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(ranks, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}
