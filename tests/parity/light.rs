//! Compares `OSNet`, `LightMBN`, `MobileNetV2` and their blocks with reference values from `tests/golden/make_light.py`.

use std::collections::BTreeSet;

use burn::tensor::{Device, Tensor};
use reid::{
    core::{FeatureShape, InputSize, Seed},
    nn::{
        Block, BlockConfig, Init, Network, TrainingStep,
        backbone::{
            InvertedResidualConfig, MobileNetV2Config, OsBlockConfig, OsInstanceNorm, OsNetConfig,
            Stem,
        },
    },
    zoo::{LightMbn, LightMbnConfig},
};

use crate::golden::{
    self, Checker, Golden, LOGITS,
    part::{compare, compare_network, compare_network_within},
};

const CHECKERS: [Checker; 2] = [("light_mbn", light_mbn), ("light", light)];

#[test]
fn every_known_golden_file_agrees() {
    golden::check_files(&CHECKERS);
}

fn light(golden: &Golden) {
    let os_block = |channels, instance| OsBlockConfig { channels, instance };
    let inverted = |channels, stride, expansion| InvertedResidualConfig {
        channels,
        expansion,
        stride,
    };
    let names = golden.names().filter_map(|name| name.split_once('.'));
    for part in names.map(|(part, _)| part).collect::<BTreeSet<_>>() {
        match part {
            "os_block" => block(golden, part, &os_block(12, OsInstanceNorm::None)),
            "os_block_sum" => block(golden, part, &os_block(16, OsInstanceNorm::Sum)),
            "os_block_residual" => block(golden, part, &os_block(16, OsInstanceNorm::Residual)),
            "osnet" => network(golden, part, &osnet()),
            "osnet_ain" => network(golden, part, &osnet_ain()),
            "inverted" => block(golden, part, &inverted(4, 1, Some(6))),
            "inverted_strided" => block(golden, part, &inverted(6, 2, Some(6))),
            "inverted_first" => block(golden, part, &inverted(3, 1, None)),
            "mobilenet_v2" => network(golden, part, &mobilenet_v2()),
            other => golden.fail(format!("{other}: no checker for this part")),
        }
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

/// A small `LightMBN`: its embedding, the features of the three metric losses and the logits of the seven identity
/// losses, concatenated. In training, rows are dropped, and the logits follow many normalisations over few values.
fn light_mbn(golden: &Golden) {
    let part = "light_mbn";
    let [images, _, height, width] = golden.shape(&format!("{part}.grad.input"));
    let network = OsNetConfig::x0_25().with_channels([4, 12, 16, 16]);
    let mut config = LightMbnConfig::from_network(network.with_stem(Stem::Small));
    config.branches.dimensions = 6;
    let device = Device::default().autodiff();
    let init = Init::new(Seed::new(1), &device);
    let model = config.init(InputSize::new(height, width), 5, &init);
    let labels = vec![0; images];
    let step = TrainingStep::new(&labels, Seed::new(1));
    compare_network_within(
        golden,
        part,
        model,
        |model: &LightMbn, images: Tensor<4>| {
            let output = if images.device().is_autodiff() {
                model.forward_train(images, step)
            } else {
                model.forward(images)
            };
            let parts = output.features.into_iter().chain(output.logits);
            Tensor::cat([output.embedding].into_iter().chain(parts).collect(), 1)
        },
        LOGITS,
    );
}

/// Two blocks in the first stage and one in each of the others.
fn osnet() -> OsNetConfig {
    let mut network = OsNetConfig::x0_25().with_channels([4, 8, 12, 16]);
    network.blocks[1].truncate(1);
    network.blocks[2].truncate(1);
    network
}

/// One block per stage; the first and the last normalise their residuals per image.
fn osnet_ain() -> OsNetConfig {
    let mut network = OsNetConfig::ain_x1_0().with_channels([4, 8, 12, 16]);
    for blocks in &mut network.blocks {
        blocks.truncate(1);
    }
    network
}

fn mobilenet_v2() -> MobileNetV2Config {
    MobileNetV2Config {
        stem: 4,
        channels: [2, 3, 4, 5, 6, 7, 8],
        blocks: [1, 2, 1, 1, 1, 1, 1],
        last: 9,
        ..MobileNetV2Config::x1_0()
    }
}
