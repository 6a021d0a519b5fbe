//! The embedding of an image as a sum of one term per position.

use burn::tensor::{Tensor, TensorData};

use crate::{distance::lengths, head::Head, norm::BatchNorm, pool::Pool, precision::widened};

/// The embeddings of images as sums of one term per position: `[batch, dimensions, height, width]`.
///
/// ```text
/// e_d = Σ_hw t_dhw
/// ```
///
/// The pooling of a head splits exactly into positions, and so does everything after it, because each step is
/// linear once the embedding itself is known:
///
/// | step | terms |
/// |---|---|
/// | average pooling | x / P, with P positions |
/// | max pooling | x at the position of the maximum, 0 elsewhere; equal maxima share it equally |
/// | `GeM` pooling | the gradient times x, which adds up to the pooled value by Euler's theorem |
/// | linear layer, batch normalisation | applied to each term; **each position gets 1/P of the shift** |
/// | `ReLU` | the terms of the dimensions in which the sum is above 0 |
/// | scaling to length 1 | divided by the length of the sum |
/// | stripes | 0 outside the stripe; P is the number of its positions |
/// | concatenation of branches | the terms of all dimensions |
///
/// With equal shares of the shift, a `BNNeck` after average pooling normalises each position as it normalises
/// the pooled vector. A position then counts by how it differs from the mean over the training images, and
/// not by what all images have in common. [`centred_on`](Self::centred_on) uses the mean at each position.
///
/// Positions are those of the feature map that is pooled. In a branch with late stages or attention of its
/// own, this is their output. If branches pool feature maps of several sizes, the terms of each are spread
/// over the largest height and width, by the area that positions have in common.
///
/// The terms take as much memory as a feature map with as many channels as the embedding has dimensions:
/// 1 MiB per image for 2048 dimensions at 16 x 8.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Head, HeadConfig, Init, head::BnNeckConfig, similarity_map::EmbeddingTerms};
///
/// let device = Device::default();
/// let head = BnNeckConfig::new().init(FeatureShape::new(16, 4, 2), 10, &Init::new(Seed::new(1), &device));
/// let features = Tensor::<4>::ones([3, 16, 4, 2], &device);
/// let terms = EmbeddingTerms::of(&head, features.clone());
/// assert_eq!(terms.dims(), [3, 16, 4, 2]);
/// let difference = terms.embedding() - head.forward(features).embedding;
/// assert!(difference.abs().max().into_scalar::<f32>() < 1e-5);
/// ```
#[derive(Clone, Debug)]
pub struct EmbeddingTerms(Tensor<4>);

impl EmbeddingTerms {
    /// Wraps terms, `[batch, dimensions, height, width]`, which add up to the embeddings.
    #[must_use]
    pub const fn new(terms: Tensor<4>) -> Self {
        Self(terms)
    }

    /// Computes the terms of a head in evaluation mode: in closed form where the head has one
    /// ([`Head::embedding_terms`]), and [by autodiff](Self::by_autodiff) otherwise. The result is on a plain
    /// device.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    ///
    /// # Panics
    /// If the embedding does not depend on the features.
    #[must_use]
    pub fn of<H: Head>(head: &H, features: Tensor<4>) -> Self {
        let features = features.without_autodiff();
        let closed = head.valid().embedding_terms(features.clone());
        closed.unwrap_or_else(|| Self::by_autodiff(head, features))
    }

    /// Splits a pooling, whose sum is [`Pool::forward`].
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`, on a plain device
    #[must_use]
    pub fn pooled(pool: &Pool, features: Tensor<4>) -> Self {
        Self(pool.terms(features))
    }

    /// Splits [average pooling](crate::pool::average).
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`, on a plain device
    #[must_use]
    pub fn averaged(features: Tensor<4>) -> Self {
        let [_, _, height, width] = features.dims();
        Self(widened(features) / (height * width) as f64)
    }

    /// The terms, `[batch, dimensions, height, width]`.
    #[must_use]
    pub const fn tensor(&self) -> &Tensor<4> {
        &self.0
    }

    /// The shape: `[batch, dimensions, height, width]`.
    #[must_use]
    pub fn dims(&self) -> [usize; 4] {
        self.0.dims()
    }

    /// The embeddings: the sums over positions, `[batch, dimensions]`.
    #[must_use]
    pub fn embedding(&self) -> Tensor<2> {
        let [batch, dimensions, height, width] = self.dims();
        let terms = self.0.clone().reshape([batch, dimensions, height * width]);
        terms.sum_dim(2).squeeze_dim(2)
    }

