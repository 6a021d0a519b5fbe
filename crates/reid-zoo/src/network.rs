//! Network: the configuration of a backbone and a head.

use reid_core::{InputSize, Problems, strict};
use reid_nn::{
    BlockConfig, HeadConfig, Init, Network, OutputShape, ReidModel, StagePaths,
    backbone::{DenseNetConfig, ResNetConfig},
    model::validate_parts,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Configuration of a network of a backbone and a head, such as the `network` of a recipe.
///
/// [`BagOfTricksConfig`](crate::BagOfTricksConfig), [`RgaConfig`](crate::RgaConfig) and
/// [`BranchedConfig`](crate::BranchedConfig) are aliases of such configurations.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Init, Network, backbone::ResNetConfig, head::PooledHeadConfig};
/// use reid_zoo::NetworkConfig;
///
/// let backbone = ResNetConfig::resnet18().with_width(8);
/// let network = NetworkConfig { backbone, head: PooledHeadConfig::new() };
/// let (size, device) = (InputSize::new(64, 32), Device::default());
/// let init = Init::new(Seed::new(1), &device);
/// let model = network.init(size, 751, &init);
/// assert_eq!(model.embed(Tensor::ones([2, 3, 64, 32], &device)).dims(), [2, 64]);
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    bound(deserialize = "B: Deserialize<'de>, H: Deserialize<'de>")
)]
pub struct NetworkConfig<B, H> {
    /// The backbone.
    #[serde(deserialize_with = "strict")]
    pub backbone: B,
    /// The head.
    #[serde(deserialize_with = "strict")]
    pub head: H,
}

impl<I, A, H> NetworkConfig<ResNetConfig<I, A>, H> {
    /// Replaces the attention after all stages by `attention` after each of `stages`, which are numbered from 1.
    #[must_use]
    pub fn with_attention<B: Clone>(
        self,
        stages: &[usize],
        attention: B,
    ) -> NetworkConfig<ResNetConfig<I, B>, H> {
        NetworkConfig {
            backbone: self.backbone.without_after().after(stages, attention),
            head: self.head,
        }
    }
}

impl<A, H> NetworkConfig<DenseNetConfig<A>, H> {
    /// Replaces the attention after all stages by `attention` after each of `stages`, which are numbered from
    /// 1. A transition belongs to the stage before it.
    #[must_use]
    pub fn with_attention<B: Clone>(
        self,
        stages: &[usize],
        attention: B,
    ) -> NetworkConfig<DenseNetConfig<B>, H> {
        NetworkConfig {
            backbone: self.backbone.without_after().after(stages, attention),
            head: self.head,
        }
    }
}

impl<B, H> Network for NetworkConfig<B, H>
where
    B: BlockConfig + Clone + Serialize + DeserializeOwned,
    H: HeadConfig + Clone + Serialize + DeserializeOwned,
{
    type Model = ReidModel<B::Block, H::Head>;

    fn init(&self, input: InputSize, classes: usize, init: &Init<'_>) -> Self::Model {
        ReidModel::new(&self.backbone, &self.head, input, classes, init)
    }

    fn output(&self, input: InputSize, classes: usize) -> OutputShape {
        self.head.output(self.backbone.output(input.rgb()), classes)
    }

    fn validate_network(&self, input: InputSize, problems: &mut Problems) {
        let parts = (&self.backbone, &self.head);
        validate_parts(["backbone", "head"], parts, input, problems);
    }

    fn stage_paths(&self) -> StagePaths {
        StagePaths::of_model(self.backbone.stage_paths(), self.head.stage_paths())
    }
}
