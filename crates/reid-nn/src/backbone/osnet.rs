//! `OSNet`: a small network whose blocks combine features of several scales (Zhou et al., Omni-Scale Feature
//! Learning for Person Re-Identification, ICCV 2019, arXiv:1905.00953).

use burn::{module::Module, tensor::Tensor};
use reid_core::{FeatureShape, Problems};
use reid_ops::Epilogue;

use super::{ConvNorm, Stem, after_stage};
use crate::{
    block::{Block, BlockConfig, Identity},
    convolution,
    init::Init,
    norm::{InstanceNorm, InstanceNormConfig},
    stage_paths::StagePaths,
};

mod block;
mod config;
mod split;

pub use block::{LightConv, OsBlock, OsBlockConfig, OsInstanceNorm};
pub use config::OsNetConfig;
pub use split::{OsNetEarlyStagesConfig, OsNetLateStages, OsNetLateStagesConfig, OsNetStage};

/// An omni-scale network with a socket after each of its four stages.
///
/// ```text
/// x₀ = maxpool(relu(bn(conv1 · image)))
/// x₁ = after₁(conv2(x₀))                    blocks      stride 4
/// x₂ = after₂(conv3(transition₂(x₁)))       blocks      stride 8
/// x₃ = after₃(conv4(transition₃(x₂)))       blocks      stride 16
/// x₄ = after₄(relu(bn(conv5 · x₃)))         1 x 1       stride 16
/// transition(x) = avgpool₂(relu(bn(conv · x)))
/// ```
///
/// The fields are named as in torchreid, with `pool2` and `pool3` for the transitions. The layer `fc` is part
/// of the head: [`LinearBnReluHead`](crate::head::LinearBnReluHead). [`split`](Self::split) removes late
/// stages, whose fields are then empty.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{BlockConfig, Init, attention::SqueezeExcitationConfig, backbone::OsNetConfig};
///
/// let config = OsNetConfig::x0_25().after(&[4], SqueezeExcitationConfig::new());
/// let (device, image) = (Device::default(), InputSize::new(64, 32).rgb());
/// let network = config.init(image, &Init::new(Seed::new(1), &device));
///
/// assert_eq!(config.output(image).to_string(), "128x4x2");
/// let stages = network.stages(Tensor::ones([1, 3, 64, 32], &device));
/// assert_eq!(stages[4].dims(), [1, 128, 4, 2]);
/// assert_eq!(stages[1].dims(), [1, 64, 16, 8]);
/// ```
#[derive(Module, Debug)]
pub struct OsNet<A = Identity> {
    /// The convolution of the stem and its batch normalisation, which is absent in IBN and AIN networks.
    pub conv1: ConvNorm,
    /// The instance normalisation of the stem; present in IBN and AIN networks only.
    pub in1: Option<InstanceNorm>,
    /// The blocks of stage 1.
    pub conv2: Vec<OsBlock>,
    /// The transition to stage 2.
    pub pool2: Option<ConvNorm>,
    /// The blocks of stage 2.
    pub conv3: Vec<OsBlock>,
    /// The transition to stage 3.
    pub pool3: Option<ConvNorm>,
    /// The blocks of stage 3.
    pub conv4: Vec<OsBlock>,
    /// Stage 4, a 1 x 1 convolution.
    pub conv5: Option<ConvNorm>,
    /// The blocks after the four stages, if there are any.
    pub after: Vec<Option<A>>,
    /// The kind of stem, which defines the pooling after `conv1`.
    #[module(skip)]
    pub stem: Stem,
}

impl<A: BlockConfig> BlockConfig for OsNetConfig<A> {
    type Block = OsNet<A::Block>;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> Self::Block {
        Problems::refuse("an OSNet", |problems| self.validate(input, problems));
        let (shapes, channels) = (self.shapes(input), self.channels);
        let (kernel, stride) = self.stem.convolution();
        let stem = convolution::square([input.channels, channels[0]], kernel, stride, 1);
        let mut conv1 = ConvNorm::new(&stem, &init.named("stem"));
        if self.instance_stem {
            conv1.bn = None;
        }
        let norm = || InstanceNormConfig::new(channels[0]).init(init.device());
        let stage = |stage: usize, input| {
            let init = init.named("stage").at(stage);
            self.stage(stage).init(input, &init)
        };
        let transition = |stage: usize| {
            let (from, to) = (shapes[stage].channels, channels[stage]);
            ConvNorm::pointwise(from, to, &init.named("transition").at(stage))
        };
        let after = |stage: usize| {
            let shape = self.stage_output(stage, shapes[stage]);
            let init = init.named("after").at(stage);
            self.after_stage(stage)
                .map(|after| after.init(shape, &init))
        };
        let last = ConvNorm::pointwise(shapes[3].channels, channels[3], &init.named("last"));
        OsNet {
            conv1,
            in1: self.instance_stem.then(norm),
            conv2: stage(0, shapes[0]),
            pool2: Some(transition(1)),
            conv3: stage(1, self.pooled(1, shapes[1])),
            pool3: Some(transition(2)),
            conv4: stage(2, self.pooled(2, shapes[2])),
            conv5: Some(last),
            after: (0..4).map(after).collect(),
            stem: self.stem,
        }
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        self.shapes(input)[4]
    }

    fn fits_one_size(&self) -> bool {
        after_stage::fit_one_size(&self.after)
    }

