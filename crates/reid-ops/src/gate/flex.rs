//! Gates on Flex.

use burn::backend::{Flex, tensor::FloatTensor};
use burn_flex::FlexTensor;

use super::{Shared, extension::Gates};
use crate::flex::{Read, is_own, own, tensor};

/// The sizes of a product.
fn gate(maps: &FlexTensor, shared: Shared) -> reid_kernels::Gate {
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
        let (gate, factors) = (gate(&maps, shared), Read::new(&factors));
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

    fn multiply_joined(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        shared: Shared,
    ) -> FloatTensor<Self> {
        let (gate, factors) = (gate(&maps, shared), Read::new(&factors));
        let shortcut = Read::new(&shortcut);
        let (factors, shortcut) = (factors.numbers(), shortcut.numbers());
        if is_own(&maps) {
            let mut gated = maps;
            gate.multiply_joined(gated.storage_mut(), factors, shortcut);
            return gated;
        }
        let shape = maps.layout().shape().clone();
        let maps = Read::new(&maps);
        let gated = gate.multiplied(maps.numbers(), factors, Some(shortcut));
        tensor(gated, shape)
    }

    fn multiply_gradients(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shared: Shared,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (gate, shape) = (gate(&maps, shared), factors.layout().shape().clone());
        let (maps, factors, mut gradient) = (Read::new(&maps), Read::new(&factors), own(gradient));
        let by_factors = gate.gradients(maps.numbers(), factors.numbers(), gradient.storage_mut());
        (gradient, tensor(by_factors, shape))
    }

    fn multiply_joined_gradients(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shared: Shared,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (output, mut shortcut) = (Read::new(&output), own(gradient));
        reid_kernels::rectified_gradient(output.numbers(), shortcut.storage_mut());
        let (by_maps, by_factors) =
            Self::multiply_gradients(maps, factors, shortcut.clone(), shared);
        (by_maps, by_factors, shortcut)
    }
}
