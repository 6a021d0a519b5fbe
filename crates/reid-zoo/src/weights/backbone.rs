//! Backbone: loads published weights into a backbone.

use std::path::Path;

use burn::module::Module;
use reid_nn::{Block, backbone::ResNet};

use super::Weights;
use crate::Error;

/// A backbone with published weights, which [`load_backbone`] loads under the names of their authors.
pub trait PublishedBackbone: Module {
    /// The prefixes of the layers after the backbone in the published weights.
    const HEAD: &'static [&'static str];

    /// Renames the keys of published weights to those of this backbone, and removes a prefix that all of them
    /// have. Keys of other layers are unchanged.
    ///
    /// # Errors
    /// If the keys of the backbone occur with several prefixes.
    fn rename(&self, weights: Weights) -> Result<Weights, Error>;
}

/// Loads published weights into a backbone, without their classifier.
///
/// | network | names of |
/// |---|---|
/// | ResNet, ResNeXt | torchvision |
/// | ResNet with a deep stem | semseg (`conv3` for the last convolution of the stem, or `layer0.6`); mmsegmentation (`stem.6`) with the stem [`DeepHalf`](reid_nn::backbone::Stem::DeepHalf) |
/// | SE-ResNeXt | Cadene (`layer0.conv1`, `se_module.fc1`) |
/// | ResNet with IBN-a or IBN-b | `XingangPan`'s IBN-Net (`bn1.IN`, `bn1.BN`, `IN`) |
/// | ResNet for CIFAR | akamaster's `pytorch_resnet_cifar10` (`layer1.0.conv1`, `shortcut.0`) |
/// | `DenseNet` | torchvision (`features.denseblock1.denselayer1`); for CIFAR also andreasveit's and bamos's `densenet-pytorch` |
/// | `OSNet`, also IBN and AIN | torchreid |
/// | `MobileNetV2` | torchvision, with or without nested layers (`features.2.conv.0.0`, `features.2.conv.0`); torchreid |
///
/// The keys may have a prefix, such as `module.`, `base.`, `backbone.`, `model.` or `_orig_mod.`. It is found and
/// removed. Keys without this prefix, such as those of a head, are skipped. If two prefixes are found, such as
/// `student.` and `teacher.`, the load fails: choose one with [`Weights::renamed`].
///
/// All other keys must fit. Blocks in the sockets of the backbone, such as attention, keep their values if the file
/// has none for them. Weights with other names can be renamed and loaded with [`Weights`].
///
/// ```
/// use burn::tensor::Device;
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Network, Init};
/// use reid_zoo::{BagOfTricksConfig, weights};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("resnet50.safetensors");
/// # let mut config = BagOfTricksConfig::resnet50();
/// # config.backbone = config.backbone.with_width(8);
/// # let (size, device) = (InputSize::new(32, 16), Device::default());
/// let init = Init::new(Seed::new(1), &device);
/// # weights::save(&config.init(size, 10, &init).backbone, &path)?;
/// let mut model = config.init(size, 10, &init);
/// weights::load_backbone(&mut model.backbone, path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`Weights::open`] and [`Weights::load_into`].
pub fn load_backbone<B: PublishedBackbone>(
    backbone: &mut B,
    path: impl AsRef<Path>,
) -> Result<(), Error> {
    let weights = backbone.rename(Weights::open(path)?)?;
    let heads = B::HEAD.iter();
    let weights = heads.fold(weights, |weights, prefix| weights.without(prefix));
    weights.load_into(backbone)
}

/// The published names of the layers of a deep stem, and the fields of this library. semseg's `PSPNet` and
/// mmsegmentation have a `Sequential`; in the weights of semseg's backbone, the layers have names.
const DEEP_STEM: [([&str; 3], &str); 6] = [
    (["conv1.", "layer0.0.", "stem.0."], "conv1."),
    (["bn1.", "layer0.1.", "stem.1."], "bn1."),
    (["conv2.", "layer0.3.", "stem.3."], "deep.0.conv."),
    (["bn2.", "layer0.4.", "stem.4."], "deep.0.bn."),
    (["conv3.", "layer0.6.", "stem.6."], "deep.1.conv."),
    (["bn3.", "layer0.7.", "stem.7."], "deep.1.bn."),
];

impl<I: Block, A: Block> PublishedBackbone for ResNet<I, A> {
    const HEAD: &'static [&'static str] = &["fc.", "last_linear.", "linear."];

    fn rename(&self, weights: Weights) -> Result<Weights, Error> {
        let mut weights = weights.under("layer1.0.conv1.weight")?;
        if self.deep.is_some() {
            for (theirs, ours) in DEEP_STEM {
                for from in theirs {
                    weights = weights.renamed(from, ours);
                }
            }
        }
        let mut weights = with_optional_sockets(weights.renamed("layer0.", ""));
        if self.in1.is_some() {
            weights = weights.renamed("bn1.", "in1.");
        }
        let has_gates = weights.keys().any(|key| key.contains(".se_module."));
        let stages = [&self.layer1, &self.layer2, &self.layer3, &self.layer4];
        for (stage, blocks) in (1..).zip(stages) {
            for block in 0..blocks.len() {
                let block = format!("layer{stage}.{block}.");
                if !has_gates {
                    weights = weights.optional(&format!("{block}se_module."));
                }
                weights = weights
                    .renamed(&format!("{block}bn1.IN."), &format!("{block}in1."))
                    .renamed(&format!("{block}bn1.BN."), &format!("{block}bn1."))
                    .renamed(&format!("{block}IN."), &format!("{block}in_sum."))
                    .renamed(&format!("{block}shortcut."), &format!("{block}downsample."));
            }
        }
        Ok(weights)
    }
}

/// Lets the blocks after stages keep their values if the file has none for them.
pub(super) fn with_optional_sockets(weights: Weights) -> Weights {
    with_optional(weights, "after.")
}

/// Lets the tensors with this prefix keep their values if the file has none for them.
pub(super) fn with_optional(weights: Weights, prefix: &str) -> Weights {
    if weights.keys().any(|key| key.starts_with(prefix)) {
        weights
    } else {
        weights.optional(prefix)
    }
}
