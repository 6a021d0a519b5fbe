//! Loading and saving weights: checkpoints of `PyTorch`, round trips, and files that do not fit or are damaged.
//!
//! The checkpoints in `tests/data` were written by `PyTorch` 2.15:
//!
//! ```python
//! import torch; from torch import nn
//! net = nn.Sequential()
//! for name, part in {"conv": nn.Conv2d(3, 4, 3, bias=False), "bn": nn.BatchNorm2d(4), "fc": nn.Linear(4, 2)}.items(): net.add_module(name, part)
//! state = {k: (torch.arange(v.numel()).reshape(v.shape) + 100 * i).to(v.dtype) for i, (k, v) in enumerate(net.state_dict().items())}
//! torch.save(state, "plain.pth")
//! torch.save({"state_dict": state, "epoch": 3}, "nested.pth")
//! torch.save({f"module.{k}": v for k, v in state.items()}, "parallel.pth")
//! torch.save({k: v.to({"c": torch.float16, "b": torch.bfloat16, "f": torch.float64}[k[0]]) for k, v in state.items()}, "mixed.pth")
//! ```

use std::{fs, path::PathBuf};

use burn::{
    module::{Module, Param},
    nn::{
        Linear, LinearConfig,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{DType, Device, Distribution, Int, Tensor, quantization::QuantScheme},
};
use reid_core::{InputSize, Seed};
use reid_nn::{
    BlockConfig, Init, Network,
    attention::SqueezeExcitationConfig,
    backbone::{Ibn, ResNetConfig, ResidualBlock},
    norm::{BatchNorm, BatchNormConfig},
};
use reid_zoo::{
    BagOfTricks, BagOfTricksConfig, Error,
    weights::{self, Weights},
};
use tempfile::{TempDir, tempdir};

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    bn: BatchNorm,
    fc: Linear,
}

fn net(device: &Device) -> Net {
    Net {
        conv: Conv2dConfig::new([3, 4], [3, 3])
            .with_bias(false)
            .init(device),
        bn: BatchNormConfig::new(4).init(device),
        fc: LinearConfig::new(4, 2).init(device),
    }
}

/// A network with another number of outputs, an additional parameter and no convolution.
#[derive(Module, Debug)]
struct Other {
    bn: BatchNorm,
    fc: Linear,
    extra: Param<Tensor<1>>,
}

fn other(device: &Device) -> Other {
    Other {
        bn: BatchNormConfig::new(4).init(device),
        fc: LinearConfig::new(4, 3).init(device),
        extra: Param::from_tensor(Tensor::zeros([1], device)),
    }
}

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32")
}

fn weight(net: &Net) -> Vec<f32> {
    read(net.fc.weight.val())
}

/// Asserts that tensor `i` of the state dict counts up from 100·i.
fn assert_counts(net: &Net) {
    let count = |from: usize, values: usize| -> Vec<f32> {
        (from..from + values).map(|value| value as f32).collect()
    };
    assert_eq!(read(net.conv.weight.val()), count(0, 4 * 3 * 3 * 3));
    assert_eq!(read(net.bn.weight.val()), count(100, 4));
    assert_eq!(read(net.bn.bias.val()), count(200, 4));
    assert_eq!(read(net.bn.running_mean.value()), count(300, 4));
    assert_eq!(read(net.bn.running_var.value()), count(400, 4));
    // 500 is `num_batches_tracked`. [[600, 601, 602, 603], [604, 605, 606, 607]], transposed.
    let transposed = [600.0, 604.0, 601.0, 605.0, 602.0, 606.0, 603.0, 607.0];
    assert_eq!(weight(net), transposed);
    assert_eq!(
        read(net.fc.bias.as_ref().expect("has one").val()),
        [700.0, 701.0]
    );
}

fn counting(device: &Device) -> Net {
    let mut net = net(device);
    weights::load(&mut net, data("plain.pth")).expect("fits");
    net
}

#[test]
fn a_checkpoint_of_pytorch_loads() {
    assert_counts(&counting(&Device::default()));
}

#[test]
fn a_nested_checkpoint_loads() {
    let mut net = net(&Device::default());
    weights::load(&mut net, data("nested.pth")).expect("fits");
    assert_counts(&net);
}

#[test]
fn a_prefix_is_removed() {
    let mut net = net(&Device::default());
    Weights::open(data("parallel.pth"))
        .expect("a checkpoint")
        .renamed("module.", "")
        .load_into(&mut net)
        .expect("fits");
    assert_counts(&net);
}

