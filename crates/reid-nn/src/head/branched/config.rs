//! What a branched head is made of, and what is done to its branches.

use burn::config::Config;
use reid_core::{FeatureShape, Problems};
use serde::{Deserialize, Serialize};

use super::{super::validate_dimensions, BranchedHead, BranchesConfig};
use crate::{
    HeadConfig, OutputShape, batch_drop::BatchDrop, cut_mix::CutMix, head::LinearBnReluHeadConfig,
    init::Init, pool::PoolConfig,
};

/// Configuration of [`BranchedHead`]: a global branch alone by default.
///
/// ```
/// use reid_core::FeatureShape;
/// use reid_nn::{HeadConfig, cut_mix::{CutMix, MixPartner}, head::{BranchConfig, BranchedHeadConfig}};
///
/// let place = FeatureShape::new(2048, 24, 8);
/// assert_eq!(BranchedHeadConfig::progressive_cut_mix(2).output(place, 751).embedding, 2048);
///
/// // The progressive chain with one branch, partners of the same identity, and 8 patches.
/// let mix = CutMix::new().with_cut(8).with_partner(MixPartner::Positive);
/// let config = BranchedHeadConfig::new().with_branches(vec![BranchConfig::cut_mix(1024, mix)]);
/// assert_eq!(config.output(place, 751).features, [512, 1024]);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct BranchedHeadConfig {
    /// Dimensions of the global branch; 512 in both papers' code.
    #[config(default = 512)]
    pub global: usize,
    /// The branches after it, in order.
    #[config(default = "Vec::new()")]
    pub branches: Vec<BranchConfig>,
}

/// One of the branches that are augmented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BranchConfig {
    /// Dimensions of its part of the descriptor.
    pub dimensions: usize,
    /// What is done to its features in training.
    pub augment: AugmentConfig,
}

/// A [`FeatureAugment`] of the library.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AugmentConfig {
    /// Nothing.
    None,
    /// Cells where the branch before looked are those of another image.
    CutMix {
        /// Which cells, and whose.
        mix: CutMix,
        /// How the place where the branch before looked is found.
        cam_source: CamSource,
    },
    /// A rectangle is dropped from the whole batch.
    Drop(BatchDrop),
}

/// How the place where a branch looked is found; both give the same up to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CamSource {
    /// Grad-CAM written down, from what the branch computed anyway.
    #[default]
    ClosedForm,
    /// Grad-CAM by a second forward and backward pass of the branch alone; in the authors' code the
    /// backward pass goes through the whole network.
    Autodiff,
}

impl BranchConfig {
    /// A branch whose features are mixed where the branch before it looked.
    #[must_use]
    pub fn cut_mix(dimensions: usize, mix: CutMix) -> Self {
        let cam_source = CamSource::ClosedForm;
        let augment = AugmentConfig::CutMix { mix, cam_source };
        Self {
            dimensions,
            augment,
        }
    }

    /// A branch of which a rectangle is dropped.
    #[must_use]
    pub fn drop(dimensions: usize, drop: BatchDrop) -> Self {
        let augment = AugmentConfig::Drop(drop);
        Self {
            dimensions,
            augment,
        }
    }
}

impl BranchedHeadConfig {
    /// Progressive feature `CutMix` with this many branches beside the global one: 512 + 1024 + 512
    /// dimensions with 2 ("+ PC2"), as in the authors' code.
    ///
    /// # Panics
    /// If there are more than 2: further ones have no published dimensions.
    #[must_use]
    pub fn progressive_cut_mix(branches: usize) -> Self {
        Self::published(branches, |dimensions| {
            BranchConfig::cut_mix(dimensions, CutMix::new())
        })
    }

    /// Batch `DropBlock` with this many branches beside the global one, each with rectangles of its own:
    /// 512 + 1024 dimensions with 1 ("BDB"), and 512 more with 2 ("BDB*3").
    ///
    /// # Panics
    /// If there are more than 2: further ones have no published dimensions.
    #[must_use]
    pub fn batch_drop_block(branches: usize) -> Self {
        Self::published(branches, |dimensions| {
            BranchConfig::drop(dimensions, BatchDrop::new())
        })
    }

    fn published(branches: usize, branch: impl Fn(usize) -> BranchConfig) -> Self {
        let dimensions = [1024, 512];
        assert!(
            branches <= dimensions.len(),
            "the published networks have up to 2 branches after the global one, found {branches}"
        );
        let branches = dimensions.into_iter().take(branches).map(branch);
        Self::new().with_branches(branches.collect())
    }
}

impl BranchedHeadConfig {
    /// The same head as a composition of branches, which can be changed further.
    #[must_use]
    pub fn composition(&self) -> BranchesConfig<Vec<LinearBnReluHeadConfig>> {
        let reduced = |dimensions, pool| LinearBnReluHeadConfig { dimensions, pool };
        let branches = self.branches.iter();
        let heads = branches
            .clone()
            .map(|branch| reduced(branch.dimensions, PoolConfig::Max));
        BranchesConfig {
            global: Some(reduced(self.global, PoolConfig::Average)),
            bottleneck: !self.branches.is_empty(),
            branches: heads.collect(),
            augments: branches.map(|branch| branch.augment.clone()).collect(),
        }
    }
}

impl HeadConfig for BranchedHeadConfig {
    type Head = BranchedHead;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> BranchedHead {
        Problems::refuse("a branched head", |problems| self.validate(input, problems));
        self.composition().init(input, classes, init)
    }

    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
        self.composition().output(input, classes)
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        validate_dimensions("global", self.global, input.channels, problems);
        let channels = input.channels;
        problems.require(
            "branches",
            self.branches.is_empty() || channels.is_multiple_of(4),
            "none, or a map whose channels are a multiple of 4 for the extra bottleneck",
            format_args!("{} on {channels} channels", self.branches.len()),
        );
        for (index, branch) in self.branches.iter().enumerate() {
            problems.at(&format!("branches[{index}]"), |problems| {
                validate_dimensions("dimensions", branch.dimensions, channels, problems);
                problems.at("augment", |problems| {
                    branch.augment.validate(input, problems);
                });
            });
        }
    }
}

impl AugmentConfig {
    pub(super) fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        match self {
            Self::None => {}
            Self::CutMix { mix, .. } => {
                problems.at("cut-mix.mix", |problems| mix.validate(input, problems));
            }
            Self::Drop(drop) => {
                problems.nested("drop", drop);
            }
        }
    }
}
