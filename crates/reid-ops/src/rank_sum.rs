//! The sum of a tensor over ranks, with its gradient.

use burn::tensor::{DType, Tensor, TensorData};
use reid_core::Ranks;

#[cfg(any(feature = "flex", feature = "_cube"))]
mod extension;

/// Computes the sum of a tensor over all ranks, which is bit-identical on all of them.
///
/// ```text
/// y = ((x₀ + x₁) + x₂) + …        ∂x of each rank = sum over all ranks of ∂y
/// ```
///
/// It is the only operation through which gradients flow between ranks: synchronised batch normalisation and losses
/// over the whole batch are composed of it. The values are exchanged through the memory of the host.
///
/// All ranks must compute the same operations in the same order. A backward pass runs on one thread, in an order that
/// only depends on the graph, so its exchanges have the same order on all ranks. After an error of the exchange, the
/// result is the tensor of this rank; see [`Ranks::check`].
///
/// Ranks in one process must not share a tensor that requires a gradient: [detach](Tensor::detach) it on each rank.
/// Burn computes the gradients of such a tensor under one lock, so the ranks would wait for each other forever.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{Ranks, Threads};
///
/// let sums = Threads::run(2, |communicator| {
///     let ranks = Ranks::new(communicator);
///     let own = Tensor::<1>::full([1], 1.0 + ranks.rank() as f32, &Device::default());
///     reid_ops::sum_over_ranks(own, &ranks).into_scalar::<f32>()
/// });
/// assert_eq!(sums, [3.0, 3.0]);
/// ```
///
/// # Shapes
/// - `tensor` and result: any, equal on all ranks
///
/// # Panics
/// If the tensor is on an autodiff device of a backend other than Flex and the GPU backends, or if the feature of
/// this backend is not enabled.
#[must_use]
pub fn sum_over_ranks<const D: usize>(tensor: Tensor<D>, ranks: &Ranks) -> Tensor<D> {
    if ranks.size() == 1 {
        return tensor;
    }
    if !tensor.is_autodiff() {
        let device = tensor.device();
        let dtype = tensor.dtype();
        return Tensor::from_data(summed(tensor.into_data(), ranks), (&device, dtype));
    }
    #[cfg(any(feature = "flex", feature = "_cube"))]
    {
        use burn::backend::Dispatch;

        use extension::RankSums;
        let sum = Dispatch::sum_over_ranks(tensor.into_dispatch(), ranks.clone());
        Tensor::from_dispatch(sum)
    }
    #[cfg(not(any(feature = "flex", feature = "_cube")))]
    {
        panic!("a sum over ranks has no gradient on {:?}", tensor.device())
    }
}

/// The sums of values over all ranks. Half precision is summed in single precision.
fn summed(data: TensorData, ranks: &Ranks) -> TensorData {
    const FLOATS: &str = "floating-point values of this dtype";
    let (shape, dtype) = (data.shape().clone(), data.dtype());
    if dtype == DType::F64 {
        let mut values = data.try_into_vec::<f64>().expect(FLOATS);
        ranks.sum_f64(&mut values);
        return TensorData::new(values, shape);
    }
    let data = data.convert_dtype(DType::F32);
    let mut values = data.try_into_vec::<f32>().expect(FLOATS);
    ranks.sum_f32(&mut values);
    TensorData::new(values, shape).convert_dtype(dtype)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::Device;
    use reid_core::Threads;

    use super::*;

    /// Rank r has x = r + 1 and the loss (r + 1)·y². With y = 1 + 2 = 3, ∂y = 2·(r + 1)·y, and so
    /// ∂x = 2·3 + 4·3 = 18 on both ranks.
    #[test]
    fn the_gradient_is_summed_over_ranks() {
        for dtype in [DType::F32, DType::F64] {
            let gradients = Threads::run(2, |communicator| {
                let ranks = Ranks::new(communicator);
                let own = 1.0 + ranks.rank() as f64;
                let device = Device::flex().autodiff();
                let value = Tensor::<1>::full([2], own, (&device, dtype)).require_grad();
                let sum = sum_over_ranks(value.clone(), &ranks);
                assert_eq!(sum.dtype(), dtype);
                let gradients = (sum.square() * own).sum().backward();
                let gradient = value.grad(&gradients).expect("a gradient");
                let gradient: Vec<f64> = gradient.into_data().iter::<f64>().collect();
                ranks.check().map(|()| gradient)
            });
            assert_eq!(gradients, vec![Ok(vec![18.0, 18.0]); 2]);
        }
    }

    #[test]
    fn half_precision_keeps_its_dtype() {
        let sums = Threads::run(3, |communicator| {
            let ranks = Ranks::new(communicator);
            let own = Tensor::<1>::full([1], 0.5, (&Device::flex(), DType::BF16));
            let sum = sum_over_ranks(own, &ranks);
            (sum.dtype(), sum.cast(DType::F32).into_scalar::<f32>())
        });
        assert_eq!(sums, [(DType::BF16, 1.5); 3]);
    }
}
