//! `StripeHead`: embeddings of the whole feature map and of horizontal stripes of it (Wang et al., Learning
//! Discriminative Features with Multiple Granularities, ACM MM 2018, arXiv:1804.01438).

use burn::{config::Config, module::Module, tensor::Tensor};
use reid_core::{FeatureShape, Problems, strict};
use serde::{Deserialize, Serialize};

use super::{
    Head, HeadConfig, LinearBnReluHead, LinearBnReluHeadConfig, OutputShape, ReidOutput,
    validate_dimensions,
};
use crate::{init::Init, pool::PoolConfig, similarity_map::EmbeddingTerms};

/// Configuration of [`StripeHead`], whose documentation has an example.
#[derive(Config, Debug, PartialEq)]
pub struct StripeHeadConfig {
    /// The number of horizontal stripes, which divides the height of the feature map; 0 by default.
    #[config(default = 0)]
    pub stripes: usize,
    /// Dimensions of the whole feature map's embedding and of each stripe's,
    /// from 1 to [`MAX_DIMENSIONS`](super::MAX_DIMENSIONS); 256 in the paper.
    #[config(default = 256)]
    pub dimensions: usize,
}

/// Embeds the whole feature map and horizontal stripes of it, each with its own linear layer and classifier.
///
/// ```text
/// f₀ = reduce₀(max_hw(x))                    the metric loss sees only f₀
/// fᵢ = reduceᵢ(max_hw(stripeᵢ of x))         i = 1 … stripes
/// f = [f₀, f₁, …]                            the embedding    [batch, (1 + stripes)·dimensions]
/// y₀ … yₛ                                    the identity loss sees all of them
/// ```
///
/// MGN has three such branches, with 0, 2 and 3 stripes, each after its own late stages. Stripes have no
/// metric loss: in a misaligned image, a stripe shows another part of the body than in other images, and the
/// loss would pull the features of different parts together (§3.3).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Head, HeadConfig, Init, head::StripeHeadConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let config = StripeHeadConfig::new().with_stripes(3).with_dimensions(4);
/// let head = config.init(FeatureShape::new(16, 6, 2), 10, &init);
/// let output = head.forward(Tensor::ones([2, 16, 6, 2], &device));
/// assert_eq!(output.embedding.dims(), [2, 16]);
/// assert_eq!((output.features.len(), output.logits.len()), (1, 4));
/// ```
#[derive(Module, Debug)]
pub struct StripeHead<H = LinearBnReluHead> {
    /// The head of the whole feature map.
    pub whole: H,
    /// The heads of the stripes, from top to bottom.
    pub stripes: Vec<H>,
}

/// Configuration of a [`StripeHead`] whose parts have any head, such as a neck.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Head, HeadConfig, Init, head::{LinearBnNeckConfig, StripesConfig}, pool::PoolConfig};
///
/// let device = Device::default();
/// let stripe = LinearBnNeckConfig::new().with_dimensions(4);
/// let config = StripesConfig { stripes: 2, whole: stripe.clone().with_pool(PoolConfig::Max), stripe };
/// let head = config.init(FeatureShape::new(16, 6, 2), 10, &Init::new(Seed::new(1), &device));
/// let output = head.forward(Tensor::ones([2, 16, 6, 2], &device));
/// assert_eq!(output.embedding.dims(), [2, 12]);
/// assert_eq!((output.features.len(), output.logits.len()), (1, 3));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "C: Deserialize<'de>"))]
pub struct StripesConfig<C> {
    /// The number of horizontal stripes, which divides the height of the feature map.
    pub stripes: usize,
    /// The head of the whole feature map.
    #[serde(deserialize_with = "strict")]
    pub whole: C,
    /// The head of each stripe.
    #[serde(deserialize_with = "strict")]
    pub stripe: C,
}

