//! MobileNetV2: the names of torchvision's and torchreid's weights.

use reid_nn::{Block, backbone::MobileNetV2};

use super::{
    Weights,
    backbone::{PublishedBackbone, with_optional_sockets},
};
use crate::Error;

/// The fields of a block.
const FIELDS: [&str; 6] = [
    "expand.conv.",
    "expand.bn.",
    "depthwise.conv.",
    "depthwise.bn.",
    "project.conv.",
    "project.bn.",
];

/// The layers of a block in torchvision. Without an expansion, the last four have the names of the first
/// four in [`NESTED_FIRST`].
const NESTED: [&str; 6] = ["0.0.", "0.1.", "1.0.", "1.1.", "2.", "3."];
const NESTED_FIRST: [&str; 4] = ["0.0.", "0.1.", "1.", "2."];

/// The layers of a block in one list, where the activations are counted.
const FLAT: [&str; 6] = ["0.", "1.", "3.", "4.", "6.", "7."];

/// The layers of a block in torchreid.
const TORCHREID: [&str; 6] = [
    "conv1.conv.",
    "conv1.bn.",
    "dwconv2.conv.",
    "dwconv2.bn.",
    "conv3.0.",
    "conv3.1.",
];

impl<A: Block> PublishedBackbone for MobileNetV2<A> {
    const HEAD: &'static [&'static str] = &["classifier."];

    fn rename(&self, weights: Weights) -> Result<Weights, Error> {
        let weights = weights
            .under("features.0.0.weight")?
            .under("conv2.0.dwconv2.conv.weight")?
            .under("layers.0.0.depthwise.conv.weight")?;
        let weights = with_optional_sockets(weights);
        let has = |key: &str| weights.keys().any(|found| found == key);
        let renames = if has("features.0.0.weight") {
            features(self, has("features.1.conv.0.0.weight"))
        } else if has("conv2.0.dwconv2.conv.weight") {
            torchreid(self)
        } else {
            Vec::new()
        };
        let renamed = |weights: Weights, (from, to): (String, String)| weights.renamed(&from, &to);
        Ok(renames.into_iter().fold(weights, renamed))
    }
}

/// The old and the new prefix of each layer of torchvision's network, or of one with flat blocks.
fn features<A: Block>(network: &MobileNetV2<A>, nested: bool) -> Vec<(String, String)> {
    let mut renames = vec![
        ("features.0.0.".to_owned(), "stem.conv.".to_owned()),
        ("features.0.1.".to_owned(), "stem.bn.".to_owned()),
    ];
    let mut index = 1;
    for (layer, blocks) in network.layers.iter().enumerate() {
        for (block, fields) in blocks.iter().enumerate() {
            let first = fields.expand.is_none();
            let (theirs, ours): (&[&str], &[&str]) = match (nested, first) {
                (true, true) => (&NESTED_FIRST, &FIELDS[2..]),
                (true, false) => (&NESTED, &FIELDS),
                (false, true) => (&FLAT[..4], &FIELDS[2..]),
                (false, false) => (&FLAT, &FIELDS),
            };
            for (from, to) in theirs.iter().zip(ours) {
                let from = format!("features.{index}.conv.{from}");
                renames.push((from, format!("layers.{layer}.{block}.{to}")));
            }
            index += 1;
        }
    }
    // Some flat networks have the last convolution outside of the list.
    for last in [format!("features.{index}."), "conv.".to_owned()] {
        renames.push((format!("{last}0."), "last.conv.".to_owned()));
        renames.push((format!("{last}1."), "last.bn.".to_owned()));
    }
    renames
}

/// The old and the new prefix of each layer of torchreid's network.
fn torchreid<A: Block>(network: &MobileNetV2<A>) -> Vec<(String, String)> {
    let mut renames = Vec::new();
    for (layer, blocks) in network.layers.iter().enumerate() {
        for block in 0..blocks.len() {
            for (from, to) in TORCHREID.iter().zip(FIELDS) {
                let from = format!("conv{}.{block}.{from}", layer + 2);
                renames.push((from, format!("layers.{layer}.{block}.{to}")));
            }
        }
    }
    let last = format!("conv{}.", network.layers.len() + 2);
    renames.push((last, "last.".to_owned()));
    renames.push(("conv1.".to_owned(), "stem.".to_owned()));
    renames
}
