//! Compares the networks for small images and their blocks with reference values from
//! `tests/golden/make_cifar.py`.

use std::collections::BTreeSet;

use burn::tensor::Device;
use reid::{
    core::{FeatureShape, Seed},
    nn::{
        Block, BlockConfig, Init,
        attention::{RgaChannelConfig, RgaSpatialConfig},
        backbone::{
            DenseLayerConfig, DenseNetConfig, ResNetConfig, ResidualBlockConfig, ResidualKind,
            Shortcut,
        },
    },
};

use crate::golden::{
    self, Checker, Golden,
    part::{compare, compare_network},
};

const CHECKERS: [Checker; 1] = [("cifar", cifar)];

#[test]
fn every_known_golden_file_agrees() {
    golden::check_files(&CHECKERS);
}

fn cifar(golden: &Golden) {
    let dense_layer = |bottleneck| DenseLayerConfig {
        growth: 4,
        bottleneck,
        dropout: 0.0,
    };
    let basic = ResidualBlockConfig {
        stride: 2,
        shortcut: Shortcut::Padded,
        ..ResidualBlockConfig::new(ResidualKind::Basic, 9)
    };
    let resnet = || ResNetConfig::cifar(20).with_width(3);
    let option_b = resnet().with_shortcut(Shortcut::Projection);
    let names = golden.names().filter_map(|name| name.split_once('.'));
    for part in names.map(|(part, _)| part).collect::<BTreeSet<_>>() {
        match part {
            "basic_padded" => block(golden, part, &basic),
            "resnet20_a" => network(golden, part, &resnet()),
            "resnet20_b" => network(golden, part, &option_b),
            "dense_layer" => block(golden, part, &dense_layer(None)),
            "dense_bottleneck" => block(golden, part, &dense_layer(Some(2))),
            "densenet" => network(golden, part, &densenet(4, 6, DenseNetConfig::cifar(10))),
            "densenet_bc_rga" => {
                let rga = (
                    RgaSpatialConfig::new().with_s1(4).with_s2(4),
                    RgaChannelConfig::new().with_s1(4).with_s2(4),
                );
                let network = densenet(6, 8, DenseNetConfig::cifar_bc(10)).after(&[1], rga);
                self::network(golden, part, &network);
            }
            "densenet_large" => {
                let mut large = densenet(4, 6, DenseNetConfig::densenet121());
                large.blocks[3] = 1;
                network(golden, part, &large);
            }
            other => golden.fail(format!("{other}: no checker for this part")),
        }
    }
}

/// A network of three blocks of 2, 1 and 1 layers.
fn densenet(growth: usize, stem_channels: usize, network: DenseNetConfig) -> DenseNetConfig {
    DenseNetConfig {
        blocks: [2, 1, 1, 0],
        stem_channels,
        growth,
        ..network
    }
}

fn block(golden: &Golden, part: &str, config: &impl BlockConfig) {
    compare(golden, part, initial(golden, part, config), Block::forward);
}

fn network(golden: &Golden, part: &str, config: &impl BlockConfig) {
    compare_network(golden, part, initial(golden, part, config), Block::forward);
}

fn initial<C: BlockConfig>(golden: &Golden, part: &str, config: &C) -> C::Block {
    let [_, channels, height, width] = golden.shape(&format!("{part}.grad.input"));
    let input = FeatureShape::new(channels, height, width);
    let device = Device::default().autodiff();
    config.init(input, &Init::new(Seed::new(1), &device))
}
