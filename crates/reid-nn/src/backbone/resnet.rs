//! ResNet and ResNeXt (He et al., CVPR 2016, arXiv:1512.03385; Xie et al., CVPR 2017,
//! arXiv:1611.05431).

use burn::{module::Module, nn::conv::Conv2d, tensor::Tensor};
use reid_core::{FeatureShape, Problems};
use reid_ops::Epilogue;

use super::{ConvNorm, Ibn, ResNetConfig, ResidualBlock, Stem, after_stage};
use crate::{
    block::{Block, BlockConfig, Identity, TRIAL_SHAPES},
    convolution,
    init::Init,
    norm::{BatchNorm, BatchNormConfig, InstanceNorm, InstanceNormConfig},
    stage_paths::StagePaths,
};

/// A residual network with two sockets, where custom blocks can be inserted: inside every residual block
/// before the addition, and after chosen stages.
///
/// ```text
/// x₀ = pool(relu(bn1(conv1 · image)))     with two more convolutions before the pooling in a deep stem
/// xₛ = after(layerₛ(xₛ₋₁))       s = 1 … 4
/// ```
///
/// The fields are named as in torchvision, so its weights load without renaming. The classifier `fc` is not
/// part of the backbone; the head has one.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{BlockConfig, Init, attention::SqueezeExcitationConfig, backbone::ResNetConfig};
///
/// let config = ResNetConfig::resnet50()
///     .with_width(8)
///     .with_last_stride(1)
///     .after(&[3, 4], SqueezeExcitationConfig::new());
/// let (device, image) = (Device::default(), InputSize::new(64, 32).rgb());
/// let init = Init::new(Seed::new(1), &device);
/// let network = config.init(image, &init);
///
/// assert_eq!(config.output(image).to_string(), "256x4x2");
/// let stages = network.stages(Tensor::ones([1, 3, 64, 32], &device));
/// assert_eq!(stages[4].dims(), [1, 256, 4, 2]);
/// assert_eq!(stages[1].dims(), [1, 32, 16, 8]);
/// ```
#[derive(Module, Debug)]
pub struct ResNet<I = Identity, A = Identity> {
    /// The convolution of the stem.
    pub conv1: Conv2d,
    /// The batch normalisation of the stem; absent in IBN-b and when [folded](Block::fold_batch_norm).
    pub bn1: Option<BatchNorm>,
    /// The instance normalisation of the stem; present in IBN-b only.
    pub in1: Option<InstanceNorm>,
    /// The second and the third convolution of a deep stem, and their batch normalisations.
    pub deep: Option<(ConvNorm, ConvNorm)>,
    /// First stage.
    pub layer1: Vec<ResidualBlock<I>>,
    /// Second stage.
    pub layer2: Vec<ResidualBlock<I>>,
    /// Third stage.
    pub layer3: Vec<ResidualBlock<I>>,
    /// Last stage.
    pub layer4: Vec<ResidualBlock<I>>,
    /// The blocks after the four stages, if there are any.
    pub after: Vec<Option<A>>,
    /// The kind of stem, which defines the pooling after `conv1`.
    #[module(skip)]
    pub stem: Stem,
}

impl<I: BlockConfig + Clone, A: BlockConfig> BlockConfig for ResNetConfig<I, A> {
    type Block = ResNet<I::Block, A::Block>;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> Self::Block {
        Problems::refuse("a ResNet", |problems| self.validate(input, problems));
        let shapes = self.shapes(input);
        let (kernel, stride) = self.stem.convolution();
        let stem_width = self.stem.first_channels(self.width);
        let conv1 = convolution::square([input.channels, stem_width], kernel, stride, 1);
        let layer = |stage: usize| {
            let init = init.named("layer").at(stage);
            self.stage(stage).init(shapes[stage], &init)
        };
        let after = |stage: usize| {
            let residual = self.stage(stage).output(shapes[stage]);
            let init = init.named("after").at(stage);
            self.after_stage(stage)
                .map(|after| after.init(residual, &init))
        };
        ResNet {
            conv1: init.conv2d(&conv1.with_initializer(self.fan.initializer())),
            bn1: (self.ibn != Ibn::B).then(|| BatchNormConfig::new(stem_width).init(init.device())),
            in1: (self.ibn == Ibn::B)
                .then(|| InstanceNormConfig::new(stem_width).init(init.device())),
            deep: self.stem.is_deep().then(|| {
                let layer = |to, index| {
                    let config = convolution::square([stem_width, to], 3, 1, 1);
                    ConvNorm::new(&config, &init.named("deep").at(index))
                };
                (layer(stem_width, 0), layer(2 * stem_width, 1))
            }),
            layer1: layer(0),
            layer2: layer(1),
            layer3: layer(2),
            layer4: layer(3),
            after: (0..4).map(after).collect(),
            stem: self.stem,
        }
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        self.shapes(input)[4]
    }

