//! `MobileNetV2`: a small network of inverted residual blocks (Sandler et al., MobileNetV2: Inverted Residuals
//! and Linear Bottlenecks, CVPR 2018, arXiv:1801.04381).

use burn::{module::Module, tensor::Tensor};
use reid_core::{FeatureShape, Problems};

use super::{ConvNorm, after_stage};
use crate::{
    block::{Block, BlockConfig, Identity},
    convolution,
    init::Init,
    stage_paths::StagePaths,
};

mod block;
mod config;

pub use block::{InvertedResidual, InvertedResidualConfig};
pub use config::MobileNetV2Config;

use block::relu6;
use config::STAGES;

/// A network of inverted residual blocks with a socket after each of its four stages.
///
/// ```text
/// x₀ = layer₀(relu6(bn(stem · image)))                         stride 2
/// x₁ = after₁(layer₁(x₀))                                      stride 4
/// x₂ = after₂(layer₂(x₁))                                      stride 8
/// x₃ = after₃(layer₄(layer₃(x₂)))                              stride 16
/// x₄ = after₄(relu6(bn(last · layer₆(layer₅(x₃)))))            stride 32, or 16 with a last stride of 1
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{BlockConfig, Init, attention::SqueezeExcitationConfig, backbone::MobileNetV2Config};
///
/// let config = MobileNetV2Config::x1_0().after(&[2], SqueezeExcitationConfig::new());
/// let (device, image) = (Device::default(), InputSize::new(64, 32).rgb());
/// let network = config.init(image, &Init::new(Seed::new(1), &device));
///
/// assert_eq!(config.output(image).to_string(), "1280x2x1");
/// let stages = network.stages(Tensor::ones([1, 3, 64, 32], &device));
/// assert_eq!(stages[4].dims(), [1, 1280, 2, 1]);
/// assert_eq!(stages[1].dims(), [1, 24, 16, 8]);
/// ```
#[derive(Module, Debug)]
pub struct MobileNetV2<A = Identity> {
    /// The first convolution.
    pub stem: ConvNorm,
    /// The seven layers of inverted residual blocks.
    pub layers: Vec<Vec<InvertedResidual>>,
    /// The last convolution.
    pub last: ConvNorm,
    /// The blocks after the four stages, if there are any.
    pub after: Vec<Option<A>>,
}

impl<A: BlockConfig> BlockConfig for MobileNetV2Config<A> {
    type Block = MobileNetV2<A::Block>;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> Self::Block {
        Problems::refuse("a MobileNetV2", |problems| self.validate(input, problems));
        let stem = convolution::square([input.channels, self.stem], 3, 2, 1);
        let mut layers = vec![
            self.layer(0)
                .init(self.convolved(input), &init.named("layer").at(0)),
        ];
        let mut after = Vec::new();
        for (stage, mut shape) in self.shapes(input).into_iter().take(4).enumerate() {
            for layer in STAGES[stage].clone() {
                let init = init.named("layer").at(layer);
                layers.push(self.layer(layer).init(shape, &init));
                shape = self.layer(layer).output(shape);
            }
            if stage == 3 {
                shape = shape.with_channels(self.last);
            }
            let init = init.named("after").at(stage);
            let block = self.after_stage(stage);
            after.push(block.map(|block| block.init(shape, &init)));
        }
        MobileNetV2 {
            stem: ConvNorm::new(&stem, &init.named("stem")),
            layers,
            last: ConvNorm::pointwise(self.channels[6], self.last, &init.named("last")),
            after,
        }
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        self.shapes(input)[4]
    }

    fn fits_one_size(&self) -> bool {
        after_stage::fit_one_size(&self.after)
    }

    fn stage_paths(&self) -> StagePaths {
        let layers = STAGES.into_iter().zip(1..);
        let layers = layers.flat_map(|(layers, stage)| {
            layers.map(move |layer| (format!("layers.{layer}"), stage))
        });
        let others = [("stem", 0), ("layers.0", 0), ("last", 4)];
        let stages = StagePaths::new(others).and(StagePaths::new(layers));
        stages.and(after_stage::stage_paths(1))
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        if self.validate_ranges(problems) {
            self.validate_sockets(input, problems);
        } else {
            after_stage::validate_for_any(&self.after, problems);
        }
    }
}

impl<A: Block> MobileNetV2<A> {
    /// Computes the feature maps after the stem and after each of the four stages. The stem includes the first
    /// layer, and the last convolution belongs to the last stage. The block after a stage, if there is one,
    /// belongs to the stage.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`
    /// - results: as [`MobileNetV2Config::shapes`] returns them
    pub fn stages(&self, images: Tensor<4>) -> [Tensor<4>; 5] {
        let stem = self.layers[0].forward(relu6(&self.stem, images));
        let one = self.after[0].forward(self.stage(0, stem.clone()));
        let two = self.after[1].forward(self.stage(1, one.clone()));
        let three = self.after[2].forward(self.stage(2, two.clone()));
        let four = relu6(&self.last, self.stage(3, three.clone()));
        let four = self.after[3].forward(four);
        [stem, one, two, three, four]
    }

    fn stage(&self, stage: usize, features: Tensor<4>) -> Tensor<4> {
        let layers = self.layers[STAGES[stage].clone()].iter();
        layers.fold(features, |features, layer| layer.forward(features))
    }
}

impl<A: Block> Block for MobileNetV2<A> {
    fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let [_, _, _, _, features] = self.stages(images);
        features
    }

    fn fold_batch_norm(self) -> Self {
        Self {
            stem: self.stem.folded(),
            layers: self.layers.fold_batch_norm(),
            last: self.last.folded(),
            after: self.after.fold_batch_norm(),
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
            (MobileNetV2Config::x1_0(), 2_223_872, "1280x8x4"),
            (MobileNetV2Config::x1_4(), 4_315_776, "1792x8x4"),
            (MobileNetV2Config::torchreid_x1_0(), 2_224_960, "1280x8x4"),
            (MobileNetV2Config::torchreid_x1_4(), 4_291_604, "1792x8x4"),
        ];
        for (config, count, shape) in cases {
            let network = config.init(image, &fixtures::init(&device));
            assert_eq!(parameters::count(&network), count, "{config:?}");
            assert_eq!(config.output(image).to_string(), shape);
            assert_eq!(config.with_last_stride(1).output(image).positions(), 128);
        }
    }

    #[test]
    fn shapes_match_the_configuration_for_odd_sizes() {
        let device = Device::default();
        let mut config = MobileNetV2Config::x1_0();
        (config.stem, config.channels, config.last) = (2, [2, 3, 4, 5, 6, 7, 8], 9);
        let config = config.after(&[1, 3], ());
        for size in [InputSize::new(64, 32), InputSize::new(33, 21)] {
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
        let mut config = MobileNetV2Config::x1_0().with_last_stride(3);
        (config.channels[2], config.blocks[6]) = (0, 0);
        let mut problems = Problems::new();
        config.validate(InputSize::PERSON.rgb(), &mut problems);
        let expected = "channels[2]: expected 1 to 8192, found 0\n\
            blocks[6]: expected 1 to 256, found 0\n\
            last_stride: expected 1 to 2, found 3";
        assert_eq!(problems.to_string(), expected);
    }
}
