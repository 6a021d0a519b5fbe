//! Batches of several ranks as one batch.
//!
//! Each [rank](Ranks) computes the forward pass of its part of a batch. A loss that compares images needs the features
//! of all parts. [`gather`] returns them on every rank, and its backward pass returns their gradients to the ranks that
//! computed them.
//!
//! If every rank computes the same loss L of the gathered batch, the backward passes together compute the gradient of
//! the sum of these losses, n·L for n ranks. The mean over ranks of the gradients of a parameter is therefore that of L.

use burn::tensor::{Int, Tensor};
use reid_core::Ranks;
use reid_ops::sum_over_ranks;

/// Concatenates the rows of all ranks, in the order of the ranks, with gradients.
///
/// ```text
/// y = (x₀, x₁, …)        ∂x of rank r = sum over all ranks of ∂y_r
/// ```
///
/// It is the [sum over ranks](sum_over_ranks) of the rows between zeros, because then one operation serves losses and
/// normalisation.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{Ranks, Threads};
/// use reid_nn::ranks::gather;
///
/// let rows = Threads::run(2, |communicator| {
///     let ranks = Ranks::new(communicator);
///     let own = Tensor::<2>::full([1, 2], ranks.rank() as f32, &Device::default());
///     gather(own, &ranks).into_data().try_to_vec::<f32>().ok()
/// });
/// assert_eq!(rows, vec![Some(vec![0.0, 0.0, 1.0, 1.0]); 2]);
/// ```
///
/// # Shapes
/// - `rows`: `[rows, …]`, equal on all ranks
/// - result: `[ranks·rows, …]`
#[must_use]
pub fn gather<const D: usize>(rows: Tensor<D>, ranks: &Ranks) -> Tensor<D> {
    let (device, dtype, dims) = (rows.device(), rows.dtype(), rows.dims());
    let zeros = |of_ranks: usize| {
        let mut dims = dims;
        dims[0] *= of_ranks;
        (of_ranks > 0).then(|| Tensor::<D>::zeros(dims, (&device, dtype)))
    };
    let (before, after) = (ranks.rank(), ranks.size() - ranks.rank() - 1);
    let parts = [zeros(before), Some(rows), zeros(after)].into_iter();
    sum_over_ranks(Tensor::cat(parts.flatten().collect(), 0), ranks)
}

/// Concatenates integers of all ranks, in the order of the ranks.
///
/// # Panics
/// If an integer has more than 32 bits.
pub(crate) fn gather_integers(values: &Tensor<1, Int>, ranks: &Ranks) -> Tensor<1, Int> {
    let own = values.to_data();
    let own = own.iter::<i64>().map(|value| {
        let value = i32::try_from(value);
        value.expect("a label or class index must be below 2³¹")
    });
    let bytes: Vec<u8> = own.flat_map(i32::to_le_bytes).collect();
    let all = ranks.all_gather(&bytes).concat();
    let (all, _) = all.as_chunks::<4>();
    let all: Vec<i32> = all.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect();
    Tensor::from_data(all.as_slice(), &values.device())
}
