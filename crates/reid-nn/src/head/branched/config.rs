//! The configurations of Batch `DropBlock` and progressive feature `CutMix`, and of augmentations.

use burn::config::Config;
use reid_core::{FeatureShape, Problems};
use serde::{Deserialize, Serialize};

use super::{super::validate_dimensions, BranchedHead, BranchesConfig};
use crate::{
    HeadConfig, OutputShape, batch_drop::BatchDrop, cut_mix::CutMix, head::LinearBnReluHeadConfig,
    init::Init, pool::PoolConfig, top_drop::TopDrop,
};

/// Configuration of a [`BranchedHead`] whose branches are all a linear layer, batch norm and `ReLU`. By
/// default it has only a global branch.
///
/// ```
/// use reid_core::FeatureShape;
/// use reid_nn::{HeadConfig, cut_mix::{CutMix, MixPartner}, head::{BranchConfig, BranchedHeadConfig}};
///
/// let input = FeatureShape::new(2048, 24, 8);
/// assert_eq!(BranchedHeadConfig::progressive_cut_mix(2).output(input, 751).embedding, 2048);
///
/// // One branch after the global one. Its 8 cut patches come from an image of the same identity.
/// let mix = CutMix::new().with_cut(8).with_partner(MixPartner::Positive);
/// let config = BranchedHeadConfig::new().with_branches(vec![BranchConfig::cut_mix(1024, mix)]);
/// assert_eq!(config.output(input, 751).features, [512, 1024]);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct BranchedHeadConfig {
    /// Dimensions of the global branch, from 1 to [`MAX_DIMENSIONS`](crate::head::MAX_DIMENSIONS); 512 in both
    /// papers' code.
    #[config(default = 512)]
    pub global: usize,
    /// The branches after the global one, in order.
    #[config(default = "Vec::new()")]
    pub branches: Vec<BranchConfig>,
}

/// Configuration of a branch after the global one. [`BranchedHeadConfig`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BranchConfig {
    /// Dimensions of this branch's part of the embedding, from 1 to
    /// [`MAX_DIMENSIONS`](crate::head::MAX_DIMENSIONS).
    pub dimensions: usize,
    /// The augmentation of its features in training.
    pub augment: AugmentConfig,
}

/// A [`FeatureAugment`](super::FeatureAugment) of the library.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AugmentConfig {
    /// No augmentation.
    None,
    /// The patches with the highest Grad-CAM of the previous branch are replaced by those of another image.
    CutMix {
        /// The patches and the choice of the other image.
        mix: CutMix,
        /// How the Grad-CAM is computed.
        cam_source: CamSource,
    },
    /// One rectangle of the feature map is set to 0 in the whole batch.
    Drop(BatchDrop),
    /// The most active rows of each image's feature map are set to 0.
    DropTop(TopDrop),
}

/// How the Grad-CAM of a training pass is computed. Both ways give the same CAM up to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CamSource {
    /// In closed form, from values that the branch has computed in its forward pass. A head without a closed
    /// form uses autodiff.
    #[default]
    ClosedForm,
    /// By a second forward and backward pass, of only the branch. In the authors' code the backward pass goes
    /// through the whole network.
    Autodiff,
}

impl BranchConfig {
    /// Creates a branch with feature `CutMix` by the Grad-CAM of the previous branch, in closed form.
    #[must_use]
    pub fn cut_mix(dimensions: usize, mix: CutMix) -> Self {
        let cam_source = CamSource::ClosedForm;
        let augment = AugmentConfig::CutMix { mix, cam_source };
        Self {
            dimensions,
            augment,
        }
    }

    /// Creates a branch with Batch `DropBlock`.
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
    /// Progressive feature `CutMix` with `branches` branches after the global one. With 2 ("+ PC2") the
    /// embedding has 512 + 1024 + 512 dimensions, as in the authors' code.
    ///
    /// # Panics
    /// If `branches` is above 2: the dimensions of further branches are not published.
    #[must_use]
    pub fn progressive_cut_mix(branches: usize) -> Self {
        Self::published(branches, |dimensions| {
            BranchConfig::cut_mix(dimensions, CutMix::new())
        })
    }

    /// Batch `DropBlock` with `branches` branches after the global one, each with its own rectangles. The
    /// embedding has 512 + 1024 dimensions with 1 ("BDB"), and 512 more with 2 ("BDB*3").
    ///
    /// # Panics
    /// If `branches` is above 2: the dimensions of further branches are not published.
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
    /// Returns the same head as a composition of branches, in which heads and augmentations can be replaced.
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
            "none, or feature maps whose number of channels is a multiple of 4",
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
            Self::DropTop(drop) => {
                problems.nested("drop-top", drop);
            }
        }
    }
}
