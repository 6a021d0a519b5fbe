//! Resampling of feature maps in the graph: bilinear resizing, and pooling to a fixed size as a product with one
//! constant matrix per axis.

use reid_nn::resample::{Alignment, RoiAlign};

use crate::{
    graph::{Scope, Value},
    proto::Attribute,
};

impl Scope<'_> {
    /// Adds bilinear resizing to `[height, width]`, as [`bilinear`](reid_nn::resample::bilinear) computes it.
    /// Features of this size are returned as they are.
    ///
    /// It is the operator `Resize`, whose coordinate transformation is `half_pixel` for aligned edges and
    /// `align_corners` for aligned corners.
    ///
    /// # Panics
    /// If a side of the features or of the size is 0.
    pub fn resize(
        &mut self,
        features: &Value<3>,
        size @ [height, width]: [usize; 2],
        alignment: Alignment,
    ) -> Value<3> {
        let [channels, rows, columns] = features.dims;
        assert!(
            rows * columns * height * width > 0,
            "resizing needs sides of at least 1, found features {:?} and the size {size:?}",
            features.dims
        );
        if [rows, columns] == size {
            return features.clone();
        }
        let scales = self.scales([scale(rows, height), scale(columns, width)]);
        let transformation = match alignment {
            Alignment::Edges => "half_pixel",
            Alignment::Corners => "align_corners",
        };
        let attributes = vec![
            Attribute::string("mode", "linear"),
            Attribute::string("coordinate_transformation_mode", transformation),
        ];
        // The second input is a region of interest, which other transformations use.
        let inputs = vec![features.name.clone(), String::new(), scales];
        self.node("Resize", inputs, attributes, [channels, height, width])
    }

    /// Adds the means over a grid of windows of whole positions, which cover the feature map:
    /// `[channels, rows, columns]` for a size of `[rows, columns]`, as PyTorch's `adaptive_avg_pool2d`.
    ///
    /// # Panics
    /// If a side of the size is 0, or another pooling of this scope has other constants.
    pub fn adaptive_avg_pool(
        &mut self,
        features: &Value<3>,
        size @ [rows, columns]: [usize; 2],
    ) -> Value<3> {
        let [_, height, width] = features.dims;
        if size == [1, 1] {
            return self.global_avg_pool(features);
        }
        let weights = [means(height, rows), means(width, columns)];
        self.between_matrices(features, &weights, size)
    }

    /// Adds [`RoiAlign`] of the whole feature map, `[channels, rows of bins, columns of bins]`.
    ///
    /// # Panics
    /// As [`RoiAlign::whole`], and if another pooling of this scope has other constants.
    pub fn roi_align(&mut self, features: &Value<3>, align: &RoiAlign) -> Value<3> {
        let [_, height, width] = features.dims;
        let weights = align.matrices([height, width]);
        let weights = weights.map(|weights| weights.into_iter().map(narrowed).collect());
        self.between_matrices(features, &weights, align.size)
    }

    /// Adds `A · x · Bᵀ` of each channel's map x. A, `[rows, height]`, and B, `[columns, width]`, are constants
    /// in row-major order.
    fn between_matrices(
        &mut self,
        features: &Value<3>,
        [down, across]: &[Vec<f32>; 2],
        [rows, columns]: [usize; 2],
    ) -> Value<3> {
        let [channels, height, width] = features.dims;
        let left = self.matrix("left", [rows, height], down);
        let right = self.matrix("right", [width, columns], &transposed(across, width));
        let inputs = vec![left, features.name.clone()];
        let down = self.node("MatMul", inputs, Vec::new(), [channels, rows, width]);
        let dims = [channels, rows, columns];
        self.node("MatMul", vec![down.name, right], Vec::new(), dims)
    }
}

/// The smallest scale by which a runtime computes the size `to`, which is `from · scale` rounded down. It is
/// the quotient, rounded up to single precision.
fn scale(from: usize, to: usize) -> f32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "ONNX stores it in single precision"
    )]
    let scale = (to as f64 / from as f64) as f32;
    // The product is exact.
    if f64::from(scale) * (from as f64) < to as f64 {
        scale.next_up()
    } else {
        scale
    }
}

/// The weight of each of `from` positions in each of `to` means, `[to, from]`. The windows of the means may
/// overlap.
fn means(from: usize, to: usize) -> Vec<f32> {
    let mut weights = vec![0.0; to * from];
    for (index, row) in weights.chunks_mut(from).enumerate() {
        let window = index * from / to..((index + 1) * from).div_ceil(to);
        let weight = 1.0 / window.len() as f32;
        row[window].fill(weight);
    }
    weights
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "ONNX stores it in single precision"
)]
fn narrowed(weight: f64) -> f32 {
    weight as f32
}

/// The transpose of a matrix in row-major order.
fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    let column = |column: usize| matrix.iter().skip(column).step_by(columns).copied();
    (0..columns).flat_map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_gives_the_size_in_single_and_in_double_precision() {
        for from in 1..200 {
            for to in 1..400 {
                let scale = scale(from, to);
                let single = (from as f32 * scale).floor();
                let double = (from as f64 * f64::from(scale)).floor();
                for found in [f64::from(single), double] {
                    let difference = (found - to as f64).abs();
                    assert!(difference < 0.5, "{from} to {to}: {scale} gives {found}");
                }
                assert!(f64::from(scale) * (from as f64) < to as f64 * (1.0 + 1e-6));
            }
        }
    }

    #[test]
    fn windows_cover_all_positions() {
        // Five positions in two windows of three: 0 to 2 and 2 to 4.
        let third = 1.0 / 3.0;
        let expected = [
            [third, third, third, 0.0, 0.0],
            [0.0, 0.0, third, third, third],
        ];
        assert_eq!(means(5, 2), expected.concat());
        assert_eq!(means(1, 2), [1.0, 1.0]);
    }
}
