//! Segmentation models load weights with the names of torchvision, semseg and mmsegmentation.

use std::path::Path;

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Device, Tensor},
};
use reid_core::{InputSize, Seed};
use reid_nn::{
    Init,
    backbone::{Dilation, FirstDilation, MaxPool, ResNetConfig, Stem},
    segmentation::{AsppConfig, DecodeHeadConfig, PyramidPoolingConfig, SegmentationConfig},
};
use reid_zoo::{
    segmentation,
    weights::{self, PublishedNetwork},
};
use safetensors::SafeTensors;
use tempfile::tempdir;

const SIZE: InputSize = InputSize::new(33, 33);

/// Sets every value of a tensor to a number that no other tensor has.
struct Numbered(f32);

impl ModuleMapper for Numbered {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.0 += 1.0;
        let number = self.0;
        param.map(|value| value.ones_like() * number)
    }
}

fn backbone() -> ResNetConfig {
    let mut backbone = ResNetConfig::resnet50().with_width(2);
    backbone.blocks = [1, 1, 2, 1];
    backbone
}

/// The tensors of a module as a safetensors file.
fn save<M: Module>(module: &M, path: &Path) -> Vec<u8> {
    weights::save(module, path).expect("saved");
    std::fs::read(path).expect("read")
}

/// Writes the tensors of a file under other names. A tensor without another name is left out.
fn rename(bytes: &[u8], path: &Path, name: impl Fn(&str) -> Option<String>) {
    let file = SafeTensors::deserialize(bytes).expect("safetensors");
    let tensors = file
        .iter()
        .filter_map(|(key, view)| Some((name(key)?, view)));
    safetensors::serialize_to_file(tensors.collect::<Vec<_>>(), None, path).expect("written");
}

/// Saves a model under published names, loads the file into another one, and compares every tensor.
fn assert_loads<M: PublishedNetwork>(build: impl Fn(u64) -> M, name: impl Fn(&str) -> String) {
    let folder = tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let model = build(1).map(&mut Numbered(0.0));
    let expected = save(&model, &file("model.safetensors"));
    let published = file("published");
    rename(&expected, &published, |key| Some(name(key)));
    let mut found = build(2);
    assert!(weights::load_published(&mut found, &published).expect("fits"));
    assert!(save(&found, &file("copy.safetensors")) == expected);
    // Names of this library.
    let mut found = build(3);
    assert!(weights::load_published(&mut found, file("model.safetensors")).expect("fits"));
    assert!(save(&found, &file("copy.safetensors")) == expected);
}

/// torchvision's name of a tensor of `DeepLabV3` with four dilations.
fn deeplab(key: &str) -> String {
    let key = torchvision_auxiliary(key);
    let key = key.replace("head.context.convs.5.conv.", "classifier.0.convs.5.1.");
    let key = key.replace("head.context.convs.5.bn.", "classifier.0.convs.5.2.");
    let key = key.replace("head.context.project.conv.", "classifier.0.project.0.");
    let key = key.replace("head.context.project.bn.", "classifier.0.project.1.");
    let key = key.replace("head.conv.conv.", "classifier.1.");
    let key = key.replace("head.conv.bn.", "classifier.2.");
    let key = key.replace("head.classifier.", "classifier.4.");
    match key.strip_prefix("head.context.convs.") {
        Some(rest) => {
            let rest = rest.replace(".conv.", ".0.").replace(".bn.", ".1.");
            format!("classifier.0.convs.{rest}")
        }
        None => key,
    }
}

fn torchvision_auxiliary(key: &str) -> String {
    let key = key.replace("auxiliary.conv.conv.", "aux_classifier.0.");
    let key = key.replace("auxiliary.conv.bn.", "aux_classifier.1.");
    key.replace("auxiliary.classifier.", "aux_classifier.4.")
}

fn fcn(key: &str) -> String {
    let key = torchvision_auxiliary(key);
    let key = key.replace("head.conv.conv.", "classifier.0.");
    let key = key.replace("head.conv.bn.", "classifier.1.");
    key.replace("head.classifier.", "classifier.4.")
}

