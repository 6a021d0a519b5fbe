//! Attention in chunks of queries, composed of the operations of a backend.
//!
//! Each chunk of queries attends to all keys at once, so softmax needs no running correction, and only the
//! weights of one chunk are held. The backward pass computes the weights again instead of keeping them:
//! seven matrix products instead of six, for memory that grows linearly with the number of positions and
//! not quadratically. GPUs get larger chunks.
//!
//! In single precision on CPUs, 1e-20 is added to each weight. This is below the rounding error of a sum of
//! weights, and it keeps gradients out of the subnormal range, in which CPUs compute a hundred times as
//! slowly. Rejected: setting the processor to flush subnormal numbers to 0, which needs `unsafe`.

use std::ops::Range;

use burn::{
    backend::{Backend, DispatchDevice, TensorMetadata, tensor::FloatTensor},
    tensor::{DType, Device, FloatDType, Slice},
};

/// The division of the queries of an attention into chunks.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueryChunks {
    queries: usize,
    /// The number of queries in a chunk.
    per_chunk: usize,
    /// Whether the device computes slowly with subnormal numbers, as CPUs do.
    slow_subnormals: bool,
}

/// Added to each weight. It is far below the rounding error of a weight of 1 in single precision, and large
/// enough that its product with a small gradient is not subnormal.
const LEAST: f64 = 1e-20;

impl QueryChunks {
    /// Chunks for `queries` queries over `positions` positions in each image of a batch; `None` on a
    /// backend that this crate does not support.
    pub(super) fn on(device: &Device, [batch, queries, positions]: [usize; 3]) -> Option<Self> {
        // The largest number of weights that are held at a time, over the whole batch, and the largest
        // number of queries in a chunk: what stays in the cache of a processor, or occupies a GPU.
        let ([held, most], slow_subnormals) = match device.clone().without_autodiff().as_dispatch()
        {
            #[cfg(native_flex)]
            DispatchDevice::Flex(_) => ([1 << 21, 512], true),
            #[cfg(native_ndarray)]
            DispatchDevice::NdArray(_) => ([1 << 21, 512], true),
            #[cfg(native_cube)]
            DispatchDevice::Cube(_) => ([1 << 24, 1024], false),
            #[allow(unreachable_patterns, reason = "other backends may be compiled in")]
            _ => return None,
        };
        let per_chunk = (held / (batch * positions).max(1)).clamp(1, most);
        Some(Self {
            queries,
            per_chunk,
            slow_subnormals,
        })
    }

    /// Computes the attention weights of some queries, `[batch, queries, positions]`.
    ///
    /// Where attention is concentrated on few positions, most softmax weights, and the gradients multiplied
    /// with them, are subnormal in single precision. A convolution of such values takes a hundred times as
    /// long. Adding [`LEAST`] to each weight avoids this.
    fn weights<B: Backend>(self, query: FloatTensor<B>, key: &FloatTensor<B>) -> FloatTensor<B> {
        let scores = B::float_matmul(transposed::<B>(query), key.clone());
        match scores.dtype() {
            // The sum of softmax has many small terms, too small for half precision.
            DType::F16 | DType::BF16 => {
                let given = scores.dtype().into();
                B::float_cast(B::softmax(B::float_cast(scores, FloatDType::F32), 2), given)
            }
            DType::F32 if self.slow_subnormals => {
                B::float_add_scalar(B::softmax(scores, 2), LEAST.into())
            }
            _ => B::softmax(scores, 2),
        }
    }

    /// The ranges of queries of all chunks.
    fn ranges(self) -> impl Iterator<Item = Range<usize>> {
        let Self {
            queries, per_chunk, ..
        } = self;
        (0..queries)
            .step_by(per_chunk)
            .map(move |start| start..queries.min(start + per_chunk))
    }
}

/// Computes attention, `[batch, value channels, queries]`.
pub(super) fn attention<B: Backend>(
    query: &FloatTensor<B>,
    key: &FloatTensor<B>,
    value: &FloatTensor<B>,
    chunks: QueryChunks,
) -> FloatTensor<B> {
    let gathered = chunks.ranges().map(|chunk| {
        let query = columns::<B>(query, &chunk);
        B::float_matmul(
            value.clone(),
            transposed::<B>(chunks.weights::<B>(query, key)),
        )
    });
    B::float_cat(gathered.collect(), 2)
}

/// Computes the gradients with respect to query, key and value. The weights are computed again.
///
/// ```text
/// dV += dZ·W       dW = dZᵀ·V       dS = W ⊙ (dW - Σⱼ W ⊙ dW)       dQ = K·dSᵀ       dK += Q·dS
/// ```
pub(super) fn gradients<B: Backend>(
    query: &FloatTensor<B>,
    key: &FloatTensor<B>,
    value: &FloatTensor<B>,
    gradient: &FloatTensor<B>,
    chunks: QueryChunks,
) -> [FloatTensor<B>; 3] {
    let (mut by_query, mut by_key, mut by_value) = (Vec::new(), None, None);
    for chunk in chunks.ranges() {
        let (query, gradient) = (columns::<B>(query, &chunk), columns::<B>(gradient, &chunk));
        let weights = chunks.weights::<B>(query.clone(), key);
        let by_weights = B::float_matmul(transposed::<B>(gradient.clone()), value.clone());
        add::<B>(&mut by_value, B::float_matmul(gradient, weights.clone()));
        let weighted = B::float_mul(weights.clone(), by_weights);
        let mean = B::float_sum_dim(weighted.clone(), 2);
        let by_scores = B::float_sub(weighted, B::float_mul(weights, mean));
        by_query.push(B::float_matmul(
            key.clone(),
            transposed::<B>(by_scores.clone()),
        ));
        add::<B>(&mut by_key, B::float_matmul(query, by_scores));
    }
    let [by_key, by_value] = [by_key, by_value].map(|sum| sum.expect("at least one query"));
    [B::float_cat(by_query, 2), by_key, by_value]
}

fn columns<B: Backend>(map: &FloatTensor<B>, chunk: &Range<usize>) -> FloatTensor<B> {
    let range = Slice::from(chunk.clone());
    B::float_slice(map.clone(), &[Slice::full(), Slice::full(), range])
}

fn transposed<B: Backend>(map: FloatTensor<B>) -> FloatTensor<B> {
    B::float_swap_dims(map, 1, 2)
}

fn add<B: Backend>(sum: &mut Option<FloatTensor<B>>, value: FloatTensor<B>) {
    *sum = Some(match sum.take() {
        Some(sum) => B::float_add(sum, value),
        None => value,
    });
}