    fn stage_paths(&self) -> StagePaths {
        let modules = [
            ("conv1", 0),
            ("in1", 0),
            ("conv2", 1),
            ("pool2", 2),
            ("conv3", 2),
            ("pool3", 3),
            ("conv4", 3),
            ("conv5", 4),
        ];
        StagePaths::new(modules).and(after_stage::stage_paths(1))
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        if self.validate_ranges(problems) {
            self.validate_shapes(input, problems);
        } else {
            after_stage::validate_for_any(&self.after, problems);
        }
    }
}

impl<A: Block> OsNet<A> {
    /// Computes the feature maps after the stem and after each of the four stages. The block after a stage,
    /// if there is one, belongs to the stage.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`
    /// - results: as [`OsNetConfig::shapes`] returns them
    pub fn stages(&self, images: Tensor<4>) -> [Tensor<4>; 5] {
        let stem = self.stem(images);
        let one = self.after[0].forward(self.conv2.forward(stem.clone()));
        let two = transition(self.pool2.as_ref(), one.clone());
        let two = self.conv3.forward(two);
        let two = self.after[1].forward(two);
        let three = transition(self.pool3.as_ref(), two.clone());
        let three = self.conv4.forward(three);
        let three = self.after[2].forward(three);
        let four = pointwise(self.conv5.as_ref(), three.clone());
        let four = self.after[3].forward(four);
        [stem, one, two, three, four]
    }

    fn stem(&self, images: Tensor<4>) -> Tensor<4> {
        let features = match &self.in1 {
            None => self.conv1.apply(images, Epilogue::Relu),
            Some(norm) => norm.forward_relu(self.conv1.apply(images, Epilogue::None)),
        };
        self.stem.pool(features)
    }
}

/// Applies a 1 x 1 convolution with ReLU, then averages each 2 x 2 window; an odd last row or column is
/// dropped. Returns the features unchanged if there is no convolution.
fn transition(conv: Option<&ConvNorm>, features: Tensor<4>) -> Tensor<4> {
    if conv.is_none() {
        return features;
    }
    let features = pointwise(conv, features);
    reid_ops::window_avg_pool2d(features, [2, 2])
}

/// Applies a 1 x 1 convolution with ReLU, if there is one.
fn pointwise(conv: Option<&ConvNorm>, features: Tensor<4>) -> Tensor<4> {
    match conv {
        Some(conv) => conv.apply(features, Epilogue::Relu),
        None => features,
    }
}

impl<A: Block> Block for OsNet<A> {
    fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let [_, _, _, _, features] = self.stages(images);
        features
    }

    fn fold_batch_norm(self) -> Self {
        Self {
            conv1: self.conv1.folded(),
            in1: self.in1,
            conv2: self.conv2.fold_batch_norm(),
            pool2: self.pool2.map(ConvNorm::folded),
            conv3: self.conv3.fold_batch_norm(),
            pool3: self.pool3.map(ConvNorm::folded),
            conv4: self.conv4.fold_batch_norm(),
            conv5: self.conv5.map(ConvNorm::folded),
            after: self.after.fold_batch_norm(),
            stem: self.stem,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use reid_core::InputSize;

    use super::*;
    use crate::{fixtures, parameters};

    #[test]
    fn shapes_and_parameter_counts_match_the_published_ones() {
        let device = Device::default();
        let image = InputSize::PERSON.rgb();
        let cases = [
            (OsNetConfig::x1_0(), 1_905_828, "512x16x8"),
            (OsNetConfig::x0_75(), 1_087_610, "384x16x8"),
            (OsNetConfig::x0_5(), 497_426, "256x16x8"),
            (OsNetConfig::x0_25(), 134_792, "128x16x8"),
            (OsNetConfig::ibn_x1_0(), 1_906_852, "512x16x8"),
            (OsNetConfig::ain_x1_0(), 1_905_828, "512x16x8"),
        ];
        for (config, count, shape) in cases {
            let network = config.init(image, &fixtures::init(&device));
            assert_eq!(parameters::count(&network), count, "{config:?}");
            assert_eq!(config.output(image).to_string(), shape);
        }
    }

    #[test]
    fn shapes_match_the_configuration_for_odd_sizes() {
        let device = Device::default();
        let config = OsNetConfig::x0_25().with_channels([4, 8, 12, 16]);
        let config = config.after(&[1, 3], ());
        for size in [InputSize::new(64, 32), InputSize::new(70, 45)] {
            let network = config.init(size.rgb(), &fixtures::init(&device));
            let images = Tensor::ones([1, 3, size.height, size.width], &device);
            let shapes = config.shapes(size.rgb());
            for (found, expected) in network.stages(images).iter().zip(shapes) {
                let [_, channels, height, width] = found.dims();
                assert_eq!(FeatureShape::new(channels, height, width), expected);
            }
        }
    }

    #[test]
    fn every_problem_has_its_path() {
        let mut config = OsNetConfig::x0_25().with_channels([0, 64, 97, 128]);
        config.blocks[2] = Vec::new();
        let mut problems = Problems::new();
        config
            .after(&[5], ())
            .validate(InputSize::PERSON.rgb(), &mut problems);
        let expected = "channels[0]: expected 1 to 4096, found 0\n\
            channels[2]: expected a multiple of 4 from 4 to 4096, found 97\n\
            blocks[2]: expected 1 to 256 blocks, found 0\n\
            after[0].stage: expected 1 to 4, found 5";
        assert_eq!(problems.to_string(), expected);
    }

    #[test]
    #[should_panic(
        expected = "stem: expected images large enough for two 2 x 2 poolings after the stem, found images of 3x16x8"
    )]
    fn small_images_panic() {
        let image = InputSize::new(16, 8).rgb();
        let _ = OsNetConfig::x0_25().init(image, &fixtures::init(&Device::default()));
    }
}
