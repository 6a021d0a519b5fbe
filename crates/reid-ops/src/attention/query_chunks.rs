//! Attention by turns of queries, made of a backend's own operations.

use std::ops::Range;

use burn::{
    backend::{Backend, DispatchDevice, TensorMetadata, tensor::FloatTensor},
    tensor::{DType, Device, FloatDType, Slice},
};

/// How the queries of an attention take turns.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueryChunks {
    queries: usize,
    /// Queries that have their turn together.
    together: usize,
    /// Whether numbers below the normal range are computed with slowly, as CPUs do.
    slow_below: bool,
}

/// Far below what a weight of 1 is rounded by in single precision, and far above what is below its normal
/// range even in a product with a small gradient.
const LEAST: f64 = 1e-20;

impl QueryChunks {
    /// For the queries of a batch of maps, each of which asks so many places; `None` on a backend that
    /// this library knows nothing of.
    pub(super) fn on(device: &Device, [batch, queries, positions]: [usize; 3]) -> Option<Self> {
        // Numbers of weights that are held at a time, in all images together, and queries at most: what
        // stays in a processor's cache, and enough to occupy a GPU.
        let ([held, most], slow_below) = match device.clone().without_autodiff().as_dispatch() {
            #[cfg(native_flex)]
            DispatchDevice::Flex(_) => ([1 << 21, 512], true),
            #[cfg(native_ndarray)]
            DispatchDevice::NdArray(_) => ([1 << 21, 512], true),
            #[cfg(native_cube)]
            DispatchDevice::Cube(_) => ([1 << 24, 1024], false),
            #[allow(unreachable_patterns, reason = "there may be other backends")]
            _ => return None,
        };
        let together = (held / (batch * positions).max(1)).clamp(1, most);
        Some(Self {
            queries,
            together,
            slow_below,
        })
    }

    /// The weights of some queries, a row for each.
    ///
    /// Where attention is sure of itself, most weights are below the normal range of single precision, and so
    /// are the gradients that they are multiplied with; a convolution of such numbers takes a hundred times as
    /// long. So each weight is a little more, by less than a sum of them is rounded by.
    fn weights<B: Backend>(self, query: FloatTensor<B>, key: &FloatTensor<B>) -> FloatTensor<B> {
        let scores = B::float_matmul(transposed::<B>(query), key.clone());
        match scores.dtype() {
            // Sums of many small numbers.
            DType::F16 | DType::BF16 => {
                let given = scores.dtype().into();
                B::float_cast(B::softmax(B::float_cast(scores, FloatDType::F32), 2), given)
            }
            DType::F32 if self.slow_below => {
                B::float_add_scalar(B::softmax(scores, 2), LEAST.into())
            }
            _ => B::softmax(scores, 2),
        }
    }

    fn ranges(self) -> impl Iterator<Item = Range<usize>> {
        let Self {
            queries, together, ..
        } = self;
        (0..queries)
            .step_by(together)
            .map(move |start| start..queries.min(start + together))
    }
}

/// What the queries gather, `[batch, given, queries]`.
pub(super) fn attention<B: Backend>(
    query: &FloatTensor<B>,
    key: &FloatTensor<B>,
    value: &FloatTensor<B>,
    chunks: QueryChunks,
) -> FloatTensor<B> {
    let gathered = chunks.ranges().map(|turn| {
        let query = columns::<B>(query, &turn);
        B::float_matmul(
            value.clone(),
            transposed::<B>(chunks.weights::<B>(query, key)),
        )
    });
    B::float_cat(gathered.collect(), 2)
}

/// The gradients by query, key and value; the weights are computed again.
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
    for turn in chunks.ranges() {
        let (query, gradient) = (columns::<B>(query, &turn), columns::<B>(gradient, &turn));
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

fn columns<B: Backend>(map: &FloatTensor<B>, turn: &Range<usize>) -> FloatTensor<B> {
    let range = Slice::from(turn.clone());
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
