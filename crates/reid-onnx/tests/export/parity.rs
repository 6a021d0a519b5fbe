//! Exported networks compute the same embeddings in another runtime, RTen, for every batch size.
//!
//! If the environment variable `REID_ONNX_FILES` names a folder, the files are kept there with their images
//! and outputs, also those of segmentation models, and ONNX Runtime can check them too:
//!
//! ```sh
//! REID_ONNX_FILES=/tmp/files cargo test -p reid-onnx --test export
//! python3 crates/reid-onnx/tests/check_files.py /tmp/files
//! ```

use crate::runtime::{assert_close, build, images, keep, run};
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use reid_core::InputSize;
use reid_data::transform::Normalise;
use reid_nn::{
    Embed, Model, Network,
    attention::{
        AttentionConfig, CbamChannelConfig, CbamSpatialConfig, ChannelGate, Combine, CombineGates,
        FixedSize, FncChannelConfig, FncSpatialConfig, FullyConnectedChannelConfig,
        FullyConnectedSpatialConfig, NonLocalConfig, ParallelConfig, ResizedConfig,
        RgaChannelConfig, RgaSpatialConfig, Similarity, SqueezeExcitationConfig, Terms,
    },
    backbone::{
        DenseNetConfig, Dilation, FirstDilation, Ibn, MaxPool, MobileNetV2Config, OsNetConfig,
        ResNetConfig, Shortcut, Stem,
    },
    head::{BnNeckConfig, BranchedHeadConfig, FncBranches, NeckFeature, PooledHeadConfig},
    pool::PoolConfig,
};
use reid_onnx::{ExportConfig, LowerModel, to_onnx};
use reid_zoo::{
    Architecture, BranchedConfig, FncConfig, LightMbnConfig, MgnConfig, MobileNetReidConfig,
    NetworkConfig, OsNetBranchedConfig, OsNetFncConfig, OsNetReidConfig, RgaConfig,
};

const SIZE: InputSize = InputSize::new(64, 32);

/// Compares the embeddings of batches of 1 and 3 images, from the same file.
fn compare<N: Network<Model: LowerModel>>(name: &str, network: &N, input: InputSize) {
    let model = build(network, input);
    let file = to_onnx(&model, &ExportConfig::new(input)).expect("a network that can be exported");
    for batch in [1, 3] {
        let images = images(batch, input);
        let expected = model.evaluation().embed(images.clone());
        keep(name, &file, &images, &expected);
        let found = run(&file, images);
        assert_close(&format!("{name}, batch of {batch}"), &found, expected);
    }
}

fn small<I, A>(network: ResNetConfig<I, A>) -> ResNetConfig<I, A> {
    network.with_width(4).with_last_stride(1)
}

#[test]
fn residual_networks() {
    for ibn in [Ibn::None, Ibn::A, Ibn::B] {
        let backbone = small(ResNetConfig::resnet50()).with_ibn(ibn);
        let network = NetworkConfig {
            backbone,
            head: BnNeckConfig::new(),
        };
        compare(&format!("ResNet-50, IBN {ibn:?}"), &network, SIZE);
    }
    let backbone = ResNetConfig::resnext50().with_width(16);
    compare("ResNeXt-50", &(backbone, BnNeckConfig::new()), SIZE);
    let backbone = ResNetConfig::resnet50().with_width(4);
    let backbone = backbone
        .with_stem(Stem::Deep(MaxPool::Ceil))
        .with_dilation(Dilation::Stride8(FirstDilation::Stage));
    compare("dilated", &(backbone, BnNeckConfig::new()), SIZE);
    let backbone = small(ResNetConfig::resnet18()).with_stem(Stem::Small);
    compare(
        "ResNet-18",
        &(backbone, BnNeckConfig::new()),
        InputSize::new(16, 12),
    );
}

/// The stem of these networks rounds sizes up: the feature maps have odd and even sides before it.
#[test]
fn squeeze_and_excitation_networks() {
    for input in [SIZE, InputSize::new(62, 34)] {
        let backbone = ResNetConfig::se_resnext50().with_width(16);
        compare("SE-ResNeXt-50", &(backbone, BnNeckConfig::new()), input);
    }
    let inside = Some(SqueezeExcitationConfig::new().with_reduction(4));
    let backbone = small(ResNetConfig::resnet18()).inside(inside);
    compare("SE-ResNet-18", &(backbone, BnNeckConfig::new()), SIZE);
}