    /// The terms of one image, by its index in the batch.
    ///
    /// # Panics
    /// If there is no such image.
    #[must_use]
    pub fn image(&self, index: usize) -> Self {
        Self(self.0.clone().narrow(0, index, 1))
    }

    /// Selects consecutive dimensions.
    ///
    /// # Panics
    /// If there are no such dimensions.
    #[must_use]
    pub fn dimensions(&self, start: usize, count: usize) -> Self {
        Self(self.0.clone().narrow(1, start, count))
    }

    /// Applies a linear layer with the weights `[inputs, outputs]` and the bias `[outputs]`. Each position
    /// gets an equal share of the bias.
    ///
    /// # Panics
    /// If the layer has another number of inputs than there are dimensions.
    #[must_use]
    pub fn linear(self, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Self {
        let [batch, dimensions, height, width] = self.dims();
        let rows = self.0.permute([0, 2, 3, 1]);
        let rows = rows.reshape([batch * height * width, dimensions]);
        let weight = weight.without_autodiff().cast(rows.dtype());
        let [_, outputs] = weight.dims();
        let terms = rows.matmul(weight).reshape([batch, height, width, outputs]);
        let terms = Self(terms.permute([0, 3, 1, 2]));
        match bias {
            Some(bias) => terms.shifted(bias.without_autodiff().unsqueeze()),
            None => terms,
        }
    }

    /// Applies a batch normalisation with running statistics. Each position gets an equal share of the shift.
    ///
    /// # Panics
    /// If the layer has another number of channels than there are dimensions.
    #[must_use]
    pub fn batch_norm(self, norm: &BatchNorm) -> Self {
        let (scale, shift) = norm.affine();
        let [dimensions] = scale.dims();
        let scale = scale.without_autodiff().cast(self.0.dtype());
        let terms = self.0 * scale.reshape([1, dimensions, 1, 1]);
        Self(terms).shifted(shift.without_autodiff().unsqueeze())
    }

    /// Applies a `ReLU` to the embedding: dimensions whose sum is not above 0 become 0 at every position.
    #[must_use]
    pub fn relu(self) -> Self {
        let active = self.embedding().greater_elem(0.0).float();
        let [batch, dimensions] = active.dims();
        let active = active.cast(self.0.dtype());
        Self(self.0 * active.reshape([batch, dimensions, 1, 1]))
    }

    /// Scales each embedding to length 1. An embedding shorter than 1e-12 is unchanged.
    #[must_use]
    pub fn unit(self) -> Self {
        let [batch, ..] = self.dims();
        let lengths = lengths(self.embedding());
        Self(self.0 / lengths.reshape([batch, 1, 1, 1]))
    }

    /// Concatenates the dimensions of two embeddings of the same images. If their heights or widths differ,
    /// the larger ones apply, and the terms of each are spread over the area of its positions.
    ///
    /// # Panics
    /// If the numbers of images differ.
    #[must_use]
    pub fn concat(self, other: Self) -> Self {
        let ([_, _, height, width], [_, _, other_height, other_width]) =
            (self.dims(), other.dims());
        let (height, width) = (height.max(other_height), width.max(other_width));
        let both = vec![
            self.resized(height, width).0,
            other.resized(height, width).0,
        ];
        Self(Tensor::cat(both, 1))
    }

    /// Makes the terms those of a stripe: the rows from `start` of a feature map of `height` rows, of which
    /// the stripe has `rows`. All other rows are 0.
    ///
    /// # Panics
    /// If the stripe is not within the feature map.
    #[must_use]
    pub fn in_stripe(self, start: usize, rows: usize, height: usize) -> Self {
        assert!(
            start + rows <= height,
            "a stripe of rows {start} to {} is not within a feature map of {height} rows",
            start + rows
        );
        let [batch, dimensions, _, width] = self.dims();
        let stripe = self.resized(rows, width).0;
        let all = [batch, dimensions, height, width];
        let all = Tensor::zeros(all, (&stripe.device(), stripe.dtype()));
        let within = [0..batch, 0..dimensions, start..start + rows, 0..width];
        Self(all.slice_assign(within, stripe))
    }

    /// The terms of mirrored images, at the positions of the images: each row is reversed.
    #[must_use]
    pub fn mirrored(self) -> Self {
        Self(self.0.flip([3]))
    }

    /// Averages the embeddings of two views of the same images, such as an image and its mirror image.
    ///
    /// # Panics
    /// If the shapes differ.
    #[must_use]
    pub fn mean_with(self, other: Self) -> Self {
        assert_eq!(
            self.dims(),
            other.dims(),
            "the mean of embeddings needs terms of one shape"
        );
        Self((self.0 + other.0) / 2)
    }

    /// Subtracts the mean of the `reference` images at each position, and shares out its sum equally. The
    /// embeddings do not change.
    ///
    /// ```text
    /// t'_p = t_p - m_p + mean_p(m)          m = the mean over the reference images
    /// ```
    ///
    /// What all images have at a position then counts equally everywhere. Such a response to no object in
    /// particular is strongest at the borders, because of zero padding
    /// ([`activation_map`](crate::activation_map)). Suitable references are images of the training set or of
    /// the gallery.
    ///
    /// # Panics
    /// If the reference has other dimensions, or another height or width.
    #[must_use]
    pub fn centred_on(self, reference: &Self) -> Self {
        let ([_, shape @ ..], [_, found @ ..]) = (self.dims(), reference.dims());
        assert_eq!(
            shape, found,
            "the reference of a similarity map needs terms of shape {shape:?}, found {found:?}"
        );
        let mean = Self(reference.0.clone().mean_dim(0));
        let common = mean.embedding();
        Self(self.0 - mean.0).shifted(common)
    }

    /// Adds a vector to the embedding, `[batch, dimensions]` or `[1, dimensions]`: the same at each position.
    pub(super) fn shifted(self, shift: Tensor<2>) -> Self {
        let [_, _, height, width] = self.dims();
        let [batch, dimensions] = shift.dims();
        let share = shift.cast(self.0.dtype()) / (height * width) as f64;
        Self(self.0 + share.reshape([batch, dimensions, 1, 1]))
    }

    /// Spreads the terms over another height and width. The sums do not change.
    fn resized(self, height: usize, width: usize) -> Self {
        let wide = spread(self.0, width);
        let high = spread(wide.swap_dims(2, 3), height);
        Self(high.swap_dims(2, 3))
    }
}

/// Spreads the terms of each row over `to` columns, by the length that the old and the new columns have in
/// common.
fn spread(terms: Tensor<4>, to: usize) -> Tensor<4> {
    let [batch, dimensions, rows, from] = terms.dims();
    if from == to {
        return terms;
    }
    // In units of 1 / (from · to) of a row, an old column covers `to` units and a new one `from`.
    let share = |old: usize, new: usize| {
        let (first, last) = ((old * to).max(new * from), (old + 1) * to);
        let common = last.min((new + 1) * from).saturating_sub(first);
        common as f32 / to as f32
    };
    let shares: Vec<f32> = (0..from)
        .flat_map(|old| (0..to).map(move |new| share(old, new)))
        .collect();
    let shares = Tensor::<2>::from_data(TensorData::new(shares, [from, to]), &terms.device());
    let shares = shares.cast(terms.dtype());
    let flat = terms.reshape([batch * dimensions * rows, from]);
    flat.matmul(shares).reshape([batch, dimensions, rows, to])
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::pool::PoolConfig;

    fn terms<const N: usize>(values: [f32; N]) -> EmbeddingTerms {
        let values = TensorData::new(values.to_vec(), [1, 1, 1, N]);
        EmbeddingTerms(Tensor::from_data(values, &Device::default()))
    }

    fn read(terms: &EmbeddingTerms) -> Vec<f32> {
        terms.0.clone().into_data().iter().collect()
    }

    fn close(found: &[f32], expected: &[f32]) {
        let mut values = found.iter().zip(expected);
        assert!(
            found.len() == expected.len()
                && values.all(|(found, expected)| (found - expected).abs() < 1e-5),
            "{found:?} and {expected:?}"
        );
    }

    #[test]
    fn poolings_match_hand_computed_terms() {
        let device = Device::default();
        let pooled = |pool: PoolConfig, values: [f32; 4]| {
            let values = Tensor::from_data([[[values]]], &device);
            read(&EmbeddingTerms::pooled(&pool.init(&device), values))
        };
        close(
            &pooled(PoolConfig::Average, [1.0, 3.0, 0.0, 4.0]),
            &[0.25, 0.75, 0.0, 1.0],
        );
        close(
            &pooled(PoolConfig::Max, [1.0, 3.0, -9.0, 2.0]),
            &[0.0, 3.0, 0.0, 0.0],
        );
        // The two maxima share 3 equally.
        close(
            &pooled(PoolConfig::Max, [1.0, 3.0, 3.0, 2.0]),
            &[0.0, 1.5, 1.5, 0.0],
        );
        // f = √((9 + 16 + 0 + 75)/4) = 5, and the shares are 9, 16, 0 and 75 of 100.
        let square = PoolConfig::GeneralisedMean { exponent: 2.0 };
        let root = 75.0_f32.sqrt();
        close(
            &pooled(square, [3.0, 4.0, -1.0, root]),
            &[0.45, 0.8, 0.0, 3.75],
        );
        // All values are clamped to 1e-6, and share it.
        let shares = pooled(PoolConfig::GEM, [0.0; 4]);
        let shares: Vec<f32> = shares.iter().map(|share| share * 1e6).collect();
        close(&shares, &[0.25; 4]);
        let huge = PoolConfig::GeneralisedMean {
            exponent: f64::from(f32::MAX),
        };
        close(&pooled(huge, [1.0, 2.0, 0.0, 0.5]), &[0.0, 2.0, 0.0, 0.0]);
    }

    #[test]
    fn steps_match_hand_computed_terms() {
        let device = Device::default();
        let weight = Tensor::from_data([[2.0, -1.0]], &device);
        let bias = Tensor::from_data([4.0, 1.0], &device);
        // (1, 3) becomes (2, 6) and (-1, -3), and each position gets half of the bias.
        let both = terms([1.0, 3.0]).linear(weight, Some(bias));
        assert_eq!(read(&both), [4.0, 8.0, -0.5, -2.5]);
        // The second dimension has the sum -3.
        assert_eq!(read(&both.clone().relu()), [4.0, 8.0, 0.0, 0.0]);
        // The sum is (12, -3), with the length √153.
        let length = 153.0_f32.sqrt();
        let expected = [4.0, 8.0, -0.5, -2.5].map(|term| term / length);
        close(&read(&both.unit()), &expected);
        assert_eq!(read(&terms([1.0, 3.0]).mirrored()), [3.0, 1.0]);
        let mean = terms([1.0, 3.0]).mean_with(terms([3.0, 5.0]));
        assert_eq!(read(&mean), [2.0, 4.0]);
    }

    #[test]
    fn terms_are_spread_by_area() {
        // Halves of a row to thirds: 6 gives 2/3 to the first and 1/3 to the second, and 12 likewise.
        close(&read(&terms([6.0, 12.0]).resized(1, 3)), &[4.0, 6.0, 8.0]);
        close(&read(&terms([4.0, 6.0, 8.0]).resized(1, 2)), &[7.0, 11.0]);
        close(
            &read(&terms([4.0, 8.0]).resized(2, 2)),
            &[2.0, 4.0, 2.0, 4.0],
        );
        let both = terms([4.0, 8.0]).concat(terms([1.0, 1.0, 1.0, 1.0]));
        close(&read(&both), &[2.0, 2.0, 4.0, 4.0, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn a_stripe_is_0_outside_its_rows() {
        let found = terms([1.0, 2.0]).in_stripe(1, 1, 3);
        assert_eq!(found.dims(), [1, 1, 3, 2]);
        assert_eq!(read(&found), [0.0, 0.0, 1.0, 2.0, 0.0, 0.0]);
    }

    #[test]
    fn centred_terms_keep_their_sum() {
        // The mean (1, 3) has the sum 4, which gives each position 2: 2 - 1 + 2 and 7 - 3 + 2.
        let reference = Tensor::cat(vec![terms([0.0, 2.0]).0, terms([2.0, 4.0]).0], 0);
        let found = terms([2.0, 7.0]).centred_on(&EmbeddingTerms(reference));
        assert_eq!(read(&found), [3.0, 6.0]);
    }

    #[test]
    #[should_panic(expected = "needs terms of shape [1, 1, 2], found [1, 1, 3]")]
    fn a_reference_of_another_size_panics() {
        let _ = terms([1.0, 2.0]).centred_on(&terms([1.0; 3]));
    }

    #[test]
    #[should_panic(expected = "rows 2 to 4 is not within a feature map of 3 rows")]
    fn a_stripe_beyond_the_feature_map_panics() {
        let _ = terms([1.0, 2.0]).in_stripe(2, 2, 3);
    }
}
