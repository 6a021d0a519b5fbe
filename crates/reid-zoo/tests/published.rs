//! Published weights of `OSNet`, `LightMBN`, `MobileNetV2`, and of `ResNet` and `DenseNet` for CIFAR: names
//! of every source, classifiers of other sizes, and embeddings of other runtimes.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Device, Tensor, TensorData},
};
use reid_core::{Camera, Identity, InputSize, Sample, Seed, Split};
use reid_data::{
    dataset,
    loader::{Classes, LoaderConfig},
    transform::Normalise,
};
use reid_eval::{Embeddings, EvaluationConfig, evaluate};
use reid_nn::{
    Block, BlockConfig, Embed, Head, Init, Model, Network, ReidModel,
    backbone::{
        DenseNetConfig, MobileNetV2Config, OsInstanceNorm, OsNetConfig, ResNetConfig, Shortcut,
    },
    head::PooledHeadConfig,
};
use reid_train::Extractor;
use reid_zoo::{
    Architecture, ArchitectureModel, Embedder, LightMbn, LightMbnConfig, MobileNetReidConfig,
    OsNetReidConfig,
    weights::{self, PublishedBackbone, PublishedHead},
};
use safetensors::SafeTensors;
use tempfile::tempdir;

const SIZE: InputSize = InputSize::new(64, 32);

/// Sets every value of a tensor to a number that no other tensor has.
struct Numbered(f32);

impl ModuleMapper for Numbered {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.0 += 1.0;
        let number = self.0;
        param.map(|value| value.ones_like() * number)
    }
}

/// Saves a network under published names, loads the file into another network of the same size, and compares
/// every tensor.
fn assert_loads<N, B, H>(network: &N, name: impl Fn(&str) -> String)
where
    N: Network<Model = ReidModel<B, H>>,
    B: Block + PublishedBackbone,
    H: PublishedHead,
{
    let folder = tempdir().expect("a folder");
    let [published, copy] = ["published", "copy"].map(|name| folder.path().join(name));
    let device = Device::default();
    let build = |seed| network.init(SIZE, 5, &Init::new(Seed::new(seed), &device));
    let model = build(1).map(&mut Numbered(0.0));
    let expected = save(&model, &folder.path().join("model.safetensors"));
    rename(&expected, &published, name);

    let mut found = build(2);
    assert!(weights::load_published(&mut found, &published).expect("fits"));
    assert!(save(&found, &copy.with_extension("safetensors")) == expected);

    let mut found = build(3);
    weights::load_backbone(&mut found.backbone, &published).expect("fits");
    let backbone = save(&found.backbone, &copy.with_extension("safetensors"));
    let expected = save(&model.backbone, &copy.with_extension("safetensors"));
    assert!(backbone == expected);
}

fn save<M: Module>(module: &M, path: &Path) -> Vec<u8> {
    weights::save(module, path).expect("saved");
    fs::read(path).expect("read")
}

/// Writes weights with every key renamed.
fn rename(bytes: &[u8], path: &Path, name: impl Fn(&str) -> String) {
    let file = SafeTensors::deserialize(bytes).expect("safetensors");
    let tensors = file.iter().map(|(key, view)| (name(key), view));
    safetensors::serialize_to_file(tensors.collect::<Vec<_>>(), None, path).expect("written");
}

fn torchreid_head(key: &str) -> String {
    key.replace("backbone.", "")
        .replace("head.reduction.", "fc.0.")
        .replace("head.norm.", "fc.1.")
        .replace("head.classifier.", "classifier.")
}

fn osnet(config: OsNetConfig) -> OsNetReidConfig {
    OsNetReidConfig::from_backbone(config.with_channels([4, 8, 12, 16]))
}

#[test]
fn an_osnet_loads_with_the_names_of_torchreid() {
    let transition = |key: &str| {
        let key = torchreid_head(key);
        key.replace("pool2.", "conv2.2.0.")
            .replace("pool3.", "conv3.2.0.")
    };
    assert_loads(&osnet(OsNetConfig::x0_25()), transition);
    assert_loads(&osnet(OsNetConfig::x0_25()), |key| {
        format!("module.{}", transition(key))
    });
    assert_loads(&osnet(OsNetConfig::ibn_x1_0()), |key| {
        let key = transition(key).replace(".in_sum.", ".IN.");
        key.replace("in1.", "conv1.bn.")
    });
}

