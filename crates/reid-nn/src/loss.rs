//! Losses for re-identification.

mod center;
mod identity;
mod triplet;
mod weighted;

pub use center::{CenterLoss, CenterLossConfig};
pub use identity::{IdentityLoss, IdentityLossConfig, Smoothing};
pub use triplet::{BatchHardTriplet, BatchHardTripletConfig, Margin, Reduction};
pub use weighted::{Weighted, WeightedConfig};

/// The largest weight of a loss, and the largest margin. With a larger one, single precision could not
/// represent the other losses in the sum.
const MAX_WEIGHT: f64 = 1e6;
