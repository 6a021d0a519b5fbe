//! Attention: blocks that weigh channels or places.

mod squeeze_excitation;

pub use squeeze_excitation::{SqueezeExcitation, SqueezeExcitationConfig};
