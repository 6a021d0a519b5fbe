//! Attention as an extension of Burn's backends, and its backward pass.

#![cfg_attr(
    native_ndarray,
    expect(
        deprecated,
        reason = "deprecated in Burn, but still a backend of this library"
    )
)]

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

use super::query_chunks::{self, QueryChunks};

/// Attention in chunks of queries. The forward pass is the same on every backend; the trait exists for the
/// custom backward pass.
#[backend_extension(
    Flex: cfg(native_flex),
    NdArray: cfg(native_ndarray),
    Cube: cfg(native_cube),
    Autodiff,
)]
pub(super) trait Attention: Backend {
    /// Computes attention. The shapes are those of [`crate::attention()`].
    fn chunked_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        chunks: QueryChunks,
    ) -> FloatTensor<Self> {
        query_chunks::attention::<Self>(&query, &key, &value, chunks)
    }
}

#[cfg(native_flex)]
impl Attention for burn::backend::Flex {}

#[cfg(native_ndarray)]
#[expect(
    deprecated,
    reason = "deprecated in Burn, but still a backend of this library"
)]
impl Attention for burn::backend::NdArray {}

#[cfg(native_cube)]
impl Attention for burn::backend::Cube {}

impl<B: Attention, C: CheckpointStrategy> Attention for Autodiff<B, C> {
    fn chunked_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        chunks: QueryChunks,
    ) -> FloatTensor<Self> {
        let nodes = [query.node(), key.node(), value.node()];
        let maps = [query, key, value].map(FloatTensor::<Self>::into_primitive);
        let [query, key, value] = maps.clone();
        let output = B::chunked_attention(query, key, value, chunks);
        match AttentionBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((maps, chunks), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[derive(Debug)]
struct AttentionBackward;

impl<B: Attention> Backward<B, 3> for AttentionBackward {
    /// Query, key and value.
    type State = ([FloatTensor<B>; 3], QueryChunks);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let ([query, key, value], chunks) = ops.state;
        let gradients = query_chunks::gradients::<B>(&query, &key, &value, &gradient, chunks);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
