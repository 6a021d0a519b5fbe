//! Losses.

mod center;
mod identity;
mod triplet;
mod weighted;

pub use center::{CenterLoss, CenterLossConfig};
pub use identity::{IdentityLoss, IdentityLossConfig, Smoothing};
pub use triplet::{BatchHardTriplet, BatchHardTripletConfig, Margin, Reduction};
pub use weighted::{Weighted, WeightedConfig};

/// The largest weight of a loss, and the largest margin: beyond that, single precision has nothing left for
/// the other losses.
const HEAVIEST: f64 = 1e6;
