//! Multiple granularities in one network (Wang et al., Learning Discriminative Features with Multiple
//! Granularities for Person Re-Identification, ACM MM 2018, arXiv:1804.01438).

use reid_core::{InputSize, Problems, strict};
use reid_nn::{
    BlockConfig, HeadConfig, Init, Network, OutputShape, ReidModel, StagePaths,
    backbone::{EarlyStagesConfig, LateStagesConfig, ResNet, ResNetConfig, SplitPoint},
    block::{Block, Identity, TRIAL_SHAPES},
    head::{MgnHead, MgnHeadConfig, StripeHeadConfig, validate_branches},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Configuration of [`Mgn`].
///
/// ```
/// use reid_core::InputSize;
/// use reid_nn::Network;
/// use reid_zoo::MgnConfig;
///
/// let shape = MgnConfig::resnet50().output(InputSize::new(384, 128), 751);
/// assert_eq!((shape.embedding, shape.features.len()), (2048, 3));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "I: Deserialize<'de>"))]
pub struct MgnConfig<I = ()> {
    /// The whole `ResNet`, before it is split.
    pub network: ResNetConfig<I>,
    /// The split point; before block 1 of stage 3 in the paper.
    pub split: SplitPoint,
    /// The head of each branch: the number of stripes and their dimensions.
    #[serde(deserialize_with = "strict")]
    pub branches: Vec<StripeHeadConfig>,
}

/// A network of three branches, each with its own late stages. All branches embed the whole feature map. The second
/// also embeds 2 stripes of it, and the third 3 stripes.
///
/// ```text
/// f = [256, 256 + 2·256, 256 + 3·256] dimensions     the embedding     [batch, 2048]
/// ```
///
/// The head is [`MgnHead`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Network, Init, backbone::ResNetConfig};
/// use reid_zoo::MgnConfig;
///
/// let config = MgnConfig::from_network(ResNetConfig::resnet18().with_width(8).with_last_stride(1));
/// let (size, device) = (InputSize::new(96, 32), Device::default());
/// let init = Init::new(Seed::new(1), &device);
/// let model = config.init(size, 751, &init);
/// assert_eq!(model.embed(Tensor::ones([2, 3, 96, 32], &device)).dims(), [2, 2048]);
/// ```
pub type Mgn<I = Identity> = ReidModel<ResNet<I>, MgnHead<I>>;

impl MgnConfig {
    /// The paper's network, a ResNet-50. Its last stride is 1 in all branches; in the paper, it is 2 in the first.
    #[must_use]
    pub fn resnet50() -> Self {
        Self::from_network(ResNetConfig::resnet50().with_last_stride(1))
    }
}

impl<I> MgnConfig<I> {
    /// The same with any `ResNet`. The height of its last feature map must be a multiple of 6.
    #[must_use]
    pub fn from_network(network: ResNetConfig<I>) -> Self {
        let branch = |stripes| StripeHeadConfig::new().with_stripes(stripes);
        Self {
            network,
            split: SplitPoint { stage: 3, block: 1 },
            branches: [0, 2, 3].map(branch).to_vec(),
        }
    }
}

impl<I: BlockConfig + Clone> MgnConfig<I> {
    /// Configuration of the early stages, which the branches share.
    #[must_use]
    pub fn backbone(&self) -> EarlyStagesConfig<I> {
        EarlyStagesConfig {
            network: self.network.clone(),
            split: Some(self.split),
        }
    }

    /// Configuration of the head, which contains the late stages of all branches.
    #[must_use]
    pub fn head(&self) -> MgnHeadConfig<I> {
        MgnHeadConfig {
            late_stages: LateStagesConfig {
                network: self.network.clone(),
                split: self.split,
            },
            branches: self.branches.clone(),
        }
    }

    /// Copies weights, such as pretrained ones, from a whole `ResNet` into a model.
    ///
    /// The early stages of `whole` become the backbone, and each branch gets its own copy of the late stages. `whole`
    /// must be a network of the configuration [`network`](Self::network), on the device of the model.
    ///
    /// # Panics
    /// If `whole` has no block at the split point.
    pub fn start_from(&self, model: &mut Mgn<I::Block>, whole: ResNet<I::Block>)
    where
        I::Block: Block,
    {
        let (early_stages, late_stages) = whole.split(self.split);
        model.backbone = early_stages;
        model.head.set_late_stages(&late_stages);
    }
}

impl<I: BlockConfig + Clone + Serialize + DeserializeOwned> Network for MgnConfig<I> {
    type Model = Mgn<I::Block>;

    fn init(&self, input: InputSize, classes: usize, init: &Init<'_>) -> Mgn<I::Block> {
        ReidModel::new(&self.backbone(), &self.head(), input, classes, init)
    }

    fn output(&self, input: InputSize, classes: usize) -> OutputShape {
        let map = self.backbone().output(input.rgb());
        self.head().output(map, classes)
    }

    fn stage_paths(&self) -> StagePaths {
        StagePaths::of_model(self.backbone().stage_paths(), self.head().stage_paths())
    }

    fn validate_network(&self, input: InputSize, problems: &mut Problems) {
        let (network, image) = (&self.network, input.rgb());
        let fits = problems.at("network", |problems| network.validate(image, problems));
        problems.at("split", |problems| {
            self.split.validate(network.blocks, problems);
        });
        let look = |map, problems: &mut Problems| validate_branches(&self.branches, map, problems);
        if fits {
            look(network.output(image), problems);
        } else {
            problems.nested_for_any(TRIAL_SHAPES, look);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use reid_nn::parameters;

    use super::*;

    /// A ResNet-50 has 23,508,032 parameters, and the branches add two more copies of its late stages. The heads have
    /// eight reductions of 2048 to 256 with bias and normalisation, and eight classifiers.
    #[test]
    fn the_parameter_count_matches_a_calculation_by_hand() {
        let size = InputSize::new(384, 128);
        let model = MgnConfig::resnet50().init(size, 751, &Init::empty(&Device::default()));
        // The first block of stage 3 is not in the late stages: 512 → 256 → 256 → 1024 and the shortcut.
        let first =
            512 * 256 + 256 * 256 * 9 + 256 * 1024 + 512 * 1024 + 2 * (256 + 256 + 2 * 1024);
        let late = 7_098_368 - first + 14_964_736;
        let branch = 2049 * 256 + 2 * 256 + 257 * 751;
        let expected = 23_508_032 + 2 * late + 8 * branch;
        assert_eq!(parameters::count(&model), expected);
    }
}
