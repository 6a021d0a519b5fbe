//! Segmentation models: the names of torchvision's and semseg's weights.

use reid_nn::{Block, segmentation::SegmentationModel};

use super::{
    Weights,
    backbone::{PublishedBackbone, with_optional},
    network::PublishedNetwork,
};
use crate::Error;

/// The layers of a head that is a `Sequential`, and the fields of this library. Activation and dropout have
/// the other indices.
const SEQUENTIAL: [(&str, &str); 3] = [
    ("0.", "conv.conv."),
    ("1.", "conv.bn."),
    ("4.", "classifier."),
];

/// The largest number of context layers that are renamed; published heads have at most 5.
const MAX_LAYERS: usize = 32;

impl<C: Block, A: Block, I: Block, S: Block> PublishedNetwork for SegmentationModel<C, A, I, S> {
    /// The layers of an auxiliary head are dropped if the model has none. Attention of the head keeps its
    /// values if the file has none for it.
    fn rename(&self, weights: Weights) -> Result<Weights, Error> {
        if weights.keys().any(|key| key.starts_with("head.")) {
            return Ok(weights);
        }
        let weights = weights.under("backbone.layer1.0.conv1.weight")?;
        let weights = weights.renamed("backbone.", "");
        let mut weights = self.backbone.rename(weights)?.renamed("", "backbone.");
        let optional = weights.optional.into_iter();
        weights.optional = optional
            .map(|prefix| format!("backbone.{prefix}"))
            .collect();
        if self.auxiliary.is_none() {
            weights = weights
                .without("backbone.aux.")
                .without("backbone.aux_classifier.");
        }
        for (from, to) in renames(&weights) {
            weights = weights.renamed(&format!("backbone.{from}"), &to);
        }
        Ok(with_optional(weights, "head.attention."))
    }
}

/// The published and the own prefix of each layer after the backbone.
fn renames(weights: &Weights) -> Vec<(String, String)> {
    let has = |key: String| weights.keys().any(|name| name == format!("backbone.{key}"));
    let mut renames = Vec::new();
    let mut rename = |from: &str, to: &str| renames.push((from.to_owned(), to.to_owned()));
    let layers = |theirs: &str| {
        let layer = |index: &usize| has(format!("{theirs}.{index}.1.weight"));
        (0..MAX_LAYERS).take_while(layer).count()
    };
    let convs = layers("classifier.0.convs");
    for index in 0..convs {
        let (theirs, ours) = (
            format!("classifier.0.convs.{index}"),
            format!("head.context.convs.{index}"),
        );
        // The last one begins with a pooling, so its layers have the next indices.
        let first = usize::from(index + 1 == convs);
        rename(&format!("{theirs}.{first}."), &format!("{ours}.conv."));
        rename(&format!("{theirs}.{}.", first + 1), &format!("{ours}.bn."));
    }
    if convs > 0 {
        rename("classifier.0.project.0.", "head.context.project.conv.");
        rename("classifier.0.project.1.", "head.context.project.bn.");
        rename("classifier.1.", "head.conv.conv.");
        rename("classifier.2.", "head.conv.bn.");
        rename("classifier.4.", "head.classifier.");
    }
    for index in 0..layers("ppm.features") {
        let (theirs, ours) = (
            format!("ppm.features.{index}"),
            format!("head.context.features.{index}"),
        );
        rename(&format!("{theirs}.1."), &format!("{ours}.conv."));
        rename(&format!("{theirs}.2."), &format!("{ours}.bn."));
    }
    let heads = [
        ("cls.", "head."),
        ("classifier.", "head."),
        ("aux.", "auxiliary."),
        ("aux_classifier.", "auxiliary."),
    ];
    for (theirs, ours) in heads {
        for (from, to) in SEQUENTIAL {
            rename(&format!("{theirs}{from}"), &format!("{ours}{to}"));
        }
    }
    renames
}
