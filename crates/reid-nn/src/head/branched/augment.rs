//! Feature augmentation: what happens to the features of a branch in training.

use std::fmt;

use burn::tensor::{Bool, Tensor};

use super::{
    super::{Diagnostic, TrainingStep},
    AugmentConfig, CamSource,
    branches::BranchPass,
};
use crate::{batch_drop, cut_mix::Mixed};

/// What happens to the features of a branch in training. [`AugmentConfig`] is those of the library; one's own is
/// a type with one method:
///
/// ```
/// use std::sync::Arc;
///
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Head, HeadConfig, Init, TrainingStep};
/// use reid_nn::head::{AugmentContext, AugmentTrace, BranchedHeadConfig, FeatureAugment};
///
/// /// Leaves out the upper half.
/// #[derive(Debug)]
/// struct LowerHalf;
///
/// impl FeatureAugment for LowerHalf {
///     fn apply(&self, features: Tensor<4>, _context: &AugmentContext<'_>) -> AugmentTrace {
///         let height = features.dims()[2];
///         let features = features.narrow(2, height / 2, height - height / 2);
///         AugmentTrace::Features { features }
///     }
/// }
///
/// let device = Device::default();
/// let config = BranchedHeadConfig::batch_drop_block(1);
/// let head = config.init(FeatureShape::new(16, 12, 4), 10, &Init::new(Seed::new(1), &device));
/// let head = head.with_augments(vec![Arc::new(LowerHalf)]);
/// let step = TrainingStep::new(&[3, 7], Seed::new(1));
/// let output = head.forward_train(Tensor::ones([2, 16, 12, 4], &device), step);
/// assert_eq!(output.embedding.dims(), [2, 1536]);
/// ```
pub trait FeatureAugment: fmt::Debug + Send + Sync {
    /// The features that the branch is given, and how they came about.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    fn apply(&self, features: Tensor<4>, context: &AugmentContext<'_>) -> AugmentTrace;
}

/// What an augmentation may look at besides its features.
#[derive(Debug)]
pub struct AugmentContext<'a> {
    pub(super) previous: Option<&'a BranchPass<'a>>,
    pub(super) step: TrainingStep<'a>,
}

impl AugmentContext<'_> {
    /// Labels, attributes and the seed of this branch.
    #[must_use]
    pub const fn step(&self) -> TrainingStep<'_> {
        self.step
    }

    /// Computes Grad-CAM of the branch before this one: of the score of each image's label, on the features that
    /// branch was given. `[batch, height, width]`, on a plain device.
    ///
    /// # Panics
    /// If there is no branch before this one.
    #[must_use]
    pub fn cam(&self, source: CamSource) -> Tensor<3> {
        let previous = self
            .previous
            .expect("the first branch has no branch before it: Grad-CAM needs a global branch");
        previous.cam(source, self.step)
    }
}

impl FeatureAugment for AugmentConfig {
    fn apply(&self, features: Tensor<4>, context: &AugmentContext<'_>) -> AugmentTrace {
        match self {
            Self::None => AugmentTrace::Features { features },
            Self::CutMix { mix, cam_source } => {
                let map = context.cam(*cam_source);
                let mixed = mix.apply(features, map.clone(), context.step());
                AugmentTrace::CutMix { map, mixed }
            }
            Self::Drop(drop) => {
                let [_, _, height, width] = features.dims();
                let mut stream = context.step().seed.named("drop").stream();
                let inside = drop.draw([height, width], &mut stream, &features.device());
                AugmentTrace::Drop {
                    features: batch_drop::drop_inside(features, inside.clone()),
                    inside,
                }
            }
        }
    }
}

/// What was done to the features of a branch.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a few in a step, which are read and dropped"
)]
#[non_exhaustive]
pub enum AugmentTrace {
    /// Nothing more is known than what the branch was given: there is no augmentation, or one's own.
    Features {
        /// What the branch was given, `[batch, channels, height, width]`.
        features: Tensor<4>,
    },
    /// Cells were cut and mixed.
    CutMix {
        /// Where the branch before looked, `[batch, height, width]`, without autodiff.
        map: Tensor<3>,
        /// The result.
        mixed: Mixed,
    },
    /// A rectangle was dropped.
    Drop {
        /// What was left, `[batch, channels, height, width]`.
        features: Tensor<4>,
        /// The rectangle, `[height, width]`.
        inside: Tensor<2, Bool>,
    },
}

impl AugmentTrace {
    /// The share of images whose Grad-CAM in the branch before is empty (all zero), so that no cell stands
    /// out. Reported if cells were cut: with many empty maps the cut follows position, not the Grad-CAM.
    pub(super) fn diagnostic(&self, branch: usize) -> Option<Diagnostic> {
        match self {
            Self::CutMix { mixed, .. } => Some(Diagnostic {
                name: format!("silent {branch}").into(),
                value: mixed.empty_cam.clone().float().mean(),
            }),
            Self::Features { .. } | Self::Drop { .. } => None,
        }
    }

    /// What the branch was given, `[batch, channels, height, width]`.
    #[must_use]
    pub fn features(&self) -> &Tensor<4> {
        match self {
            Self::CutMix { mixed, .. } => &mixed.features,
            Self::Features { features } | Self::Drop { features, .. } => features,
        }
    }
}