    fn fits_one_size(&self) -> bool {
        self.inside.fits_one_size() || after_stage::fit_one_size(&self.after)
    }

    fn stage_paths(&self) -> StagePaths {
        let stem = ["conv1", "bn1", "in1", "deep"].map(|module| (module, 0));
        let stages = ["layer1", "layer2", "layer3", "layer4"]
            .into_iter()
            .zip(1..);
        StagePaths::new(stem.into_iter().chain(stages)).and(after_stage::stage_paths(1))
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        if self.validate_ranges(problems) && self.validate_fit(input, problems) {
            self.validate_sockets(input, problems);
        } else {
            problems.at("inside", |problems| {
                problems.nested_for_any(TRIAL_SHAPES, |map, problems| {
                    self.inside.validate(map, problems);
                });
            });
            after_stage::validate_for_any(&self.after, problems);
        }
    }
}

impl<I: Block, A: Block> ResNet<I, A> {
    /// Computes the feature maps after the stem and after each of the four stages. The block after a stage,
    /// if there is one, belongs to the stage.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`
    /// - results: as [`ResNetConfig::shapes`] returns them
    pub fn stages(&self, images: Tensor<4>) -> [Tensor<4>; 5] {
        let stem = self.stem(images);
        let one = self.after[0].forward(self.layer1.forward(stem.clone()));
        let two = self.after[1].forward(self.layer2.forward(one.clone()));
        let three = self.after[2].forward(self.layer3.forward(two.clone()));
        let four = self.after[3].forward(self.layer4.forward(three.clone()));
        [stem, one, two, three, four]
    }

    fn stem(&self, images: Tensor<4>) -> Tensor<4> {
        let features = match &self.in1 {
            None => convolution::normalised(&self.conv1, self.bn1.as_ref(), images, Epilogue::Relu),
            Some(norm) => norm.forward_relu(convolution::apply(&self.conv1, images)),
        };
        let features = match &self.deep {
            None => features,
            Some((second, third)) => {
                third.apply(second.apply(features, Epilogue::Relu), Epilogue::Relu)
            }
        };
        self.stem.pool(features)
    }
}

impl<I: Block, A: Block> Block for ResNet<I, A> {
    fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let [_, _, _, _, features] = self.stages(images);
        features
    }

    fn fold_batch_norm(self) -> Self {
        let (conv1, bn1) = convolution::fold_if(self.conv1, self.bn1);
        Self {
            conv1,
            bn1,
            in1: self.in1,
            deep: self
                .deep
                .map(|(second, third)| (second.folded(), third.folded())),
            layer1: self.layer1.fold_batch_norm(),
            layer2: self.layer2.fold_batch_norm(),
            layer3: self.layer3.fold_batch_norm(),
            layer4: self.layer4.fold_batch_norm(),
            after: self.after.fold_batch_norm(),
            stem: self.stem,
        }
    }
}

#[cfg(test)]
mod tests {
    use reid_core::InputSize;

    use burn::tensor::Device;

    use super::{
        super::{Dilation, FirstDilation, MaxPool},
        *,
    };
    use crate::{fixtures, parameters};