/// semseg's name of a tensor of `PSPNet`.
fn semseg(key: &str) -> String {
    let stem = [
        ("backbone.conv1.", "layer0.0."),
        ("backbone.bn1.", "layer0.1."),
        ("backbone.deep.0.conv.", "layer0.3."),
        ("backbone.deep.0.bn.", "layer0.4."),
        ("backbone.deep.1.conv.", "layer0.6."),
        ("backbone.deep.1.bn.", "layer0.7."),
        ("backbone.", ""),
        ("head.conv.conv.", "cls.0."),
        ("head.conv.bn.", "cls.1."),
        ("head.classifier.", "cls.4."),
        ("auxiliary.conv.conv.", "aux.0."),
        ("auxiliary.conv.bn.", "aux.1."),
        ("auxiliary.classifier.", "aux.4."),
    ];
    if let Some(rest) = key.strip_prefix("head.context.features.") {
        let rest = rest.replace(".conv.", ".1.").replace(".bn.", ".2.");
        return format!("ppm.features.{rest}");
    }
    let renamed = stem.iter().find_map(|(ours, theirs)| {
        let rest = key.strip_prefix(ours)?;
        Some(format!("{theirs}{rest}"))
    });
    renamed.unwrap_or_else(|| panic!("no published name of {key}"))
}

/// mmsegmentation's name of a tensor. `conv` is the name of the convolution of the head.
fn mmseg(key: &str, conv: &str) -> String {
    let names = [
        ("backbone.conv1.", "backbone.stem.0."),
        ("backbone.bn1.", "backbone.stem.1."),
        ("backbone.deep.0.conv.", "backbone.stem.3."),
        ("backbone.deep.0.bn.", "backbone.stem.4."),
        ("backbone.deep.1.conv.", "backbone.stem.6."),
        ("backbone.deep.1.bn.", "backbone.stem.7."),
        ("backbone.layer", "backbone.layer"),
        ("head.conv.", conv),
        ("head.classifier.", "decode_head.conv_seg."),
        ("auxiliary.conv.", "auxiliary_head.convs.0."),
        ("auxiliary.classifier.", "auxiliary_head.conv_seg."),
        // The mean is not in the list of the dilated convolutions.
        ("head.context.convs.4.", "decode_head.image_pool.1."),
        ("head.context.convs.", "decode_head.aspp_modules."),
    ];
    if let Some(rest) = key.strip_prefix("head.context.features.") {
        let (index, rest) = rest.split_once('.').expect("an index");
        return format!("decode_head.psp_modules.{index}.1.{rest}");
    }
    let renamed = names.iter().find_map(|(ours, theirs)| {
        let rest = key.strip_prefix(ours)?;
        Some(format!("{theirs}{rest}"))
    });
    renamed.unwrap_or_else(|| panic!("no published name of {key}"))
}

/// The name of the convolution of a head with a context block.
const BOTTLENECK: &str = "decode_head.bottleneck.";

fn pspnet() -> SegmentationConfig<PyramidPoolingConfig> {
    segmentation::pspnet(backbone())
}

#[test]
fn deeplab_loads_with_the_names_of_torchvision() {
    let device = Device::default();
    let mut config = segmentation::deeplab_v3(backbone());
    config.head.context.rates = vec![1, 2, 3, 4];
    let build = |seed| config.init(SIZE, 5, &Init::new(Seed::new(seed), &device));
    assert_loads(build, deeplab);
    assert_loads(build, |key| format!("module.{}", deeplab(key)));
    let config = segmentation::fcn(backbone());
    let build = |seed| config.init(SIZE, 5, &Init::new(Seed::new(seed), &device));
    assert_loads(build, fcn);
}

#[test]
fn pspnet_loads_with_the_names_of_semseg() {
    let device = Device::default();
    let build = |seed| pspnet().init(SIZE, 5, &Init::new(Seed::new(seed), &device));
    assert_loads(build, semseg);
    assert_loads(build, |key| format!("module.{}", semseg(key)));
}

#[test]
fn networks_load_with_the_names_of_mmsegmentation() {
    let device = Device::default();
    let init = |seed| Init::new(Seed::new(seed), &device);
    let config = segmentation::mmseg_pspnet(backbone());
    let build = |seed| config.init(SIZE, 5, &init(seed));
    assert_loads(build, |key| mmseg(key, BOTTLENECK));
    assert_loads(build, |key| format!("module.{}", mmseg(key, BOTTLENECK)));
    // The backbone of torchvision.
    let mut config = config.clone();
    config.backbone.stem = Stem::Large(MaxPool::Padded);
    let build = |seed| config.init(SIZE, 5, &init(seed));
    let name = |key: &str| match key.strip_prefix("backbone.") {
        Some(_) => key.to_owned(),
        None => mmseg(key, BOTTLENECK),
    };
    assert_loads(build, name);

    let mut config = segmentation::mmseg_deeplab_v3(backbone());
    config.head.context.channels = 6;
    config.head = config.head.with_channels(8);
    let build = |seed| config.init(SIZE, 5, &init(seed));
    assert_loads(build, |key| mmseg(key, BOTTLENECK));

    let head = DecodeHeadConfig::auxiliary().with_channels(8);
    let backbone = segmentation::mmseg_pspnet(backbone()).backbone;
    let config = SegmentationConfig::new(backbone, head);
    let build = |seed| config.init(SIZE, 5, &init(seed));
    assert_loads(build, |key| mmseg(key, "decode_head.convs.0."));
}

