//! Top `DropBlock`: the most active rows of each feature map are dropped (Quispe and Pedrini, Top-DB-Net,
//! ICPR 2020, arXiv:2010.05435), as in `LightMBN` (Herzog et al., ICIP 2021, arXiv:2101.10774).

use burn::{
    config::Config,
    tensor::{Bool, Tensor},
};
use reid_core::{Problems, Validate};
use reid_ops::mul_gate;

use crate::{cut_mix::Patches, precision::widened};

/// Sets the most active rows of each image's feature map to 0.
///
/// ```text
/// k = round(0.33·H)
/// a(r) = max_w Σ_c x(c, r, w)²      the activation of row r
/// y = 0 in the k rows with the largest a, x elsewhere
/// ```
///
/// Rows are chosen per image. Of rows with equal activations, the upper one is dropped first. Nothing is
/// random.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::top_drop::TopDrop;
///
/// let features = Tensor::<4>::from_data([[[[1.0], [-3.0], [2.0]]]], &Device::default());
/// let dropped = TopDrop::new().apply(features); // 1 of 3 rows
/// assert_eq!(dropped.into_data().iter::<f32>().collect::<Vec<_>>(), [1.0, 0.0, 2.0]);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct TopDrop {
    /// The share of the rows that is dropped, from 0 to 1; 0.33 in the authors' code.
    #[config(default = 0.33)]
    pub height: f64,
}

impl TopDrop {
    /// The number of rows that are dropped of a feature map with `height` rows, rounded as by Python's
    /// `round`: ties to even.
    ///
    /// # Panics
    /// If the share is outside 0 to 1.
    #[must_use]
    pub fn rows(&self, height: usize) -> usize {
        Problems::refuse("top drop", |problems| self.validate(problems));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the product is between 0 and the number of rows"
        )]
        let rows = (self.height * height as f64).round_ties_even() as usize;
        rows
    }

    /// Marks the rows that are dropped, on a plain device.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    /// - result: `[batch, height]`
    ///
    /// # Panics
    /// If the share is outside 0 to 1.
    #[must_use]
    pub fn select(&self, features: Tensor<4>) -> Tensor<2, Bool> {
        let [batch, _, height, _] = features.dims();
        let activation = widened(features.without_autodiff()).square().sum_dim(1);
        let rows = activation.max_dim(3).reshape([batch, height, 1]);
        let row = Patches {
            height: 1,
            width: 1,
        };
        let dropped = row.top_k(rows, self.rows(height));
        dropped.reshape([batch, height])
    }

    /// Sets the selected rows to 0.
    ///
    /// # Shapes
    /// - `features` and result: `[batch, channels, height, width]`
    ///
    /// # Panics
    /// If the share is outside 0 to 1.
    #[must_use]
    pub fn apply(&self, features: Tensor<4>) -> Tensor<4> {
        let rows = self.select(features.clone());
        drop_rows(features, rows)
    }
}

/// Sets the rows to 0 where `rows`, `[batch, height]`, is true, in every channel.
pub(crate) fn drop_rows(features: Tensor<4>, rows: Tensor<2, Bool>) -> Tensor<4> {
    let [batch, _, height, width] = features.dims();
    let kept = rows.bool_not().float().cast(features.dtype());
    let kept = kept.reshape([batch, 1, height, 1]);
    let kept = kept.expand([batch, 1, height, width]);
    // A constant: no gradient flows through the selection.
    let kept = if features.device().is_autodiff() {
        kept.autodiff()
    } else {
        kept
    };
    mul_gate(features, kept)
}

