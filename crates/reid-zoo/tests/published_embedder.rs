//! Embedders of bare files of published weights.

use std::{env, fs, path::Path};

use burn::tensor::Device;
use image::RgbImage;
use reid_core::{InputSize, Seed};
use reid_nn::{
    Init, Network,
    attention::{AttentionConfig, SqueezeExcitationConfig},
    backbone::{MobileNetV2Config, OsNetConfig},
};
use reid_zoo::{Architecture, Embedder, Error, MobileNetReidConfig, OsNetReidConfig, weights};
use safetensors::SafeTensors;
use tempfile::tempdir;

const SIZE: InputSize = InputSize::new(96, 32);

fn osnet() -> Architecture {
    let backbone = OsNetConfig::x0_25().with_channels([4, 8, 12, 16]);
    let backbone = backbone.after(&[], AttentionConfig::Chain(Vec::new()));
    OsNetReidConfig::from_backbone(backbone).into()
}

fn mobile(first_expansion: bool) -> Architecture {
    let backbone = MobileNetV2Config {
        stem: 4,
        channels: [2, 3, 4, 5, 6, 7, 8],
        last: 9,
        first_expansion,
        ..MobileNetV2Config::x1_0()
    };
    let backbone = backbone.after(&[], AttentionConfig::Chain(Vec::new()));
    MobileNetReidConfig::from_backbone(backbone).into()
}

/// Saves a network with random weights under the names of this library.
fn save(network: &Architecture, classes: usize, path: &Path) {
    let init = Seed::new(3);
    let device = Device::default();
    let model = network.init(SIZE, classes, &Init::new(init, &device));
    weights::save(&model, path).expect("saved");
}

/// Renames the tensors of a safetensors file of an `OSNet` as torchreid does; `keep` selects them.
fn to_torchreid(from: &Path, to: &Path, keep: impl Fn(&str) -> bool) {
    let bytes = fs::read(from).expect("read");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let name = |key: &str| {
        key.replace("backbone.", "")
            .replace("head.reduction.", "fc.0.")
            .replace("head.norm.", "fc.1.")
            .replace("head.classifier.", "classifier.")
            .replace("pool2.", "conv2.2.0.")
            .replace("pool3.", "conv3.2.0.")
    };
    let tensors = file.iter().map(|(key, view)| (name(key), view));
    let tensors = tensors.filter(|(key, _)| keep(key));
    safetensors::serialize_to_file(tensors.collect::<Vec<_>>(), None, to).expect("written");
}

fn image() -> RgbImage {
    RgbImage::from_fn(20, 50, |x, y| {
        image::Rgb(
            [x * 12, y * 5, x * y / 4].map(|value| u8::try_from(value % 256).expect("small")),
        )
    })
}

fn open(network: &Architecture, path: &Path) -> Embedder {
    Embedder::published_on(network, path, SIZE, &Device::default()).expect("published weights")
}

#[test]
fn the_classifier_has_the_classes_of_the_file_and_does_not_count_for_the_fingerprint() {
    let folder = tempdir().expect("a folder");
    let [own, burnpack, whole, bare] = ["own.safetensors", "own.bpk", "whole.pth", "bare.pth"]
        .map(|name| folder.path().join(name));
    for path in [&own, &burnpack] {
        save(&osnet(), 7, path);
    }
    to_torchreid(&own, &whole, |_| true);
    to_torchreid(&own, &bare, |key| !key.starts_with("classifier."));

    let (network, image) = (osnet(), image());
    let expected = open(&network, &own);
    let embedding = expected.embed(&image).expect("embedded");
    assert_eq!(embedding.len(), 512);
    assert!(
        embedding
            .iter()
            .any(|value| (value - embedding[0]).abs() > 1e-3)
    );
    for path in [&burnpack, &whole, &bare] {
        let embedder = open(&network, path);
        let name = path.display();
        assert_eq!(
            embedder.embed(&image).expect("embedded"),
            embedding,
            "{name}"
        );
        let (one, other) = (embedder.fingerprint(), expected.fingerprint());
        assert_eq!(one.expect("known"), other.expect("known"), "{name}");
        let maps = embedder.heat_maps(std::slice::from_ref(&image));
        if path == &bare {
            let error = maps.expect_err("no classifier").to_string();
            assert!(
                error.contains("expected weights with a classifier"),
                "{error}"
            );
        } else {
            assert_eq!(maps.expect("a classifier of 7 classes").len(), 1, "{name}");
        }
    }
}

#[test]
fn the_input_size_is_that_of_the_authors() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("weights.safetensors");
    let cases = [
        (osnet(), InputSize::PERSON),
        (mobile(true), InputSize::PERSON),
        (mobile(false), InputSize::new(224, 224)),
    ];
    for (network, input) in cases {
        save(&network, 3, &path);
        let embedder = Embedder::published(&network, &path).expect("published weights");
        assert_eq!(embedder.input(), input);
        let dimensions = embedder.embed(&image()).expect("embedded").len();
        assert_eq!(dimensions, network.output(SIZE, 3).embedding);
    }
}