#[test]
fn an_osnet_ain_loads_with_the_names_of_torchreid() {
    let streams = [
        ("a", 0, ".layers.0"),
        ("b", 1, ".layers"),
        ("c", 2, ".layers"),
        ("d", 3, ".layers"),
    ];
    assert_loads(&osnet(OsNetConfig::ain_x1_0()), |key| {
        let key = torchreid_head(key)
            .replace("pool", "pool_")
            .replace("pool_2.", "pool2.0.")
            .replace("pool_3.", "pool3.0.")
            .replace(".in_residual.", ".IN.")
            .replace("in1.", "conv1.bn.");
        streams.iter().fold(key, |key, (stream, index, layers)| {
            let to = format!(".conv2.{index}{layers}.");
            key.replace(&format!(".conv2{stream}."), &to)
        })
    });
}

/// An `OSNet` with another number of blocks in its stages has its transitions at other indices.
#[test]
fn the_transition_is_after_all_blocks_of_the_stage() {
    let mut config = OsNetConfig::x0_25();
    config.blocks[0] = vec![OsInstanceNorm::None; 3];
    config.blocks[1].truncate(1);
    assert_loads(&osnet(config), |key| {
        let key = torchreid_head(key).replace("pool2.", "conv2.3.0.");
        key.replace("pool3.", "conv3.1.0.")
    });
}

fn mobile(first_expansion: bool) -> MobileNetReidConfig {
    MobileNetReidConfig::from_backbone(MobileNetV2Config {
        stem: 4,
        channels: [2, 3, 4, 5, 6, 7, 8],
        last: 9,
        first_expansion,
        ..MobileNetV2Config::x1_0()
    })
}

/// The authors' key of a tensor of `LightMBN`.
fn light_mbn(key: &str) -> String {
    let branch = |theirs: &str, rest: &str| {
        // Stage 0 has the block with index 1 and the transition with index 2 of a longer list.
        let rest = rest.replace("stages.0.blocks.0.", "0.1.");
        let rest = rest.replace("stages.1.transition.", "0.2.0.");
        let rest = rest.replace("stages.", "").replace("blocks.", "");
        format!("{theirs}_branch.{}", rest.replace("last.", ""))
    };
    let necks = [
        ("0.head.branches.0.", "reduction_0."),
        ("0.head.branches.1.", "reduction_4."),
        ("1.head.whole.", "reduction_1."),
        ("1.head.stripes.0.", "reduction_2."),
        ("1.head.stripes.1.", "reduction_3."),
        ("2.head.shared.conv.", "shared.0."),
        ("2.head.shared.bn.", "shared.1."),
        ("2.head.necks.0.", "reduction_ch_0."),
        ("2.head.necks.1.", "reduction_ch_1."),
    ];
    let Some(rest) = key.strip_prefix("head.branches.") else {
        let key = key.replace("backbone.conv1.", "backone.0.");
        let key = key.replace("backbone.pool2.", "backone.2.2.0.");
        let key = key.replace("backbone.conv2.", "backone.2.");
        return key.replace("backbone.conv3.0.", "backone.3.");
    };
    if let Some(rest) = rest.strip_prefix("0.block.1.") {
        return format!("batch_drop_block.drop_batch_bottleneck.{rest}");
    }
    let blocks = [
        ("0.block.0.", "global"),
        ("1.block.", "partial"),
        ("2.block.", "channel"),
    ];
    for (ours, theirs) in blocks {
        if let Some(rest) = rest.strip_prefix(ours) {
            return branch(theirs, rest);
        }
    }
    let neck = necks.iter().find_map(|(ours, theirs)| {
        let rest = rest.strip_prefix(ours)?;
        Some(format!("{theirs}{}", rest.replace("bottleneck.", "bn.")))
    });
    neck.unwrap_or_else(|| panic!("no published name of {key}"))
}