    #[test]
    fn shapes_and_parameter_counts_match_the_published_ones() {
        let device = Device::default();
        let image = InputSize::PERSON.rgb();
        // Convolutions and normalisations: torchvision's totals without the classifier `fc`.
        let cases = [
            (ResNetConfig::resnet18(), 11_176_512, "512x8x4"),
            (ResNetConfig::resnet34(), 21_284_672, "512x8x4"),
            (ResNetConfig::resnet50(), 23_508_032, "2048x8x4"),
            (ResNetConfig::resnet101(), 42_500_160, "2048x8x4"),
            (ResNetConfig::resnet152(), 58_143_808, "2048x8x4"),
            (ResNetConfig::resnext50(), 22_979_904, "2048x8x4"),
            (ResNetConfig::resnext101(), 42_128_704, "2048x8x4"),
        ];
        for (config, count, shape) in cases {
            let network = config.init(image, &fixtures::init(&device));
            assert_eq!(parameters::count(&network), count, "{config:?}");
            assert_eq!(config.output(image).to_string(), shape);
            assert_eq!(config.with_last_stride(1).output(image).positions(), 128);
        }
    }

    #[test]
    fn shapes_match_the_configuration_for_both_max_poolings() {
        let device = Device::default();
        let pools = [MaxPool::Padded, MaxPool::Ceil];
        for stem in pools
            .into_iter()
            .flat_map(|pool| [Stem::Large(pool), Stem::Deep(pool), Stem::DeepHalf(pool)])
        {
            for size in [InputSize::new(64, 32), InputSize::new(70, 33)] {
                let config = ResNetConfig::resnet18().with_width(2).with_stem(stem);
                let image = Tensor::ones([1, 3, size.height, size.width], &device);
                let stages = config
                    .init(size.rgb(), &fixtures::init(&device))
                    .stages(image);
                for (found, expected) in stages.iter().zip(config.shapes(size.rgb())) {
                    let FeatureShape {
                        channels,
                        height,
                        width,
                    } = expected;
                    assert_eq!(
                        found.dims(),
                        [1, channels, height, width],
                        "{stem:?} {size}"
                    );
                }
            }
        }
    }

    #[test]
    fn dilated_networks_keep_their_size_and_their_parameters() {
        let device = Device::default();
        let image = InputSize::new(769, 769).rgb();
        // Output sides of the stages, and the dilations of the first and second block of stages 3 and 4.
        let cases = [
            (Dilation::None, [193, 97, 49, 25], [1, 1, 1, 1]),
            (
                Dilation::Stride16(FirstDilation::Previous),
                [193, 97, 49, 49],
                [1, 1, 1, 2],
            ),
            (
                Dilation::Stride8(FirstDilation::Previous),
                [193, 97, 97, 97],
                [1, 2, 2, 4],
            ),
            (
                Dilation::Stride8(FirstDilation::Stage),
                [193, 97, 97, 97],
                [2, 2, 4, 4],
            ),
        ];
        for (dilation, sides, dilations) in cases {
            let config = ResNetConfig::resnet101().with_dilation(dilation);
            let [_, shapes @ ..] = config.shapes(image);
            assert_eq!(shapes.map(|shape| shape.height), sides, "{dilation:?}");
            let network = config.init(image, &fixtures::init(&device));
            assert_eq!(parameters::count(&network), 42_500_160, "{dilation:?}");
            let blocks = [&network.layer3, &network.layer4];
            let found = blocks.map(|stage| [0, 1].map(|block| stage[block].conv2.dilation[0]));
            assert_eq!(found.concat(), dilations, "{dilation:?}");
            let strides = blocks.map(|stage| {
                let (shortcut, _) = stage[0].downsample.as_ref().expect("a shortcut");
                [stage[0].conv2.stride, shortcut.stride]
            });
            let expected = [2, 3].map(|stage| [[sides[stage - 1].div_ceil(sides[stage]); 2]; 2]);
            assert_eq!(strides, expected, "{dilation:?}");
        }
    }

