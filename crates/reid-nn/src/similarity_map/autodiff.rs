//! The terms of any head by autodiff: gradient times feature.

use std::ops::Range;

use burn::tensor::Tensor;

use super::EmbeddingTerms;
use crate::{head::Head, precision::widened};

/// The number of dimensions whose gradients are computed by one backward pass.
const DIMENSIONS: usize = 64;

impl EmbeddingTerms {
    /// Computes the terms of any head by autodiff, as gradients times features:
    ///
    /// ```text
    /// t_dp = Σₖ T_kp ∂e_d/∂T_kp + r_d/P          r_d = e_d - Σ_p Σₖ T_kp ∂e_d/∂T_kp
    /// ```
    ///
    /// P is the number of positions. The remainder r, which gradients do not explain, is shared out equally,
    /// so that the terms add up to the embedding. It is the shift of a linear head, and 0 for one that is
    /// homogeneous of degree 1, such as pooling. A head that scales its embedding to length 1 has gradients
    /// at right angles to the embedding, so that most of it is in the remainder. The closed form treats the
    /// length as a constant instead.
    ///
    /// The head is in evaluation mode, and no gradient reaches its parameters. One backward pass computes 64
    /// dimensions of the embedding of one image, on 64 copies of its feature map. They take 64 MiB for 2048
    /// channels of 16 x 8, and as much again for each layer of the head before pooling.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use reid_core::{FeatureShape, Seed};
    /// use reid_nn::{Head, HeadConfig, Init, head::BnNeckConfig, similarity_map::EmbeddingTerms};
    ///
    /// let (device, input) = (Device::default(), FeatureShape::new(16, 4, 2));
    /// let head = BnNeckConfig::new().init(input, 10, &Init::new(Seed::new(1), &device));
    /// let random = burn::tensor::Distribution::Default;
    /// let features = Tensor::<4>::random([2, 16, 4, 2], random, &device);
    /// let closed = head.embedding_terms(features.clone()).expect("a closed form");
    /// let general = EmbeddingTerms::by_autodiff(&head, features);
    /// let difference = (closed.tensor().clone() - general.tensor().clone()).abs();
    /// assert!(difference.max().into_scalar::<f32>() < 1e-5);
    /// ```
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    ///
    /// # Panics
    /// If the embedding does not depend on the features.
    #[must_use]
    pub fn by_autodiff<H: Head>(head: &H, features: Tensor<4>) -> Self {
        let plain = head.valid();
        // A copy on an autodiff device, whose parameters and statistics are independent of the original.
        let copy = plain.clone().train().freeze();
        let features = widened(features.without_autodiff());
        let embedding = plain.forward(features.clone()).embedding;
        let [images, dimensions] = embedding.dims();
        let gradients = (0..images).map(|image| {
            let features = features.clone().narrow(0, image, 1);
            let starts = (0..dimensions).step_by(DIMENSIONS);
            let parts = starts.map(|start| {
                let end = dimensions.min(start + DIMENSIONS);
                products(&copy, &features, start..end)
            });
            Tensor::cat(parts.collect(), 1)
        });
        let terms = Self::new(Tensor::cat(gradients.collect(), 0));
        let remainder = embedding - terms.embedding();
        terms.shifted(remainder)
    }
}

/// Computes the products of the features of one image with the gradients of some dimensions of its embedding,
/// summed over channels: `[1, dimensions, height, width]`.
fn products<H: Head>(head: &H, features: &Tensor<4>, dimensions: Range<usize>) -> Tensor<4> {
    let count = dimensions.len();
    let leaf = features
        .clone()
        .repeat_dim(0, count)
        .autodiff()
        .require_grad();
    // Copy i of the image gives the gradient of dimension i.
    let embedding = head.forward(leaf.clone()).embedding;
    let embedding = embedding.narrow(1, dimensions.start, count);
    let own = Tensor::<2>::eye(count, &features.device()).cast(embedding.dtype());
    let gradients = (embedding * own).sum().backward();
    let gradient = leaf
        .grad(&gradients)
        .expect("a similarity map needs an embedding that depends on the features");
    (features.clone() * gradient).sum_dim(1).swap_dims(0, 1)
}
