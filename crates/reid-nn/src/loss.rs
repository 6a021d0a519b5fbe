//! Losses.

mod center;
mod identity;
mod triplet;
mod weighted;

pub use center::{CenterLoss, CenterLossConfig};
pub use identity::{IdentityLoss, IdentityLossConfig, Smoothing};
pub use triplet::{BatchHardTriplet, BatchHardTripletConfig, Margin, Reduction};
pub use weighted::{Weighted, WeightedConfig};
