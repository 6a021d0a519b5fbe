//! `DenseNet`: every layer sees the output of all layers before it (Huang et al., Densely Connected
//! Convolutional Networks, CVPR 2017, arXiv:1608.06993).

use burn::{module::Module, nn::conv::Conv2d, tensor::Tensor};
use reid_core::{FeatureShape, Problems, Seed};
use reid_ops::Epilogue;

use super::{Stem, after_stage};
use crate::{
    block::{Block, BlockConfig, Identity},
    convolution,
    init::Init,
    norm::{BatchNorm, BatchNormConfig},
    stage_paths::StagePaths,
};

mod config;
mod layer;

pub use config::DenseNetConfig;
pub use layer::{DenseLayer, DenseLayerConfig, Transition};

/// A network of dense blocks, with a socket after each of its stages.
///
/// ```text
/// x₀ = conv0 · image                               small stem
/// x₀ = maxpool(relu(norm0(conv0 · image)))         large stem
/// xₛ = afterₛ(transitionₛ(denseblockₛ(xₛ₋₁)))
/// x  = after(relu(norm5(denseblock(x₋₁))))         the last block has no transition
/// ```
///
/// A transition belongs to the stage before it, so attention after stage 1 is attention after transition 1. A
/// network of three dense blocks has no stage 4. The fields are named as in torchvision, without `features`.
/// The classifier is part of the head.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{BlockConfig, Init, attention::SqueezeExcitationConfig, backbone::DenseNetConfig};
///
/// let config = DenseNetConfig::cifar_bc(16).after(&[1], SqueezeExcitationConfig::new());
/// let (device, image) = (Device::default(), InputSize::new(32, 32).rgb());
/// let network = config.init(image, &Init::new(Seed::new(1), &device));
///
/// assert_eq!(config.output(image).to_string(), "48x8x8");
/// let stages = network.stages(Tensor::ones([1, 3, 32, 32], &device));
/// assert_eq!(stages[1].dims(), [1, 24, 16, 16]);
/// assert_eq!(stages[4].dims(), [1, 48, 8, 8]);
/// ```
#[derive(Module, Debug)]
pub struct DenseNet<A = Identity> {
    /// The convolution of the stem.
    pub conv0: Conv2d,
    /// The normalisation of a large stem; absent in a small one and when [folded](Block::fold_batch_norm).
    pub norm0: Option<BatchNorm>,
    /// First dense block.
    pub denseblock1: Vec<DenseLayer>,
    /// The transition after it.
    pub transition1: Option<Transition>,
    /// Second dense block.
    pub denseblock2: Vec<DenseLayer>,
    /// The transition after it.
    pub transition2: Option<Transition>,
    /// Third dense block.
    pub denseblock3: Vec<DenseLayer>,
    /// The transition after it, if there is a fourth block.
    pub transition3: Option<Transition>,
    /// Fourth dense block; empty in networks for CIFAR.
    pub denseblock4: Vec<DenseLayer>,
    /// The normalisation after the last dense block.
    pub norm5: BatchNorm,
    /// The blocks after the four stages, if there are any.
    pub after: Vec<Option<A>>,
    /// The kind of stem, which defines the operations after `conv0`.
    #[module(skip)]
    pub stem: Stem,
}

