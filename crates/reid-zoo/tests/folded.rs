//! Networks with folded batch normalisation: their embeddings are the same, and they can be saved and loaded.

use burn::{
    module::Module,
    tensor::{Device, Distribution, Tensor},
};
use reid_core::{InputSize, Seed};
use reid_nn::{
    Block, BlockConfig, Head, HeadConfig, Init, ReidModel,
    attention::{
        CbamChannelConfig, CbamSpatialConfig, FncChannelConfig, FncSpatialConfig,
        FullyConnectedChannelConfig, FullyConnectedSpatialConfig, NonLocalConfig, ParallelConfig,
        ResizedConfig, RgaChannelConfig, RgaSpatialConfig, SqueezeExcitationConfig,
    },
    backbone::{Ibn, ResNetConfig},
    head::{BnNeckConfig, ReducedBnNeckConfig},
};
use reid_zoo::{BranchedConfig, FncConfig, MgnConfig, weights};

const SIZE: InputSize = InputSize {
    height: 192,
    width: 64,
};

/// The seed of the weights, with the name of each network.
const SEED: Seed = Seed::new(5);

fn small<I, A>(network: ResNetConfig<I, A>) -> ResNetConfig<I, A> {
    network.with_width(4).with_last_stride(1)
}

/// Tests that folding does not change embeddings, after training passes that change the running statistics. A folded
/// network that is saved and loaded into another folded network returns bit-identical embeddings.
fn folds<B: Block, H: Head>(
    name: &str,
    backbone: &impl BlockConfig<Block = B>,
    head: &impl HeadConfig<Head = H>,
) {
    let build = |name: &str| {
        let device = Device::default().autodiff();
        ReidModel::new(
            backbone,
            head,
            SIZE,
            3,
            &Init::new(SEED.named(name), &device),
        )
    };
    let images = |device: &Device| {
        let normal = Distribution::Normal(0.3, 1.0);
        Tensor::<4>::random([4, 3, SIZE.height, SIZE.width], normal, device)
    };
    let model = build(name);
    for _ in 0..3 {
        let _ = model.forward(images(&Device::default().autodiff()));
    }
    let (model, images) = (model.valid(), images(&Device::default()));
    let plain = model.embed(images.clone());
    let folded = model.fold_batch_norm();
    let found = folded.embed(images.clone());
    let difference = (found.clone() - plain.clone()).abs().max();
    let difference = difference.into_scalar::<f32>();
    let scale = plain.abs().max().into_scalar::<f32>();
    assert!(
        difference < 1e-5 * scale,
        "{name}: embeddings of up to {scale} differ by {difference}"
    );

    let folder = tempfile::tempdir().expect("a folder");
    for file in ["folded.safetensors", "folded.bpk"] {
        let path = folder.path().join(file);
        weights::save(&folded, &path).expect("saved");
        let mut other = build("another").valid().fold_batch_norm();
        weights::load(&mut other, &path).expect("loaded");
        let again = other.embed(images.clone());
        assert_eq!(again.into_data(), found.to_data(), "{name}, {file}");
    }
}

#[test]
fn backbones() {
    for ibn in [Ibn::None, Ibn::A, Ibn::B] {
        let network = small(ResNetConfig::resnet50()).with_ibn(ibn);
        folds(&format!("{ibn:?}"), &network, &BnNeckConfig::new());
    }
    let network = small(ResNetConfig::resnet18());
    folds("basic blocks", &network, &BnNeckConfig::new());
    let network = ResNetConfig::se_resnext50()
        .with_width(16)
        .with_last_stride(1);
    folds("SE-ResNeXt", &network, &BnNeckConfig::new());
}

#[test]
fn attention_after_stages() {
    fn after(name: &str, attention: impl BlockConfig + Clone) {
        let network = small(ResNetConfig::resnet18()).after(&[1, 2, 3, 4], attention);
        folds(name, &network, &BnNeckConfig::new());
    }
    after("SE", SqueezeExcitationConfig::new().with_reduction(2));
    let cbam = (
        CbamChannelConfig::new().with_reduction(2),
        CbamSpatialConfig::new(),
    );
    after("CBAM", cbam);
    let fully_connected = ParallelConfig::new(
        FullyConnectedSpatialConfig::new().with_reduction(2),
        FullyConnectedChannelConfig::new().with_reduction(2),
    );
    after("fully connected, side by side", fully_connected);
    after("non-local", NonLocalConfig::new());
    let (spatial, channel) = (RgaSpatialConfig::new(), RgaChannelConfig::new());
    after("RGA-SC", (spatial.clone(), channel.clone()));
    after("RGA-CS", (channel, spatial.clone()));
    after("RGA-S of one size", ResizedConfig::new([6, 2], spatial));
    let further = (
        FncSpatialConfig::new(),
        FncChannelConfig::new().with_hidden(4).with_groups(2),
    );
    after("SAB and CAB", further);
}

#[test]
fn branches() {
    let mut fnc = FncConfig::from_network(small(ResNetConfig::resnet18()));
    let neck = ReducedBnNeckConfig::new().with_dimensions(6);
    fnc.branches.channel = FncChannelConfig::new().with_hidden(4).with_groups(2);
    (fnc.branches.spatial_neck, fnc.branches.channel_neck) = (neck.clone(), neck);
    folds("FNC", &fnc.backbone(), &fnc.head());
    let shared = fnc.with_split(None);
    folds("FNC, not separate", &shared.backbone(), &shared.head());

    let mut mgn = MgnConfig::from_network(small(ResNetConfig::resnet18()));
    for branch in &mut mgn.branches {
        branch.dimensions = 6;
    }
    folds("MGN", &mgn.backbone(), &mgn.head());

    for (name, config) in [
        ("progressive", BranchedConfig::progressive_cut_mix(2)),
        ("drop block", BranchedConfig::batch_drop_block(2)),
    ] {
        folds(name, &small(ResNetConfig::resnet18()), &config.head);
    }
}