#[test]
fn a_light_mbn_loads_with_the_names_of_its_authors() {
    let folder = tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let device = Device::default();
    let network = OsNetConfig::x0_25().with_channels([4, 8, 12, 16]);
    let mut config = LightMbnConfig::from_network(network);
    config.branches.dimensions = 6;
    let build = |seed, classes| config.init(SIZE, classes, &Init::new(Seed::new(seed), &device));
    let model = build(1, 5).map(&mut Numbered(0.0));
    let expected = save(&model, &path("model.safetensors"));
    // The authors' class has the field `backone`; other programs correct it.
    for (prefix, backbone) in [("", "backone."), ("module.", "backone."), ("", "backbone.")] {
        let name = |key: &str| format!("{prefix}{}", light_mbn(key).replace("backone.", backbone));
        rename(&expected, &path("published"), name);
        let mut found = build(2, 5);
        assert!(weights::load_published(&mut found, path("published")).expect("fits"));
        assert!(save(&found, &path("copy.safetensors")) == expected);
    }
    let mut found = build(2, 5);
    assert!(weights::load_published(&mut found, path("model.safetensors")).expect("fits"));
    assert!(save(&found, &path("copy.safetensors")) == expected);

    let mut other = build(2, 7);
    let classifier =
        |model: &LightMbn| model.head.branches.1.head.whole.classifier.weight.to_data();
    let before = classifier(&other);
    assert!(!weights::load_published(&mut other, path("published")).expect("fits"));
    assert_eq!(classifier(&other), before);
    let neck = |model: &LightMbn| {
        model.head.branches.2.head.necks[1]
            .bottleneck
            .weight
            .to_data()
    };
    assert_eq!(neck(&other), neck(&model));

    rename(&expected, &path("published"), |key| {
        light_mbn(key).replace("reduction_3.bn.weight", "reduction_3.bn.other")
    });
    let error = weights::load_published(&mut other, path("published")).expect_err("one is missing");
    let missing = "head.branches.1.head.stripes.1.bottleneck.weight";
    assert!(error.to_string().contains(missing), "{error}");
}

/// The index of a block among the layers of torchvision's network, and the rest of the key.
fn feature(key: &str) -> Option<(usize, &str)> {
    let (layer, rest) = key.strip_prefix("layers.")?.split_once('.')?;
    let (block, rest) = rest.split_once('.')?;
    let before = [0, 1, 3, 6, 10, 13, 16][layer.parse::<usize>().expect("a layer")];
    Some((1 + before + block.parse::<usize>().expect("a block"), rest))
}

/// Maps a key to its name in torchvision, where `names` are those of the six layers of a block and of the four of
/// the first block.
fn torchvision(key: &str, names: [&[&str]; 2]) -> String {
    let key = key.replace("backbone.", "").replace("head.", "");
    if let Some((index, rest)) = feature(&key) {
        let fields = [
            "expand.conv",
            "expand.bn",
            "depthwise.conv",
            "depthwise.bn",
            "project.conv",
            "project.bn",
        ];
        let (fields, names) = if index == 1 {
            (&fields[2..], names[1])
        } else {
            (&fields[..], names[0])
        };
        let (field, leaf) = rest.rsplit_once('.').expect("a field and its tensor");
        let position = fields
            .iter()
            .position(|&known| known == field)
            .expect("a field");
        return format!("features.{index}.conv.{}.{leaf}", names[position]);
    }
    key.replace("stem.conv", "features.0.0")
        .replace("stem.bn", "features.0.1")
        .replace("last.conv", "features.18.0")
        .replace("last.bn", "features.18.1")
        .replace("classifier", "classifier.1")
}

#[test]
fn a_mobilenet_v2_loads_with_the_names_of_every_source() {
    let nested: [&[&str]; 2] = [
        &["0.0", "0.1", "1.0", "1.1", "2", "3"],
        &["0.0", "0.1", "1", "2"],
    ];
    let flat: [&[&str]; 2] = [&["0", "1", "3", "4", "6", "7"], &["0", "1", "3", "4"]];
    assert_loads(&mobile(false), |key| torchvision(key, nested));
    assert_loads(&mobile(false), |key| torchvision(key, flat));
    assert_loads(&mobile(false), |key| {
        let key = torchvision(key, flat).replace("classifier.1", "classifier");
        format!("module.{}", key.replace("features.18.", "conv."))
    });
    assert_loads(&mobile(true), |key| {
        let key = key.replace("backbone.", "").replace("head.", "");
        let key = match key
            .strip_prefix("layers.")
            .and_then(|rest| rest.split_once('.'))
        {
            Some((layer, rest)) => {
                let layer: usize = layer.parse().expect("a layer");
                format!("conv{}.{rest}", layer + 2)
            }
            None => key,
        };
        key.replace("expand.", "conv1.")
            .replace("depthwise.", "dwconv2.")
            .replace("project.conv", "conv3.0")
            .replace("project.bn", "conv3.1")
            .replace("stem.", "conv1.")
            .replace("last.", "conv9.")
    });
}

