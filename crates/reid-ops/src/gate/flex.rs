//! Gates on Flex.

use burn::backend::{Flex, tensor::FloatTensor};
use burn_flex::FlexTensor;

use super::{Broadcast, extension::Gates};
use crate::flex::{Read, is_own, own, tensor};

/// The sizes of the product of features and a gate.
pub(crate) fn sizes(maps: &FlexTensor, broadcast: Broadcast) -> reid_kernels::Gate {
    let shape = maps.layout().shape();
    reid_kernels::Gate {
        batch: shape[0],
        channels: shape[1],
        positions: shape[2] * shape[3],
        broadcast: match broadcast {
            Broadcast::Positions => reid_kernels::Broadcast::Positions,
            Broadcast::Channels => reid_kernels::Broadcast::Channels,
        },
    }
}

impl Gates for Flex {
    fn multiply(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        broadcast: Broadcast,
    ) -> FloatTensor<Self> {
        let (gate, factors) = (sizes(&maps, broadcast), Read::new(&factors));
        if is_own(&maps) {
            let mut gated = maps;
            gate.multiply(gated.storage_mut(), factors.values());
            return gated;
        }
        let shape = maps.layout().shape().clone();
        let maps = Read::new(&maps);
        tensor(
            gate.multiplied(maps.values(), factors.values(), None),
            shape,
        )
    }

    fn multiply_gradients(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        broadcast: Broadcast,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (gate, shape) = (sizes(&maps, broadcast), factors.layout().shape().clone());
        let (maps, factors, mut gradient) = (Read::new(&maps), Read::new(&factors), own(gradient));
        let by_factors = gate.gradients(maps.values(), factors.values(), gradient.storage_mut());
        (gradient, tensor(by_factors, shape))
    }
}