#[test]
fn one_layer_of_a_file_loads() {
    let mut layer = LinearConfig::new(4, 2).init(&Device::default());
    Weights::open(data("plain.pth"))
        .expect("a checkpoint")
        .without("conv.")
        .without("bn.")
        .renamed("fc.", "")
        .load_into(&mut layer)
        .expect("fits");
    assert_eq!(layer.weight.val().dims(), [4, 2]);
}

#[test]
fn floats_are_cast_to_the_dtypes_of_the_module() {
    // The file has f16, bf16 and f64. The spacing of bf16 is 1 up to 256 and 2 up to 512; ties go to even.
    let mut net = net(&Device::default());
    weights::load(&mut net, data("mixed.pth")).expect("fits");
    assert_eq!(net.conv.weight.val().dtype(), DType::F32);
    assert_eq!(net.fc.weight.val().dtype(), DType::F32);
    assert_eq!(
        read(net.bn.running_mean.value()),
        [300.0, 300.0, 302.0, 304.0]
    );
    assert_eq!(weight(&net)[..2], [600.0, 604.0]);
}

#[test]
fn loaded_parameters_require_gradients_as_before() {
    let device = Device::default().autodiff();
    let net = counting(&device);
    assert!(net.conv.weight.val().is_require_grad() && net.fc.weight.val().is_require_grad());
    assert!(!net.bn.running_mean.value().is_require_grad());

    // The bias of the neck stays frozen if the model was loaded on a device without autodiff.
    let folder = tempdir().expect("a folder");
    for name in ["model.safetensors", "model.bpk"] {
        let path = folder.path().join(name);
        let mut model = small(&Device::default());
        weights::save(&model, &path).expect("saved");
        weights::load(&mut model, &path).expect("fits");
        let neck = model.train().head.bottleneck;
        assert!(!neck.bias.val().is_require_grad() && neck.weight.val().is_require_grad());
    }
}

fn small(device: &Device) -> BagOfTricks {
    let mut config = BagOfTricksConfig::resnet50();
    config.backbone = ResNetConfig::resnet50().with_width(4).with_last_stride(1);
    config.init(InputSize::new(32, 16), 5, &Init::new(Seed::new(1), device))
}

#[test]
fn round_trips_are_exact_with_running_statistics() {
    let folder = tempdir().expect("a folder");
    let device = Device::default();
    let trained = small(&device.clone().autodiff());
    let images = |device: &Device| Tensor::random([4, 3, 32, 16], Distribution::Default, device);
    let _ = trained.forward(images(&device.clone().autodiff()));

    for name in ["model.safetensors", "model.bpk"] {
        let path = folder.path().join(name);
        weights::save(&trained, &path).expect("saved");
        let mut loaded = small(&device);
        weights::load(&mut loaded, &path).expect("fits");
        let images = images(&device);
        let trained = trained.valid();
        let (one, other) = (trained.embed(images.clone()), loaded.embed(images));
        assert_eq!(read(one), read(other), "{name}");
    }
}

#[test]
fn a_record_of_burn_is_a_burnpack_file() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("model.bpk");
    let device = Device::default();
    counting(&device).save_file(&path).expect("saved");
    let mut loaded = net(&device);
    weights::load(&mut loaded, &path).expect("fits");
    assert_counts(&loaded);

    weights::save(&counting(&device), &path).expect("saved over it");
    assert_counts(&net(&device).load_file(&path));
}

#[test]
fn safetensors_have_the_names_and_layout_of_pytorch() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("net.safetensors");
    weights::save(&counting(&Device::default()), &path).expect("saved");
    let bytes = fs::read(&path).expect("written");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("whole");

    let mut names = file.names();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "bn.bias",
            "bn.running_mean",
            "bn.running_var",
            "bn.weight",
            "conv.weight",
            "fc.bias",
            "fc.weight"
        ]
    );
    let weight = file.tensor("fc.weight").expect("there");
    assert_eq!(weight.shape(), [2, 4]);
    let expected: Vec<u8> = (600..608_u16)
        .flat_map(|value| f32::from(value).to_le_bytes())
        .collect();
    assert_eq!(weight.data(), expected);

    // The same module gives the same bytes.
    weights::save(&counting(&Device::default()), &path).expect("saved");
    assert_eq!(fs::read(&path).expect("written"), bytes);
}

