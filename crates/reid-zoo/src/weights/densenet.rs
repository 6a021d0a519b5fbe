//! `DenseNet`: the names of torchvision's weights and of two common implementations for CIFAR.

use reid_nn::{Block, backbone::DenseNet};

use super::{
    Weights,
    backbone::{PublishedBackbone, with_optional_sockets},
};
use crate::Error;

impl<A: Block> PublishedBackbone for DenseNet<A> {
    const HEAD: &'static [&'static str] = &["classifier.", "fc."];

    fn rename(&self, weights: Weights) -> Result<Weights, Error> {
        // The first layer of each layout; all keys have the same prefix before it.
        let firsts = [
            "features.denseblock1.denselayer1.conv1.weight",
            "block1.layer.0.conv1.weight",
            "dense1.0.conv1.weight",
            "denseblock1.0.conv1.weight",
        ];
        let mut weights = weights;
        for first in firsts {
            weights = weights.under(first)?;
        }
        let mut weights = with_optional_sockets(weights).renamed("features.", "");
        for (number, (layers, _)) in (1..).zip(self.blocks()) {
            for index in 0..layers.len() {
                let ours = format!("denseblock{number}.{index}.");
                let torchvision = format!("denseblock{number}.denselayer{}.", index + 1);
                let andreasveit = format!("block{number}.layer.{index}.");
                let bamos = format!("dense{number}.{index}.");
                for theirs in [torchvision, andreasveit, bamos] {
                    // Old weights of torchvision have a dot: `norm.1`.
                    for (from, to) in [
                        ("bn1.", "norm1."),
                        ("bn2.", "norm2."),
                        ("norm.1.", "norm1."),
                        ("norm.2.", "norm2."),
                        ("conv.1.", "conv1."),
                        ("conv.2.", "conv2."),
                        ("", ""),
                    ] {
                        weights =
                            weights.renamed(&format!("{theirs}{from}"), &format!("{ours}{to}"));
                    }
                }
            }
            let (ours, theirs) = (format!("transition{number}."), format!("trans{number}."));
            weights = weights
                .renamed(&format!("{theirs}bn1."), &format!("{ours}norm."))
                .renamed(&format!("{theirs}conv1."), &format!("{ours}conv."));
        }
        // In the implementations for CIFAR, the first convolution and the last normalisation count from 1.
        Ok(weights
            .renamed("conv1.", "conv0.")
            .renamed("bn1.", "norm5."))
    }
}