    #[test]
    fn the_deep_stem_doubles_the_channels_of_the_first_stage() {
        let (device, image) = (Device::default(), InputSize::new(64, 64).rgb());
        let config = ResNetConfig::resnet101().with_stem(Stem::Deep(MaxPool::Padded));
        let network = config.init(image, &fixtures::init(&device));
        // The published backbone of PSPNet: semseg's deep stem with an entry of 128 channels.
        assert_eq!(parameters::count(&network), 42_623_936);
        assert_eq!(config.shapes(image)[0], FeatureShape::new(128, 16, 16));
        // mmsegmentation's ResNetV1c-50 has 19,232 parameters more than torchvision's 23,508,032.
        let config = ResNetConfig::resnet50().with_stem(Stem::DeepHalf(MaxPool::Padded));
        let network = config.init(image, &fixtures::init(&device));
        assert_eq!(parameters::count(&network), 23_527_264);
        assert_eq!(config.shapes(image)[0], FeatureShape::new(64, 16, 16));
    }

    #[test]
    #[should_panic(
        expected = "width: expected an even number for a deep stem of half the channels, \
                               found 3"
    )]
    fn an_odd_width_of_a_halved_stem_panics() {
        let config = ResNetConfig::resnet18().with_width(3);
        let config = config.with_stem(Stem::DeepHalf(MaxPool::Padded));
        let image = InputSize::new(64, 64).rgb();
        let _ = config.init(image, &fixtures::init(&Device::default()));
    }

    #[test]
    fn a_folded_deep_stem_computes_the_same() {
        let (device, image) = (Device::default(), InputSize::new(32, 32).rgb());
        let mut config = ResNetConfig::resnet50().with_width(2);
        config = config
            .with_stem(Stem::Deep(MaxPool::Ceil))
            .with_dilation(Dilation::Stride8(FirstDilation::Stage));
        let network = fixtures::weights(config.init(image, &fixtures::init(&device)));
        let images = fixtures::tensor([1, 3, 32, 32], -1.0..1.0, &device);
        let expected = network.forward(images.clone());
        let found = network.fold_batch_norm().forward(images);
        let difference = (found - expected.clone()).abs().max().into_scalar::<f32>();
        let largest = expected.abs().max().into_scalar::<f32>();
        assert!(difference <= 1e-4 * largest, "{difference} of {largest}");
    }

    #[test]
    #[should_panic(expected = "a ResNet: dilation: expected none for a last stride of 1")]
    fn dilation_and_a_last_stride_of_1_panic() {
        let config = ResNetConfig::resnet50().with_last_stride(1);
        let config = config.with_dilation(Dilation::Stride16(FirstDilation::Stage));
        let _ = config.init(InputSize::PERSON.rgb(), &fixtures::init(&Device::default()));
    }

    #[test]
    #[should_panic(expected = "a ResNet: dilation: expected none for basic blocks")]
    fn dilated_basic_blocks_panic() {
        let config = ResNetConfig::resnet18();
        let config = config.with_dilation(Dilation::Stride16(FirstDilation::Stage));
        let _ = config.init(InputSize::PERSON.rgb(), &fixtures::init(&Device::default()));
    }

    #[test]
    #[should_panic(expected = "a ResNet: last_stride: expected 1 to 2, found 3")]
    fn a_last_stride_of_3_panics() {
        let config = ResNetConfig::resnet18().with_last_stride(3);
        let _ = config.init(InputSize::PERSON.rgb(), &fixtures::init(&Device::default()));
    }

    #[test]
    #[should_panic(
        expected = "after[1].stage: expected a stage that no other entry names, found 3 twice"
    )]
    fn two_entries_for_one_stage_panic() {
        let config = ResNetConfig::resnet18().after(&[3], ()).and_after(&[3], ());
        let _ = config.init(InputSize::PERSON.rgb(), &fixtures::init(&Device::default()));
    }

    #[test]
    #[should_panic(expected = "a ResNet: after[0].stage: expected 1 to 4, found 0")]
    fn stage_0_panics() {
        let config = ResNetConfig::resnet18().after(&[0], ());
        let _ = config.init(InputSize::PERSON.rgb(), &fixtures::init(&Device::default()));
    }
}
