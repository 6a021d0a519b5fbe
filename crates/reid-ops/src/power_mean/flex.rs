//! Generalised means on Flex.

use burn::{
    backend::{Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor},
    tensor::Tensor,
};

use crate::flex::{Read, tensor};

/// Generalised means of features, `[batch, channels, positions]`, with an exponent, `[1]`, in single
/// precision.
#[backend_extension(Flex: cfg(native_flex))]
pub(super) trait PowerMeans: Backend {
    /// Computes the means, `[batch, channels]`.
    fn power_means(maps: FloatTensor<Self>, exponent: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Computes the means, `[batch, channels, 1]`, and their gradients with respect to the features and the
    /// exponent.
    fn power_mean_gradients(
        maps: FloatTensor<Self>,
        exponent: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl PowerMeans for Flex {
    fn power_means(maps: FloatTensor<Self>, exponent: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = maps.layout().shape();
        let [batch, channels, positions] = [shape[0], shape[1], shape[2]];
        let exponent = Read::new(&exponent).values()[0];
        let means = reid_kernels::power_means(Read::new(&maps).values(), positions, exponent);
        tensor(means, [batch, channels])
    }

    fn power_mean_gradients(
        maps: FloatTensor<Self>,
        exponent: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let shape = maps.layout().shape().clone();
        let each = [shape[0], shape[1], 1];
        let exponent = Read::new(&exponent).values()[0];
        let found = reid_kernels::PowerMeans::new(Read::new(&maps).values(), shape[2], exponent);
        (
            tensor(found.means, each),
            tensor(found.by_maps, shape),
            tensor(found.by_exponent, each),
        )
    }
}

pub(super) fn value(maps: Tensor<3>, exponent: Tensor<1>) -> Tensor<2> {
    let means = Dispatch::power_means(maps.into_dispatch(), exponent.into_dispatch());
    Tensor::from_dispatch(means)
}

pub(super) fn all(maps: Tensor<3>, exponent: Tensor<1>) -> (Tensor<3>, [Tensor<3>; 2]) {
    let (means, by_maps, by_exponent) =
        Dispatch::power_mean_gradients(maps.into_dispatch(), exponent.into_dispatch());
    let gradients = [by_maps, by_exponent].map(Tensor::from_dispatch);
    (Tensor::from_dispatch(means), gradients)
}
