//! OSNet: the names of torchreid's weights.

use reid_nn::{
    Block,
    backbone::{OsBlock, OsNet},
};

use super::{
    Weights,
    backbone::{PublishedBackbone, with_optional_sockets},
};
use crate::Error;

/// The fields of the streams of a block, by the number of their light convolutions.
const STREAMS: [&str; 4] = ["conv2a.", "conv2b.", "conv2c.", "conv2d."];

impl<A: Block> PublishedBackbone for OsNet<A> {
    const HEAD: &'static [&'static str] = &["fc.", "classifier."];

    fn rename(&self, weights: Weights) -> Result<Weights, Error> {
        let weights = weights
            .under("conv2.0.conv2a.conv1.weight")?
            .under("conv2.0.conv2.0.layers.0.conv1.weight")?;
        let mut weights = with_optional_sockets(weights);
        if self.in1.is_some() {
            weights = weights.renamed("conv1.bn.", "in1.");
        }
        let stages = [
            ("conv2", "pool2", &self.conv2),
            ("conv3", "pool3", &self.conv3),
            ("conv4", "pool4", &self.conv4),
        ];
        for (stage, pool, blocks) in stages {
            for (index, block) in blocks.iter().enumerate() {
                weights = block_names(weights, &format!("{stage}.{index}."), block);
            }
            // The transition is the last layer of the stage, or the first layer of a separate module in AIN.
            let last = format!("{stage}.{}.0.", blocks.len());
            weights = weights
                .renamed(&last, &format!("{pool}."))
                .renamed(&format!("{pool}.0."), &format!("{pool}."));
        }
        Ok(weights)
    }
}

/// Renames instance normalisation, and the streams of AIN, `conv2.{stream}.layers.{index}`.
fn block_names(mut weights: Weights, block: &str, fields: &OsBlock) -> Weights {
    let field = if fields.in_residual.is_some() {
        "in_residual."
    } else {
        "in_sum."
    };
    weights = weights.renamed(&format!("{block}IN."), &format!("{block}{field}"));
    for (index, stream) in STREAMS.iter().enumerate() {
        // A stream of one convolution is not a list.
        let layers = if index == 0 { "layers.0." } else { "layers." };
        let from = format!("{block}conv2.{index}.{layers}");
        weights = weights.renamed(&from, &format!("{block}{stream}"));
    }
    weights
}
