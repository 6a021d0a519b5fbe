//! `RoIAlign`: the features of boxes at one size (He et al., Mask R-CNN, ICCV 2017, arXiv:1703.06870).

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::separable;

/// The largest number of samples per bin and axis. A box as large as any feature map needs fewer.
const MAX_SAMPLES: f64 = 65_536.0;

/// The number of points per bin and axis at which the feature map is sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SamplingRatio {
    /// One for each row or column of the feature map that a bin covers, rounded up; torchvision's
    /// `sampling_ratio=-1`.
    #[default]
    Adaptive,
    /// This number, from 1.
    Fixed(usize),
}

/// Computes the features of boxes at one size, with the values of torchvision's `roi_align`.
///
/// A box is divided into `size` bins. In each bin, the feature map is sampled at the centres of a regular
/// grid by bilinear interpolation, and the samples are averaged. A point within a position of the feature
/// map's edge has the value of the edge; a point further outside counts as 0. The weights of a point are
/// products of a weight of its row and a weight of its column, so the result is exactly
///
/// ```text
/// y = A · x · Bᵀ        [channels, rows of bins, columns of bins]
/// ```
///
/// with two matrices per box. They are constant, so the gradient with respect to the features is exact. Boxes
/// have no gradient, as in torchvision.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::resample::RoiAlign;
///
/// let device = Device::default();
/// let features = Tensor::<4>::from_data([[[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]], &device);
/// // The middle of the box is at row 0.5 and column 1.5 of the grid of positions.
/// let pooled = RoiAlign::new([1, 1]).forward(&features, &[vec![[1.0, 0.0, 3.0, 2.0]]]);
/// assert_eq!(pooled.dims(), [1, 1, 1, 1]);
/// assert_eq!(pooled.into_scalar::<f32>(), 3.0);
/// assert_eq!(RoiAlign::new([2, 3]).whole(features.clone()).to_data(), features.to_data());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RoiAlign {
    /// The rows and columns of bins, each at least 1.
    pub size: [usize; 2],
    /// The factor from the coordinates of boxes to positions of the feature map; 1/16 for boxes in pixels and
    /// an output stride of 16.
    pub scale: f64,
    /// The number of samples per bin and axis.
    pub sampling_ratio: SamplingRatio,
    /// Whether the point 0.5 of the boxes' coordinates is the centre of the first position. Without it, as in
    /// the first versions of `RoIAlign`, 0 is this centre, and boxes have sides of at least 1 position.
    pub aligned: bool,
}

impl RoiAlign {
    /// Aligned, with adaptive sampling and boxes in positions of the feature map.
    ///
    /// # Panics
    /// If a side of `size` is 0.
    #[must_use]
    pub const fn new(size: [usize; 2]) -> Self {
        assert!(
            size[0] > 0 && size[1] > 0,
            "RoIAlign needs at least 1 row and 1 column of bins"
        );
        Self {
            size,
            scale: 1.0,
            sampling_ratio: SamplingRatio::Adaptive,
            aligned: true,
        }
    }

    /// Sets the factor from the coordinates of boxes to positions of the feature map.
    #[must_use]
    pub const fn with_scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// Sets the number of samples per bin and axis.
    #[must_use]
    pub const fn with_sampling_ratio(mut self, sampling_ratio: SamplingRatio) -> Self {
        self.sampling_ratio = sampling_ratio;
        self
    }

    /// Sets whether the coordinates of boxes are [aligned](Self::aligned) with the centres of positions.
    #[must_use]
    pub const fn with_aligned(mut self, aligned: bool) -> Self {
        self.aligned = aligned;
        self
    }

    /// Computes the features of boxes.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    /// - `boxes`: for each image a list of `[left, top, right, bottom]`
    /// - result: `[boxes, channels, rows of bins, columns of bins]`, image by image
    ///
    /// # Panics
    /// - if there is not one list per image, or no box at all
    /// - if a box is not finite, or larger than 65,536 positions per bin
    /// - if there are 0 samples per bin
    #[must_use]
    pub fn forward(&self, features: &Tensor<4>, boxes: &[Vec<[f64; 4]>]) -> Tensor<4> {
        let [batch, channels, height, width] = features.dims();
        assert_eq!(
            boxes.len(),
            batch,
            "RoIAlign needs a list of boxes per image, found {} lists for {batch} images",
            boxes.len()
        );
        let [rows, columns] = self.size;
        let images = boxes.iter().enumerate();
        let pooled = images.filter(|(_, boxes)| !boxes.is_empty());
        let pooled = pooled.map(|(image, boxes)| {
            let count = boxes.len();
            let axis = |[low, high]: [usize; 2], length, bins| -> Vec<f64> {
                let boxes = boxes.iter();
                let weights = boxes.map(|of| self.axis([of[low], of[high]], length, bins));
                weights.collect::<Vec<_>>().concat()
            };
            let down = TensorData::new(axis([1, 3], height, rows), [1, count * rows, height]);
            let across = TensorData::new(axis([0, 2], width, columns), [1, count, columns, width]);
            let map = features.clone().narrow(0, image, 1).squeeze_dim::<3>(0);
            let options = (&map.device(), map.dtype());
            let (down, across) = (
                Tensor::<3>::from_data(down, options),
                Tensor::<4>::from_data(across, options),
            );
            let map = down.matmul(map).reshape([channels, count, rows, width]);
            map.matmul(across.transpose()).swap_dims(0, 1)
        });
        let pooled: Vec<_> = pooled.collect();
        assert!(!pooled.is_empty(), "RoIAlign needs at least 1 box, found 0");
        Tensor::cat(pooled, 0)
    }

