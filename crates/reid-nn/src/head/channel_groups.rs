//! `ChannelGroupsHead`: embeddings of groups of channels, which share a layer (Herzog et al., Lightweight
//! Multi-Branch Network for Person Re-Identification, ICIP 2021, arXiv:2101.10774).

use burn::{
    config::Config,
    module::Module,
    nn::{Initializer, conv::Conv2dConfig},
    tensor::Tensor,
};
use reid_core::{FeatureShape, Problems};
use reid_ops::Epilogue;

use super::{
    BnNeck, BnNeckConfig, Head, HeadConfig, NeckFeature, OutputShape, ReidOutput,
    validate_dimensions,
};
use crate::{backbone::ConvNorm, init::Init, linear, pool, similarity_map::EmbeddingTerms};

/// Configuration of [`ChannelGroupsHead`], whose documentation has an example.
#[derive(Config, Debug, PartialEq)]
pub struct ChannelGroupsHeadConfig {
    /// The number of groups, at least 1, which divides the channels of the feature map; 2 by default, as in the
    /// paper.
    #[config(default = 2)]
    pub groups: usize,
    /// Dimensions of the embedding of each group, from 1 to [`MAX_DIMENSIONS`](super::MAX_DIMENSIONS); 512 by
    /// default.
    #[config(default = 512)]
    pub dimensions: usize,
    /// The side of the necks from which the embeddings are taken; after them by default.
    #[config(default = "NeckFeature::After")]
    pub embedding: NeckFeature,
}

/// Splits the pooled channels into groups, and embeds each with a layer that they share and a neck of its
/// own.
///
/// ```text
/// v = [v₁, v₂, …] = mean_hw(x)            groups of channels                 [batch, channels/groups] each
/// fᵢ = relu(BN(W vᵢ))                     W and BN are shared
/// gᵢ, yᵢ = neckᵢ(fᵢ)                      the identity loss sees all yᵢ
/// g = [g₁, g₂, …]                         the embedding                      [batch, groups·dimensions]
/// ```
///
/// No metric loss sees the groups. In training, the shared normalisation uses the statistics of one group at
/// a time, and updates its running statistics once for each group, in order.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Head, HeadConfig, Init, head::ChannelGroupsHeadConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let config = ChannelGroupsHeadConfig::new().with_dimensions(4);
/// let head = config.init(FeatureShape::new(16, 6, 2), 10, &init);
/// let output = head.forward(Tensor::ones([2, 16, 6, 2], &device));
/// assert_eq!(output.embedding.dims(), [2, 8]);
/// assert_eq!((output.features.len(), output.logits.len()), (0, 2));
/// ```
#[derive(Module, Debug)]
pub struct ChannelGroupsHead {
    /// The layer that the groups share: a 1 x 1 convolution without bias, and batch normalisation.
    pub shared: ConvNorm,
    /// The neck of each group.
    pub necks: Vec<BnNeck>,
}

impl HeadConfig for ChannelGroupsHeadConfig {
    type Head = ChannelGroupsHead;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> ChannelGroupsHead {
        Problems::refuse("ChannelGroupsHead", |problems| {
            self.validate(input, problems);
        });
        let (group, dimensions) = (input.channels / self.groups, self.dimensions);
        let kaiming = Initializer::KaimingNormal {
            gain: std::f64::consts::SQRT_2,
            fan_out_only: false,
        };
        let shared = Conv2dConfig::new([group, dimensions], [1, 1])
            .with_bias(false)
            .with_initializer(kaiming);
        let neck = BnNeckConfig::new().with_embedding(self.embedding);
        let reduced = FeatureShape::new(dimensions, 1, 1);
        let necks = (0..self.groups).map(|index| neck.init(reduced, classes, &init.at(index)));
        ChannelGroupsHead {
            shared: ConvNorm::new(&shared, &init.named("shared")),
            necks: necks.collect(),
        }
    }

