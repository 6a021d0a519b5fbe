//! Global average pooling on Flex.

use burn::backend::{Flex, tensor::FloatTensor};

use super::extension::AvgPool;
use crate::flex::{Read, tensor};

impl AvgPool for Flex {
    fn global_average(maps: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = maps.layout().shape();
        let [batch, channels, positions] = [shape[0], shape[1], shape[2] * shape[3]];
        let means = reid_kernels::global_avg_pool(Read::new(&maps).values(), positions);
        tensor(means, [batch, channels])
    }
}
