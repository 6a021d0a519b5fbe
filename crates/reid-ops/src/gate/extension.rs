//! Gates as an extension of Burn's backends, and their backward pass.

use burn::backend::{
    Autodiff, Backend,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    tensor::FloatTensor,
};

use super::Broadcast;

/// Features multiplied by a gate, in the dtype of both. The shapes are those of [`crate::mul_gate`].
#[backend_extension(
    Flex: cfg(native_flex),
    Cube: cfg(native_cube),
    Autodiff,
    Fusion: cfg(native_cube),
)]
pub(crate) trait Gates: Backend {
    /// Computes the product.
    #[fusion(dtype = maps, shape = maps)]
    fn multiply(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        broadcast: Broadcast,
    ) -> FloatTensor<Self>;

    /// Computes the gradients with respect to features and gate; used in the backward pass only.
    #[fusion(meta = |maps, factors, _, _| (maps.clone(), factors.clone()))]
    fn multiply_gradients(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        broadcast: Broadcast,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

#[derive(Debug)]
struct Multiply;

impl<B: Gates> Backward<B, 2> for Multiply {
    type State = (FloatTensor<B>, FloatTensor<B>, Broadcast);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let (maps, factors, broadcast) = ops.state;
        let (by_maps, by_factors) = B::multiply_gradients(maps, factors, gradient, broadcast);
        for (node, gradient) in ops.parents.into_iter().zip([by_maps, by_factors]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Gates, C: CheckpointStrategy> Gates for Autodiff<B, C> {
    fn multiply(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        broadcast: Broadcast,
    ) -> FloatTensor<Self> {
        let nodes = [maps.node(), factors.node()];
        let [maps, factors] = [maps, factors].map(FloatTensor::<Self>::into_primitive);
        match Multiply.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let output = B::multiply(maps.clone(), factors.clone(), broadcast);
                prep.finish((maps, factors, broadcast), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::multiply(maps, factors, broadcast)),
        }
    }

    fn multiply_gradients(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Broadcast,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("the backward pass of a gate is not differentiable")
    }
}
