//! Losses for re-identification.

mod any_pair;
mod center;
mod circle;
mod class_margin;
mod cluster_contrast;
mod cross_batch_memory;
mod distillation;
mod identity;
mod multi_similarity;
mod pairs;
mod supervised_contrastive;
mod triplet;
mod weighted;
mod weighted_triplet;

pub use any_pair::{AnyPairLoss, AnyPairLossConfig};
pub use center::{CenterLoss, CenterLossConfig};
pub use circle::{CircleLoss, CircleLossConfig};
pub use class_margin::{ArcFace, ArcFaceConfig, CosFace, CosFaceConfig};
pub use cluster_contrast::{CentroidUpdate, ClusterContrast, ClusterContrastConfig};
pub use cross_batch_memory::{CrossBatchMemory, CrossBatchMemoryConfig};
pub use distillation::{Distillation, DistillationConfig, DistillationObjective};
pub use identity::{IdentityLoss, IdentityLossConfig, Smoothing};
pub use multi_similarity::{MultiSimilarity, MultiSimilarityConfig};
pub use pairs::{PairLoss, PairLossConfig, Pairs};
pub use supervised_contrastive::{SupervisedContrastive, SupervisedContrastiveConfig};
pub use triplet::{Margin, Reduction, TripletLoss, TripletLossConfig, TripletMining};
pub use weighted::{Weighted, WeightedConfig};
pub use weighted_triplet::{WeightedRegularisedTriplet, WeightedRegularisedTripletConfig};

/// [`TripletLoss`], as it was named in 0.1.
pub type BatchHardTriplet = TripletLoss;

/// [`TripletLossConfig`], as it was named in 0.1.
pub type BatchHardTripletConfig = TripletLossConfig;

/// The largest weight or scale of a loss, and the largest margin. With a larger one, single precision could
/// not represent the other losses in the sum.
const MAX_WEIGHT: f64 = 1e6;

/// The smallest scale or temperature. The loss of a smaller one would exceed single precision.
const MIN_SCALE: f64 = 1e-6;