    fn output(&self, _input: FeatureShape, classes: usize) -> OutputShape {
        OutputShape::new(self.groups * self.dimensions, Vec::new(), classes)
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        validate_groups(self.groups, input, problems);
        validate_dimensions("dimensions", self.dimensions, input.channels, problems);
    }
}

/// Adds a problem if the groups do not divide the channels of the feature map.
pub(super) fn validate_groups(groups: usize, input: FeatureShape, problems: &mut Problems) {
    let channels = input.channels;
    let holds = groups > 0 && channels.is_multiple_of(groups);
    let expected = format_args!("a divisor of the {channels} channels of the feature map");
    problems.require("groups", holds, expected, groups);
}

impl Head for ChannelGroupsHead {
    fn forward(&self, features: Tensor<4>) -> ReidOutput {
        let pooled = pool::average(features);
        let [batch, channels] = pooled.dims();
        let group = channels / self.necks.len();
        let outputs = self.necks.iter().enumerate().map(|(index, neck)| {
            let values = pooled.clone().narrow(1, index * group, group);
            let values = values.reshape([batch, group, 1, 1]);
            ReidOutput {
                features: Vec::new(),
                ..neck.forward(self.shared.apply(values, Epilogue::Relu))
            }
        });
        outputs
            .reduce(ReidOutput::concat)
            .expect("a head has at least 1 group of channels")
    }

    fn embedding_terms(&self, features: Tensor<4>) -> Option<EmbeddingTerms> {
        let pooled = EmbeddingTerms::averaged(features);
        let [_, channels, ..] = pooled.dims();
        let group = channels / self.necks.len();
        let (weight, bias) = linear::matrix(&self.shared.conv);
        let terms = self.necks.iter().enumerate().map(|(index, neck)| {
            let values = pooled.dimensions(index * group, group);
            let values = values.linear(weight.clone(), bias.clone());
            let values = match &self.shared.bn {
                Some(norm) => values.batch_norm(norm),
                None => values,
            };
            neck.embedding.terms(values.relu(), &neck.bottleneck)
        });
        terms.reduce(EmbeddingTerms::concat)
    }

    fn fold_batch_norm(self) -> Self {
        Self {
            shared: self.shared.folded(),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{fixtures, parameters};

    /// Groups with equal channels have equal features, and another group does not change them.
    #[test]
    fn groups_share_a_layer_and_see_their_own_channels() {
        let device = Device::default();
        let config = ChannelGroupsHeadConfig::new().with_dimensions(6);
        let input = FeatureShape::new(8, 2, 2);
        let head = fixtures::weights(config.init(input, 3, &fixtures::init(&device)));
        // A convolution of 4 to 6 channels and its normalisation, two necks and their classifiers.
        let expected = 4 * 6 + 2 * 6 + 2 * (2 * 6 + 6 * 3);
        assert_eq!(parameters::count(&head), expected);
        let half: Tensor<4> = fixtures::tensor([3, 4, 2, 2], -1.0..2.0, &device);
        let embed = |first: Tensor<4>, second: Tensor<4>| {
            let embedding = head.forward(Tensor::cat(vec![first, second], 1)).embedding;
            [0, 6].map(|start| embedding.clone().narrow(1, start, 6).into_data())
        };
        let [first, second] = embed(half.clone(), half.clone());
        assert_eq!(first, second);
        let [same, other] = embed(half.clone(), half * 0.5);
        assert_eq!(same, first);
        assert_ne!(other, second);
    }

    #[test]
    #[should_panic(
        expected = "groups: expected a divisor of the 8 channels of the feature map, found 3"
    )]
    fn groups_that_do_not_divide_the_channels_are_refused() {
        let config = ChannelGroupsHeadConfig::new().with_groups(3);
        let input = FeatureShape::new(8, 4, 4);
        let _ = config.init(input, 2, &fixtures::init(&Device::default()));
    }
}
