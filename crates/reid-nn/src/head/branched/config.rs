//! What a branched head is made of, and what is done to its branches.

use burn::{config::Config, tensor::Device};
use reid_core::FeatureShape;
use serde::{Deserialize, Serialize};

use super::BranchedHead;
use crate::{
    HeadConfig, OutputShape,
    backbone::{ResidualBlockConfig, ResidualKind},
    batch_drop::BatchDrop,
    block::BlockConfig,
    cut_mix::CutMix,
    head::ReducedHeadConfig,
    pool::PoolConfig,
};

/// Configuration of [`BranchedHead`]: a global branch alone by default.
///
/// ```
/// use reid_core::FeatureShape;
/// use reid_nn::{HeadConfig, cut_mix::{CutMix, Donors}, head::{BranchConfig, BranchedHeadConfig}};
///
/// let place = FeatureShape::new(2048, 24, 8);
/// assert_eq!(BranchedHeadConfig::progressive_cut_mix().output(place, 751).embedding, 2048);
///
/// // The progressive chain with one branch, donors of the same identity, and 8 cells.
/// let mix = CutMix::new().with_cut(8).with_donors(Donors::Positive);
/// let config = BranchedHeadConfig::new().with_branches(vec![BranchConfig::cut_mix(1024, mix)]);
/// assert_eq!(config.output(place, 751).branches, [512, 1024]);
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

/// One of the branches that are disturbed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BranchConfig {
    /// Dimensions of its part of the descriptor.
    pub dimensions: usize,
    /// What is done to its features in training.
    pub interference: Interference,
}

/// What is done to the features of a branch in training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Interference {
    /// Cells where the branch before looked are those of another image.
    CutMix {
        /// Which cells, and whose.
        mix: CutMix,
        /// How it is found out where the branch before looked.
        guide: Guide,
    },
    /// A rectangle is dropped from the whole batch.
    Drop(BatchDrop),
}

/// How it is found out where a branch looked; both give the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guide {
    /// Grad-CAM written down, from what the branch computed anyway.
    #[default]
    ClosedForm,
    /// Grad-CAM by a second forward and backward pass of the branch, as in the authors' code.
    Autodiff,
}

impl BranchConfig {
    /// A branch whose features are mixed where the branch before it looked.
    #[must_use]
    pub fn cut_mix(dimensions: usize, mix: CutMix) -> Self {
        let guide = Guide::ClosedForm;
        let interference = Interference::CutMix { mix, guide };
        Self {
            dimensions,
            interference,
        }
    }

    /// A branch of which a rectangle is dropped.
    #[must_use]
    pub fn drop(dimensions: usize, drop: BatchDrop) -> Self {
        let interference = Interference::Drop(drop);
        Self {
            dimensions,
            interference,
        }
    }
}

impl BranchedHeadConfig {
    /// Progressive feature `CutMix` ("+ PC2"): two branches, 512 + 1024 + 512 dimensions as in the
    /// authors' code.
    #[must_use]
    pub fn progressive_cut_mix() -> Self {
        let branch = |dimensions| BranchConfig::cut_mix(dimensions, CutMix::new());
        Self::new().with_branches(vec![branch(1024), branch(512)])
    }

    /// Batch `DropBlock` ("BDB"): one branch of which a third is dropped, 512 + 1024 dimensions.
    #[must_use]
    pub fn batch_drop_block() -> Self {
        Self::new().with_branches(vec![BranchConfig::drop(1024, BatchDrop::new())])
    }

    /// The progressive head with two independent Batch `DropBlock`s instead ("BDB*3").
    #[must_use]
    pub fn batch_drop_block_3() -> Self {
        let branch = |dimensions| BranchConfig::drop(dimensions, BatchDrop::new());
        Self::new().with_branches(vec![branch(1024), branch(512)])
    }
}

impl HeadConfig for BranchedHeadConfig {
    type Head = BranchedHead;

    fn init(&self, input: FeatureShape, classes: usize, device: &Device) -> BranchedHead {
        for branch in &self.branches {
            branch.interference.check(input);
        }
        let channels = input.channels;
        let bottleneck = || {
            assert!(
                channels.is_multiple_of(4),
                "the extra bottleneck needs channels in multiples of 4, found {channels}"
            );
            let config = ResidualBlockConfig {
                kind: ResidualKind::Bottleneck,
                planes: channels / 4,
                hidden: channels / 4,
                groups: 1,
                stride: 1,
                inside: (),
            };
            config.init(input, device)
        };
        let reduced = |dimensions, pool| {
            let config = ReducedHeadConfig { dimensions, pool };
            config.init(input, classes, device)
        };
        let branches = self.branches.iter();
        BranchedHead {
            global: reduced(self.global, PoolConfig::Average),
            bottleneck: (!self.branches.is_empty()).then(bottleneck),
            branches: branches
                .clone()
                .map(|branch| reduced(branch.dimensions, PoolConfig::Max))
                .collect(),
            interferences: branches.map(|branch| branch.interference.clone()).collect(),
        }
    }

    fn output(&self, _input: FeatureShape, classes: usize) -> OutputShape {
        let branches = self.branches.iter();
        branches.fold(
            OutputShape::single(self.global, classes),
            |shape, branch| shape.beside(OutputShape::single(branch.dimensions, classes)),
        )
    }
}

impl Interference {
    fn check(&self, input: FeatureShape) {
        let map = [input.height, input.width];
        match self {
            Self::CutMix { mix, .. } => {
                let [rows, columns] = mix.cells.grid(map);
                assert!(
                    mix.cut <= rows * columns,
                    "cannot cut {} of {} cells on a map of {input}",
                    mix.cut,
                    rows * columns
                );
            }
            Self::Drop(drop) => {
                let _ = drop.rectangle(map);
            }
        }
    }
}