/// A tensor, the name that it gets, and the network that has this name.
const OTHERS: [(&str, &str, &str); 5] = [
    (
        "head.conv.bn.weight",
        "decode_head.convs.1.bn.weight",
        "an `FCNHead` of several convolutions",
    ),
    (
        "head.conv.bn.weight",
        "decode_head.conv_cat.bn.weight",
        "an `FCNHead` of several convolutions",
    ),
    (
        "head.conv.bn.weight",
        "decode_head.c1_bottleneck.bn.weight",
        "the head of DeepLabV3+",
    ),
    (
        "head.conv.bn.weight",
        "decode_head.lateral_convs.0.bn.weight",
        "a `UPerHead`",
    ),
    (
        "backbone.layer1.0.downsample.1.weight",
        "backbone.layer1.0.downsample.2.weight",
        "a backbone whose shortcuts pool, such as `ResNetV1d`",
    ),
];

#[test]
fn other_networks_of_mmsegmentation_are_rejected_by_their_names() {
    let folder = tempdir().expect("a folder");
    let published = folder.path().join("published");
    let device = Device::default();
    let init = Init::new(Seed::new(1), &device);
    let mut model = segmentation::mmseg_pspnet(backbone()).init(SIZE, 5, &init);
    let bytes = save(&model, &folder.path().join("model.safetensors"));
    for (ours, theirs, found) in OTHERS {
        rename(&bytes, &published, |key| {
            let other = (key == ours).then(|| theirs.to_owned());
            Some(other.unwrap_or_else(|| mmseg(key, BOTTLENECK)))
        });
        let error = weights::load_published(&mut model, &published);
        let error = error.expect_err(found).to_string();
        let key = theirs.strip_prefix("backbone.").unwrap_or(theirs);
        assert!(error.contains(&format!("{found} (`{key}`)")), "{error}");
    }
}