#[test]
fn heads_and_pooling() {
    let backbone = small(ResNetConfig::resnet18());
    let exponents =
        [0.5, 3.0, 40.0, 1e5, 1e30].map(|exponent| PoolConfig::GeneralisedMean { exponent });
    for pool in [PoolConfig::Average, PoolConfig::Max]
        .into_iter()
        .chain(exponents)
    {
        let network = (backbone.clone(), PooledHeadConfig::new().with_pool(pool));
        // Without random exponents.
        let device = Device::default();
        let init = reid_nn::Init::new(reid_core::Seed::new(3), &device);
        let model = network.init(SIZE, 5, &init);
        let file = to_onnx(&model, &ExportConfig::new(SIZE)).expect("pooling of a known kind");
        let expected = model.embed(images(2, SIZE));
        assert_close(&format!("{pool:?}"), &run(&file, images(2, SIZE)), expected);
    }
    let head = BnNeckConfig::new().with_embedding(NeckFeature::Before);
    compare("before the neck", &(backbone.clone(), head), SIZE);
    let heads = (BnNeckConfig::new(), vec![PooledHeadConfig::new(); 2]);
    compare("parallel heads", &(backbone, heads), SIZE);
}

#[test]
fn osnet() {
    let narrow = |network: OsNetConfig| network.with_channels([16, 32, 48, 64]);
    let networks = [
        ("OSNet", OsNetConfig::x0_25()),
        ("OSNet-IBN", OsNetConfig::ibn_x1_0()),
        ("OSNet-AIN", OsNetConfig::ain_x1_0()),
    ];
    for (name, network) in networks {
        let network = OsNetReidConfig::from_backbone(narrow(network));
        compare(name, &network, InputSize::new(64, 40)); // transitions drop an odd column
    }
}

#[test]
fn networks_for_small_images() {
    let size = InputSize::new(16, 12);
    for shortcut in [Shortcut::Padded, Shortcut::Projection] {
        let backbone = ResNetConfig::cifar(8).with_width(4).with_shortcut(shortcut);
        let name = format!("ResNet for CIFAR, {shortcut:?}");
        compare(&name, &(backbone, PooledHeadConfig::new()), size);
    }
    let narrow = |network| DenseNetConfig {
        growth: 4,
        stem_channels: 6,
        ..network
    };
    let networks = [
        ("DenseNet", DenseNetConfig::cifar(10)),
        ("DenseNet-BC", DenseNetConfig::cifar_bc(16)),
    ];
    for (name, network) in networks {
        let network = narrow(network).after(&[1], SqueezeExcitationConfig::new());
        compare(name, &(network, PooledHeadConfig::new()), size);
    }
    let large = DenseNetConfig {
        blocks: [2, 1, 2, 1],
        ..narrow(DenseNetConfig::densenet121())
    };
    compare(
        "DenseNet, large stem",
        &(large, PooledHeadConfig::new()),
        SIZE,
    );
}

#[test]
fn mobilenet_v2() {
    let networks = [
        ("torchvision", MobileNetV2Config::x1_0()),
        (
            "torchreid",
            MobileNetV2Config::torchreid_x1_0().with_last_stride(1),
        ),
    ];
    for (name, mut backbone) in networks {
        (backbone.stem, backbone.channels) = (8, [4, 6, 8, 12, 16, 20, 24]);
        backbone.last = 48;
        compare(name, &MobileNetReidConfig::from_backbone(backbone), SIZE);
    }
}

/// Attention with more hidden units than the default on narrow feature maps, so that its factors differ.
fn relations() -> (RgaSpatialConfig, RgaChannelConfig) {
    let spatial = RgaSpatialConfig::new().with_s1(2).with_s2(2);
    let channel = RgaChannelConfig::new().with_s1(2).with_s2(2);
    (spatial, channel)
}

#[test]
fn relation_aware_attention() {
    let mut network = RgaConfig::rga_resnet50().with_attention(&[1, 2, 3, 4], relations());
    network.backbone = network.backbone.with_width(8);
    compare("RGA-ResNet-50", &network, SIZE);
    for terms in [Terms::Relation, Terms::Visual] {
        let (spatial, channel) = relations();
        let attention = (spatial.with_terms(terms), channel.with_terms(terms));
        let backbone = small(ResNetConfig::resnet18()).after(&[2, 3], attention);
        compare(
            &format!("{terms:?}"),
            &(backbone, BnNeckConfig::new()),
            SIZE,
        );
    }
}

#[test]
fn fnc() {
    let mut network = FncConfig::se_resnext50();
    network.network = network.network.with_width(16);
    network.branches = FncBranches::new().with_channel(FncChannelConfig::new().with_hidden(64));
    let input = InputSize::new(32, 48);
    compare("FNC", &network, input);
    compare(
        "FNC, not separate",
        &network.clone().with_split(None),
        input,
    );
    for gate in [ChannelGate::Map, ChannelGate::Vector] {
        let mut network = network.clone();
        network.branches.spatial.combine = Combine::Add;
        network.branches.channel.combine = Combine::Add;
        network.branches.channel.gate = gate;
        compare(&format!("FNC, added, {gate:?}"), &network, input);
    }
}

