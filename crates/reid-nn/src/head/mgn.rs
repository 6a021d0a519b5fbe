//! The head of MGN: branches with late stages of their own, each looking at a map as a whole and in
//! stripes (Wang et al., Learning Discriminative Features with Multiple Granularities, ACM MM 2018,
//! arXiv:1804.01438).

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use reid_core::{FeatureShape, Problems, strict};
use serde::{Deserialize, Serialize};

use super::{
    Behind, BehindConfig, Granules, GranulesConfig, Head, HeadConfig, OutputShape, ReidOutput,
};
use crate::{
    backbone::{Tail, TailConfig},
    block::{Block, BlockConfig, Nothing},
    parameters,
};

/// Configuration of [`MgnHead`], on a trunk with `I` in its blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "I: Deserialize<'de>"))]
pub struct MgnHeadConfig<I = ()> {
    /// The late stages, of which each branch has a copy.
    pub tail: TailConfig<I>,
    /// What each branch looks at, at least one branch; 0, 2 and 3 stripes in the paper.
    #[serde(deserialize_with = "strict")]
    pub branches: Vec<GranulesConfig>,
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
/// use reid_core::InputSize;
/// use reid_nn::{Block, BlockConfig, Head, HeadConfig, backbone::{Cut, ResNetConfig, TailConfig, TrunkConfig}};
/// use reid_nn::head::{GranulesConfig, MgnHeadConfig};
///
/// let (device, image) = (Device::default(), InputSize::new(96, 32).rgb());
/// let network = ResNetConfig::resnet18().with_width(8).with_last_stride(1);
/// let cut = Cut { stage: 3, block: 1 };
/// let trunk = TrunkConfig { network: network.clone(), cut: Some(cut) };
/// let branch = |stripes| GranulesConfig::new().with_stripes(stripes).with_dimensions(4);
/// let branches = vec![branch(0), branch(2), branch(3)];
/// let head = MgnHeadConfig { tail: TailConfig { network, cut }, branches };
///
/// let place = trunk.output(image);
/// let map = trunk.init(image, &device).forward(Tensor::ones([2, 3, 96, 32], &device));
/// let output = head.init(place, 10, &device).forward(map);
/// assert_eq!(output.embedding.dims(), [2, 8 * 4]);
/// assert_eq!((output.features.len(), output.logits.len()), (3, 8));
/// ```
#[derive(Module, Debug)]
pub struct MgnHead<I = Nothing> {
    /// The branches.
    pub branches: Vec<Behind<Tail<I>, Granules>>,
}

/// Adds what is wrong with the `branches` of a head on the last map of a network: they may not be
/// missing.
pub fn validate_branches(branches: &[GranulesConfig], map: FeatureShape, problems: &mut Problems) {
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

    fn init(&self, input: FeatureShape, classes: usize, device: &Device) -> Self::Head {
        Problems::refuse("a head of several granularities", |problems| {
            self.validate(input, problems);
        });
        let map = self.tail.output(input);
        let tail = self.tail.init(input, device);
        let branches = self.branches.iter().map(|granules| Behind {
            block: parameters::copy(&tail),
            head: granules.init(map, classes, device),
        });
        MgnHead {
            branches: branches.collect(),
        }
    }

    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
        let branch = |granules: &GranulesConfig| {
            BehindConfig {
                block: self.tail.clone(),
                head: granules.clone(),
            }
            .output(input, classes)
        };
        let branches = self.branches.iter().map(branch);
        branches
            .reduce(OutputShape::beside)
            .expect("at least 1 branch")
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        if problems.at("tail", |problems| self.tail.validate(input, problems)) {
            let map = self.tail.output(input);
            validate_branches(&self.branches, map, problems);
        }
    }
}

impl<I: Block> MgnHead<I> {
    /// Gives every branch a copy of these late stages, to be trained apart.
    pub fn set_tails(&mut self, tail: &Tail<I>) {
        for branch in &mut self.branches {
            branch.block = parameters::copy(tail);
        }
    }
}

impl<I: Block> Head for MgnHead<I> {
    fn forward(&self, features: Tensor<4>) -> ReidOutput {
        let branches = self.branches.iter();
        let outputs = branches.map(|branch| branch.forward(features.clone()));
        outputs
            .reduce(ReidOutput::beside)
            .expect("at least 1 branch")
    }

    fn fused(self) -> Self {
        Self {
            branches: self.branches.into_iter().map(Head::fused).collect(),
        }
    }
}
