//! Trunk: published weights in a backbone.

use std::path::Path;

use reid_nn::{Block, backbone::ResNet};

use super::Weights;
use crate::Error;

/// Loads published weights into a backbone, leaving out their classifier.
///
/// | network | as named by |
/// |---|---|
/// | ResNet, ResNeXt | torchvision |
/// | SE-ResNeXt | Cadene (`layer0.conv1`, `se_module.fc1`) |
/// | ResNet with IBN-a or IBN-b | `XingangPan`'s IBN-Net (`bn1.IN`, `bn1.BN`, `IN`), |
///
/// The keys may stand under a prefix: `module.`, `base.`, `backbone.`, `model.`, `_orig_mod.` or any other. It
/// is found, and what stands beside it, a head and classifiers, is left out with it. Of two of them, such as `student.` and
/// `teacher.`, one has to be chosen with [`Weights::renamed`].
///
/// Everything else must fit. What stands in the backbone's sockets, such as attention, keeps its
/// values where the file has none of it. Other trunks are a line of [`Weights`] each.
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
    let mul_gate = weights.keys().any(|key| key.contains(".se_module."));
    let stages = [
        &backbone.layer1,
        &backbone.layer2,
        &backbone.layer3,
        &backbone.layer4,
    ];
    for (stage, blocks) in (1..).zip(stages) {
        for block in 0..blocks.len() {
            let block = format!("layer{stage}.{block}.");
            if !mul_gate {
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
