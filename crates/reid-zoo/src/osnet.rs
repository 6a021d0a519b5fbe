//! `OSNet` with torchreid's head (Zhou et al., Omni-Scale Feature Learning for Person Re-Identification, ICCV
//! 2019, arXiv:1905.00953).

use reid_nn::{
    ReidModel,
    backbone::{OsNet, OsNetConfig},
    block::Identity,
    head::{BranchedHead, BranchedHeadConfig, LinearBnReluHead, LinearBnReluHeadConfig},
};

use crate::NetworkConfig;

/// Configuration of [`OsNetReid`]: the `network` of a recipe. `A` is attention after its stages.
///
/// | network | parameters with 751 classes |
/// |---|---|
/// | `OsNetConfig::x1_0()` | 2,554,771 |
/// | `OsNetConfig::x0_75()` | 1,671,017 |
/// | `OsNetConfig::x0_5()` | 1,015,297 |
/// | `OsNetConfig::x0_25()` | 587,127 |
pub type OsNetReidConfig<A = ()> = NetworkConfig<OsNetConfig<A>, LinearBnReluHeadConfig>;

/// An omni-scale network as in torchreid, with an embedding of 512 dimensions.
///
/// ```text
/// x = OsNet(image)                  [batch, channels, height/16, width/16]
/// f = relu(BN(Wᵣ · mean_hw(x)))     the embedding                [batch, 512]
/// y = W f + b                       the identity loss sees y     [batch, classes]
/// ```
///
/// [`load_published`](crate::weights::load_published) loads torchreid's weights.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Init, Network, backbone::OsNetConfig};
/// use reid_zoo::OsNetReidConfig;
///
/// let config = OsNetReidConfig::from_backbone(OsNetConfig::x0_25());
/// let (size, device) = (InputSize::new(64, 32), Device::default());
/// let model = config.init(size, 751, &Init::new(Seed::new(1), &device));
/// assert_eq!(model.embed(Tensor::ones([2, 3, 64, 32], &device)).dims(), [2, 512]);
/// ```
pub type OsNetReid<A = Identity> = ReidModel<OsNet<A>, LinearBnReluHead>;

/// Configuration of [`OsNetBranched`].
///
/// ```
/// use reid_core::InputSize;
/// use reid_nn::{Network, backbone::OsNetConfig, cut_mix::{CutMix, Patches}};
/// use reid_nn::head::{AugmentConfig, BranchConfig, BranchedHeadConfig, CamSource};
/// use reid_zoo::OsNetBranchedConfig;
///
/// let mix = CutMix::new().with_patches(Patches { height: 2, width: 1 });
/// let augment = AugmentConfig::CutMix { mix, cam_source: CamSource::ClosedForm };
/// let branch = BranchConfig { dimensions: 1024, augment };
/// let network = OsNetBranchedConfig {
///     backbone: OsNetConfig::x0_25(),
///     head: BranchedHeadConfig::new().with_branches(vec![branch]),
/// };
/// assert_eq!(network.output(InputSize::new(128, 128), 751).embedding, 512 + 1024);
/// ```
pub type OsNetBranchedConfig<A = ()> = NetworkConfig<OsNetConfig<A>, BranchedHeadConfig>;

/// An `OSNet` with a global branch and further branches, whose features are augmented in training: progressive
/// feature `CutMix` and Batch `DropBlock`. The branches are those of
/// [`ProgressiveCutMix`](crate::ProgressiveCutMix). [`OsNetBranchedConfig`] has an example.
pub type OsNetBranched<A = Identity> = ReidModel<OsNet<A>, BranchedHead>;

impl<A> OsNetReidConfig<A> {
    /// The published network with this backbone: average pooling and 512 dimensions.
    #[must_use]
    pub fn from_backbone(backbone: OsNetConfig<A>) -> Self {
        Self {
            backbone,
            head: LinearBnReluHeadConfig::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use reid_core::{InputSize, Seed};
    use reid_nn::{Init, Network, parameters};

    use super::*;

    #[test]
    fn parameter_counts_are_the_published_ones() {
        let device = Device::default();
        let cases = [
            (OsNetConfig::x1_0(), 263_680, 2_554_771),
            (OsNetConfig::x0_75(), 198_144, 1_671_017),
            (OsNetConfig::x0_5(), 132_608, 1_015_297),
            (OsNetConfig::x0_25(), 67_072, 587_127),
        ];
        for (backbone, embedding, whole) in cases {
            let init = Init::new(Seed::new(1), &device);
            let config = OsNetReidConfig::from_backbone(backbone);
            let model = config.init(InputSize::PERSON, 751, &init);
            let head = &model.head;
            let found = parameters::count(&head.reduction) + parameters::count(&head.norm);
            assert_eq!((found, parameters::count(&model)), (embedding, whole));
        }
    }
}
