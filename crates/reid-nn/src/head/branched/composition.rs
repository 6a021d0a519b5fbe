//! `BranchesConfig`: the configuration of a branched head with branches of any type.

use std::sync::Arc;

use reid_core::{FeatureShape, Problems, strict};
use serde::{Deserialize, Serialize};

use super::{AugmentConfig, BranchedHead, Branches, FeatureAugment};
use crate::{
    HeadConfig, OutputShape,
    backbone::{ResidualBlockConfig, ResidualKind},
    block::BlockConfig,
    head::LinearBnReluHeadConfig,
    init::Init,
    stage_paths::StagePaths,
};

/// Configuration of any [`BranchedHead`]: branches of any type, an optional global branch, an optional
/// bottleneck that the other branches share, and one augmentation per branch.
///
/// The branches are a `Vec` of configurations of one type, or a tuple of two to four. A branch with its own
/// blocks is a [`BlockThenHeadConfig`](crate::head::BlockThenHeadConfig).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Head, HeadConfig, Init, TrainingStep, attention::RgaSpatialConfig, cut_mix::CutMix};
/// use reid_nn::head::{AugmentConfig, BlockThenHeadConfig, BnNeckConfig, BranchesConfig, CamSource};
/// use reid_nn::head::StripeHeadConfig;
///
/// // Three branches: a neck, attention before a neck, and stripes. In training, half of the third branch's
/// // patches come from another image: those with the highest Grad-CAM in the branch with attention.
/// let attention = BlockThenHeadConfig { block: RgaSpatialConfig::new(), head: BnNeckConfig::new() };
/// let stripes = StripeHeadConfig::new().with_stripes(2).with_dimensions(4);
/// let mix = AugmentConfig::CutMix { mix: CutMix::new().with_cut(4), cam_source: CamSource::Autodiff };
/// let config = BranchesConfig::new((attention, stripes))
///     .with_global(BnNeckConfig::new())
///     .with_augments(vec![AugmentConfig::None, mix]);
///
/// let device = Device::default();
/// let head = config.init(FeatureShape::new(16, 12, 4), 10, &Init::new(Seed::new(1), &device));
/// let step = TrainingStep::new(&[3, 7], Seed::new(1));
/// let output = head.forward_train(Tensor::ones([2, 16, 12, 4], &device), step);
/// assert_eq!(output.embedding.dims(), [2, 16 + 16 + 3 * 4]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    bound(deserialize = "B: Deserialize<'de>, G: Deserialize<'de>")
)]
pub struct BranchesConfig<B, G = LinearBnReluHeadConfig> {
    /// The head of the global branch, which sees the feature map as it is, if there is one.
    #[serde(deserialize_with = "Option::deserialize")]
    pub global: Option<G>,
    /// Whether the branches after the global one share a residual bottleneck block.
    pub bottleneck: bool,
    /// The heads of the branches after the global one.
    #[serde(deserialize_with = "strict")]
    pub branches: B,
    /// The augmentation of each of these branches; empty if no branch has one.
    pub augments: Vec<AugmentConfig>,
}

impl<B> BranchesConfig<B> {
    /// Creates a configuration with these branches, without a global branch, bottleneck or augmentation.
    #[must_use]
    pub const fn new(branches: B) -> Self {
        Self {
            global: None,
            bottleneck: false,
            branches,
            augments: Vec::new(),
        }
    }
}

impl<B, G> BranchesConfig<B, G> {
    /// Sets the global branch, which sees the feature map as it is and comes before the others.
    #[must_use]
    pub fn with_global<H>(self, global: H) -> BranchesConfig<B, H> {
        BranchesConfig {
            global: Some(global),
            bottleneck: self.bottleneck,
            branches: self.branches,
            augments: self.augments,
        }
    }

    /// Adds a residual bottleneck block, which the branches after the global one share.
    #[must_use]
    pub fn with_bottleneck(self) -> Self {
        Self {
            bottleneck: true,
            ..self
        }
    }

    /// Sets the augmentation of each branch after the global one.
    #[must_use]
    pub fn with_augments(self, augments: Vec<AugmentConfig>) -> Self {
        Self { augments, ..self }
    }
}

impl<B: HeadConfig<Head: Branches>, G: HeadConfig> HeadConfig for BranchesConfig<B, G> {
    type Head = BranchedHead<B::Head, G::Head>;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> Self::Head {
        Problems::refuse("a branched head", |problems| self.validate(input, problems));
        let global = self.global.as_ref();
        let head = BranchedHead {
            global: global.map(|global| global.init(input, classes, &init.named("global"))),
            bottleneck: self
                .bottleneck
                .then(|| bottleneck(input.channels).init(input, &init.named("bottleneck"))),
            branches: self.branches.init(input, classes, init),
            augments: Vec::new(),
        };
        let mut augments: Vec<Arc<dyn FeatureAugment>> = Vec::new();
        augments.extend(
            self.augments
                .iter()
                .map(|augment| -> Arc<dyn FeatureAugment> { Arc::new(augment.clone()) }),
        );
        if augments.is_empty() {
            augments.resize(head.branches.list().len(), Arc::new(AugmentConfig::None));
        }
        head.with_augments(augments)
    }

    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
        let branches = self.branches.output(input, classes);
        match &self.global {
            Some(global) => global.output(input, classes).concat(branches),
            None => branches,
        }
    }

    fn stage_paths(&self) -> StagePaths {
        let global = self.global.as_ref().map(HeadConfig::stage_paths);
        let global = global.unwrap_or_default().inside("global");
        global.and(self.branches.stage_paths().inside("branches"))
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        if let Some(global) = &self.global {
            problems.at("global", |problems| global.validate(input, problems));
        }
        problems.require(
            "bottleneck",
            !self.bottleneck || input.channels.is_multiple_of(4),
            "false, or feature maps whose number of channels is a multiple of 4",
            format_args!("true on {} channels", input.channels),
        );
        let (branches, augments) = (self.branches.heads(), self.augments.len());
        problems.require(
            "branches",
            branches > 0 || self.global.is_some(),
            "at least 1 branch if there is no global branch",
            "none",
        );
        problems.require(
            "augments",
            augments == 0 || augments == branches,
            format_args!("none, or one for each of the {branches} branches"),
            augments,
        );
        problems.at("branches", |problems| {
            self.branches.validate(input, problems);
        });
        for (index, augment) in self.augments.iter().enumerate() {
            problems.at(&format!("augments[{index}]"), |problems| {
                problems.require(
                    "cut-mix",
                    index > 0
                        || self.global.is_some()
                        || !matches!(augment, AugmentConfig::CutMix { .. }),
                    "a previous branch, whose Grad-CAM selects the patches",
                    "none",
                );
                augment.validate(input, problems);
            });
        }
    }
}