#[test]
fn safetensors_of_burn_keep_their_layout() {
    use burn::store::{ModuleSnapshot, SafetensorsStore};

    let folder = tempdir().expect("a folder");
    let path = folder.path().join("burn.safetensors");
    let device = Device::default();
    counting(&device)
        .save_into(&mut SafetensorsStore::from_file(&path))
        .expect("saved");
    let mut loaded = net(&device);
    weights::load(&mut loaded, &path).expect("fits");
    assert_counts(&loaded);
}

#[test]
fn a_mismatch_is_listed_and_the_module_is_unchanged() {
    let mut other = other(&Device::default());
    let path = data("plain.pth");
    let before = read(other.bn.weight.val());
    let error = weights::load(&mut other, &path).expect_err("another network");
    let expected = format!(
        "{}: only 6 of the 7 keys of the module are in the file
0 keys applied
1 missing key, in the module but not in the file:
  extra
1 unexpected key, in the file but not in the module:
  conv.weight
2 misshapen keys:
  fc.weight: expected [3, 4], found [2, 4]
  fc.bias: expected [3], found [2]",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(read(other.bn.weight.val()), before);
}

#[test]
fn a_partial_load_applies_the_weights_that_fit() {
    let mut other = other(&Device::default());
    let report = Weights::open(data("plain.pth"))
        .expect("a checkpoint")
        .load_partially_into(&mut other)
        .expect("readable");
    assert_eq!(
        report.applied,
        ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]
    );
    assert_eq!(report.missing, ["extra"]);
    assert_eq!(report.unexpected, ["conv.weight"]);
    assert_eq!(report.misshapen.len(), 2);
    assert_eq!(
        read(other.bn.running_mean.value()),
        [300.0, 301.0, 302.0, 303.0]
    );
}

#[test]
fn floats_do_not_fit_integers() {
    #[derive(Module, Debug)]
    struct Counts {
        bias: Param<Tensor<1, Int>>,
    }
    let zeros = Tensor::<1, Int>::zeros([2], &Device::default());
    let mut counts = Counts {
        bias: Param::initialized(burn::module::ParamId::new(), zeros),
    };
    let error = Weights::open(data("plain.pth"))
        .expect("a checkpoint")
        .without("conv.")
        .without("bn.")
        .without("fc.weight")
        .renamed("fc.", "")
        .load_into(&mut counts)
        .expect_err("floats");
    let text = error.to_string();
    let expected = "1 misshapen key:\n  bias: expected [2] of I";
    assert!(
        text.contains(expected) && text.ends_with("found [2] of F32"),
        "{text}"
    );
}

