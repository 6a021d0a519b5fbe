//! Whole networks. Without optimisation, they take minutes each.

use burn::module::Module;
use reid::{
    core::{FeatureShape, Seed},
    nn::{
        BlockConfig, Criterion, CriterionConfig, HeadConfig, Init, ReidModel,
        attention::FncChannelConfig,
        backbone::{
            DenseNetConfig, Dilation, FirstDilation, Ibn, LateStagesConfig, MaxPool,
            MobileNetV2Config, OsNetConfig, OsNetLateStagesConfig, ResNetConfig, SplitPoint, Stem,
        },
        head::{
            BnNeckConfig, FncBranches, FncHeadConfig, LightMbnBranches, LightMbnHeadConfig,
            MgnHeadConfig, PooledHeadConfig, ReducedBnNeckConfig, StripeHeadConfig,
        },
        loss::{IdentityLossConfig, TripletLossConfig, WeightedConfig},
        pool::PoolConfig,
        segmentation::{DecodeHeadConfig, LabelMaps, PixelLoss, SegmentationConfig},
    },
};

use crate::{
    ActiveGates, LABELS, check, check_block, check_filled, check_head, device, filled, gate,
    loss_of_head, step, targets,
};

/// A network with one block per stage and 4 channels after the stem.
fn resnet(kind: ResNetConfig) -> ResNetConfig {
    ResNetConfig {
        blocks: [1; 4],
        width: 4,
        ..kind
    }
}

#[test]
fn instance_normalised_network() {
    let network = resnet(ResNetConfig::resnet50()).with_ibn(Ibn::B);
    check_block(&network, FeatureShape::new(3, 32, 32));
}

#[test]
fn omni_scale_network() {
    let mut network = OsNetConfig::ain_x1_0().with_channels([4, 12, 12, 12]);
    for blocks in &mut network.blocks {
        blocks.truncate(1);
    }
    let network = network.with_stem(Stem::Small).after(&[2, 4], gate());
    check_block(&network, FeatureShape::new(3, 8, 8));
}

#[test]
fn inverted_residual_network() {
    let network = MobileNetV2Config {
        stem: 3,
        channels: [2, 4, 4, 4, 4, 4, 4],
        blocks: [1; 7],
        last: 6,
        ..MobileNetV2Config::x1_0()
    };
    let network = network.with_last_stride(1).after(&[1, 4], gate());
    check_block(&network, FeatureShape::new(3, 32, 24));
}

#[test]
fn network_with_padded_shortcuts() {
    let network = ResNetConfig::cifar(8).with_width(4).after(&[1, 3], gate());
    check_block(&network, FeatureShape::new(3, 8, 8));
}

#[test]
fn dense_network() {
    // Small, so that few activations are near the kink of ReLU.
    let network = DenseNetConfig {
        stem_channels: 4,
        growth: 3,
        bottleneck: Some(2),
        ..DenseNetConfig::cifar_bc(10)
    };
    check_block(&network, FeatureShape::new(3, 4, 4));
}

#[test]
fn a_small_stem_and_grouped_bottlenecks() {
    let config = resnet(ResNetConfig::resnet50()).with_stem(Stem::Small);
    check_block(
        &config.with_groups(2, 32).with_last_stride(1),
        FeatureShape::new(3, 8, 8),
    );
}

#[test]
fn a_large_stem_and_sockets() {
    let config = resnet(ResNetConfig::resnet18()).with_stem(Stem::Large(MaxPool::Ceil));
    let config = config.inside(gate()).after(&[2, 4], gate());
    check_block(&config, FeatureShape::new(3, 32, 24));
}

#[test]
fn a_deep_stem_and_dilated_stages() {
    let pool = MaxPool::Padded;
    for (first, stem) in [
        (FirstDilation::Previous, Stem::DeepHalf(pool)),
        (FirstDilation::Stage, Stem::Deep(pool)),
    ] {
        let mut config = resnet(ResNetConfig::resnet50()).with_dilation(Dilation::Stride8(first));
        config.blocks[3] = 2;
        let config = config.with_stem(stem);
        check_block(&config, FeatureShape::new(3, 33, 25));
    }
}

