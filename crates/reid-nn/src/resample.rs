//! Resampling of feature maps as a product with one matrix per axis: bilinear resizing and `RoIAlign`.
//!
//! ```text
//! y = A · x · Bᵀ        A: [rows out, rows], B: [columns out, columns]
//! ```
//!
//! The matrices are constant, so the gradient with respect to the feature map is exact on every backend.
//! Burn's own interpolation has no gradient on NdArray and on GPUs.

mod roi_align;

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

pub use roi_align::{RoiAlign, SamplingRatio};

/// Which points of two grids of different sizes coincide when a feature map is resized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alignment {
    /// The outer edges of the corner positions; PyTorch's `align_corners=False`. As in torchvision and mmseg.
    #[default]
    Edges,
    /// The centres of the corner positions; PyTorch's `align_corners=True`. As in semseg and OCNet.
    Corners,
}

/// Resizes feature maps bilinearly.
///
/// # Shapes
/// - `features`: `[batch, channels, height, width]`
/// - result: `[batch, channels, height', width']`, where `size` is `[height', width']`
///
/// # Panics
/// If a side of the features or of `size` is 0.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::resample::{self, Alignment};
///
/// let features = Tensor::<4>::from_data([[[[0.0, 1.0]]]], &Device::default());
/// let resized = resample::bilinear(features.clone(), [1, 4], Alignment::Edges);
/// assert_eq!(resized.into_data().try_to_vec::<f32>()?, [0.0, 0.25, 0.75, 1.0]);
/// let resized = resample::bilinear(features, [1, 3], Alignment::Corners);
/// assert_eq!(resized.into_data().try_to_vec::<f32>()?, [0.0, 0.5, 1.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn bilinear(features: Tensor<4>, size: [usize; 2], alignment: Alignment) -> Tensor<4> {
    let dims @ [_, _, rows, columns] = features.dims();
    let [height, width] = size;
    assert!(
        rows * columns * height * width > 0,
        "resizing needs sides of at least 1, found features {dims:?} and the size {size:?}"
    );
    if [rows, columns] == size {
        return features;
    }
    let down = TensorData::new(bilinear_weights(rows, height, alignment), [height, rows]);
    let across = TensorData::new(
        bilinear_weights(columns, width, alignment),
        [width, columns],
    );
    separable(features, down, across)
}

/// Multiplies each map by a matrix `[rows out, rows]` before it and the transpose of a matrix
/// `[columns out, columns]` after it.
fn separable(maps: Tensor<4>, down: TensorData, across: TensorData) -> Tensor<4> {
    let (device, dtype): (Device, _) = (maps.device(), maps.dtype());
    let matrix = |weights| Tensor::<2>::from_data(weights, (&device, dtype));
    let down = matrix(down).unsqueeze::<4>();
    let across = matrix(across).transpose().unsqueeze::<4>();
    down.matmul(maps).matmul(across)
}

/// Computes the weight of each of `from` inputs in each of `to` outputs, `[to, from]` in row-major order.
fn bilinear_weights(from: usize, to: usize, alignment: Alignment) -> Vec<f32> {
    let mut weights = vec![0.0; to * from];
    for (point, row) in weights.chunks_mut(from).enumerate() {
        let centre = match alignment {
            Alignment::Edges => ((point as f32 + 0.5) * from as f32 / to as f32 - 0.5).max(0.0),
            Alignment::Corners => {
                let scale = (from - 1) as f32 / (to - 1).max(1) as f32;
                point as f32 * scale
            }
        };
        let (whole, share) = (centre.floor(), centre.fract());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the number of points"
        )]
        let low = (whole as usize).min(from - 1);
        row[low] += 1.0 - share;
        row[(low + 1).min(from - 1)] += share;
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bilinear_weights_match_hand_computed_ones() {
        let edges = |from, to| bilinear_weights(from, to, Alignment::Edges);
        // Two points to four: centres at -0.25 (clamped to 0), 0.25, 0.75 and 1.25 (clamped to 1).
        let expected = [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]];
        assert_eq!(edges(2, 4), expected.concat());
        assert_eq!(edges(3, 3), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        let corners = |from, to| bilinear_weights(from, to, Alignment::Corners);
        // Two points to five: centres at 0, 1/4, 1/2, 3/4 and 1. A single output is the first point.
        let expected = [
            [1.0, 0.0],
            [0.75, 0.25],
            [0.5, 0.5],
            [0.25, 0.75],
            [0.0, 1.0],
        ];
        assert_eq!(corners(2, 5), expected.concat());
        assert_eq!(corners(3, 1), [1.0, 0.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "found features [1, 2, 3, 4] and the size [0, 5]")]
    fn a_size_of_0_panics() {
        let features = Tensor::zeros([1, 2, 3, 4], &Device::default());
        let _ = bilinear(features, [0, 5], Alignment::Edges);
    }
}