#[test]
fn duplicate_keys_are_rejected() {
    let path = data("plain.pth");
    let error = Weights::open(&path)
        .expect("a checkpoint")
        .renamed("bn.weight", "bn.bias")
        .load_into(&mut net(&Device::default()))
        .expect_err("a duplicate");
    let expected = format!(
        "{}: two tensors have the key `bn.bias` after renaming",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
}

/// A small file of each format.
fn one_of_each(folder: &TempDir) -> [PathBuf; 3] {
    let path = |name| folder.path().join(name);
    let paths = [path("net.pth"), path("net.safetensors"), path("net.bpk")];
    fs::copy(data("plain.pth"), &paths[0]).expect("copied");
    let net = counting(&Device::default());
    weights::save(&net, &paths[1]).expect("saved");
    weights::save(&net, &paths[2]).expect("saved");
    paths
}

#[test]
fn a_truncated_file_is_an_error_at_every_length() {
    let folder = tempdir().expect("a folder");
    let mut net = net(&Device::default());
    let before = weight(&net);
    for path in one_of_each(&folder) {
        let whole = fs::read(&path).expect("readable");
        let length = whole.len();
        let lengths = [
            0,
            1,
            4,
            8,
            9,
            10,
            11,
            40,
            200,
            length / 2,
            length - 40,
            length - 1,
        ];
        for cut in lengths {
            fs::write(&path, &whole[..cut]).expect("writable");
            let error = weights::load(&mut net, &path).expect_err("truncated");
            let expected = matches!(error, Error::Damaged { .. } | Error::Content { .. });
            assert!(expected, "{}, {cut} of {length}: {error:?}", path.display());
            assert!(error.to_string().starts_with(&path.display().to_string()));
        }
        fs::write(&path, &whole).expect("writable");
        assert_eq!(weight(&net), before);
        weights::load(&mut self::net(&Device::default()), &path).expect("whole again");
    }
}

#[test]
fn a_changed_byte_never_panics() {
    let folder = tempdir().expect("a folder");
    let device = Device::default();
    for path in one_of_each(&folder) {
        let whole = fs::read(&path).expect("readable");
        for at in (0..whole.len()).step_by(7) {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            fs::write(&path, &changed).expect("writable");
            // Not every format detects a changed value, but none may panic.
            let _ = weights::load(&mut net(&device), &path);
        }
    }
}

#[test]
fn a_file_that_is_something_else_is_an_error() {
    let folder = tempdir().expect("a folder");
    let mut net = net(&Device::default());
    for name in ["notes.pth", "notes.safetensors", "notes.bpk"] {
        let path = folder.path().join(name);
        fs::write(
            &path,
            "These are not weights at all, whatever the name says.",
        )
        .expect("written");
        let error = weights::load(&mut net, &path).expect_err("notes");
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");

        fs::write(&path, "<!DOCTYPE html>").expect("written");
        let error = weights::load(&mut net, &path)
            .expect_err("a page")
            .to_string();
        assert!(error.ends_with("found a web page"), "{error}");
    }
    // The content decides, not the name.
    let swapped = folder.path().join("net.bpk");
    fs::copy(data("plain.pth"), &swapped).expect("copied");
    weights::load(&mut net, &swapped).expect("a checkpoint");
    assert_counts(&net);
}

#[test]
fn missing_files_and_wrong_extensions_are_errors() {
    let folder = tempdir().expect("a folder");
    let mut net = net(&Device::default());
    for name in ["none.pth", "none.safetensors", "none.bpk"] {
        let error = weights::load(&mut net, folder.path().join(name)).expect_err("none");
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
    }
    let error = weights::save(&net, "net.onnx").expect_err("not a format");
    assert!(matches!(error, Error::Extension { .. }), "{error:?}");
    let error = weights::save(&net, "net.pth").expect_err("only read");
    assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
    let nowhere = folder.path().join("no/such/net.bpk");
    let error = weights::save(&net, nowhere).expect_err("no folder");
    assert!(matches!(error, Error::Save { .. }), "{error:?}");
}

#[test]
fn a_failed_save_leaves_the_existing_file_unchanged() {
    #[derive(Module, Debug)]
    struct Quantised {
        weight: Param<Tensor<2>>,
    }
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("net.safetensors");
    let device = Device::default();
    weights::save(&counting(&device), &path).expect("saved");
    let before = fs::read(&path).expect("written");

    let weight = Tensor::<2>::ones([32, 32], &device).quantize_dynamic(&QuantScheme::default());
    let quantised = Quantised {
        weight: Param::initialized(burn::module::ParamId::new(), weight),
    };
    let error = weights::save(&quantised, &path).expect_err("not a dtype of safetensors");
    assert!(
        error.to_string().contains("`weight` has dtype QFloat"),
        "{error}"
    );
    assert_eq!(fs::read(&path).expect("still there"), before);

    // A folder has the name of the file: the rename fails, and the temporary file is removed.
    let folder = tempdir().expect("a folder");
    for name in ["net.safetensors", "net.bpk"] {
        let path = folder.path().join(name);
        fs::create_dir(&path).expect("created");
        let error = weights::save(&counting(&device), &path).expect_err("a folder");
        assert!(matches!(error, Error::Save { .. }), "{error:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 2);
}

/// A network for classification with the parameter names of torchvision.
#[derive(Module, Debug)]
struct Torchvision {
    conv1: Conv2d,
    bn1: Option<BatchNorm>,
    layer1: Vec<ResidualBlock>,
    layer2: Vec<ResidualBlock>,
    layer3: Vec<ResidualBlock>,
    layer4: Vec<ResidualBlock>,
    fc: Linear,
}

#[test]
fn a_classifier_of_torchvision_fills_a_backbone_but_not_its_sockets() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("resnet.safetensors");
    let device = Device::default();
    let image = InputSize::new(32, 16).rgb();
    let plain = ResNetConfig::resnet18().with_width(4);

    let backbone = plain.init(image, &Init::new(Seed::new(1), &device));
    let published = Torchvision {
        conv1: backbone.conv1,
        bn1: backbone.bn1,
        layer1: backbone.layer1,
        layer2: backbone.layer2,
        layer3: backbone.layer3,
        layer4: backbone.layer4,
        fc: LinearConfig::new(32, 10).init(&device),
    };
    weights::save(&published, &path).expect("saved");

    let gate = SqueezeExcitationConfig::new;
    let config = plain.inside(gate()).after(&[3, 4], gate());
    let mut backbone = config.init(image, &Init::new(Seed::new(2), &device));
    let before = backbone.layer1[0].se_module.clone();
    weights::load_backbone(&mut backbone, &path).expect("fits");
    let values = |conv: &Conv2d| read(conv.weight.val());
    assert_eq!(values(&backbone.conv1), values(&published.conv1));
    assert_eq!(
        values(&backbone.layer1[0].se_module.fc1),
        values(&before.fc1)
    );

    let mut wider = ResNetConfig::resnet18()
        .with_width(8)
        .init(image, &Init::new(Seed::new(2), &device));
    let error = weights::load_backbone(&mut wider, &path).expect_err("another width");
    let text = error.to_string();
    assert!(
        text.contains("conv1.weight: expected [8, 3, 7, 7], found [4, 3, 7, 7]"),
        "{text}"
    );
}

/// A file of weights with every key renamed.
fn renamed(path: &std::path::Path, name: impl Fn(&str) -> String) {
    let bytes = fs::read(path).expect("read");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let tensors = file.iter().map(|(key, view)| (name(key), view));
    safetensors::serialize_to_file(tensors.collect::<Vec<_>>(), None, path).expect("written");
}

#[test]
fn an_se_resnext_loads_with_the_names_of_cadene() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("se_resnext50.safetensors");
    let (device, image) = (Device::default(), InputSize::new(32, 16).rgb());
    let config = ResNetConfig::se_resnext50().with_width(16);
    let published = config.init(image, &Init::new(Seed::new(1), &device));
    weights::save(&published, &path).expect("saved");
    renamed(&path, |key| match key.split_once('.') {
        Some(("conv1" | "bn1", _)) => format!("layer0.{key}"),
        _ => key.to_owned(),
    });
    let mut backbone = config.init(image, &Init::new(Seed::new(2), &device));
    weights::load_backbone(&mut backbone, &path).expect("fits");
    let values = |conv: &Conv2d| read(conv.weight.val());
    assert_eq!(values(&backbone.conv1), values(&published.conv1));
    let gates = [&backbone, &published].map(|net| values(&net.layer2[0].se_module.fc2));
    assert_eq!(gates[0], gates[1]);

    // If a file has gates, a missing gate is an error: the gate of the network is not kept.
    renamed(&path, |key| key.replace("layer2.0.se_module.fc2", "fc"));
    let error = weights::load_backbone(&mut backbone, &path).expect_err("a gate is missing");
    assert!(
        error.to_string().contains("layer2.0.se_module.fc2.weight"),
        "{error}"
    );
}

#[test]
fn a_resnet_loads_with_the_names_of_ibn_net() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("resnet50_ibn.safetensors");
    let (device, image) = (Device::default(), InputSize::new(32, 16).rgb());
    for ibn in [Ibn::A, Ibn::B] {
        let config = ResNetConfig::resnet50().with_width(4).with_ibn(ibn);
        let published = config.init(image, &Init::new(Seed::new(1), &device));
        weights::save(&published, &path).expect("saved");
        renamed(&path, |key| {
            let early = !key.starts_with("layer4") && key.starts_with("layer");
            let key = if ibn == Ibn::A && early {
                key.replace(".bn1.", ".bn1.BN.")
            } else {
                key.to_owned()
            };
            let key = key.replace(".in1.", ".bn1.IN.").replace(".in_sum.", ".IN.");
            let key = key
                .strip_prefix("in1.")
                .map_or(key.clone(), |rest| format!("bn1.{rest}"));
            format!("module.{key}")
        });
        let mut backbone = config.init(image, &Init::new(Seed::new(2), &device));
        let before = read(backbone.layer1[0].conv1.weight.val());
        weights::load_backbone(&mut backbone, &path).expect("fits");
        let found = read(backbone.layer1[0].conv1.weight.val());
        assert_ne!(found, before);
        assert_eq!(found, read(published.layer1[0].conv1.weight.val()));
    }
}