#[test]
fn a_resnet_for_cifar_loads_with_the_names_of_its_sources() {
    let plain = |key: &str| {
        let key = key.replace("backbone.", "").replace("head.", "");
        key.replace("classifier.", "linear.")
    };
    for shortcut in [Shortcut::Padded, Shortcut::Projection] {
        let backbone = ResNetConfig::cifar(14)
            .with_width(2)
            .with_shortcut(shortcut);
        let network = (backbone, PooledHeadConfig::new());
        let name = |key: &str| plain(key).replace("downsample.", "shortcut.");
        assert_loads(&network, name);
        assert_loads(&network, |key| format!("module.{}", name(key)));
        assert_loads(&network, |key| plain(key).replace("linear.", "fc."));
    }
}

/// The names of a `DenseNet` in torchvision: the index of a layer counts from 1, and the classifier is beside
/// `features`.
fn torchvision_densenet(key: &str) -> String {
    let key = key.replace("backbone.", "").replace("head.", "");
    if key.starts_with("classifier.") {
        return key;
    }
    let Some(rest) = key.strip_prefix("denseblock") else {
        return format!("features.{key}");
    };
    let mut rest = rest.splitn(3, '.');
    let mut next = || rest.next().expect("a block, a layer and a tensor");
    let (block, layer, rest) = (next(), next(), next());
    let layer = layer.parse::<usize>().expect("a layer") + 1;
    format!("features.denseblock{block}.denselayer{layer}.{rest}")
}

/// The names of a `DenseNet` for CIFAR, from those of a dense block and of the layers in it.
fn cifar_densenet(key: &str, block: &str, layer: &str) -> String {
    let key = key.replace("backbone.", "").replace("head.", "");
    let key = key.replace("classifier.", "fc.");
    let in_block = key
        .strip_prefix("denseblock")
        .and_then(|rest| rest.split_once('.'));
    let key = match in_block {
        Some((number, rest)) => format!("{block}{number}.{layer}{rest}"),
        None => key.replace("transition", "trans"),
    };
    let key = key.replace("norm5.", "bn1.").replace("conv0.", "conv1.");
    let key = key.replace("norm1.", "bn1.").replace("norm2.", "bn2.");
    key.replace(".norm.", ".bn1.").replace(".conv.", ".conv1.")
}

fn densenet(network: DenseNetConfig) -> (DenseNetConfig, PooledHeadConfig) {
    let narrow = DenseNetConfig {
        growth: 2,
        stem_channels: 4,
        ..network
    };
    (narrow, PooledHeadConfig::new())
}

#[test]
fn a_densenet_loads_with_the_names_of_every_source() {
    for network in [DenseNetConfig::cifar(10), DenseNetConfig::cifar_bc(16)] {
        let network = densenet(network);
        assert_loads(&network, |key| {
            key.replace("backbone.", "").replace("head.", "")
        });
        assert_loads(&network, torchvision_densenet);
        assert_loads(&network, |key| {
            format!("module.{}", torchvision_densenet(key))
        });
        assert_loads(&network, |key| cifar_densenet(key, "block", "layer."));
        assert_loads(&network, |key| {
            format!("module.{}", cifar_densenet(key, "block", "layer."))
        });
        assert_loads(&network, |key| cifar_densenet(key, "dense", ""));
    }
    let mut large = DenseNetConfig::densenet121();
    large.blocks = [2, 1, 1, 1];
    let large = densenet(large);
    assert_loads(&large, torchvision_densenet);
    // Files of 2017 have dots in the names of the layers.
    let old = [
        ("norm1", "norm.1"),
        ("norm2", "norm.2"),
        ("conv1", "conv.1"),
        ("conv2", "conv.2"),
    ];
    assert_loads(&large, |key| {
        let key = torchvision_densenet(key);
        old.iter()
            .fold(key, |key, (now, then)| key.replace(now, then))
    });
}