impl Validate for TopDrop {
    fn validate(&self, problems: &mut Problems) {
        problems.number("height", self.height, 0.0..=1.0);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;

    /// The indices of the dropped rows of each image.
    fn dropped(drop: &TopDrop, features: Tensor<4>) -> Vec<Vec<usize>> {
        let [_, _, height, _] = features.dims();
        let rows = drop.select(features).into_data();
        let rows: Vec<bool> = rows.iter::<bool>().collect();
        let image = |rows: &[bool]| (0..height).filter(|&row| rows[row]).collect();
        rows.chunks(height).map(image).collect()
    }

    #[test]
    fn the_number_of_rows_is_rounded_as_in_python() {
        assert_eq!(TopDrop::new().rows(24), 8); // 7.92
        let half = TopDrop::new().with_height(0.5);
        assert_eq!([half.rows(5), half.rows(7), half.rows(1)], [2, 4, 0]); // 2.5, 3.5, 0.5
    }

    /// Two channels, three rows and two columns. `Σ_c x²` is, by row:
    /// image 0: (1 + 4, 0), (9, 0), (4, 4) with maxima 5, 9, 4;
    /// image 1: (0, 1), (2, 0), (0, 16) with maxima 1, 2, 16.
    #[test]
    fn each_image_loses_its_own_most_active_rows() {
        let device = Device::default();
        let features = Tensor::<4>::from_data(
            [
                [
                    [[1.0, 0.0], [-3.0, 0.0], [0.0, 2.0]],
                    [[2.0, 0.0], [0.0, 0.0], [2.0, 0.0]],
                ],
                [
                    [[0.0, 0.0], [1.0, 0.0], [0.0, -4.0]],
                    [[0.0, 1.0], [-1.0, 0.0], [0.0, 0.0]],
                ],
            ],
            &device,
        );
        let drop = |share: f64| TopDrop::new().with_height(share);
        assert_eq!(dropped(&drop(0.33), features.clone()), [[1], [2]]);
        assert_eq!(dropped(&drop(0.67), features.clone()), [[0, 1], [1, 2]]);
        assert_eq!(dropped(&drop(0.0), features.clone()), [[0_usize; 0]; 2]);
        assert_eq!(
            drop(0.0).apply(features.clone()).to_data(),
            features.to_data()
        );
        let kept = drop(0.33).apply(features.clone()).into_data();
        let mut expected = features.into_data().iter::<f32>().collect::<Vec<_>>();
        for (row, value) in expected.chunks_mut(2).enumerate() {
            // Rows 1 and 4 are row 1 of both channels of image 0; rows 8 and 11 are row 2 of image 1.
            if [1, 4, 8, 11].contains(&row) {
                value.fill(0.0);
            }
        }
        assert_eq!(kept.iter::<f32>().collect::<Vec<_>>(), expected);
        let none = drop(1.0).apply(Tensor::<4>::ones([2, 2, 3, 2], &device));
        assert!(none.max().into_scalar::<f32>() <= 0.0);
    }

    #[test]
    fn of_equal_rows_the_upper_ones_are_dropped() {
        let drop = TopDrop::new().with_height(0.5);
        let features = Tensor::<4>::ones([1, 2, 4, 2], &Device::default());
        assert_eq!(dropped(&drop, features), [[0, 1]]);
    }

    /// The squares of half precision exceed its range.
    #[test]
    fn activations_are_compared_in_single_precision() {
        let device = Device::default();
        if !device.supports_dtype(DType::F16) {
            return;
        }
        let features = Tensor::<4>::from_data([[[[300.0], [400.0], [1.0]]]], &device);
        let features = features.cast(DType::F16);
        assert_eq!(dropped(&TopDrop::new(), features), [[1]]);
    }

    #[test]
    fn only_kept_rows_have_a_gradient() {
        let device = Device::default().autodiff();
        let features = Tensor::<4>::from_data([[[[1.0], [3.0], [2.0]]]], &device).require_grad();
        let gradients = TopDrop::new().apply(features.clone()).sum().backward();
        let gradient = features.grad(&gradients).expect("a gradient").into_data();
        assert_eq!(gradient.iter::<f32>().collect::<Vec<_>>(), [1.0, 0.0, 1.0]);
    }

    #[test]
    #[should_panic(expected = "top drop: height: expected 0 to 1, found 1.5")]
    fn a_share_above_1_is_refused() {
        let _ = TopDrop::new().with_height(1.5).rows(4);
    }
}
