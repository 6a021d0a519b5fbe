//! Batch `DropBlock`: one rectangle of the feature map is dropped for a whole batch (Dai et al., Batch
//! `DropBlock` Network, ICCV 2019, arXiv:1811.07130).

use burn::{
    config::Config,
    tensor::{Bool, Device, Tensor},
};
use rand::RngExt;
use reid_core::{Problems, Stream, Validate};
use reid_ops::mul_gate;

/// Sets one rectangle of the feature map to 0, the same in every image and channel of a batch.
///
/// ```text
/// h = round(0.33·H),  w = round(1.0·W),  every position inside the map is equally likely
/// y = 0 in the rectangle, x elsewhere
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::Seed;
/// use reid_nn::batch_drop::BatchDrop;
///
/// let features = Tensor::<4>::ones([2, 3, 24, 8], &Device::default());
/// let dropped = BatchDrop::new().apply(features, &mut Seed::new(1).stream());
/// // 8 of 24 rows are dropped in full: a third of all values.
/// assert_eq!(dropped.mean().into_scalar::<f32>(), 2.0 / 3.0);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct BatchDrop {
    /// The height of the rectangle as a share of the rows, from 0 to 1; 0.33 for people in the authors' code.
    #[config(default = 0.33)]
    pub height: f64,
    /// The width of the rectangle as a share of the columns, from 0 to 1.
    #[config(default = 1.0)]
    pub width: f64,
}

impl BatchDrop {
    /// The height and width of the rectangle on a feature map, rounded as by Python's `round`: ties to even.
    ///
    /// # Panics
    /// If a share is outside 0 to 1.
    #[must_use]
    pub fn rectangle(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        Problems::refuse("batch drop", |problems| self.validate(problems));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the product is between 0 and the side of the map"
        )]
        let side = |share: f64, whole: usize| (share * whole as f64).round_ties_even() as usize;
        [side(self.height, height), side(self.width, width)]
    }

    /// Draws a rectangle. Returns a mask that is true where features are dropped, `[height, width]`.
    ///
    /// # Panics
    /// If a share is outside 0 to 1.
    #[must_use]
    pub fn draw(
        &self,
        [height, width]: [usize; 2],
        stream: &mut Stream,
        device: &Device,
    ) -> Tensor<2, Bool> {
        let [tall, wide] = self.rectangle([height, width]);
        let top = stream.random_range(0..=height - tall);
        let left = stream.random_range(0..=width - wide);
        let mut inside = vec![false; height * width];
        for row in inside.chunks_mut(width).skip(top).take(tall) {
            row[left..left + wide].fill(true);
        }
        let inside: Tensor<1, Bool> = Tensor::from_data(inside.as_slice(), device);
        inside.reshape([height, width])
    }

    /// Draws a rectangle, and sets the features inside it to 0.
    ///
    /// # Shapes
    /// - `features` and result: `[batch, channels, height, width]`
    ///
    /// # Panics
    /// If a share is outside 0 to 1.
    #[must_use]
    pub fn apply(&self, features: Tensor<4>, stream: &mut Stream) -> Tensor<4> {
        let [_, _, height, width] = features.dims();
        let inside = self.draw([height, width], stream, &features.device());
        drop_inside(features, inside)
    }
}

/// Sets the features to 0 where `inside` is true, in every image and channel.
pub(crate) fn drop_inside(features: Tensor<4>, inside: Tensor<2, Bool>) -> Tensor<4> {
    let [batch, _, height, width] = features.dims();
    let kept = inside.bool_not().float().cast(features.dtype());
    mul_gate(
        features,
        kept.unsqueeze::<4>().expand([batch, 1, height, width]),
    )
}

impl Validate for BatchDrop {
    fn validate(&self, problems: &mut Problems) {
        problems.number("height", self.height, 0.0..=1.0);
        problems.number("width", self.width, 0.0..=1.0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use reid_core::Seed;

    use super::*;

    #[test]
    fn sides_are_rounded_as_in_python() {
        let drop = BatchDrop::new();
        assert_eq!(drop.rectangle([24, 8]), [8, 8]); // 7.92
        let half = drop.with_height(0.5).with_width(0.25);
        assert_eq!(half.rectangle([5, 6]), [2, 2]); // 2.5 and 1.5, rounded to even
    }

    #[test]
    fn one_rectangle_is_dropped_in_every_image_and_every_position_occurs() {
        let device = Device::default();
        let drop = BatchDrop::new().with_height(0.5).with_width(0.5);
        let mut corners = BTreeSet::new();
        for seed in 0..200 {
            let features = Tensor::<4>::ones([2, 2, 4, 4], &device);
            let dropped = drop
                .apply(features, &mut Seed::new(seed).stream())
                .into_data();
            let values = dropped.try_to_vec::<f32>().expect("f32");
            let mut maps = values.chunks(16);
            let first = maps.next().expect("a map").to_vec();
            assert!(maps.all(|map| map == first));
            let zeros = first.iter().enumerate().filter(|&(_, &value)| value == 0.0);
            let zeros: Vec<usize> = zeros.map(|(index, _)| index).collect();
            let corner = zeros[0];
            assert_eq!(zeros, [corner, corner + 1, corner + 4, corner + 5]);
            corners.insert(corner);
        }
        assert_eq!(corners.len(), 9, "{corners:?}");
    }

    #[test]
    #[should_panic(expected = "batch drop: width: expected 0 to 1, found 1.5")]
    fn a_share_above_1_is_refused() {
        let _ = BatchDrop::new().with_width(1.5).rectangle([4, 4]);
    }
}
