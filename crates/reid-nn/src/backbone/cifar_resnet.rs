//! ResNet for images of 32 x 32 (He et al., CVPR 2016, arXiv:1512.03385, section 4.2).

use super::{ResNetConfig, Shortcut, Stem};
use crate::convolution::Fan;

impl ResNetConfig {
    /// ResNet-(6n + 2) for images of 32 x 32, such as those of CIFAR: 3 stages of n basic blocks with 16, 32
    /// and 64 channels, and no stage 4.
    ///
    /// | depth | parameters, with a classifier of 10 classes | of 100 classes |
    /// |---|---|---|
    /// | 20 | 269,722 | 275,572 |
    /// | 32 | 464,154 | 470,004 |
    /// | 44 | 658,586 | 664,436 |
    /// | 56 | 853,018 | 858,868 |
    /// | 110 | 1,727,962 | 1,733,812 |
    /// | 218 | 3,477,850 | 3,483,700 |
    ///
    /// The stem is a 3 x 3 convolution, and the shortcuts have no parameters. The classifier is a
    /// [`PooledHead`](crate::head::PooledHead).
    ///
    /// ```
    /// use reid_core::InputSize;
    /// use reid_nn::{BlockConfig, backbone::{ResNetConfig, Shortcut}};
    ///
    /// let config = ResNetConfig::cifar(20);
    /// assert_eq!(config.output(InputSize::new(32, 32).rgb()).to_string(), "64x8x8");
    /// let option_b = config.with_shortcut(Shortcut::Projection);
    /// assert_eq!(option_b.blocks, [3, 3, 3, 0]);
    /// ```
    ///
    /// # Panics
    /// If the depth is not 6n + 2 for an n of at least 1.
    #[must_use]
    pub fn cifar(depth: usize) -> Self {
        assert!(
            depth >= 8 && depth % 6 == 2,
            "a ResNet for CIFAR needs a depth of 6n + 2, such as 20 or 110, found {depth}"
        );
        let blocks = (depth - 2) / 6;
        Self {
            blocks: [blocks, blocks, blocks, 0],
            width: 16,
            stem: Stem::Small,
            shortcut: Shortcut::Padded,
            fan: Fan::In,
            ..Self::resnet18()
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use reid_core::{InputSize, Problems};

    use super::*;
    use crate::{
        Block, BlockConfig, HeadConfig,
        attention::{AttentionConfig, RgaChannelConfig, RgaSpatialConfig},
        fixtures,
        head::PooledHeadConfig,
        parameters,
    };

    const IMAGE: InputSize = InputSize::new(32, 32);

    /// The counts of the common implementations, with classifiers of 10 and 100 classes.
    #[test]
    fn parameter_counts_match_the_published_ones() {
        let device = Device::default();
        let cases = [
            (20, 269_722, 275_572),
            (32, 464_154, 470_004),
            (44, 658_586, 664_436),
            (56, 853_018, 858_868),
            (110, 1_727_962, 1_733_812),
            (218, 3_477_850, 3_483_700),
        ];
        for (depth, ten, hundred) in cases {
            let config = ResNetConfig::cifar(depth);
            let network = config.init(IMAGE.rgb(), &fixtures::init(&device));
            let backbone = parameters::count(&network);
            for (classes, expected) in [(10, ten), (100, hundred)] {
                let head = PooledHeadConfig::new();
                let head = head.init(
                    config.output(IMAGE.rgb()),
                    classes,
                    &fixtures::init(&device),
                );
                assert_eq!(backbone + parameters::count(&head), expected, "{depth}");
            }
        }
        // A projection has 16·32 + 2·32 and 32·64 + 2·64 parameters.
        let option_b = ResNetConfig::cifar(20).with_shortcut(Shortcut::Projection);
        let network = option_b.init(IMAGE.rgb(), &fixtures::init(&device));
        assert_eq!(parameters::count(&network), 269_722 - 650 + 576 + 2176);
    }

    /// Relation-aware attention after stage 1, with 1024 positions and 16 channels (Zhang et al., CVPR 2020,
    /// Table 7).
    #[test]
    fn relation_aware_attention_has_the_parameters_of_table_7() {
        let device = Device::default();
        let plain = ResNetConfig::cifar(20).init(IMAGE.rgb(), &fixtures::init(&device));
        let count = |attention: AttentionConfig| {
            let config = ResNetConfig::cifar(20).after(&[1], attention);
            let network = config.init(IMAGE.rgb(), &fixtures::init(&device));
            parameters::count(&network) - parameters::count(&plain)
        };
        let spatial = RgaSpatialConfig::new().with_s1(4).with_s2(4);
        let channel = RgaChannelConfig::new().with_s1(4).with_s2(4);
        assert_eq!(count(spatial.clone().into()), 541_658);
        assert_eq!(count(channel.clone().into()), 788_114);
        let both = AttentionConfig::Chain(vec![spatial.into(), channel.into()]);
        assert_eq!(count(both), 1_329_772);
    }

    #[test]
    fn stages_have_the_announced_shapes_and_stage_4_is_empty() {
        let device = Device::default();
        for shortcut in [Shortcut::Padded, Shortcut::Projection] {
            for size in [IMAGE, InputSize::new(15, 9)] {
                let config = ResNetConfig::cifar(8).with_shortcut(shortcut);
                let network = config.init(size.rgb(), &fixtures::init(&device));
                let images = Tensor::ones([1, 3, size.height, size.width], &device);
                let stages = network.stages(images).map(|map| map.dims());
                let shapes = config.shapes(size.rgb());
                let shapes = shapes.map(|map| [1, map.channels, map.height, map.width]);
                assert_eq!(stages, shapes);
                assert_eq!(stages[3], stages[4]);
                assert!(network.layer4.is_empty());
            }
        }
    }

    #[test]
    fn folding_keeps_the_output_of_both_shortcuts() {
        let device = Device::default();
        for shortcut in [Shortcut::Padded, Shortcut::Projection] {
            let config = ResNetConfig::cifar(8).with_shortcut(shortcut);
            let network = config.init(InputSize::new(8, 8).rgb(), &fixtures::init(&device));
            let images = fixtures::tensor([2, 3, 8, 8], -1.0..1.0, &device);
            let expected = network.forward(images.clone());
            let folded = network.fold_batch_norm().forward(images);
            let difference = (folded - expected).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-4, "{shortcut:?}: {difference}");
        }
    }

    #[test]
    fn attention_after_the_empty_stage_and_missing_blocks_are_problems() {
        let mut config = ResNetConfig::cifar(20).after(&[4], ());
        config.blocks[1] = 0;
        let mut problems = Problems::new();
        config.validate(IMAGE.rgb(), &mut problems);
        let expected = "blocks[1]: expected 1 to 256, found 0\n\
            after[0].stage: expected 1 to 3, because stage 4 is empty, found 4";
        assert_eq!(problems.to_string(), expected);
    }

    #[test]
    #[should_panic(expected = "needs a depth of 6n + 2, such as 20 or 110, found 18")]
    fn another_depth_panics() {
        let _ = ResNetConfig::cifar(18);
    }
}
