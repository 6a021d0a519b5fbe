//! Checkpoints of the authors' code of relation-aware attention, with the names of their keys.

use std::{collections::BTreeMap, fs, path::Path};

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Device, Distribution, Tensor},
};
use reid_core::{FeatureShape, InputSize, Seed};
use reid_nn::{
    Block, BlockConfig, Init, Network,
    attention::{RgaChannelConfig, RgaSpatialConfig},
};
use reid_zoo::{
    BagOfTricks, BagOfTricksConfig, Error, RgaConfig,
    rga::{self, AuthorsLayout},
    weights,
};
use safetensors::{SafeTensors, tensor::TensorView};
use serde::{Serialize, de::DeserializeOwned};

const SIZE: InputSize = InputSize::new(32, 16);

fn config() -> RgaConfig {
    let mut config = RgaConfig::rga_resnet50();
    config.backbone = config.backbone.with_width(8);
    config.backbone.blocks = [1; 4];
    config
}

/// The name of a tensor in the authors' code, independent of the table of the library.
fn theirs(ours: &str, parts: &[&str]) -> String {
    let Some(attention) = ours.strip_prefix("backbone.after.") else {
        return ours
            .replace("head.bottleneck", "feat_bn")
            .replace("head.classifier", "cls");
    };
    let (stage, rest) = attention.split_once('.').expect("a stage");
    let (part, rest) = match rest.split_once(".nodes.") {
        Some((index, rest)) => (parts[index.parse::<usize>().expect("an index")], rest),
        None => (parts[0], rest.trim_start_matches("nodes.")),
    };
    let (layer, rest) = rest.split_once('.').expect("a layer");
    let name = match layer {
        "psi" => format!("gx_{part}.{rest}"),
        "varphi" => format!("gg_{part}.{rest}"),
        "w1" => format!("W_{part}.{rest}"),
        "w2" if rest.starts_with("0.") => format!("W_{part}.3{}", &rest[1..]),
        "w2" => format!("W_{part}.4{}", &rest[1..]),
        other => format!("{other}_{part}.{rest}"),
    };
    let stage: usize = stage.parse().expect("a number");
    format!("backbone.rga_att{}.{name}", stage + 1)
}

/// Saves a network with the authors' names, and with the prefix of `DataParallel`.
fn save<A: AuthorsLayout>(model: &BagOfTricks<A>, parts: &[&str], path: &Path) {
    weights::save(model, path).expect("saved");
    let bytes = fs::read(path).expect("read");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut tensors: BTreeMap<String, TensorView<'_>> = file
        .iter()
        .map(|(name, view)| (format!("module.{}", theirs(name, parts)), view))
        .collect();
    let count = 7_i64.to_le_bytes();
    let tracked = TensorView::new(safetensors::Dtype::I64, Vec::new(), &count).expect("a number");
    tensors.insert("module.feat_bn.num_batches_tracked".into(), tracked);
    fs::write(path, safetensors::serialize(tensors, None).expect("bytes")).expect("written");
}

/// Draws every value at random, so that no two tensors are equal.
struct Draw;

impl ModuleMapper for Draw {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| value.random_like(Distribution::Uniform(0.5, 1.5)))
    }
}

fn assert_loads<A>(config: &BagOfTricksConfig<A>, parts: &[&str])
where
    A: BlockConfig<Block: AuthorsLayout> + Clone + Serialize + DeserializeOwned,
{
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("authors.safetensors");
    let device = Device::default();
    let trained = config
        .init(SIZE, 5, &Init::new(Seed::new(1), &device))
        .map(&mut Draw);
    save(&trained, parts, &path);

    let mut model = config.init(SIZE, 5, &Init::new(Seed::new(1), &device));
    rga::load_authors(&mut model, &path).expect("the same network");
    let FeatureShape {
        channels,
        height,
        width,
    } = SIZE.rgb();
    let image = Tensor::ones([2, channels, height, width], &device);
    let found = model.embed(image.clone()).to_data();
    assert_eq!(found, trained.embed(image).to_data());
}

#[test]
fn checkpoints_of_the_authors_load() {
    let stages = [1, 2, 3, 4];
    let (spatial, channel) = (RgaSpatialConfig::new(), RgaChannelConfig::new());
    assert_loads(&config(), &["spatial", "channel"]);
    assert_loads(&config().with_attention(&stages, spatial), &["spatial"]);
    assert_loads(&config().with_attention(&stages, channel), &["channel"]);
}

#[test]
fn the_error_names_the_attention_that_does_not_fit() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("authors.safetensors");
    let device = Device::default();
    save(
        &config().init(SIZE, 5, &Init::new(Seed::new(1), &device)),
        &["spatial", "channel"],
        &path,
    );

    let spatial = config().with_attention(&[1, 2, 3, 4], RgaSpatialConfig::new());
    let mut model = spatial.init(SIZE, 5, &Init::new(Seed::new(1), &device));
    let error = rga::load_authors(&mut model, &path).expect_err("an attention too many");
    let Error::Mismatch { report, .. } = error else {
        panic!("{error}");
    };
    assert!(report.missing.is_empty(), "{report}");
    assert!(
        report.unexpected[0].starts_with("backbone.rga_att1.W_channel"),
        "{report}"
    );
}

#[test]
fn a_backbone_without_attention_loads_and_leaves_the_attention_unchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("backbone.safetensors");
    let device = Device::default();
    let plain = config()
        .with_attention(&[], ())
        .init(SIZE, 5, &Init::new(Seed::new(1), &device));
    weights::save(&plain.backbone, &path).expect("saved");

    let mut model = config().init(SIZE, 5, &Init::new(Seed::new(1), &device));
    let image = Tensor::ones([1, 3, 32, 16], &device);
    let before = model.backbone.after[0].forward(Tensor::ones([1, 32, 8, 4], &device));
    weights::load_backbone(&mut model.backbone, &path).expect("the same backbone");
    let [_, first, ..] = model.backbone.stages(image.clone());
    let [_, expected, ..] = plain.backbone.stages(image);
    let expected = model.backbone.after[0].forward(expected);
    assert_eq!(first.to_data(), expected.to_data());
    let after = model.backbone.after[0].forward(Tensor::ones([1, 32, 8, 4], &device));
    assert_eq!(after.to_data(), before.to_data());
}