    /// Computes the features of the box that covers the whole feature map of each image.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    /// - result: `[batch, channels, rows of bins, columns of bins]`
    #[must_use]
    pub fn whole(&self, features: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = features.dims();
        let [rows, columns] = self.size;
        let [down, across] = self.matrices([height, width]);
        let down = TensorData::new(down, [rows, height]);
        let across = TensorData::new(across, [columns, width]);
        separable(features, down, across)
    }

    /// The matrices A, `[rows of bins, height]`, and B, `[columns of bins, width]`, of
    /// [`whole`](Self::whole), in row-major order.
    ///
    /// ```
    /// use reid_nn::resample::RoiAlign;
    ///
    /// let [down, across] = RoiAlign::new([2, 1]).matrices([2, 4]);
    /// assert_eq!(down, [1.0, 0.0, 0.0, 1.0]);
    /// assert_eq!(across, [0.25; 4]);
    /// ```
    #[must_use]
    pub fn matrices(&self, [height, width]: [usize; 2]) -> [Vec<f64>; 2] {
        let [rows, columns] = self.size;
        [(height, rows), (width, columns)]
            .map(|(length, bins)| self.axis([0.0, length as f64 / self.scale], length, bins))
    }

    /// Computes the weight of each of `length` rows or columns of the feature map in each bin of a box,
    /// `[bins, length]` in row-major order.
    fn axis(&self, edges: [f64; 2], length: usize, bins: usize) -> Vec<f64> {
        let offset = if self.aligned { 0.5 } else { 0.0 };
        let [start, end] = edges.map(|edge| edge * self.scale - offset);
        let extent = if self.aligned {
            end - start
        } else {
            (end - start).max(1.0)
        };
        let bin = extent / bins as f64;
        let samples = match self.sampling_ratio {
            SamplingRatio::Adaptive => bin.ceil().max(0.0),
            SamplingRatio::Fixed(samples) => samples as f64,
        };
        assert!(
            self.sampling_ratio != SamplingRatio::Fixed(0),
            "RoIAlign needs at least 1 sample per bin, found 0"
        );
        assert!(
            start.is_finite() && bin.is_finite() && samples <= MAX_SAMPLES,
            "RoIAlign needs finite boxes and at most {MAX_SAMPLES} samples per bin, \
             found the edges {edges:?} and {samples} samples"
        );
        let mut weights = vec![0.0; bins * length];
        for (index, row) in weights.chunks_mut(length).enumerate() {
            let mut sample = 0.5;
            while sample < samples {
                let point = start + index as f64 * bin + sample * bin / samples;
                add_point(row, point, 1.0 / samples);
                sample += 1.0;
            }
        }
        weights
    }
}

/// Adds the weights of a point between two rows or columns, `share` in total.
fn add_point(weights: &mut [f64], point: f64, share: f64) {
    let last = weights.len() - 1;
    if !(-1.0..=weights.len() as f64).contains(&point) {
        return;
    }
    let point = point.clamp(0.0, last as f64);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to the last row or column"
    )]
    let low = point.floor() as usize;
    weights[low] += share * (1.0 - point.fract());
    weights[(low + 1).min(last)] += share * point.fract();
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn weights_of_an_axis_match_hand_computed_ones() {
        let align = RoiAlign::new([1, 1]);
        // From 0.5 to 2.5 in two bins of 1: one sample each, at 1 - 0.5 and 2 - 0.5.
        let expected = [0.5, 0.5, 0.0, 0.0, 0.5, 0.5];
        assert_eq!(align.axis([0.5, 2.5], 3, 2), expected);
        // Not aligned: samples at 1 and 2.
        let plain = align.with_aligned(false);
        let expected = [0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        assert_eq!(plain.axis([0.5, 2.5], 3, 2), expected);
        // A box of no extent has one sample if it is extended to 1, and none otherwise.
        assert_eq!(plain.axis([0.5, 0.5], 3, 1), [0.0, 1.0, 0.0]);
        assert_eq!(align.axis([0.5, 0.5], 3, 1), [0.0; 3]);
        // Samples at -1.25 (0), -0.75 and -0.25 (the first row), 0.25.
        let fixed = align.with_sampling_ratio(SamplingRatio::Fixed(4));
        assert_eq!(fixed.axis([-1.0, 1.0], 2, 1), [0.6875, 0.0625]);
    }

    #[test]
    #[should_panic(expected = "found 1 lists for 2 images")]
    fn a_missing_list_panics() {
        let features = Tensor::zeros([2, 1, 3, 3], &Device::default());
        let _ = RoiAlign::new([1, 1]).forward(&features, &[vec![[0.0, 0.0, 1.0, 1.0]]]);
    }

    #[test]
    #[should_panic(expected = "needs at least 1 sample per bin, found 0")]
    fn a_sampling_ratio_of_0_panics() {
        let align = RoiAlign::new([1, 1]).with_sampling_ratio(SamplingRatio::Fixed(0));
        let _ = align.whole(Tensor::zeros([1, 1, 3, 3], &Device::default()));
    }

    #[test]
    #[should_panic(expected = "needs finite boxes")]
    fn a_box_that_is_not_finite_panics() {
        let features = Tensor::zeros([1, 1, 3, 3], &Device::default());
        let _ = RoiAlign::new([1, 1]).forward(&features, &[vec![[0.0, 0.0, f64::NAN, 1.0]]]);
    }
}
