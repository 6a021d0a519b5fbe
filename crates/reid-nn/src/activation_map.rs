//! Activation maps: the strength of a feature map at each position (Zagoruyko and Komodakis, ICLR 2017,
//! arXiv:1612.03928).

use burn::tensor::Tensor;
use reid_core::HeatMap;

use crate::heat_map::heat_maps;

/// Computes the mean square over channels at each position, independently of any class or loss.
///
/// ```text
/// m = mean_c(x²)        [height, width], one per image
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::activation_map::activation_maps;
///
/// let features = Tensor::<4>::from_data([[[[1.0, 2.0]], [[3.0, 0.0]]]], &Device::default());
/// let maps = activation_maps(features); // (1 + 9)/2 and (4 + 0)/2
/// assert_eq!(maps[0].values(), [5.0, 2.0]);
/// ```
///
/// # Shapes
/// - `features`: `[batch, channels, height, width]`
///
/// # Panics
/// If a feature is infinite or NaN.
#[must_use]
pub fn activation_maps(features: Tensor<4>) -> Vec<HeatMap> {
    heat_maps(features.square().mean_dim(1).squeeze_dim(1))
}
