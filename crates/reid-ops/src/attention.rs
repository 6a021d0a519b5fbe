//! Attention of places to places.

use burn::tensor::{Tensor, activation::softmax};

/// Weights of one image that are held at a time.
const HELD: usize = 1 << 22;

/// What each place gathers from all places, by softmax attention (Wang et al., Non-local Neural
/// Networks, CVPR 2018; Vaswani et al., NIPS 2017, there with a scale).
///
/// ```text
/// z_i = Σⱼ softmaxⱼ(qᵢ · kⱼ) vⱼ
/// ```
///
/// The weights of all places to all places are never held together: some queries have their turn, then
/// others, which changes nothing but rounding. On Flex the backward pass computes them again, so that
/// training needs no more; elsewhere autodiff keeps them.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::default();
/// let query = Tensor::<3>::from_data([[[0.0, 90.0]]], &device);
/// let key = Tensor::<3>::from_data([[[0.0, 1.0]]], &device);
/// let value = Tensor::<3>::from_data([[[2.0, 4.0]]], &device);
/// let gathered = reid_ops::attend(query, key, value).into_data();
/// // The first place weighs both alike, the second looks at the second alone.
/// assert_eq!(gathered.try_to_vec::<f32>()?, [3.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Shapes
/// - `query`: `[batch, embedded, queries]`
/// - `key`: `[batch, embedded, places]`
/// - `value`: `[batch, given, places]`
/// - result: `[batch, given, queries]`
///
/// # Panics
/// If the shapes do not fit each other.
#[must_use]
pub fn attend(query: Tensor<3>, key: Tensor<3>, value: Tensor<3>) -> Tensor<3> {
    let [batch, embedded, queries] = query.dims();
    let [_, given, places] = value.dims();
    assert!(
        key.dims() == [batch, embedded, places] && value.dims() == [batch, given, places],
        "attention of queries {:?} to keys {:?} and values {:?}: they have one batch, queries and \
         keys as many channels, keys and values as many places",
        query.dims(),
        key.dims(),
        value.dims()
    );
    #[cfg(feature = "flex")]
    {
        use burn::backend::Dispatch;

        use crate::{extension::ReidOps, turns::Turns};
        let one_type = query.dtype() == key.dtype() && key.dtype() == value.dtype();
        let empty = [batch, embedded, queries, given, places].contains(&0);
        if !empty && one_type && crate::is_on_flex(&query.device()) {
            let turns = Turns::new(batch, queries, places);
            return Tensor::from_dispatch(Dispatch::attend(
                query.into_dispatch(),
                key.into_dispatch(),
                value.into_dispatch(),
                turns,
            ));
        }
    }
    let rows = (HELD / places.max(1)).max(1);
    let gathered = |start: usize| {
        let query = query.clone().narrow(2, start, rows.min(queries - start));
        let weights = softmax(query.transpose().matmul(key.clone()), 2);
        value.clone().matmul(weights.transpose())
    };
    let parts: Vec<Tensor<3>> = (0..queries).step_by(rows).map(gathered).collect();
    Tensor::cat(parts, 2)
}
