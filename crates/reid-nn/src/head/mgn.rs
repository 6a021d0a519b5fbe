//! The head of MGN: branches with their own late stages, each of which embeds the whole feature map and
//! stripes of it (Wang et al., Learning Discriminative Features with Multiple Granularities, ACM MM 2018,
//! arXiv:1804.01438).

use reid_core::{FeatureShape, Problems, strict};
use serde::{Deserialize, Serialize};

use super::{
    BlockThenHead, BlockThenHeadConfig, BranchedHead, BranchesConfig, Head, HeadConfig,
    OutputShape, StripeHead, StripeHeadConfig,
};
use crate::{
    backbone::{LateStages, LateStagesConfig},
    block::{Block, BlockConfig, Identity},
    init::Init,
    parameters,
    stage_paths::StagePaths,
};

/// Configuration of [`MgnHead`], which has an example. `I` configures the block inside each residual block of the
/// late stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "I: Deserialize<'de>"))]
pub struct MgnHeadConfig<I = ()> {
    /// The late stages, of which each branch gets a copy.
    pub late_stages: LateStagesConfig<I>,
    /// The head of each branch, at least one; 0, 2 and 3 stripes in the paper.
    #[serde(deserialize_with = "strict")]
    pub branches: Vec<StripeHeadConfig>,
}

/// A [`BranchedHead`] whose branches have their own late stages, and embed the whole feature map and stripes
/// of it.
///
/// ```text
/// fᵢ = stripesᵢ(lateᵢ(x))               i = 1, 2, 3, with 0, 2 and 3 stripes
/// f = [f₁, f₂, f₃]                      the embedding    [batch, 8·256]
/// ```
///
/// The late stages of all branches start as copies of the same weights and are trained separately. Their
/// stride is the last stride of the network in every branch; in the paper, the first branch has stride 2.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::backbone::{EarlyStagesConfig, LateStagesConfig, ResNetConfig, SplitPoint};
/// use reid_nn::{Block, BlockConfig, Head, HeadConfig, Init, head::{MgnHeadConfig, StripeHeadConfig}};
///
/// let (device, image) = (Device::default(), InputSize::new(96, 32).rgb());
/// let init = Init::new(Seed::new(1), &device);
/// let network = ResNetConfig::resnet18().with_width(8).with_last_stride(1);
/// let split = SplitPoint { stage: 3, block: 1 };
/// let early_stages = EarlyStagesConfig { network: network.clone(), split: Some(split) };
/// let branch = |stripes| StripeHeadConfig::new().with_stripes(stripes).with_dimensions(4);
/// let branches = vec![branch(0), branch(2), branch(3)];
/// let head = MgnHeadConfig { late_stages: LateStagesConfig { network, split }, branches };
///
/// let shape = early_stages.output(image);
/// let map = early_stages.init(image, &init).forward(Tensor::ones([2, 3, 96, 32], &device));
/// let output = head.init(shape, 10, &init).forward(map);
/// assert_eq!(output.embedding.dims(), [2, 8 * 4]);
/// assert_eq!((output.features.len(), output.logits.len()), (3, 8));
/// ```
pub type MgnHead<I = Identity> = BranchedHead<Vec<MgnBranch<I>>>;

/// A branch of MGN: its own late stages, then the whole feature map and stripes of it.
pub type MgnBranch<I = Identity> = BlockThenHead<LateStages<I>, StripeHead>;

/// Adds the problems of the `branches` of MGN on the last feature map of a network. At least one branch is
/// needed.
pub fn validate_branches(
    branches: &[StripeHeadConfig],
    map: FeatureShape,
    problems: &mut Problems,
) {
    problems.require(
        "branches",
        !branches.is_empty(),
        "at least 1 branch",
        "none",
    );
    for (index, stripes) in branches.iter().enumerate() {
        problems.at(&format!("branches[{index}]"), |problems| {
            stripes.validate(map, problems);
        });
    }
}

impl<I: Clone> MgnHeadConfig<I> {
    /// Returns the same head as a composition of branches, in which heads and augmentations can be replaced.
    ///
    /// `init` of a composition draws the late stages of each branch separately. `set_late_stages` of the head
    /// that it builds makes them copies.
    #[must_use]
    pub fn composition(
        &self,
    ) -> BranchesConfig<Vec<BlockThenHeadConfig<LateStagesConfig<I>, StripeHeadConfig>>> {
        let branches = self.branches.iter();
        let branches = branches.map(|stripes| BlockThenHeadConfig {
            block: self.late_stages.clone(),
            head: stripes.clone(),
        });
        BranchesConfig::new(branches.collect())
    }
}

impl<I: BlockConfig + Clone> HeadConfig for MgnHeadConfig<I> {
    type Head = MgnHead<I::Block>;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> Self::Head {
        Problems::refuse("the head of MGN", |problems| {
            self.validate(input, problems);
        });
        let mut head = self.composition().init(input, classes, init);
        let late_stages = head.branches[0].block.clone();
        head.set_late_stages(&late_stages);
        head
    }

    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
        self.composition().output(input, classes)
    }

    fn stage_paths(&self) -> StagePaths {
        self.composition().stage_paths()
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        if problems.at("late_stages", |problems| {
            self.late_stages.validate(input, problems);
        }) {
            let map = self.late_stages.output(input);
            validate_branches(&self.branches, map, problems);
        }
    }
}

impl<I: Block, H: Head> BranchedHead<Vec<BlockThenHead<LateStages<I>, H>>> {
    /// Gives each branch a copy of these late stages, which is trained separately.
    pub fn set_late_stages(&mut self, late_stages: &LateStages<I>) {
        for branch in &mut self.branches {
            branch.block = parameters::copy(late_stages);
        }
    }
}
