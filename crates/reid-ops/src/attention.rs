//! Attention of places to places.

use burn::tensor::{Tensor, activation::softmax};

/// Numbers of weights that are held at a time where Burn computes.
const HELD: usize = 1 << 22;

/// What each place gathers from all places, by softmax attention (Wang et al., Non-local Neural
/// Networks, CVPR 2018; Vaswani et al., NIPS 2017, there with a scale).
///
/// ```text
/// z_i = Σⱼ softmaxⱼ(qᵢ · kⱼ) vⱼ
/// ```
///
/// The weights of all places to all places are not held together where there are many: some queries
/// have their turn, then others, which changes nothing but rounding. On Flex the backward pass computes
/// them again, so that training holds no more than evaluation; on other backends autodiff keeps them.
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
    if queries == 0 {
        return Tensor::zeros([batch, given, 0], (&value.device(), value.dtype()));
    }
    let together = HELD / (batch * places).max(1);
    composed(&query, &key, &value, together.max(1))
}

/// The same by Burn's operations, so many queries at a time.
fn composed(query: &Tensor<3>, key: &Tensor<3>, value: &Tensor<3>, together: usize) -> Tensor<3> {
    let [_, _, queries] = query.dims();
    let gathered = |start: usize| {
        let turn = together.min(queries - start);
        let query = query.clone().narrow(2, start, turn);
        let weights = softmax(query.transpose().matmul(key.clone()), 2);
        value.clone().matmul(weights.transpose())
    };
    let parts: Vec<Tensor<3>> = (0..queries).step_by(together).map(gathered).collect();
    Tensor::cat(parts, 2)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn turns_of_any_length_give_the_same() {
        let device = Device::default();
        let map = |shape| Tensor::<3>::random(shape, Distribution::Normal(0.0, 1.0), &device);
        let (query, key, value) = (map([2, 4, 8]), map([2, 4, 5]), map([2, 3, 5]));
        let once = composed(&query, &key, &value, 8);
        for together in [1, 3, 4] {
            let found = composed(&query, &key, &value, together);
            let difference = (found - once.clone()).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-6, "{together}: {difference}");
        }
    }

    #[test]
    fn no_query_gathers_nothing() {
        let device = Device::default();
        let map = |shape| Tensor::<3>::zeros(shape, &device);
        let found = attend(map([2, 4, 0]), map([2, 4, 5]), map([2, 3, 5]));
        assert_eq!(found.dims(), [2, 3, 0]);
    }
}
