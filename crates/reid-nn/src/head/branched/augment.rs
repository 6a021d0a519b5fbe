//! Feature augmentation: changes of the features of a branch in training.

use std::fmt;

use burn::tensor::{Bool, Tensor};

use super::{
    super::{Diagnostic, TrainingStep},
    AugmentConfig, CamSource,
    branches::BranchPass,
};
use crate::{batch_drop, cut_mix::Mixed, top_drop};

/// A change of the features of a branch in training. Those of the library are the variants of
/// [`AugmentConfig`]; a custom one is a type with one method:
///
/// ```
/// use std::sync::Arc;
///
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Head, HeadConfig, Init, TrainingStep};
/// use reid_nn::head::{AugmentContext, AugmentTrace, BranchedHeadConfig, FeatureAugment};
///
/// /// Removes the upper half of the feature map.
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
    /// Computes the features that the branch sees. The trace holds them and records what was changed.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    fn apply(&self, features: Tensor<4>, context: &AugmentContext<'_>) -> AugmentTrace;
}

/// The information that an augmentation may use besides its features.
#[derive(Debug)]
pub struct AugmentContext<'a> {
    pub(super) previous: Option<&'a BranchPass<'a>>,
    pub(super) step: TrainingStep<'a>,
}

impl AugmentContext<'_> {
    /// The labels and attributes of the batch, and the seed of this branch.
    #[must_use]
    pub const fn step(&self) -> TrainingStep<'_> {
        self.step
    }

    /// Computes the Grad-CAM of the previous branch, `[batch, height, width]`, on a plain device. It explains
    /// the logit of each image's label in terms of the features that the previous branch saw.
    ///
    /// # Panics
    /// If there is no previous branch.
    #[must_use]
    pub fn cam(&self, source: CamSource) -> Tensor<3> {
        let previous = self
            .previous
            .expect("the first branch has no previous branch: Grad-CAM needs a global branch");
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
            Self::DropTop(drop) => {
                let rows = drop.select(features.clone());
                AugmentTrace::DropTop {
                    features: top_drop::drop_rows(features, rows.clone()),
                    rows,
                }
            }
        }
    }
}

/// The record of what was changed in the features of a branch.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a training step has only a few of them, which are not stored"
)]
#[non_exhaustive]
pub enum AugmentTrace {
    /// Only the features are recorded: the trace of [`AugmentConfig::None`] and of custom augmentations.
    Features {
        /// The features that the branch sees, `[batch, channels, height, width]`.
        features: Tensor<4>,
    },
    /// Patches were replaced by those of a partner.
    CutMix {
        /// The Grad-CAM of the previous branch, `[batch, height, width]`, on a plain device.
        map: Tensor<3>,
        /// The mixed features, the cut positions and the partners.
        mixed: Mixed,
    },
    /// A rectangle was dropped.
    Drop {
        /// The features, with 0 in the rectangle, `[batch, channels, height, width]`.
        features: Tensor<4>,
        /// True inside the rectangle, `[height, width]`.
        inside: Tensor<2, Bool>,
    },
    /// The most active rows of each image were dropped.
    DropTop {
        /// The features, with 0 in these rows, `[batch, channels, height, width]`.
        features: Tensor<4>,
        /// True for each dropped row, `[batch, height]`, on a plain device.
        rows: Tensor<2, Bool>,
    },
}

impl AugmentTrace {
    /// The share of images with an empty CAM in the previous branch, if the augmentation is `CutMix`.
    ///
    /// All patches of an empty CAM have the same score, so the cut is decided by their index and not by the
    /// CAM.
    pub(super) fn diagnostic(&self, branch: usize) -> Option<Diagnostic> {
        match self {
            Self::CutMix { mixed, .. } => Some(Diagnostic {
                name: format!("empty CAM {branch}").into(),
                value: mixed.empty_cam.clone().float().mean(),
            }),
            Self::Features { .. } | Self::Drop { .. } | Self::DropTop { .. } => None,
        }
    }

    /// The features that the branch sees, `[batch, channels, height, width]`.
    #[must_use]
    pub fn features(&self) -> &Tensor<4> {
        match self {
            Self::CutMix { mixed, .. } => &mixed.features,
            Self::Features { features }
            | Self::Drop { features, .. }
            | Self::DropTop { features, .. } => features,
        }
    }
}
