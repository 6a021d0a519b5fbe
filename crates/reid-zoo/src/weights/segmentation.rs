//! Segmentation models: the names of torchvision's, semseg's and mmsegmentation's weights.

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

/// The layers of mmsegmentation's heads, and the fields of this library. The convolution after a context
/// block is `bottleneck`, and that of a head without one `convs.0`.
const MMSEGMENTATION: [(&str, &str); 5] = [
    ("decode_head.bottleneck.", "head.conv."),
    ("decode_head.convs.0.", "head.conv."),
    ("decode_head.conv_seg.", "head.classifier."),
    ("auxiliary_head.convs.0.", "auxiliary.conv."),
    ("auxiliary_head.conv_seg.", "auxiliary.classifier."),
];

/// Parts of keys of mmsegmentation's networks that this library does not have, with their names there.
const OTHERS: [(&str, &str); 7] = [
    ("decode_head.conv_cat.", CONVOLUTIONS),
    ("decode_head.convs.1.", CONVOLUTIONS),
    ("decode_head.c1_bottleneck.", SEPARABLE),
    ("decode_head.sep_bottleneck.", SEPARABLE),
    ("decode_head.lateral_convs.", "a `UPerHead`"),
    ("decode_head.0.", "a cascade of heads, such as OCRNet's"),
    (".downsample.2.", POOLED),
];

const CONVOLUTIONS: &str = "an `FCNHead` of several convolutions";
const POOLED: &str = "a backbone whose shortcuts pool, such as `ResNetV1d`";
const SEPARABLE: &str = "the head of DeepLabV3+";

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
        refuse_others(&weights)?;
        let mut weights = self.backbone.rename(weights)?.renamed("", "backbone.");
        let optional = weights.optional.into_iter();
        weights.optional = optional
            .map(|prefix| format!("backbone.{prefix}"))
            .collect();
        if self.auxiliary.is_none() {
            weights = weights
                .without("backbone.aux.")
                .without("backbone.aux_classifier.")
                .without("backbone.auxiliary_head.");
        }
        for (from, to) in renames(&weights) {
            weights = weights.renamed(&format!("backbone.{from}"), &to);
        }
        Ok(with_optional(weights, "head.attention."))
    }
}

/// Rejects the weights of networks of mmsegmentation that this library does not have, by their names.
fn refuse_others(weights: &Weights) -> Result<(), Error> {
    if !weights.keys().any(|key| key.starts_with("decode_head.")) {
        return Ok(());
    }
    for (part, found) in OTHERS {
        let holds = |key: &&str| {
            if part.starts_with('.') {
                key.contains(part)
            } else {
                key.starts_with(part)
            }
        };
        if let Some(key) = weights.keys().find(holds) {
            return Err(Error::OtherNetwork {
                path: weights.path.clone(),
                key: key.to_owned(),
                expected: "a ResNet, a ResNetV1c or a ResNeXt of mmsegmentation with a `PSPHead`, an \
                           `ASPPHead` or an `FCNHead` of one convolution",
                found,
            });
        }
    }
    Ok(())
}

/// The published and the own prefix of each layer after the backbone.
fn renames(weights: &Weights) -> Vec<(String, String)> {
    let mut renames = Vec::new();
    let mut rename = |from: &str, to: &str| renames.push((from.to_owned(), to.to_owned()));
    let convs = layers(weights, "classifier.0.convs", "1");
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
    for index in 0..layers(weights, "ppm.features", "1") {
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
    renames.extend(mmsegmentation(weights));
    renames
}

/// mmsegmentation's and the own prefix of each layer after the backbone.
fn mmsegmentation(weights: &Weights) -> Vec<(String, String)> {
    let mut renames = Vec::new();
    let mut rename = |from: String, to: String| renames.push((from, to));
    for index in 0..layers(weights, "decode_head.psp_modules", "1.conv") {
        let theirs = format!("decode_head.psp_modules.{index}.1.");
        rename(theirs, format!("head.context.features.{index}."));
    }
    let convs = layers(weights, "decode_head.aspp_modules", "conv");
    for index in 0..convs {
        let theirs = format!("decode_head.aspp_modules.{index}.");
        rename(theirs, format!("head.context.convs.{index}."));
    }
    // The convolution of the mean is the last one here.
    let mean = format!("head.context.convs.{convs}.");
    rename("decode_head.image_pool.1.".to_owned(), mean);
    for (theirs, ours) in MMSEGMENTATION {
        rename(theirs.to_owned(), ours.to_owned());
    }
    renames
}

/// The number of layers of a published list, of which each has a weight of this name.
fn layers(weights: &Weights, list: &str, weight: &str) -> usize {
    let has = |index: &usize| {
        let key = format!("backbone.{list}.{index}.{weight}.weight");
        weights.keys().any(|name| name == key)
    };
    (0..MAX_LAYERS).take_while(has).count()
}