#[test]
fn heads_with_late_stages() {
    let network = resnet(ResNetConfig::resnet18()).with_last_stride(1);
    let split = SplitPoint { stage: 4, block: 0 };
    let late_stages = LateStagesConfig { network, split };
    let neck = ReducedBnNeckConfig::new().with_dimensions(3);
    let branches = FncBranches::new()
        .with_spatial_neck(neck.clone())
        .with_channel(FncChannelConfig::new().with_hidden(4).with_groups(2))
        .with_channel_neck(neck);
    check_head(&FncHeadConfig {
        late_stages: Some(late_stages.clone()),
        branches,
    });
    let stripe_head = StripeHeadConfig::new().with_dimensions(2);
    let branches = vec![stripe_head.clone(), stripe_head.with_stripes(2)];
    check_head(&MgnHeadConfig {
        late_stages,
        branches,
    });
}

/// `LightMBN`. In training, the second part of the embedding has a dropped row.
#[test]
fn head_of_a_lightweight_multi_branch_network() {
    let network = OsNetConfig::x0_25().with_channels([4, 12, 12, 12]);
    let split = SplitPoint { stage: 2, block: 1 };
    let config = LightMbnHeadConfig {
        late_stages: OsNetLateStagesConfig { network, split },
        branches: LightMbnBranches::new().with_dimensions(3),
    };
    let map = FeatureShape::new(12, 8, 4);
    let head = config.init(map, 3, &Init::new(Seed::new(1), device()));
    let head = filled(head).map(&mut ActiveGates::default());
    check_filled(&head, [4, 12, 8, 4], &loss_of_head);
}

#[test]
fn a_model_and_its_losses() {
    let size = reid::core::InputSize::new(16, 8);
    let backbone = resnet(ResNetConfig::resnet50()).with_stem(Stem::Small);
    let heads = (
        BnNeckConfig::new(),
        PooledHeadConfig::new().with_pool(PoolConfig::GEM),
    );
    let model = ReidModel::new(
        &backbone,
        &heads,
        size,
        4,
        &Init::new(Seed::new(1), device()),
    );
    let losses = WeightedConfig {
        weight: 0.5,
        criterion: (IdentityLossConfig::new(), TripletLossConfig::new()),
    };
    let criterion = losses.init(
        &heads.output(backbone.output(size.rgb()), 4),
        &Init::new(Seed::new(1), device()),
    );
    check(
        (model, criterion),
        [8, 3, 16, 8],
        |(model, criterion), images| {
            let output = model.forward_train(images, step(&LABELS));
            criterion.forward(&output, &targets())
        },
    );
}

/// A segmentation model with an auxiliary head and dropout, and its losses. Some pixels have no label.
#[test]
fn a_segmentation_model_and_its_losses() {
    let size = reid::core::InputSize::new(17, 13);
    let mut backbone = resnet(ResNetConfig::resnet50()).with_stem(Stem::Small);
    backbone = backbone.with_dilation(Dilation::Stride8(FirstDilation::Stage));
    let config = SegmentationConfig::new(
        backbone,
        DecodeHeadConfig::plain()
            .with_channels(6)
            .with_attention(gate()),
    );
    let config = config.with_auxiliary(DecodeHeadConfig::auxiliary().with_channels(5));
    let model = config.init(size, 3, &Init::new(Seed::new(1), device()));
    let labels = (0..3 * 17 * 13_usize).map(|pixel| match pixel % 5 {
        0..3 => [0, 1, 2][pixel % 3],
        3 => 1,
        _ => 255,
    });
    let labels = LabelMaps::new(labels.collect(), [3, 17, 13], device());
    let loss = PixelLoss::new().with_class_weights(vec![0.5, 1.0, 2.0]);
    check(model, [3, 3, 17, 13], |model, images| {
        let losses = loss.losses(model.forward_train(images, Seed::new(1)), &labels);
        let [head, auxiliary] = [0, 1].map(|index| losses[index].value.clone());
        head + auxiliary
    });
}