/// Every named classifier of small images loads weights with its authors' names into the type for run time.
#[test]
fn named_classifiers_load_published_weights() {
    let folder = tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let device = Device::default();
    let size = InputSize::new(32, 32);
    let network: Architecture = "cifar-resnet20".parse().expect("a name");
    let build = |seed, classes| network.init(size, classes, &Init::new(Seed::new(seed), &device));
    let ArchitectureModel::ResNet(model) = build(1, 10).map(&mut Numbered(0.0)) else {
        panic!("another architecture");
    };
    let bytes = save(&model, &path("model.safetensors"));
    rename(&bytes, &path("published"), |key| {
        let key = key
            .replace("backbone.", "")
            .replace("head.classifier.", "linear.");
        format!("module.{key}")
    });
    let mut found = build(2, 10);
    assert!(weights::load_published(&mut found, path("published")).expect("fits"));
    assert!(save(&found, &path("copy.safetensors")) == bytes);
    assert!(!weights::load_published(&mut build(2, 100), path("published")).expect("fits"));
}

#[test]
fn a_classifier_of_another_size_is_skipped_and_everything_else_is_strict() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("published.safetensors");
    let device = Device::default();
    let config = osnet(OsNetConfig::x0_25());
    let build = |classes| config.init(SIZE, classes, &Init::new(Seed::new(1), &device));
    let bytes = save(&build(7), &path);
    let name = |key: &str| {
        let key = torchreid_head(key).replace("pool2.", "conv2.2.0.");
        key.replace("pool3.", "conv3.2.0.")
    };
    rename(&bytes, &path, name);

    let mut model = build(5);
    let before = model.head.classifier.weight.val().into_data();
    assert!(!weights::load_published(&mut model, &path).expect("fits"));
    assert_eq!(model.head.classifier.weight.val().into_data(), before);
    assert!(weights::load_published(&mut build(7), &path).expect("fits"));

    rename(&bytes, &path, |key| {
        name(key).replace("fc.0.bias", "fc.0.other")
    });
    let error = weights::load_published(&mut model, &path).expect_err("a bias is missing");
    assert!(error.to_string().contains("head.reduction.bias"), "{error}");

    rename(&bytes, &path, name);
    let wider = OsNetConfig::x0_25().with_channels([4, 8, 12, 20]);
    let init = Init::new(Seed::new(1), &device);
    let mut wider = OsNetReidConfig::from_backbone(wider).init(SIZE, 7, &init);
    let error = weights::load_published(&mut wider, &path).expect_err("another width");
    assert!(
        error
            .to_string()
            .contains("backbone.conv4.0.conv1.conv.weight: expected [5, 12, 1, 1]"),
        "{error}"
    );
}

/// Attention after the stages keeps its values.
#[test]
fn sockets_keep_their_values() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("plain.safetensors");
    let device = Device::default();
    let gate = reid_nn::attention::SqueezeExcitationConfig::new();
    let init = Init::new(Seed::new(1), &device);
    let plain = OsNetConfig::x0_25().init(SIZE.rgb(), &init);
    let config = OsNetConfig::x0_25().after(&[4], gate);
    let mut network = config.init(SIZE.rgb(), &init);
    save(&plain, &path);
    weights::load_backbone(&mut network, &path).expect("fits");
    let found = network
        .conv5
        .expect("stage 4")
        .conv
        .weight
        .val()
        .into_data();
    assert_eq!(
        found,
        plain.conv5.expect("stage 4").conv.weight.val().into_data()
    );
}

/// A file in the folder that an environment variable names.
fn file(variable: &str, name: &str) -> PathBuf {
    let folder = env::var_os(variable);
    PathBuf::from(folder.unwrap_or_else(|| panic!("{variable} is not set"))).join(name)
}

/// Compares the embeddings of a network with published weights with those of another runtime, with batch
/// normalisation and with the folded network.
fn assert_embeds<B: Block, H: Head>(model: &ReidModel<B, H>, golden: &str) {
    let bytes = fs::read(file("REID_GOLDENS", golden)).expect("a golden file");
    let golden = SafeTensors::deserialize(&bytes).expect("safetensors");
    let device = Device::default();
    let images = channels_first(read(&golden, "input", &device));
    let expected: Tensor<2> = read(&golden, "embedding", &device);
    let largest = expected.clone().abs().max().into_scalar::<f32>();
    let plain = model.embed(images.clone());
    let folded = model.evaluation().embed(images);
    for (name, found) in [("plain", plain), ("folded", folded)] {
        let difference = (found - expected.clone()).abs().max();
        let relative = difference.into_scalar::<f32>() / largest;
        assert!(
            relative <= 1e-4,
            "{name}: the largest difference is {relative:.1e} of the largest value, 1e-4 is allowed"
        );
    }
}

