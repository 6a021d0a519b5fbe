//! Backbone: loads published weights into a backbone.

use std::path::Path;

use reid_nn::{Block, backbone::ResNet};

use super::Weights;
use crate::Error;

/// Loads published weights into a backbone, without their classifier.
///
/// | network | names of |
/// |---|---|
/// | ResNet, ResNeXt | torchvision |
/// | SE-ResNeXt | Cadene (`layer0.conv1`, `se_module.fc1`) |
/// | ResNet with IBN-a or IBN-b | `XingangPan`'s IBN-Net (`bn1.IN`, `bn1.BN`, `IN`) |
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
pub fn load_backbone<I: Block, A: Block>(
    backbone: &mut ResNet<I, A>,
    path: impl AsRef<Path>,
) -> Result<(), Error> {
    let mut weights = Weights::open(path)?
        .under("layer1.0.conv1.weight")?
        .without("fc.")
        .without("last_linear.")
        .renamed("layer0.", "");
    if backbone.in1.is_some() {
        weights = weights.renamed("bn1.", "in1.");
    }
    if !weights.keys().any(|key| key.starts_with("after.")) {
        weights = weights.optional("after.");
    }
    let has_gates = weights.keys().any(|key| key.contains(".se_module."));
    let stages = [
        &backbone.layer1,
        &backbone.layer2,
        &backbone.layer3,
        &backbone.layer4,
    ];
    for (stage, blocks) in (1..).zip(stages) {
        for block in 0..blocks.len() {
            let block = format!("layer{stage}.{block}.");
            if !has_gates {
                weights = weights.optional(&format!("{block}se_module."));
            }
            weights = weights
                .renamed(&format!("{block}bn1.IN."), &format!("{block}in1."))
                .renamed(&format!("{block}bn1.BN."), &format!("{block}bn1."))
                .renamed(&format!("{block}IN."), &format!("{block}in_sum."));
        }
    }
    weights.load_into(backbone)
}