impl<A: BlockConfig> BlockConfig for DenseNetConfig<A> {
    type Block = DenseNet<A::Block>;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> Self::Block {
        Problems::refuse("a DenseNet", |problems| self.validate(input, problems));
        let shapes = self.shapes(input);
        let (kernel, stride) = self.stem.convolution();
        let conv0 = convolution::square([input.channels, self.stem_channels], kernel, stride, 1);
        let norm = |channels| BatchNormConfig::new(channels).init(init.device());
        let dense = |stage: usize| self.layers(stage).output(shapes[stage]).channels;
        let block = |stage: usize| {
            let init = init.named("denseblock").at(stage);
            self.layers(stage).init(shapes[stage], &init)
        };
        let transition = |stage: usize| {
            let channels = dense(stage);
            let init = init.named("transition").at(stage);
            let new =
                || Transition::new([channels, self.compressed(channels)], self.dropout, &init);
            self.has_transition(stage).then(new)
        };
        let after = |stage: usize| {
            let shape = self.stage_output(stage, shapes[stage]);
            let init = init.named("after").at(stage);
            self.after_stage(stage)
                .map(|after| after.init(shape, &init))
        };
        DenseNet {
            conv0: init.conv2d(&conv0),
            norm0: (self.stem != Stem::Small).then(|| norm(self.stem_channels)),
            denseblock1: block(0),
            transition1: transition(0),
            denseblock2: block(1),
            transition2: transition(1),
            denseblock3: block(2),
            transition3: transition(2),
            denseblock4: block(3),
            norm5: norm(dense(self.last_stage())),
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
        let stem = ["conv0", "norm0"].map(|module| (module.to_owned(), 0));
        let stages = (1..=4).flat_map(|stage| {
            let modules = ["denseblock", "transition"];
            modules.map(|module| (format!("{module}{stage}"), stage))
        });
        let norm = ("norm5".to_owned(), self.last_stage() + 1);
        let paths = stem.into_iter().chain(stages).chain([norm]);
        StagePaths::new(paths).and(after_stage::stage_paths(1))
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        if self.validate_ranges(problems) {
            self.validate_shapes(input, problems);
        } else {
            after_stage::validate_for_any(&self.after, problems);
        }
    }
}

impl<A> DenseNet<A> {
    /// The layers of each dense block, and the transition after it.
    #[must_use]
    pub fn blocks(&self) -> [(&[DenseLayer], Option<&Transition>); 4] {
        [
            (&self.denseblock1, self.transition1.as_ref()),
            (&self.denseblock2, self.transition2.as_ref()),
            (&self.denseblock3, self.transition3.as_ref()),
            (&self.denseblock4, None),
        ]
    }
}

impl<A: Block> DenseNet<A> {
    /// Computes the feature maps after the stem and after each of the four stages. A stage is a dense block
    /// and the transition after it; the block after a stage, if there is one, belongs to the stage.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`
    /// - results: as [`DenseNetConfig::shapes`] returns them
    pub fn stages(&self, images: Tensor<4>) -> [Tensor<4>; 5] {
        self.stages_with(images, None)
    }

    /// Computes the feature maps; with dropout if there is a seed.
    fn stages_with(&self, images: Tensor<4>, seed: Option<Seed>) -> [Tensor<4>; 5] {
        let last = if self.denseblock4.is_empty() { 2 } else { 3 };
        let stage = |index: usize, features: Tensor<4>| {
            let (layers, transition) = self.blocks()[index];
            if layers.is_empty() {
                return features;
            }
            let seed = seed.map(|seed| seed.at(index as u64));
            let dense = layers
                .iter()
                .zip(0..)
                .fold(features, |features, (layer, index)| {
                    forward(
                        layer,
                        features,
                        seed.map(|seed| seed.named("layer").at(index)),
                    )
                });
            let features = match transition {
                Some(transition) => {
                    let seed = seed.map(|seed| seed.named("transition"));
                    forward(transition, dense, seed)
                }
                None => dense,
            };
            let features = if index == last {
                self.norm5.forward_relu(features)
            } else {
                features
            };
            self.after[index].forward(features)
        };
        let stem = self.stem(images);
        let one = stage(0, stem.clone());
        let two = stage(1, one.clone());
        let three = stage(2, two.clone());
        let four = stage(3, three.clone());
        [stem, one, two, three, four]
    }