fn read<const D: usize>(file: &SafeTensors, name: &str, device: &Device) -> Tensor<D> {
    let view = file.tensor(name).expect(name);
    let (values, _) = view.data().as_chunks::<4>();
    let values = values.iter().map(|&value| f32::from_le_bytes(value));
    let data = TensorData::new(values.collect::<Vec<_>>(), view.shape().to_vec());
    Tensor::from_data(data, device)
}

/// The images, which the files hold with the channels last although their shape has the channels first.
fn channels_first(images: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = images.dims();
    let images = images.reshape([batch, height, width, channels]);
    images.permute([0, 3, 1, 2])
}

#[test]
#[ignore = "reads published weights: REID_WEIGHTS=DIR REID_GOLDENS=DIR cargo test -p reid-zoo --test published \
            -- --ignored"]
fn osnet_x0_25_embeds_as_published() {
    let config = OsNetReidConfig::from_backbone(OsNetConfig::x0_25());
    let mut model = config.init(InputSize::PERSON, 1041, &Init::empty(&Device::default()));
    let path = file("REID_WEIGHTS", "osnet_x0_25_msmt17.pth");
    assert!(weights::load_published(&mut model, path).expect("loads"));
    assert_embeds(&model, "osnet_x0_25_msmt17.safetensors");
}

#[test]
#[ignore = "reads published weights: REID_WEIGHTS=DIR REID_GOLDENS=DIR cargo test -p reid-zoo --test published \
            -- --ignored"]
fn mobilenet_v2_embeds_as_published() {
    let config = MobileNetReidConfig::from_backbone(MobileNetV2Config::x1_0());
    let size = InputSize::new(224, 224);
    let mut model = config.init(size, 751, &Init::empty(&Device::default()));
    let path = file("REID_WEIGHTS", "mobilenetv2_imagenet.pt");
    assert!(!weights::load_published(&mut model, path).expect("loads"));
    assert_embeds(&model, "mobilenetv2_imagenet.safetensors");
}

/// The vehicles of a camera, in the order of their names: `KIND_NUMBER_camCAMERA.jpg`.
fn vehicles(camera: u32) -> Vec<Sample> {
    let mut names = BTreeMap::new();
    for part in ["train", "test"] {
        let folder = file("REID_VEHICLES", "images").join(part);
        for entry in fs::read_dir(folder).expect("the images") {
            let path = entry.expect("an image").path();
            let name = path
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let (vehicle, number) = name.rsplit_once("_cam").expect("a camera");
            if number.parse() == Ok(camera) {
                names.insert(vehicle.to_owned(), path);
            }
        }
    }
    let samples = (1..).zip(names.into_values());
    let sample = |(identity, path)| {
        Sample::new(path, Identity::new(identity)).with_camera(Camera::new(camera))
    };
    samples.map(sample).collect()
}

/// Real vehicles of two cameras, one image by each (Vehicle-Re-ID-Dataset, Khoa Nguyen Truong and others). The
/// expected scores, in percent, are those of the same weights in other runtimes. With
/// images that Pillow has decoded to PNG, the scores are equal to 0.05. Decoders of JPEG differ by about 1 of 255,
/// which changes these embeddings by about 4 % of their largest value, and scores by up to 0.9.
#[test]
#[ignore = "reads published weights and images: REID_WEIGHTS=DIR REID_VEHICLES=DIR cargo test --release \
            -p reid-zoo --test published -- --ignored --nocapture"]
fn published_networks_find_vehicles_of_the_other_camera() {
    let cases = [
        (
            "osnet-x0.25",
            "osnet_x0_25_msmt17.pth",
            [[63.7, 72.3], [62.3, 71.9]],
        ),
        (
            "mobilenet-v2",
            "mobilenetv2_imagenet.pt",
            [[32.5, 42.0], [29.3, 39.1]],
        ),
    ];
    for (name, weights, expected) in cases {
        let network: Architecture = name.parse().expect("a name");
        let embedder = Embedder::published(&network, file("REID_WEIGHTS", weights)).expect("loads");
        let cameras = [1, 2].map(|camera| {
            let vehicles = embedder.embed_samples(&vehicles(camera), Split::Gallery);
            vehicles.expect("images")
        });
        assert_eq!(cameras.each_ref().map(Embeddings::len), [567, 567]);
        for ([query, gallery], expected) in [[0, 1], [1, 0]].into_iter().zip(expected) {
            let config = EvaluationConfig::default();
            let report = evaluate(&cameras[query], &cameras[gallery], &config).expect("matches");
            let found = [report.rank(1), report.mean_average_precision].map(|score| 100.0 * score);
            println!("{name}: Rank-1 {:.2} %, mAP {:.2} %", found[0], found[1]);
            for (found, expected) in found.into_iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1.0,
                    "{name}: {found}, expected {expected}"
                );
            }
        }
    }
}

