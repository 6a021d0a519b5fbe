//! FNC's attention and branches on an `OSNet` (Liu et al., Vehicle Re-Identification based on further non-local and
//! channel attention, AI City 2020; Zhou et al., ICCV 2019, arXiv:1905.00953).

use reid_core::{FeatureShape, InputSize, Problems, strict};
use reid_nn::{
    BlockConfig, HeadConfig, Init, Network, OutputShape, ReidModel, StagePaths,
    attention::{FncChannel, FncChannelConfig, FncSpatial, FncSpatialConfig},
    backbone::{
        OsNet, OsNetConfig, OsNetEarlyStagesConfig, OsNetLateStages, OsNetLateStagesConfig,
        SplitPoint,
    },
    block::{Block, Identity, TRIAL_SHAPES},
    head::{
        BlockThenHead, BlockThenHeadConfig, BranchedHead, BranchesConfig, FncBranches,
        ReducedBnNeck, ReducedBnNeckConfig,
    },
    parameters,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A branch of [`OsNetFnc`]: its own late stages, unless the backbone has them, then attention and a neck.
pub type OsNetFncBranch<S, A> = BlockThenHead<(Option<OsNetLateStages<A>>, S), ReducedBnNeck>;

/// Configuration of [`OsNetFncBranch`].
pub type OsNetFncBranchConfig<S, A> =
    BlockThenHeadConfig<(Option<OsNetLateStagesConfig<A>>, S), ReducedBnNeckConfig>;

/// Configuration of [`OsNetFnc`]. `A` is attention after the stages of the `OSNet`.
///
/// ```
/// use reid_core::InputSize;
/// use reid_nn::{Network, attention::FncChannelConfig, backbone::OsNetConfig};
/// use reid_zoo::OsNetFncConfig;
///
/// let mut config = OsNetFncConfig::from_network(OsNetConfig::x0_25());
/// config.branches.channel = FncChannelConfig::new().with_hidden(64).with_groups(4);
/// let shape = config.output(InputSize::new(128, 128), 751);
/// assert_eq!((shape.embedding, shape.features.len()), (1536, 2));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "A: Deserialize<'de>"))]
pub struct OsNetFncConfig<A = ()> {
    /// The whole `OSNet`, before it is split.
    pub network: OsNetConfig<A>,
    /// The split point before which the branches share the network; before block 1 of stage 3 by default, as
    /// in [`FncConfig`](crate::FncConfig). `None` shares all stages ("not separate" in Table 5).
    #[serde(deserialize_with = "Option::deserialize")]
    pub split: Option<SplitPoint>,
    /// The attention and the neck of each branch.
    #[serde(deserialize_with = "strict")]
    pub branches: FncBranches,
}

/// An `OSNet` with the two branches of [`Fnc`](crate::Fnc): one with spatial and one with channel attention.
///
/// ```text
/// f_S, g_S, y_S = neck_S(SAB(late_S(x)))        1024 dimensions
/// f_C, g_C, y_C = neck_C(CAB(late_C(x)))        512 dimensions
/// g = [g_S, g_C]                                the embedding    [batch, 1536]
/// ```
///
/// The late stages of both branches start as copies of the same weights and are trained separately.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Init, Network, attention::FncChannelConfig, backbone::OsNetConfig, head::ReducedBnNeckConfig};
/// use reid_zoo::OsNetFncConfig;
///
/// let mut config = OsNetFncConfig::from_network(OsNetConfig::x0_25());
/// config.branches.channel = FncChannelConfig::new().with_hidden(64).with_groups(4);
/// config.branches.spatial_neck = ReducedBnNeckConfig::new().with_dimensions(8);
/// config.branches.channel_neck = ReducedBnNeckConfig::new().with_dimensions(4);
/// let (size, device) = (InputSize::new(64, 32), Device::default());
/// let model = config.init(size, 751, &Init::new(Seed::new(1), &device));
/// assert_eq!(model.embed(Tensor::ones([2, 3, 64, 32], &device)).dims(), [2, 12]);
/// ```
pub type OsNetFnc<A = Identity> = ReidModel<
    OsNet<A>,
    BranchedHead<(OsNetFncBranch<FncSpatial, A>, OsNetFncBranch<FncChannel, A>)>,
>;

/// Configuration of the head of [`OsNetFnc`].
type OsNetFncHeadConfig<A> = BranchesConfig<(
    OsNetFncBranchConfig<FncSpatialConfig, A>,
    OsNetFncBranchConfig<FncChannelConfig, A>,
)>;

impl<A> OsNetFncConfig<A> {
    /// The branches on any `OSNet`.
    #[must_use]
    pub fn from_network(network: OsNetConfig<A>) -> Self {
        Self {
            network,
            split: Some(SplitPoint { stage: 3, block: 1 }),
            branches: FncBranches::new(),
        }
    }
}

impl<A: BlockConfig + Clone> OsNetFncConfig<A> {
    /// Configuration of the early stages, which the branches share; `None` if they share the whole network.
    #[must_use]
    pub fn early_stages(&self) -> Option<OsNetEarlyStagesConfig<A>> {
        self.split.map(|split| OsNetEarlyStagesConfig {
            network: self.network.clone(),
            split,
        })
    }

    /// Configuration of the head, which contains the late stages of both branches. Its `init` draws them
    /// separately; a network starts with copies.
    #[must_use]
    pub fn head(&self) -> OsNetFncHeadConfig<A> {
        let late_stages = self.split.map(|split| OsNetLateStagesConfig {
            network: self.network.clone(),
            split,
        });
        let branches = self.branches.clone();
        BranchesConfig::new((
            BlockThenHeadConfig {
                block: (late_stages.clone(), branches.spatial),
                head: branches.spatial_neck,
            },
            BlockThenHeadConfig {
                block: (late_stages, branches.channel),
                head: branches.channel_neck,
            },
        ))
    }

    /// Copies weights, such as pretrained ones, from a whole `OSNet` into a model.
    ///
    /// The early stages of `whole` become the backbone, and each branch gets its own copy of the late stages. `whole`
    /// must be a network of the configuration [`network`](Self::network), on the device of the model.
    ///
    /// # Panics
    /// If `whole` has no block at the split point.
    pub fn start_from(&self, model: &mut OsNetFnc<A::Block>, whole: OsNet<A::Block>)
    where
        A::Block: Block,
    {
        match self.split {
            None => model.backbone = whole,
            Some(split) => {
                let (early_stages, late_stages) = whole.split(split);
                model.backbone = early_stages;
                set_late_stages(model, &late_stages);
            }
        }
    }

    /// The shape of the feature map of the backbone.
    fn features(&self, image: FeatureShape) -> FeatureShape {
        match self.early_stages() {
            None => self.network.output(image),
            Some(early_stages) => early_stages.output(image),
        }
    }
}

/// Gives each branch a copy of these late stages.
fn set_late_stages<A: Block>(model: &mut OsNetFnc<A>, late_stages: &OsNetLateStages<A>) {
    let (spatial, channel) = &mut model.head.branches;
    for own in [&mut spatial.block.0, &mut channel.block.0] {
        *own = Some(parameters::copy(late_stages));
    }
}

impl<A: BlockConfig + Clone + Serialize + DeserializeOwned> Network for OsNetFncConfig<A> {
    type Model = OsNetFnc<A::Block>;

    fn init(&self, input: InputSize, classes: usize, init: &Init<'_>) -> OsNetFnc<A::Block> {
        let head = self.head();
        let mut model = match self.early_stages() {
            None => ReidModel::new(&self.network, &head, input, classes, init),
            Some(early_stages) => ReidModel::new(&early_stages, &head, input, classes, init),
        };
        if let Some(late_stages) = model.head.branches.0.block.0.take() {
            set_late_stages(&mut model, &late_stages);
        }
        model
    }

    fn output(&self, input: InputSize, classes: usize) -> OutputShape {
        self.head().output(self.features(input.rgb()), classes)
    }

    fn stage_paths(&self) -> StagePaths {
        StagePaths::of_model(self.network.stage_paths(), self.head().stage_paths())
    }

    fn validate_network(&self, input: InputSize, problems: &mut Problems) {
        let (network, image) = (&self.network, input.rgb());
        let fits = problems.at("network", |problems| network.validate(image, problems));
        if let Some(split) = self.split {
            problems.at("split", |problems| {
                split.validate(network.blocks_per_stage(), problems);
            });
        }
        problems.at("branches", |problems| {
            if fits {
                self.branches.validate(network.output(image), problems);
            } else {
                problems.nested_for_any(TRIAL_SHAPES, |map, problems| {
                    self.branches.validate(map, problems);
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use reid_core::Seed;
    use reid_nn::Head;

    use super::*;

    const SIZE: InputSize = InputSize::new(64, 32);

    fn config() -> OsNetFncConfig {
        let mut config =
            OsNetFncConfig::from_network(OsNetConfig::x0_25().with_channels([4, 8, 12, 16]));
        config.branches.channel = FncChannelConfig::new().with_hidden(8).with_groups(2);
        config.branches.spatial_neck = ReducedBnNeckConfig::new().with_dimensions(6);
        config.branches.channel_neck = ReducedBnNeckConfig::new().with_dimensions(5);
        config
    }

    /// Separate branches have the late stages twice.
    #[test]
    fn separate_branches_have_their_own_late_stages() {
        let device = Device::default();
        let init = Init::empty(&device);
        let separate = config();
        let shared = OsNetFncConfig {
            split: None,
            ..config()
        };
        let whole = separate.network.init(SIZE.rgb(), &init);
        let split = separate.split.expect("separate by default");
        let late_stages = parameters::count(&whole.split(split).1);
        let count = |config: &OsNetFncConfig| parameters::count(&config.init(SIZE, 3, &init));
        assert!(late_stages > 0);
        assert_eq!(count(&separate), count(&shared) + late_stages);
    }

    #[test]
    fn branches_start_equal_and_are_trained_separately() {
        let device = Device::default().autodiff();
        let model = config().init(SIZE, 3, &Init::new(Seed::new(1), &device));
        let (spatial, channel) = &model.head.branches;
        let (one, other) = (first_weight(spatial), first_weight(channel));
        assert_eq!(one.to_data(), other.to_data());

        let images = Tensor::<4>::ones([2, 3, 64, 32], &device);
        let output = spatial.forward(model.backbone.forward(images));
        let gradients = output.embedding.sum().backward();
        assert!(one.grad(&gradients).is_some());
        assert!(other.grad(&gradients).is_none());
    }

    fn first_weight<S>(branch: &OsNetFncBranch<S, Identity>) -> Tensor<4> {
        let late_stages = branch.block.0.as_ref().expect("separate");
        late_stages.stages[0].blocks[0].conv1.conv.weight.val()
    }

    #[test]
    fn problems_have_their_path() {
        let mut config = config();
        config.split = Some(SplitPoint { stage: 3, block: 2 });
        config.branches.channel.groups = 3;
        let mut problems = Problems::new();
        config.validate_network(SIZE, &mut problems);
        let report = problems.to_string();
        let expected = "split.block: expected below 2, the number of blocks in stage 3, found 2";
        assert!(report.contains(expected), "{report}");
        assert!(report.contains("branches.channel."), "{report}");
    }
}
