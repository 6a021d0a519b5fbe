//! The head of MGN: branches with late stages of their own, each looking at a map as a whole and in
//! stripes (Wang et al., Learning Discriminative Features with Multiple Granularities, ACM MM 2018,
//! arXiv:1804.01438).

use burn::{module::Module, tensor::Tensor};
use reid_core::{FeatureShape, Problems, strict};
use serde::{Deserialize, Serialize};

use super::{
    BlockThenHead, BlockThenHeadConfig, Head, HeadConfig, OutputShape, ReidOutput, StripeHead,
    StripeHeadConfig,
};
use crate::{
    backbone::{LateStages, LateStagesConfig},
    block::{Block, BlockConfig, Identity},
    init::Init,
    parameters,
};

/// Configuration of [`MgnHead`], on early stages with `I` in its blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "I: Deserialize<'de>"))]
pub struct MgnHeadConfig<I = ()> {
    /// The late stages, of which each branch has a copy.
    pub late_stages: LateStagesConfig<I>,
    /// What each branch looks at, at least one branch; 0, 2 and 3 stripes in the paper.
    #[serde(deserialize_with = "strict")]
    pub branches: Vec<StripeHeadConfig>,
}

/// Branches with late stages of their own, each looking at a map as a whole and in stripes.
///
/// ```text
/// fᵢ = granulesᵢ(tailᵢ(x))              i = 1, 2, 3, with 0, 2 and 3 stripes
/// f = [f₁, f₂, f₃]                      the descriptor    [batch, 8·256]
/// ```
///
/// The late stages of all branches start as copies of the same ones, and are trained apart. All of
/// them keep the resolution that the network's last stride gives; the paper halves it in the first
/// branch.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Block, BlockConfig, Head, HeadConfig, Init, backbone::{SplitPoint, ResNetConfig, LateStagesConfig, EarlyStagesConfig}};
/// use reid_nn::head::{StripeHeadConfig, MgnHeadConfig};
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
/// let place = early_stages.output(image);
/// let map = early_stages.init(image, &init).forward(Tensor::ones([2, 3, 96, 32], &device));
/// let output = head.init(place, 10, &init).forward(map);
/// assert_eq!(output.embedding.dims(), [2, 8 * 4]);
/// assert_eq!((output.features.len(), output.logits.len()), (3, 8));
/// ```
#[derive(Module, Debug)]
pub struct MgnHead<I = Identity> {
    /// The branches.
    pub branches: Vec<BlockThenHead<LateStages<I>, StripeHead>>,
}

/// Adds what is wrong with the `branches` of a head on the last map of a network: they may not be
/// missing.
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
    for (index, granules) in branches.iter().enumerate() {
        problems.at(&format!("branches[{index}]"), |problems| {
            granules.validate(map, problems);
        });
    }
}

impl<I: BlockConfig + Clone> HeadConfig for MgnHeadConfig<I> {
    type Head = MgnHead<I::Block>;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> Self::Head {
        Problems::refuse("a head of several granularities", |problems| {
            self.validate(input, problems);
        });
        let map = self.late_stages.output(input);
        let late_stages = self.late_stages.init(input, &init.named("late_stages"));
        let branches = self.branches.iter().enumerate();
        let branches = branches.map(|(index, granules)| BlockThenHead {
            block: parameters::copy(&late_stages),
            head: granules.init(map, classes, &init.at(index)),
        });
        MgnHead {
            branches: branches.collect(),
        }
    }

    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
        let branch = |granules: &StripeHeadConfig| {
            BlockThenHeadConfig {
                block: self.late_stages.clone(),
                head: granules.clone(),
            }
            .output(input, classes)
        };
        let branches = self.branches.iter().map(branch);
        branches
            .reduce(OutputShape::concat)
            .expect("at least 1 branch")
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

impl<I: Block> MgnHead<I> {
    /// Gives every branch a copy of these late stages, to be trained apart.
    pub fn set_late_stages(&mut self, late_stages: &LateStages<I>) {
        for branch in &mut self.branches {
            branch.block = parameters::copy(late_stages);
        }
    }
}

impl<I: Block> Head for MgnHead<I> {
    fn forward(&self, features: Tensor<4>) -> ReidOutput {
        let branches = self.branches.iter();
        let outputs = branches.map(|branch| branch.forward(features.clone()));
        outputs
            .reduce(ReidOutput::concat)
            .expect("at least 1 branch")
    }

    fn fold_batch_norm(self) -> Self {
        Self {
            branches: self
                .branches
                .into_iter()
                .map(Head::fold_batch_norm)
                .collect(),
        }
    }
}
