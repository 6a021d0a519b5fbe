//! Further non-local and channel attention: the two blocks of FNC (Liu et al., Vehicle
//! Re-Identification based on further non-local and channel attention, AI City 2020, §3.2 and 3.3).

use serde::{Deserialize, Serialize};

mod channel;
mod spatial;

pub use channel::{ChannelGate, FncChannel, FncChannelConfig};
pub use spatial::{FncSpatial, FncSpatialConfig};

use burn::tensor::Tensor;

use super::sigmoid;

/// How the attention is combined with the features (Table 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// `y = σ(a) ⊙ x`, as in the paper's method.
    #[default]
    Multiply,
    /// `y = a + x`, as in a non-local block.
    Add,
}

impl Combine {
    fn apply(self, attention: Tensor<4>, features: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Multiply => sigmoid(attention) * features,
            Self::Add => attention + features,
        }
    }
}