    fn stem(&self, images: Tensor<4>) -> Tensor<4> {
        if self.stem == Stem::Small {
            return convolution::apply(&self.conv0, images);
        }
        let norm = self.norm0.as_ref();
        let features = convolution::normalised(&self.conv0, norm, images, Epilogue::Relu);
        self.stem.pool(features)
    }
}

/// Applies a block; in a training step if there is a seed.
fn forward<B: Block>(block: &B, features: Tensor<4>, seed: Option<Seed>) -> Tensor<4> {
    match seed {
        Some(seed) => block.forward_train(features, seed),
        None => block.forward(features),
    }
}

impl<A: Block> Block for DenseNet<A> {
    fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let [_, _, _, _, features] = self.stages(images);
        features
    }

    fn forward_train(&self, images: Tensor<4>, seed: Seed) -> Tensor<4> {
        let [_, _, _, _, features] = self.stages_with(images, Some(seed));
        features
    }

    fn fold_batch_norm(self) -> Self {
        let (conv0, norm0) = convolution::fold_if(self.conv0, self.norm0);
        Self {
            conv0,
            norm0,
            denseblock1: self.denseblock1.fold_batch_norm(),
            transition1: self.transition1,
            denseblock2: self.denseblock2.fold_batch_norm(),
            transition2: self.transition2,
            denseblock3: self.denseblock3.fold_batch_norm(),
            transition3: self.transition3,
            denseblock4: self.denseblock4.fold_batch_norm(),
            norm5: self.norm5,
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
    use crate::{
        HeadConfig,
        attention::{AttentionConfig, RgaChannelConfig, RgaSpatialConfig},
        fixtures,
        head::PooledHeadConfig,
        parameters,
    };

    const IMAGE: InputSize = InputSize::new(32, 32);

    fn count(config: &DenseNetConfig, classes: usize) -> usize {
        let (device, image) = (Device::default(), IMAGE.rgb());
        let network = config.init(image, &fixtures::init(&device));
        let head = PooledHeadConfig::new();
        let head = head.init(config.output(image), classes, &fixtures::init(&device));
        parameters::count(&network) + parameters::count(&head)
    }

    /// The counts of the paper's networks, with classifiers of 10 and 100 classes.
    #[test]
    fn parameter_counts_match_the_published_ones() {
        let plain = DenseNetConfig::cifar;
        let cases = [
            (plain(100), 6_979_642, 7_084_852),
            (plain(100).with_stem_channels(24), 7_083_538, 7_189_468),
            (plain(115), 9_302_122, 9_423_532),
            (plain(115).with_stem_channels(24), 9_422_098, 9_544_228),
            (DenseNetConfig::cifar_bc(100), 769_162, 800_032),
            (DenseNetConfig::cifar_bc(115), 932_986, 967_636),
        ];
        for (config, ten, hundred) in cases {
            assert_eq!(
                [count(&config, 10), count(&config, 100)],
                [ten, hundred],
                "{config:?}"
            );
        }
        assert_eq!(count(&plain(40), 10), 1_019_722);
        let device = Device::default();
        let published = DenseNetConfig::densenet121();
        let network = published.init(InputSize::PERSON.rgb(), &fixtures::init(&device));
        // torchvision's total without the classifier of 1000 classes.
        assert_eq!(parameters::count(&network), 7_978_856 - 1_025_000);
    }

    #[test]
    fn channels_match_the_published_ones() {
        let channels = |config: DenseNetConfig| config.shapes(IMAGE.rgb()).map(|map| map.channels);
        assert_eq!(
            channels(DenseNetConfig::cifar(100)),
            [16, 400, 784, 1168, 1168]
        );
        assert_eq!(
            channels(DenseNetConfig::cifar_bc(100)),
            [24, 108, 150, 342, 342]
        );
        let shapes = DenseNetConfig::densenet121().shapes(InputSize::PERSON.rgb());
        assert_eq!(shapes.map(|map| map.channels), [64, 128, 256, 512, 1024]);
        assert_eq!(shapes[4].to_string(), "1024x8x4");
    }

    /// Relation-aware attention after transition 1, with 256 positions and 108 or 400 channels (Zhang et al.,
    /// CVPR 2020, Table 7).
    #[test]
    fn relation_aware_attention_has_the_parameters_of_table_7() {
        let device = Device::default();
        let both = |ratio| {
            let spatial = RgaSpatialConfig::new().with_s1(ratio).with_s2(ratio);
            let channel = RgaChannelConfig::new().with_s1(ratio).with_s2(ratio);
            AttentionConfig::Chain(vec![spatial.into(), channel.into()])
        };
        let (bc, plain) = (DenseNetConfig::cifar_bc, DenseNetConfig::cifar);
        for (config, ratio, expected) in [
            (bc(100), 8, 48_505),
            (plain(100), 8, 142_088),
            (plain(100), 4, 286_924),
        ] {
            let network = config.init(IMAGE.rgb(), &fixtures::init(&device));
            let without = parameters::count(&network);
            let network = config.after(&[1], both(ratio));
            let network = network.init(IMAGE.rgb(), &fixtures::init(&device));
            assert_eq!(
                parameters::count(&network) - without,
                expected,
                "ratio {ratio}"
            );
        }
    }

    fn small() -> DenseNetConfig {
        let network = DenseNetConfig {
            growth: 4,
            stem_channels: 6,
            ..DenseNetConfig::cifar_bc(10)
        };
        network.with_dropout(0.5)
    }

    #[test]
    fn stages_have_the_announced_shapes() {
        let device = Device::default();
        let mut four = small();
        (four.blocks[3], four.stem) = (2, DenseNetConfig::densenet121().stem);
        for config in [small(), four] {
            for size in [InputSize::new(64, 32), InputSize::new(71, 45)] {
                let network = config.init(size.rgb(), &fixtures::init(&device));
                let images = Tensor::ones([1, 3, size.height, size.width], &device);
                let stages = network.stages(images).map(|map| map.dims());
                let shapes = config.shapes(size.rgb());
                assert_eq!(
                    stages,
                    shapes.map(|map| [1, map.channels, map.height, map.width])
                );
            }
        }
    }

    #[test]
    fn folding_keeps_the_output_and_dropout_applies_in_training_only() {
        let device = Device::default();
        let network = small().init(InputSize::new(16, 16).rgb(), &fixtures::init(&device));
        let images = fixtures::tensor([2, 3, 16, 16], -1.0..1.0, &device);
        let expected = network.forward(images.clone());
        let largest = |difference: Tensor<4>| difference.abs().max().into_scalar::<f32>();
        let train = |seed| network.forward_train(images.clone(), Seed::new(seed));
        assert!(largest(train(1) - expected.clone()) > 1e-3);
        assert!(largest(train(1) - train(2)) > 1e-3);
        let folded = network.clone().fold_batch_norm();
        assert!(folded.denseblock1[0].norm2.is_none());
        assert!(largest(folded.forward(images.clone()) - expected) < 1e-4);
    }

    #[test]
    fn every_problem_has_its_path() {
        let mut config = small();
        (config.blocks[1], config.growth, config.compression) = (0, 0, 1.5);
        let mut problems = Problems::new();
        config.after(&[4], ()).validate(IMAGE.rgb(), &mut problems);
        let expected = "blocks[1]: expected 1 to 512, found 0\n\
            growth: expected 1 to 4096, found 0\n\
            compression: expected above 0 and up to 1, found 1.5\n\
            after[0].stage: expected 1 to 3, because stage 4 is empty, found 4";
        assert_eq!(problems.to_string(), expected);

        let mut problems = Problems::new();
        small().validate(InputSize::new(3, 8).rgb(), &mut problems);
        let expected = "stem: expected images large enough for the 2 x 2 poolings after the stem, \
            found images of 3x3x8";
        assert_eq!(problems.to_string(), expected);
    }
}
