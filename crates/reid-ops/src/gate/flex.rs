//! Gates on Flex.

use burn::backend::{Flex, tensor::FloatTensor};
use burn_flex::FlexTensor;

use super::{Shared, extension::Gates};
use crate::flex::{Read, is_own, own, tensor};

/// The sizes of a product.
pub(crate) fn sizes(maps: &FlexTensor, shared: Shared) -> reid_kernels::Gate {
    let shape = maps.layout().shape();
    reid_kernels::Gate {
        batch: shape[0],
        channels: shape[1],
        places: shape[2] * shape[3],
        shared: match shared {
            Shared::Places => reid_kernels::Shared::Places,
            Shared::Channels => reid_kernels::Shared::Channels,
        },
    }
}

impl Gates for Flex {
    fn multiply(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        shared: Shared,
    ) -> FloatTensor<Self> {
        let (gate, factors) = (sizes(&maps, shared), Read::new(&factors));
        if is_own(&maps) {
            let mut gated = maps;
            gate.multiply(gated.storage_mut(), factors.numbers());
            return gated;
        }
        let shape = maps.layout().shape().clone();
        let maps = Read::new(&maps);
        tensor(
            gate.multiplied(maps.numbers(), factors.numbers(), None),
            shape,
        )
    }

    fn multiply_gradients(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shared: Shared,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (gate, shape) = (sizes(&maps, shared), factors.layout().shape().clone());
        let (maps, factors, mut gradient) = (Read::new(&maps), Read::new(&factors), own(gradient));
        let by_factors = gate.gradients(maps.numbers(), factors.numbers(), gradient.storage_mut());
        (gradient, tensor(by_factors, shape))
    }
}
