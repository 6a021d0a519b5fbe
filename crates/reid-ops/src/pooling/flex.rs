//! Means of maps on Flex.

use burn::backend::{Flex, tensor::FloatTensor};

use super::extension::Means;
use crate::flex::{Read, tensor};

impl Means for Flex {
    fn means(maps: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = maps.layout().shape();
        let [batch, channels, places] = [shape[0], shape[1], shape[2] * shape[3]];
        let means = reid_kernels::means(Read::new(&maps).numbers(), places);
        tensor(means, [batch, channels])
    }
}
