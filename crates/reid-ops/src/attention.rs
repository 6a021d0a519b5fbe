//! Softmax attention.

use burn::tensor::{Tensor, activation::softmax};

#[cfg(native)]
mod extension;
#[cfg(native)]
mod query_chunks;

/// Computes softmax attention without a scale (Wang et al., Non-local Neural Networks, CVPR 2018; with a
/// scale: Vaswani et al., NIPS 2017).
///
/// ```text
/// z_i = Σⱼ softmaxⱼ(qᵢ · kⱼ) vⱼ
/// ```
///
/// Attention is computed in chunks of queries, so the full matrix of attention weights, `queries` ×
/// `positions`, is never held. This changes results only by rounding. The backward pass computes the
/// weights again, so training holds no more of them than evaluation. Forward and
/// backward pass then take seven matrix products instead of six.
///
/// The full matrix is held on backends that no feature of this crate names, without the feature `native`,
/// and if the dtypes of the operands differ.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::default();
/// let query = Tensor::<3>::from_data([[[0.0, 90.0]]], &device);
/// let key = Tensor::<3>::from_data([[[0.0, 1.0]]], &device);
/// let value = Tensor::<3>::from_data([[[2.0, 4.0]]], &device);
/// let gathered = reid_ops::attention(query, key, value).into_data();
/// // The first query attends to both positions equally, the second only to the second position.
/// assert_eq!(gathered.try_to_vec::<f32>()?, [3.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Shapes
/// - `query`: `[batch, key channels, queries]`
/// - `key`: `[batch, key channels, positions]`
/// - `value`: `[batch, value channels, positions]`
/// - result: `[batch, value channels, queries]`
///
/// # Panics
/// If the shapes do not match, or a tensor is empty.
#[must_use]
pub fn attention(query: Tensor<3>, key: Tensor<3>, value: Tensor<3>) -> Tensor<3> {
    let [batch, embedded, _] = query.dims();
    let [_, given, positions] = value.dims();
    assert!(
        key.dims() == [batch, embedded, positions] && value.dims() == [batch, given, positions],
        "attention with queries {:?}, keys {:?} and values {:?}: batch sizes must be equal, queries and \
         keys need the same number of channels, keys and values the same number of positions",
        query.dims(),
        key.dims(),
        value.dims()
    );
    crate::expect_not_empty("attention", &query.dims());
    crate::expect_not_empty("attention", &value.dims());
    #[cfg(native)]
    {
        use burn::backend::Dispatch;
        use extension::Attention;

        let same_dtype = query.dtype() == key.dtype() && key.dtype() == value.dtype();
        let chunks =
            query_chunks::QueryChunks::on(&query.device(), [batch, query.dims()[2], positions]);
        if let Some(chunks) = chunks.filter(|_| same_dtype) {
            return Tensor::from_dispatch(Dispatch::chunked_attention(
                query.into_dispatch(),
                key.into_dispatch(),
                value.into_dispatch(),
                chunks,
            ));
        }
    }
    let weights = softmax(query.transpose().matmul(key), 2);
    value.matmul(weights.transpose())
}
