//! Inference in windows: logits of an image that is larger than those of training.

use burn::tensor::{Tensor, activation::softmax, s};
use reid_core::{InputSize, Problems, Validate};
use serde::{Deserialize, Serialize};

/// Windows of one size that cover an image. The probabilities of a pixel are averaged over the windows that
/// contain it, as in semseg's test. The whole image at once needs no windows:
/// [`forward`](super::SegmentationModel::forward) takes any size.
///
/// Windows start at multiples of the stride; the last ones are moved back so that they end with the image. A
/// window is never larger than the image.
///
/// ```
/// use burn::tensor::{Device, Tensor, activation::softmax};
/// use reid_core::InputSize;
/// use reid_nn::segmentation::SlidingWindow;
///
/// let images = Tensor::<4>::ones([1, 3, 10, 12], &Device::default());
/// let windows = SlidingWindow { size: InputSize::new(6, 6), stride: 4 };
/// assert_eq!(windows.starts(12, 6), [0, 4, 6]);
/// // A model whose logits are the values of the image.
/// let found = windows.probabilities(&images, |window| window);
/// let difference = (found - softmax(images, 1)).abs().max();
/// assert!(difference.into_scalar::<f32>() < 1e-6);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlidingWindow {
    /// The size of the windows.
    pub size: InputSize,
    /// The distance between windows in pixels, from 1 to the shorter side of a window; two thirds of the side
    /// in semseg.
    pub stride: usize,
}

impl SlidingWindow {
    /// The first pixel of each window of `side` pixels along an axis of `length` pixels.
    ///
    /// # Panics
    /// If the stride is 0.
    #[must_use]
    pub fn starts(&self, length: usize, side: usize) -> Vec<usize> {
        let last = length.saturating_sub(side);
        let before = (0..last).step_by(self.stride);
        before.chain([last]).collect()
    }

    /// Computes the probabilities of classes at every pixel. `logits` is the model: it computes
    /// `[batch, classes, height, width]` from images of any size.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    /// - result: `[batch, classes, height, width]`
    ///
    /// # Panics
    /// If the stride is out of range.
    #[must_use]
    pub fn probabilities(
        &self,
        images: &Tensor<4>,
        logits: impl Fn(Tensor<4>) -> Tensor<4>,
    ) -> Tensor<4> {
        Problems::refuse("SlidingWindow", |problems| self.validate(problems));
        let [batch, _, height, width] = images.dims();
        let (rows, columns) = (self.size.height.min(height), self.size.width.min(width));
        let mut sums: Option<[Tensor<4>; 2]> = None;
        for top in self.starts(height, rows) {
            for left in self.starts(width, columns) {
                let area = s![.., .., top..top + rows, left..left + columns];
                let window = softmax(logits(images.clone().slice(area)), 1);
                let [_, classes, _, _] = window.dims();
                let options = (&window.device(), window.dtype());
                let zeros = |channels| Tensor::zeros([batch, channels, height, width], options);
                let [sum, count] = sums.unwrap_or_else(|| [zeros(classes), zeros(1)]);
                let one = count.clone().slice(area) + 1.0;
                let window = sum.clone().slice(area) + window;
                sums = Some([
                    sum.slice_assign(area, window),
                    count.slice_assign(area, one),
                ]);
            }
        }
        let [sum, count] = sums.expect("an image has at least 1 window");
        sum / count
    }
}

impl Validate for SlidingWindow {
    fn validate(&self, problems: &mut Problems) {
        problems.nested("size", &self.size);
        let side = self.size.height.min(self.size.width);
        problems.count("stride", self.stride, 1..=side);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::fixtures;

    #[test]
    fn windows_cover_an_axis_and_end_with_it() {
        let size = InputSize::new(5, 5);
        let window = SlidingWindow { size, stride: 3 };
        assert_eq!(window.starts(11, 5), [0, 3, 6]);
        assert_eq!(window.starts(12, 5), [0, 3, 6, 7]);
        assert_eq!(window.starts(5, 5), [0]);
        assert_eq!(window.starts(3, 3), [0]);
    }

    /// A model that adds the mean of its window, so windows differ.
    #[test]
    fn probabilities_are_averaged_over_windows() {
        let device = Device::default();
        let images = fixtures::tensor([2, 3, 4, 7], -1.0..1.0, &device);
        let size = InputSize::new(6, 4);
        let window = SlidingWindow { size, stride: 3 };
        let model = |images: Tensor<4>| {
            let mean = images.clone().mean_dim(3);
            images + mean
        };
        let found = window.probabilities(&images, model);
        let part = |from: usize| {
            softmax(
                model(images.clone().slice(s![.., .., .., from..from + 4])),
                1,
            )
        };
        let (one, other) = (part(0), part(3));
        let both = (one.clone().narrow(3, 3, 1) + other.clone().narrow(3, 0, 1)) / 2.0;
        let expected = vec![one.narrow(3, 0, 3), both, other.narrow(3, 1, 3)];
        let difference = (found - Tensor::cat(expected, 3)).abs().max();
        assert!(difference.into_scalar::<f32>() < 1e-6);
    }

    #[test]
    #[should_panic(expected = "SlidingWindow: stride: expected 1 to 4, found 5")]
    fn a_stride_beyond_the_window_panics() {
        let size = InputSize::new(4, 6);
        let images = Tensor::zeros([1, 3, 8, 8], &Device::default());
        let _ = SlidingWindow { size, stride: 5 }.probabilities(&images, |images| images);
    }
}