#[test]
fn other_networks_and_input_sizes_that_do_not_fit_are_rejected() {
    let device = Device::default();
    let error = Embedder::published(&Architecture::strong_baseline(), "any.pth");
    let error = error.expect_err("weights of a baseline are not published");
    assert_eq!(
        error.to_string(),
        "expected an OSNet, a LightMBN or a MobileNetV2, whose published weights can be opened, found `baseline`"
    );
    let small = InputSize::new(8, 8);
    let error = Embedder::published_on(&osnet(), "any.pth", small, &device);
    let error = error.expect_err("a small size");
    assert!(matches!(error, Error::Network { .. }), "{error}");
    let expected = "network.osnet.backbone.stem: expected images large enough";
    assert!(error.to_string().contains(expected), "{error}");
    let error = Embedder::published_on(&osnet(), "missing.pth", SIZE, &device);
    let error = error.expect_err("no file").to_string();
    assert!(error.starts_with("missing.pth: "), "{error}");
}

/// Blocks whose weights are not published would have the value 0.
#[test]
fn weights_without_those_of_the_attention_are_rejected() {
    let folder = tempdir().expect("a folder");
    let [own, path] =
        ["own.safetensors", "published.safetensors"].map(|name| folder.path().join(name));
    save(&osnet(), 7, &own);
    to_torchreid(&own, &path, |_| true);
    let mut network = osnet();
    if let Architecture::OsNet(config) = &mut network {
        let gate = SqueezeExcitationConfig::new().into();
        config.backbone = config.backbone.clone().and_after(&[4], gate);
    }
    let error = Embedder::published_on(&network, &path, SIZE, &Device::default());
    let error = error.expect_err("no weights of the attention").to_string();
    assert!(error.contains("backbone.after.3."), "{error}");
}

/// No head uses its classifier for embeddings, so that fingerprints need not include it.
#[test]
fn no_embedding_depends_on_a_classifier() {
    let folder = tempdir().expect("a folder");
    let (path, other) = (
        folder.path().join("one.safetensors"),
        folder.path().join("other.safetensors"),
    );
    for network in small_networks() {
        save(&network, 3, &path);
        let bytes = fs::read(&path).expect("read");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        let zeros = vec![0; bytes.len()];
        let mut classifiers = 0;
        let tensors = file.iter().map(|(key, view)| {
            let is_classifier = key.split('.').any(|part| part == "classifier");
            classifiers += usize::from(is_classifier);
            let zeros = &zeros[..view.data().len()];
            let data = if is_classifier { zeros } else { view.data() };
            let (dtype, shape) = (view.dtype(), view.shape().to_vec());
            let view = safetensors::tensor::TensorView::new(dtype, shape, data);
            (key.to_owned(), view.expect("the same length"))
        });
        let tensors: Vec<_> = tensors.collect();
        safetensors::serialize_to_file(tensors, None, &other).expect("written");
        assert!(classifiers > 0, "{network:?}");
        let device = Device::default();
        let embedding = |path: &Path| {
            let mut model = network.init(SIZE, 3, &Init::empty(&device));
            weights::load(&mut model, path).expect("the same network");
            let embedder = Embedder::new(reid_nn::Model::evaluation(&model), SIZE, &device);
            embedder.embed(&image()).expect("embedded")
        };
        assert_eq!(embedding(&path), embedding(&other), "{network:?}");
    }
}

/// One network of each kind, with few channels.
fn small_networks() -> Vec<Architecture> {
    use reid_nn::{backbone::ResNetConfig, head::BranchedHeadConfig};
    use reid_zoo::{FncConfig, MgnConfig, NetworkConfig, RgaConfig};

    let mut baseline = Architecture::strong_baseline();
    if let Architecture::Baseline(config) = &mut baseline {
        config.backbone = config.backbone.clone().with_width(8);
    }
    let mut rga = RgaConfig::rga_resnet50();
    rga.backbone = rga.backbone.with_width(8);
    let backbone = ResNetConfig::resnet50()
        .with_width(8)
        .with_last_stride(1)
        .inside(None);
    let branched = NetworkConfig {
        backbone: backbone.clone(),
        head: BranchedHeadConfig::batch_drop_block(2),
    };
    vec![
        baseline,
        rga.into(),
        branched.into(),
        MgnConfig::from_network(backbone.clone()).into(),
        FncConfig::from_network(backbone).into(),
        osnet(),
        mobile(false),
    ]
}

#[test]
#[ignore = "reads published weights: REID_WEIGHTS=DIR cargo test -p reid-zoo --test published_embedder -- --ignored"]
fn published_files_open() {
    let folder = env::var_os("REID_WEIGHTS").expect("REID_WEIGHTS is not set");
    let cases = [
        ("osnet-x0.25", "osnet_x0_25_msmt17.pth", 512),
        ("mobilenet-v2", "mobilenetv2_imagenet.pt", 1280),
    ];
    for (name, file, dimensions) in cases {
        let network: Architecture = name.parse().expect(name);
        let embedder = Embedder::published(&network, Path::new(&folder).join(file)).expect(file);
        let embedding = embedder.embed(&image()).expect("embedded");
        assert_eq!(embedding.len(), dimensions);
        assert_eq!(
            embedder.heat_maps(&[image()]).expect("a classifier").len(),
            1
        );
    }
}