/// The configuration of the bottleneck that branches share: its output has the channels of its input, and its
/// inner convolution a quarter of them.
fn bottleneck(channels: usize) -> ResidualBlockConfig<()> {
    ResidualBlockConfig::new(ResidualKind::Bottleneck, channels / 4)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use reid_core::Seed;

    use super::*;
    use crate::{
        Head, TrainingStep,
        cut_mix::CutMix,
        fixtures,
        grad_cam::{GradCam, Target},
        head::{AugmentTrace, BnNeckConfig, CamSource, PooledHeadConfig},
    };

    const INPUT: FeatureShape = FeatureShape {
        channels: 8,
        height: 6,
        width: 4,
    };

    fn mix() -> AugmentConfig {
        AugmentConfig::CutMix {
            mix: CutMix::new().with_cut(3),
            cam_source: CamSource::ClosedForm,
        }
    }

    fn problems(config: &impl HeadConfig) -> String {
        let mut problems = Problems::new();
        config.validate(INPUT, &mut problems);
        problems.to_string()
    }

    /// The features of the second branch are cut by the Grad-CAM of the first: a head of another type,
    /// without a closed form for training passes. On a plain device its CAM is that of `GradCam`.
    #[test]
    fn features_are_mixed_by_the_cam_of_a_previous_branch_of_another_type() {
        let device = Device::default();
        let branches = (PooledHeadConfig::new(), BnNeckConfig::new());
        let config = BranchesConfig::new(branches).with_augments(vec![AugmentConfig::None, mix()]);
        assert_eq!(problems(&config), "");
        let head = fixtures::weights(config.init(INPUT, 3, &fixtures::init(&device)));
        let features: Tensor<4> = fixtures::tensor([6, 8, 6, 4], -1.3..1.9, &device);
        let labels = [0, 0, 1, 1, 2, 2];
        let step = TrainingStep::new(&labels, Seed::new(1));
        let traced = head.forward_traced(features.clone(), step);
        let [
            AugmentTrace::Features { .. },
            AugmentTrace::CutMix { map, .. },
        ] = &traced.traces[..]
        else {
            panic!(
                "expected the traces of no augmentation and of CutMix, found {:?}",
                traced.traces
            );
        };
        let labels = Tensor::from_data([0, 0, 1, 1, 2, 2], &device);
        let expected = GradCam::new().maps(&head.branches.0, features, Target::Labels(&labels));
        let difference = (map.clone() - expected).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-6, "{difference}");
        assert_eq!(traced.output.logits.len(), 2);
    }

    #[test]
    fn a_single_branch_computes_the_output_of_its_head() {
        let device = Device::default();
        let config = BranchesConfig::new(vec![BnNeckConfig::new()]);
        let head = config.init(INPUT, 3, &fixtures::init(&device));
        let features: Tensor<4> = fixtures::tensor([2, 8, 6, 4], -1.3..1.9, &device);
        let expected = head.branches[0].forward(features.clone()).embedding;
        assert_eq!(
            head.forward(features).embedding.to_data(),
            expected.to_data()
        );
        assert_eq!(
            config.output(INPUT, 3),
            BnNeckConfig::new().output(INPUT, 3)
        );
    }

    #[test]
    fn invalid_configurations_are_reported() {
        let neck = BnNeckConfig::new;
        let first = BranchesConfig::new(vec![neck()]).with_augments(vec![mix()]);
        let expected =
            "augments[0].cut-mix: expected a previous branch, whose Grad-CAM selects the patches";
        assert!(problems(&first).contains(expected), "{}", problems(&first));
        assert_eq!(problems(&first.with_global(neck())), "");
        let none = BranchesConfig::new(Vec::<BnNeckConfig>::new());
        assert!(problems(&none).contains(
            "branches: expected at least 1 branch if there is no global branch, found none"
        ));
        let few = BranchesConfig::new((neck(), neck())).with_augments(vec![AugmentConfig::None]);
        let expected = "augments: expected none, or one for each of the 2 branches, found 1";
        assert!(problems(&few).contains(expected), "{}", problems(&few));
    }

    #[test]
    #[should_panic(expected = "Grad-CAM needs a global branch")]
    fn the_first_branch_has_no_cam_without_a_global_branch() {
        let config = BranchesConfig::new(vec![BnNeckConfig::new()]);
        let head = config.init(INPUT, 3, &fixtures::init(&Device::default()));
        let head = head.with_augments(vec![Arc::new(mix())]);
        let features = Tensor::ones([2, 8, 6, 4], &Device::default());
        let _ = head.forward_train(features, TrainingStep::new(&[0, 1], Seed::new(1)));
    }
}
