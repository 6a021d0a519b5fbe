//! Blocks, attention, normalisation, pooling and resampling.

use burn::{module::Module, nn::conv::Conv2dConfig};
use reid::{
    core::{FeatureShape, Seed},
    nn::{
        Block, BlockConfig, Init,
        attention::{
            CbamChannelConfig, CbamSpatialConfig, ChannelGate, Combine, CombineGates, FixedSize,
            FncChannelConfig, FncSpatialConfig, FullyConnectedChannelConfig,
            FullyConnectedSpatialConfig, NonLocalConfig, ParallelConfig, ResizedConfig,
            RgaChannelConfig, RgaSpatialConfig, Similarity, SqueezeExcitationConfig, Terms,
        },
        backbone::{
            DenseLayerConfig, InstanceNormed, InvertedResidualConfig, OsBlockConfig,
            OsInstanceNorm, ResidualBlockConfig, ResidualKind, Shortcut,
        },
        block::Identity,
        convolution,
        norm::BatchNormConfig,
        pool::PoolConfig,
        resample::{self, Alignment, RoiAlign, SamplingRatio},
        segmentation::{AsppConfig, PyramidPoolingConfig},
    },
};

use crate::{MAP, check, check_block, device, gate, project};

fn residual<I>(kind: ResidualKind, stride: usize, inside: I) -> ResidualBlockConfig<I> {
    let config = ResidualBlockConfig {
        stride,
        ..ResidualBlockConfig::new(kind, 4)
    };
    config.inside(inside)
}

#[test]
fn the_empty_block() {
    check_block(&(), MAP);
}

#[test]
fn further_attention() {
    for merge in [Combine::Multiply, Combine::Add] {
        check_block(&FncSpatialConfig::new().with_combine(merge), MAP);
        let channel = FncChannelConfig::new().with_hidden(4).with_groups(2);
        let channel = channel.with_combine(merge);
        check_block(&channel.clone().with_gate(ChannelGate::Vector), MAP);
        check_block(&channel, MAP);
    }
}

#[test]
fn instance_normalised_blocks() {
    for instance in [InstanceNormed::Half, InstanceNormed::Sum] {
        let block = residual(ResidualKind::Bottleneck, 2, ());
        check_block(&ResidualBlockConfig { instance, ..block }, MAP);
    }
}

#[test]
fn omni_scale_blocks() {
    for instance in [
        OsInstanceNorm::None,
        OsInstanceNorm::Sum,
        OsInstanceNorm::Residual,
    ] {
        // With 8 channels, the hidden unit of the gate is inactive and has no gradient.
        let channels = 12;
        check_block(&OsBlockConfig { channels, instance }, MAP);
    }
}

#[test]
fn inverted_residual_blocks() {
    for (channels, expansion, stride) in [(4, Some(2), 1), (6, Some(6), 2), (3, None, 1)] {
        let config = InvertedResidualConfig {
            channels,
            expansion,
            stride,
        };
        check_block(&config, MAP);
    }
}

#[test]
fn blocks_with_padded_shortcuts() {
    for stride in [1, 2] {
        let block = ResidualBlockConfig {
            shortcut: Shortcut::Padded,
            ..residual(ResidualKind::Basic, stride, ())
        };
        check_block(&block, FeatureShape::new(3, 5, 4));
    }
}

#[test]
fn dense_blocks() {
    for bottleneck in [None, Some(2)] {
        let layer = DenseLayerConfig {
            growth: 3,
            bottleneck,
            dropout: 0.5,
        };
        check_block(&layer, MAP);
        let layer = layer.init(MAP, &Init::new(Seed::new(1), device()));
        check(layer, [3, 4, 4, 3], |layer, features| {
            project(layer.forward_train(features, Seed::new(1)))
        });
    }
}

#[test]
fn squeeze_excitation() {
    check_block(&gate(), MAP);
}

#[test]
fn relation_aware_attention() {
    for terms in [Terms::Both, Terms::Relation, Terms::Visual] {
        let (spatial, channel) = rga();
        check_block(&spatial.with_terms(terms), MAP);
        check_block(&channel.with_terms(terms), MAP);
    }
    check_block(&rga(), MAP);
}

fn rga() -> (RgaSpatialConfig, RgaChannelConfig) {
    (
        RgaSpatialConfig::new().with_s1(2).with_s2(2),
        RgaChannelConfig::new().with_s1(2).with_s2(2),
    )
}

