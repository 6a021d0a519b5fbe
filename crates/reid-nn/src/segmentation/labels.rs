//! Label maps: the class of every pixel of a batch.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// The class of every pixel of a batch of images. A value of [`IGNORED`](Self::IGNORED) marks pixels without
/// a class.
///
/// ```
/// use burn::tensor::Device;
/// use reid_nn::segmentation::LabelMaps;
///
/// let labels = LabelMaps::new(vec![0, 1, 255, 1], [1, 2, 2], &Device::default());
/// assert_eq!(labels.maps.dims(), [1, 2, 2]);
/// assert_eq!(labels.largest(), Some(1));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LabelMaps {
    /// The label of each pixel, `[batch, height, width]`.
    pub maps: Tensor<3, Int>,
    largest: Option<u8>,
}

impl LabelMaps {
    /// The label of pixels that no loss and no metric counts: 255, as in Cityscapes and PASCAL VOC.
    pub const IGNORED: u8 = 255;

    /// Copies label maps to a device. `labels` has the pixels of all images, row by row, and `shape` is
    /// `[batch, height, width]`.
    ///
    /// # Panics
    /// If the number of labels is not the product of `shape`.
    #[must_use]
    pub fn new(labels: Vec<u8>, shape: [usize; 3], device: &Device) -> Self {
        let count: usize = shape.iter().product();
        assert_eq!(
            labels.len(),
            count,
            "label maps of shape {shape:?} need {count} labels, found {}",
            labels.len()
        );
        let known = labels.iter().filter(|label| **label != Self::IGNORED);
        let largest = known.max().copied();
        let labels: Vec<i32> = labels.into_iter().map(i32::from).collect();
        Self {
            maps: Tensor::from_data(TensorData::new(labels, shape), device),
            largest,
        }
    }

    /// The largest label that is not ignored; `None` if all are.
    #[must_use]
    pub const fn largest(&self) -> Option<u8> {
        self.largest
    }

    /// Panics if a label is neither ignored nor below the number of classes.
    pub(super) fn check_classes(&self, classes: usize) {
        if let Some(largest) = self.largest {
            assert!(
                usize::from(largest) < classes,
                "label {largest} is neither below the {classes} classes of the logits nor {}, \
                 which is ignored",
                Self::IGNORED
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "shape [1, 2, 2] need 4 labels, found 3")]
    fn a_missing_label_panics() {
        let _ = LabelMaps::new(vec![0; 3], [1, 2, 2], &Device::default());
    }
}