/// The depths of the published networks for CIFAR-10, and their files. Their published errors on the test
/// images are 8.27, 7.37, 6.90 and 6.61 %.
const CIFAR: [(usize, &str); 4] = [
    (20, "resnet20-12fca82f.th"),
    (32, "resnet32-d509ac18.th"),
    (44, "resnet44-014dd654.th"),
    (56, "resnet56-4bfd9763.th"),
];

/// A network for CIFAR-10 with published weights, in evaluation mode.
fn published_cifar(depth: usize, weights: &str) -> ArchitectureModel {
    let network = Architecture::cifar_resnet(depth);
    let size = InputSize::new(32, 32);
    let mut model = network.init(size, 10, &Init::empty(&Device::default()));
    let path = file("REID_WEIGHTS", weights);
    assert!(weights::load_published(&mut model, path).expect("loads"));
    model.evaluation()
}

/// Calls `look` with the reference values of each depth: normalised images, `input`, their scores in PyTorch,
/// `logits`, and PyTorch's `error` on the images of the folder `REID_CIFAR`, in percent.
fn for_each_cifar(look: impl Fn(&str, &ArchitectureModel, &SafeTensors<'_>)) {
    for (depth, weights) in CIFAR {
        let name = format!("cifar_resnet{depth}.safetensors");
        let bytes = fs::read(file("REID_GOLDENS", &name)).expect("a golden file");
        let golden = SafeTensors::deserialize(&bytes).expect("safetensors");
        look(
            &format!("ResNet-{depth}"),
            &published_cifar(depth, weights),
            &golden,
        );
    }
}

#[test]
#[ignore = "reads published weights: REID_WEIGHTS=DIR REID_GOLDENS=DIR cargo test -p reid-zoo --test published \
            -- --ignored"]
fn resnets_for_cifar_classify_as_published() {
    let device = Device::default();
    for_each_cifar(|name, model, golden| {
        let expected: Tensor<2> = read(golden, "logits", &device);
        let found = model
            .logits(read(golden, "input", &device))
            .expect("a classifier");
        let difference = (found - expected.clone()).abs().max().into_scalar::<f32>();
        let relative = difference / expected.abs().max().into_scalar::<f32>();
        println!("{name}: logits differ by {relative:.1e} of the largest");
        assert!(relative <= 1e-4, "{name}: {relative:.1e}");
    });
}

/// From the binary version the error is that of PyTorch. Decoders of JPEG differ, and so do errors on such
/// images.
#[test]
#[ignore = "reads published weights and images: REID_WEIGHTS=DIR REID_GOLDENS=DIR REID_CIFAR=DIR \
            cargo test --release -p reid-zoo --test published -- --ignored --nocapture"]
fn resnets_for_cifar_have_the_published_error() {
    let device = Device::default();
    let splits = dataset::load(file("REID_CIFAR", "")).expect("the images");
    assert_eq!((splits.train.len(), splits.test.len()), (50_000, 10_000));
    let allowed = if splits.layout.contains("binary") {
        0.02
    } else {
        1.0
    };
    let classes = Classes::from_identities(splits.train.iter().map(|sample| sample.identity));
    let size = InputSize::new(32, 32);
    let extractor = Extractor::new(size, Normalise::IMAGENET, LoaderConfig::default());
    for_each_cifar(|name, model, golden| {
        let results = extractor.classify(model, &splits.test, &classes, &device);
        let results = results.expect("ten thousand images");
        let expected: Tensor<1> = read(golden, "error", &device);
        let expected = expected.into_scalar::<f64>();
        println!("{name}: {results}, PyTorch {expected:.2} %");
        let error = 100.0 * results.error();
        assert!(
            (error - expected).abs() <= allowed,
            "{name}: {error}, expected {expected}"
        );
    });
}
