//! Attention of places to places.

use burn::tensor::{Tensor, activation::softmax};

#[cfg(native)]
mod extension;
#[cfg(native)]
mod query_chunks;

/// What each place gathers from all places, by softmax attention (Wang et al., Non-local Neural
/// Networks, CVPR 2018; Vaswani et al., NIPS 2017, there with a scale).
///
/// ```text
/// z_i = Σⱼ softmaxⱼ(qᵢ · kⱼ) vⱼ
/// ```
///
/// The weights of all places to all places are not held together where there are many: some queries
/// have their turn, then others, which changes nothing but rounding. The backward pass computes them
/// again, so that training holds no more than evaluation. (Backends that no feature of this crate
/// names hold them all.)
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::default();
/// let query = Tensor::<3>::from_data([[[0.0, 90.0]]], &device);
/// let key = Tensor::<3>::from_data([[[0.0, 1.0]]], &device);
/// let value = Tensor::<3>::from_data([[[2.0, 4.0]]], &device);
/// let gathered = reid_ops::attention(query, key, value).into_data();
/// // The first position weighs both alike, the second looks at the second alone.
/// assert_eq!(gathered.try_to_vec::<f32>()?, [3.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Shapes
/// - `query`: `[batch, embedded, queries]`
/// - `key`: `[batch, embedded, positions]`
/// - `value`: `[batch, given, positions]`
/// - result: `[batch, given, queries]`
///
/// # Panics
/// If the shapes do not fit each other or are empty.
#[must_use]
pub fn attention(query: Tensor<3>, key: Tensor<3>, value: Tensor<3>) -> Tensor<3> {
    let [batch, embedded, _] = query.dims();
    let [_, given, positions] = value.dims();
    assert!(
        key.dims() == [batch, embedded, positions] && value.dims() == [batch, given, positions],
        "attention of queries {:?} to keys {:?} and values {:?}: they have one batch, queries and \
         keys as many channels, keys and values as many places",
        query.dims(),
        key.dims(),
        value.dims()
    );
    crate::expect_numbers("attention", &query.dims());
    crate::expect_numbers("attention", &value.dims());
    #[cfg(native)]
    {
        use burn::backend::Dispatch;
        use extension::Attention;

        let one_type = query.dtype() == key.dtype() && key.dtype() == value.dtype();
        let chunks =
            query_chunks::QueryChunks::on(&query.device(), [batch, query.dims()[2], positions]);
        if let Some(chunks) = chunks.filter(|_| one_type) {
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
