//! Gates as an extension of Burn's backends, and their backward passes.

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

use super::Shared;

/// Maps multiplied by a gate, in their type. Shapes are those of [`crate::gated`].
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "_cube"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub(crate) trait Gates: Backend {
    /// The products.
    #[fusion(dtype = maps, shape = maps)]
    fn multiply(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        shared: Shared,
    ) -> FloatTensor<Self>;

    /// The gradients by maps and gate; for the backward pass alone.
    #[fusion(meta = |maps, factors, _, _| (maps.clone(), factors.clone()))]
    fn multiply_gradients(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shared: Shared,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

#[derive(Debug)]
struct Multiply;

impl<B: Gates> Backward<B, 2> for Multiply {
    type State = (FloatTensor<B>, FloatTensor<B>, Shared);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let (maps, factors, shared) = ops.state;
        let (by_maps, by_factors) = B::multiply_gradients(maps, factors, gradient, shared);
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
        shared: Shared,
    ) -> FloatTensor<Self> {
        let nodes = [maps.node(), factors.node()];
        let [maps, factors] = [maps, factors].map(FloatTensor::<Self>::into_primitive);
        match Multiply.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let output = B::multiply(maps.clone(), factors.clone(), shared);
                prep.finish((maps, factors, shared), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::multiply(maps, factors, shared)),
        }
    }

    fn multiply_gradients(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Shared,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("the backward pass of a gate has none of its own")
    }
}