#[test]
fn networks_with_branches() {
    let backbone = || ResNetConfig::resnet18().with_width(8).with_last_stride(1);
    compare(
        "MGN",
        &MgnConfig::from_network(backbone()),
        InputSize::new(96, 32),
    );
    let osnet = OsNetConfig::x0_25().with_channels([16, 32, 48, 64]);
    let mut network = LightMbnConfig::from_network(osnet.clone());
    network.branches.dimensions = 24;
    compare("LightMBN", &network, InputSize::new(64, 40));
    let attention = AttentionConfig::Chain(Vec::new());
    let mut network = OsNetFncConfig::from_network(osnet.after(&[], attention));
    network.branches = network
        .branches
        .with_channel(FncChannelConfig::new().with_hidden(32));
    compare(
        "FNC on an OSNet",
        &Architecture::from(network.clone()),
        SIZE,
    );
    network.split = None;
    compare(
        "FNC on an OSNet, shared",
        &Architecture::from(network.clone()),
        SIZE,
    );
    let network = OsNetBranchedConfig {
        backbone: network.network,
        head: BranchedHeadConfig::batch_drop_block(1),
    };
    compare("DropBlock on an OSNet", &Architecture::from(network), SIZE);
    for (name, mut network) in [
        ("G", BranchedConfig::global()),
        ("CutMix", BranchedConfig::progressive_cut_mix(2)),
        ("DropBlock", BranchedConfig::batch_drop_block(1)),
    ] {
        network.backbone = backbone();
        compare(name, &network, InputSize::new(192, 64));
    }
}

/// Every attention block that a recipe can name.
#[test]
fn attention_chosen_at_run_time() {
    let (spatial, channel) = relations();
    let parallel = ParallelConfig::new(spatial.clone().into(), channel.clone().into());
    let blocks: Vec<AttentionConfig> = vec![
        SqueezeExcitationConfig::new().into(),
        CbamChannelConfig::new().into(),
        CbamSpatialConfig::new().into(),
        CbamSpatialConfig::new().with_normalised(false).into(),
        FullyConnectedChannelConfig::new().into(),
        FullyConnectedSpatialConfig::new().into(),
        spatial.clone().into(),
        channel.clone().into(),
        NonLocalConfig::new().into(),
        NonLocalConfig::new()
            .with_similarity(Similarity::DotProduct)
            .into(),
        FncSpatialConfig::new().into(),
        FncChannelConfig::new().with_hidden(32).into(),
        parallel.clone().into(),
        parallel.with_combine(CombineGates::Mean).into(),
        ResizedConfig::new([3, 5], spatial.clone().into()).into(),
        ResizedConfig::new([3, 5], spatial.clone().into())
            .with_pooling(FixedSize::RoiAlign)
            .into(),
        ResizedConfig::new([3, 5], channel.into()).into(),
        ResizedConfig::new([8, 4], spatial.into()).into(),
    ];
    for block in blocks {
        let name = format!("{block:?}");
        let chain = AttentionConfig::Chain(vec![block]);
        let mut network = Architecture::strong_baseline();
        let Architecture::Baseline(baseline) = &mut network else {
            unreachable!("the strong baseline");
        };
        let backbone = ResNetConfig::resnet18().inside(None).after(&[2], chain);
        baseline.backbone = small(backbone);
        compare(&name, &network, SIZE);
    }
}

#[test]
fn every_named_architecture_has_an_onnx_form() {
    // The larger ones differ from these only in size.
    for name in ["resnet18", "osnet-x0.25", "mobilenet-v2"] {
        let network: Architecture = name.parse().expect("a name");
        compare(name, &network, SIZE);
    }
}

#[test]
fn flip_test_and_unit_length() {
    let network = NetworkConfig {
        backbone: small(ResNetConfig::resnet18()),
        head: BnNeckConfig::new(),
    };
    let model = build(&network, SIZE);
    let images = images(3, SIZE);
    let config = ExportConfig::new(SIZE).with_normalise(Normalise::IMAGENET);

    let file = to_onnx(&model, &config.with_flip_test()).expect("exported");
    let mirrored = model.embed(images.clone().flip([3]));
    let mean = (model.embed(images.clone()) + mirrored) / 2.0;
    assert_close("flip test", &run(&file, images.clone()), mean);
    let once = to_onnx(&model, &config).expect("exported");
    assert!(
        file.len() < once.len() * 3 / 2,
        "both passes share their weights"
    );

    let file = to_onnx(&model, &config.with_unit_length()).expect("exported");
    let embeddings = model.embed(images.clone());
    let lengths = embeddings.clone().square().sum_dim(1).sqrt();
    assert_close("unit length", &run(&file, images), embeddings / lengths);
}

#[test]
fn a_model_in_training_is_exported_in_evaluation_mode() {
    let network = (small(ResNetConfig::resnet18()), BnNeckConfig::new());
    let model = build(&network, SIZE).train();
    let batch: Tensor<4> = images(4, SIZE).autodiff();
    let _ = model.forward(batch);
    let file = to_onnx(&model, &ExportConfig::new(SIZE)).expect("exported");
    let images = images(2, SIZE);
    assert_close(
        "in training",
        &run(&file, images.clone()),
        model.embed(images),
    );
}
