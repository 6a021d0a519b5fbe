//! Trunk: torchvision's weights in a backbone.

use std::path::Path;

use reid_nn::{Block, backbone::ResNet};

use super::Weights;
use crate::Error;

/// Loads the weights of a torchvision `ResNet` into a backbone, leaving out its classifier `fc`.
///
/// Everything else must fit. What stands in the backbone's sockets, such as attention, keeps its
/// values where the file has none. Other trunks are a line of [`Weights`] each.
///
/// ```
/// use burn::tensor::Device;
/// use reid_core::InputSize;
/// use reid_zoo::{BagOfTricksConfig, weights};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("resnet50.safetensors");
/// # let mut config = BagOfTricksConfig::resnet50();
/// # config.backbone = config.backbone.with_width(8);
/// # let (size, device) = (InputSize::new(32, 16), Device::default());
/// # weights::save(&config.init(size, 10, &device).backbone, &path)?;
/// let mut model = config.init(size, 10, &device);
/// weights::load_trunk(&mut model.backbone, path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`Weights::open`] and [`Weights::load_into`].
pub fn load_trunk<I: Block, A: Block>(
    backbone: &mut ResNet<I, A>,
    path: impl AsRef<Path>,
) -> Result<(), Error> {
    let mut weights = Weights::open(path)?.without("fc.").optional("after.");
    let stages = [
        &backbone.layer1,
        &backbone.layer2,
        &backbone.layer3,
        &backbone.layer4,
    ];
    for (stage, blocks) in (1..).zip(stages) {
        for block in 0..blocks.len() {
            weights = weights.optional(&format!("layer{stage}.{block}.se_module."));
        }
    }
    weights.load_into(backbone)
}