/// The error lists the keys that do not fit.
#[test]
fn weights_of_another_head_or_stem_are_rejected() {
    let folder = tempdir().expect("a folder");
    let published = folder.path().join("published");
    let device = Device::default();
    let init = Init::new(Seed::new(1), &device);
    let mut config = segmentation::mmseg_pspnet(backbone());
    config.head = config.head.with_channels(8);
    let model = config.init(SIZE, 5, &init);
    let bytes = save(&model, &folder.path().join("model.safetensors"));
    rename(&bytes, &published, |key| Some(mmseg(key, BOTTLENECK)));

    let mut deeplab = segmentation::mmseg_deeplab_v3(backbone());
    deeplab.head.context.channels = 6;
    deeplab.head = deeplab.head.with_channels(8);
    let error = weights::load_published(&mut deeplab.init(SIZE, 5, &init), &published);
    let error = error.expect_err("another head").to_string();
    for key in [
        "head.context.convs.0.conv.weight",
        "head.context.features.0.conv.weight",
    ] {
        assert!(error.contains(key), "{error}");
    }
    for (stem, expected) in [
        (Stem::Large(MaxPool::Padded), "backbone.stem.0.weight"),
        (
            Stem::Deep(MaxPool::Padded),
            "backbone.conv1.weight: expected [2, 3, 3, 3], found [1, 3, 3, 3]",
        ),
    ] {
        config.backbone.stem = stem;
        let error = weights::load_published(&mut config.init(SIZE, 5, &init), &published);
        let error = error.expect_err("another stem").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// The weights of semseg's backbone, which are trained on ImageNet.
#[test]
fn a_deep_stem_loads_with_the_names_of_semseg() {
    let folder = tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let device = Device::default();
    let build = |seed| pspnet().init(SIZE, 5, &Init::new(Seed::new(seed), &device));
    let model = build(1).backbone.map(&mut Numbered(0.0));
    let expected = save(&model, &file("model.safetensors"));
    rename(&expected, &file("published"), |key| {
        let key = key.replace("deep.0.conv.", "conv2.");
        let key = key.replace("deep.0.bn.", "bn2.");
        let key = key.replace("deep.1.conv.", "conv3.");
        Some(key.replace("deep.1.bn.", "bn3."))
    });
    let mut found = build(2).backbone;
    weights::load_backbone(&mut found, file("published")).expect("fits");
    assert!(save(&found, &file("copy.safetensors")) == expected);

    // The names and the stem of mmsegmentation.
    let config = segmentation::mmseg_pspnet(backbone());
    let build = |seed| config.init(SIZE, 5, &Init::new(Seed::new(seed), &device));
    let model = build(1).backbone.map(&mut Numbered(0.0));
    let expected = save(&model, &file("model.safetensors"));
    rename(&expected, &file("published"), |key| {
        let key = mmseg(&format!("backbone.{key}"), BOTTLENECK);
        key.strip_prefix("backbone.").map(str::to_owned)
    });
    let mut found = build(2).backbone;
    weights::load_backbone(&mut found, file("published")).expect("fits");
    assert!(save(&found, &file("copy.safetensors")) == expected);
}

/// A model without an auxiliary head drops that of the file; one with another number of classes keeps its
/// classifiers; a missing layer is an error.
#[test]
fn heads_that_differ_keep_their_values_or_are_rejected() {
    let folder = tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let (device, mut config) = (Device::default(), pspnet());
    let init = Init::new(Seed::new(1), &device);
    let model = config.init(SIZE, 5, &init).map(&mut Numbered(0.0));
    let bytes = save(&model, &file("model.safetensors"));
    rename(&bytes, &file("published"), |key| Some(semseg(key)));

    let mut other = config.init(SIZE, 7, &init);
    assert!(!weights::load_published(&mut other, file("published")).expect("fits"));
    let [found, expected] = [&other, &model].map(|model| model.head.conv.conv.weight.to_data());
    assert_eq!(found, expected);

    config.auxiliary = None;
    let mut without = config.init(SIZE, 5, &init);
    assert!(weights::load_published(&mut without, file("published")).expect("fits"));

    rename(&bytes, &file("published"), |key| {
        let key = semseg(key);
        (key != "cls.1.running_mean").then_some(key)
    });
    let error = weights::load_published(&mut without, file("published"));
    let error = error.expect_err("a missing key").to_string();
    assert!(error.contains("head.conv.bn.running_mean"), "{error}");
}

/// The weights of the baseline, with attention that is not in the file.
#[test]
fn attention_keeps_its_values() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("fcn");
    let device = Device::default();
    let init = Init::new(Seed::new(1), &device);
    let mut baseline = segmentation::fcn(backbone());
    baseline.auxiliary = None;
    let model = baseline.init(SIZE, 5, &init).map(&mut Numbered(0.0));
    let bytes = save(&model, &folder.path().join("model.safetensors"));
    rename(&bytes, &path, |key| Some(fcn(key)));
    let mut config = segmentation::rga(backbone(), 4);
    (config.head.bias, config.auxiliary) = (false, None);
    config.backbone = baseline.backbone.clone();
    let mut with_attention = config.init(SIZE, 5, &init);
    // The classifier has the channels of the attention too, so it is not loaded.
    assert!(!weights::load_published(&mut with_attention, &path).expect("fits"));
    let [found, expected] = [&with_attention.head.conv, &model.head.conv];
    assert_eq!(found.conv.weight.to_data(), expected.conv.weight.to_data());
}

#[test]
fn settings_that_are_not_used_are_not_written() {
    let text = serde_json::to_string(&ResNetConfig::resnet50()).expect("JSON");
    assert!(!text.contains("dilation"), "{text}");
    let dilation = Dilation::Stride8(FirstDilation::Previous);
    let config = segmentation::rga(ResNetConfig::resnet50().with_dilation(dilation), 32);
    let text = serde_json::to_string(&config).expect("JSON");
    for part in [
        r#""dilation":{"stride8":"stage"}"#,
        r#""stem":{"deep":"padded"}"#,
        r#""pooling":"roi-align""#,
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(serde_json::from_str(&text).ok(), Some(config));
    let aspp = serde_json::to_string(&AsppConfig::new()).expect("JSON");
    assert_eq!(aspp, r#"{"rates":[12,24,36],"channels":256}"#);
    let config = segmentation::mmseg_deeplab_v3(ResNetConfig::resnet50());
    let deeplab = serde_json::to_string(&config).expect("JSON");
    for part in [r#""stem":{"deep-half":"padded"}"#, r#""project":false"#] {
        assert!(deeplab.contains(part), "{part} in {deeplab}");
    }
    assert_eq!(serde_json::from_str(&deeplab).ok(), Some(config));
    let misspelt = text
        .replace("\"rates\"", "\"rate\"")
        .replace("\"bias\"", "\"bia\"");
    let error =
        serde_json::from_str::<SegmentationConfig>(&misspelt).expect_err("a misspelt field");
    assert!(error.to_string().contains("bia"), "{error}");
}
