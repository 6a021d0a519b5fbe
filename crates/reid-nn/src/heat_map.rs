//! Conversion of tensors to heat maps for visualisation.

use burn::tensor::Tensor;
use reid_core::HeatMap;

/// Copies maps from a device into one [`HeatMap`] per image.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::heat_map::heat_maps;
///
/// let maps = Tensor::<3>::from_data([[[0.0, 1.0]], [[2.0, 3.0]]], &Device::default());
/// assert_eq!(heat_maps(maps)[1].values(), [2.0, 3.0]);
/// ```
///
/// # Shapes
/// - `maps`: `[batch, height, width]`
///
/// # Panics
/// If a value is infinite or NaN.
#[must_use]
pub fn heat_maps(maps: Tensor<3>) -> Vec<HeatMap> {
    let [_, height, width] = maps.dims();
    let values: Vec<f32> = maps.into_data().convert::<f32>().iter::<f32>().collect();
    let map = |values: &[f32]| {
        HeatMap::new(height, width, values.to_vec())
            .unwrap_or_else(|error| panic!("cannot convert a map to a heat map: {error}"))
    };
    values.chunks(height * width).map(map).collect()
}