impl<C: HeadConfig> HeadConfig for StripesConfig<C> {
    type Head = StripeHead<C::Head>;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> Self::Head {
        Problems::refuse("StripeHead", |problems| self.validate(input, problems));
        let stripe = FeatureShape {
            height: input.height / self.stripes.max(1),
            ..input
        };
        let stripe = |index: usize| self.stripe.init(stripe, classes, &init.at(index));
        StripeHead {
            whole: self.whole.init(input, classes, &init.at(0)),
            stripes: (1..=self.stripes).map(stripe).collect(),
        }
    }

    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
        let stripe = self.stripe.output(input, classes).embedding;
        let mut output = self.whole.output(input, classes);
        output.embedding += self.stripes * stripe;
        output
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        validate_stripes(self.stripes, input, problems);
        problems.at("whole", |problems| self.whole.validate(input, problems));
        problems.at("stripe", |problems| self.stripe.validate(input, problems));
    }
}

/// Adds a problem if the stripes do not divide the height of the feature map.
pub(super) fn validate_stripes(stripes: usize, input: FeatureShape, problems: &mut Problems) {
    problems.require(
        "stripes",
        stripes == 0 || input.height.is_multiple_of(stripes),
        format_args!("0 or a divisor of the height of the feature map {input}"),
        stripes,
    );
}

impl HeadConfig for StripeHeadConfig {
    type Head = StripeHead;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> StripeHead {
        Problems::refuse("StripeHead", |problems| self.validate(input, problems));
        let whole = LinearBnReluHeadConfig {
            dimensions: self.dimensions,
            pool: PoolConfig::Max,
        };
        let config = StripesConfig {
            stripes: self.stripes,
            stripe: whole.clone(),
            whole,
        };
        config.init(input, classes, init)
    }

    fn output(&self, _input: FeatureShape, classes: usize) -> OutputShape {
        let embedding = self.dimensions * (1 + self.stripes);
        OutputShape::new(embedding, vec![self.dimensions], classes)
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        validate_stripes(self.stripes, input, problems);
        validate_dimensions("dimensions", self.dimensions, input.channels, problems);
    }
}

impl<H: Head> Head for StripeHead<H> {
    fn forward(&self, features: Tensor<4>) -> ReidOutput {
        let whole = self.whole.forward(features.clone());
        if self.stripes.is_empty() {
            return whole;
        }
        let stripes = features.chunk(self.stripes.len(), 2).into_iter();
        stripes
            .zip(&self.stripes)
            .fold(whole, |output, (stripe, head)| {
                let stripe = ReidOutput {
                    features: Vec::new(),
                    ..head.forward(stripe)
                };
                output.concat(stripe)
            })
    }

    fn embedding_terms(&self, features: Tensor<4>) -> Option<EmbeddingTerms> {
        let [_, _, height, _] = features.dims();
        let whole = self.whole.embedding_terms(features.clone())?;
        let rows = height / self.stripes.len().max(1);
        let mut stripes = self.stripes.iter().enumerate();
        stripes.try_fold(whole, |terms, (index, head)| {
            let stripe = features.clone().narrow(2, index * rows, rows);
            let stripe = head.embedding_terms(stripe)?;
            Some(terms.concat(stripe.in_stripe(index * rows, rows, height)))
        })
    }

    fn fold_batch_norm(self) -> Self {
        Self {
            whole: self.whole.fold_batch_norm(),
            stripes: self.stripes.fold_batch_norm(),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn a_stripe_sees_its_own_rows() {
        let device = Device::default();
        let config = StripeHeadConfig::new().with_stripes(2).with_dimensions(5);
        let head = config.init(
            FeatureShape::new(3, 4, 2),
            2,
            &crate::fixtures::init(&device),
        );
        let features = Tensor::random([1, 3, 4, 2], Distribution::Default, &device);
        let lower = features.clone().narrow(2, 2, 2);
        let expected = head.stripes[1].forward(lower).embedding;
        let found = head.forward(features).embedding.narrow(1, 10, 5);
        assert_eq!(found.into_data(), expected.into_data());
    }

    #[test]
    #[should_panic(
        expected = "stripes: expected 0 or a divisor of the height of the feature map 8x4x4, found 3"
    )]
    fn stripes_that_do_not_divide_the_height_are_refused() {
        let config = StripeHeadConfig::new().with_stripes(3);
        let _ = config.init(
            FeatureShape::new(8, 4, 4),
            2,
            &crate::fixtures::init(&Device::default()),
        );
    }
}
