//! Attention: blocks that weigh channels or places.
//!
//! Most are a [`Gate`]: they multiply features by numbers between 0 and 1, and give these numbers on
//! request. Chain gates with a tuple, stand them side by side with [`Parallel`], and let one take
//! maps of other sizes with [`Resized`].

use burn::tensor::Tensor;

use crate::block::Block;

mod cbam;
mod fully_connected;
mod node_attention;
mod non_local;
mod parallel;
mod resized;
mod rga;
mod squeeze_excitation;

pub use cbam::{Cbam, CbamChannel, CbamChannelConfig, CbamConfig, CbamSpatial, CbamSpatialConfig};
pub use fully_connected::{
    FullyConnectedChannel, FullyConnectedChannelConfig, FullyConnectedSpatial,
    FullyConnectedSpatialConfig,
};
pub use node_attention::{Embedding, NodeAttention, Terms};
pub use non_local::{NonLocal, NonLocalConfig, Similarity};
pub use parallel::{Fusion, Parallel, ParallelConfig};
pub use resized::{Resized, ResizedConfig};
pub use rga::{Relations, RgaChannel, RgaChannelConfig, RgaSpatial, RgaSpatialConfig};
pub use squeeze_excitation::{SqueezeExcitation, SqueezeExcitationConfig};

/// A block that multiplies features by numbers in `[0, 1]`, which it gives on request.
///
/// ```text
/// y = x ⊙ gate(x)        [batch, channels, height, width]
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::FeatureShape;
/// use reid_nn::{BlockConfig, attention::{Gate, RgaSpatialConfig}};
///
/// let device = Device::default();
/// let attention = RgaSpatialConfig::new().init(FeatureShape::new(16, 4, 2), &device);
/// let map = attention.gate(Tensor::ones([1, 16, 4, 2], &device)); // to draw over the image
/// assert_eq!(map.dims(), [1, 1, 4, 2]);
/// ```
pub trait Gate: Block {
    /// The numbers that features are multiplied by.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    /// - result: the same, or 1 where all channels or all places share a number
    fn gate(&self, features: Tensor<4>) -> Tensor<4>;
}