#[test]
fn gates_side_by_side_and_of_another_size() {
    let (spatial, channel) = rga();
    for fusion in [CombineGates::Product, CombineGates::Mean] {
        let both = ParallelConfig::new(spatial.clone(), channel.clone());
        check_block(&both.with_combine(fusion), MAP);
    }
    let resized = ResizedConfig::new([2, 2], spatial);
    check_block(&resized, MAP);
    check_block(&resized.with_pooling(FixedSize::RoiAlign), MAP);
}

#[test]
fn channel_and_spatial_gates() {
    check_block(&CbamChannelConfig::new().with_reduction(2), MAP);
    for normalised in [true, false] {
        check_block(&CbamSpatialConfig::new().with_normalised(normalised), MAP);
    }
    check_block(&FullyConnectedChannelConfig::new().with_reduction(2), MAP);
    check_block(&FullyConnectedSpatialConfig::new().with_reduction(2), MAP);
}

#[test]
fn non_local_blocks() {
    for similarity in [Similarity::EmbeddedGaussian, Similarity::DotProduct] {
        check_block(&NonLocalConfig::new().with_similarity(similarity), MAP);
    }
}

#[test]
fn residual_blocks() {
    check_block(&residual(ResidualKind::Basic, 1, ()), MAP);
    check_block(&residual(ResidualKind::Basic, 2, gate()), MAP);
    check_block(&residual(ResidualKind::Bottleneck, 1, gate()), MAP);
    check_block(&residual(ResidualKind::Bottleneck, 2, ()), MAP);
}

#[test]
fn chains_stages_and_absent_blocks() {
    check_block(&(gate(), residual(ResidualKind::Basic, 2, ())), MAP);
    check_block(&vec![gate(), gate()], MAP);
    check_block(&Some(gate()), MAP);
    check_block(&None::<SqueezeExcitationConfig>, MAP);
}

#[test]
fn context_blocks() {
    let map = FeatureShape::new(4, 5, 4);
    for alignment in [Alignment::Edges, Alignment::Corners] {
        let config = PyramidPoolingConfig::new().with_bins(vec![1, 2, 6]);
        check_block(&config.with_channels(3).with_alignment(alignment), map);
    }
    let config = AsppConfig::new().with_rates(vec![1, 3]).with_channels(3);
    check_block(&config, map);
    check_block(&config.with_project(false), map);
}

#[test]
fn resampling() {
    for alignment in [Alignment::Edges, Alignment::Corners] {
        check(Identity {}, [2, 3, 4, 3], |_, map| {
            let larger = resample::bilinear(map.clone(), [7, 5], alignment);
            project(larger) + project(resample::bilinear(map, [2, 2], alignment))
        });
    }
    let boxes = [
        vec![[0.5, 0.25, 3.75, 3.0], [-1.0, 1.0, 2.0, 6.0]],
        vec![[1.0, 1.0, 1.5, 2.0]],
    ];
    for (sampling, aligned) in [
        (SamplingRatio::Adaptive, true),
        (SamplingRatio::Fixed(2), false),
    ] {
        let align = RoiAlign::new([2, 3])
            .with_sampling_ratio(sampling)
            .with_aligned(aligned);
        check(Identity {}, [2, 3, 4, 5], |_, map| {
            project(align.forward(&map, &boxes)) + project(align.whole(map))
        });
    }
}

#[test]
fn batch_normalisation() {
    let norm = || BatchNormConfig::new(4).init(device());
    check(norm(), [3, 4, 2, 2], |norm, map| project(norm.forward(map)));
    check(norm(), [5, 4], |norm, features| {
        project(norm.forward(features))
    });
    // Frozen, it uses its running statistics, and only the input has a gradient.
    check(norm().freeze(), [3, 4, 2, 2], |norm, map| {
        project(norm.forward(map))
    });
}

#[test]
fn strided_pointwise_convolution() {
    let config = Conv2dConfig::new([4, 6], [1, 1])
        .with_stride([2, 2])
        .with_groups(2);
    let conv = config.init(device());
    check(conv, [2, 4, 5, 4], |conv, map| {
        project(convolution::apply(conv, map))
    });
}

#[test]
fn pooling() {
    for config in [PoolConfig::Average, PoolConfig::Max, PoolConfig::GEM] {
        let pool = config.init(device());
        check(pool, [2, 3, 3, 2], |pool, map| project(pool.forward(map)));
    }
}
