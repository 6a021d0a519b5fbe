//! Model folders: saved, opened, and exchanged with other programs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use image::RgbImage;
use reid_core::{InputSize, Seed};
use reid_data::{dataset::market1501, loader::LoaderConfig};
use reid_eval::{Metric, Threshold};
use reid_nn::{
    Init, Model, Network,
    attention::{AttentionConfig, SqueezeExcitationConfig},
    backbone::{MobileNetV2Config, OsNetConfig, ResNetConfig},
    head::{BnNeckConfig, BranchedHeadConfig},
};
use reid_synthetic::SyntheticConfig;
use reid_train::{Checkpoints, Recipe, Trainer};
use reid_zoo::{
    Architecture, BagOfTricksConfig, Embedder, Error, FncConfig, LightMbnConfig, MgnConfig,
    MobileNetReidConfig, NetworkConfig, OsNetReidConfig, RgaConfig, weights,
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

const SIZE: InputSize = InputSize::new(96, 32);
const CLASSES: usize = 3;

fn device() -> Device {
    Device::default()
}

fn image() -> RgbImage {
    RgbImage::from_fn(20, 50, |x, y| {
        image::Rgb(
            [x * 12, y * 5, x * y / 4].map(|value| u8::try_from(value % 256).expect("small")),
        )
    })
}

fn open(folder: &Path) -> Embedder {
    Embedder::open_on(folder, &device()).unwrap_or_else(|error| panic!("{error}"))
}

fn print(embedder: &Embedder) -> String {
    embedder.fingerprint().expect("known").to_string()
}

fn no_attention() -> AttentionConfig {
    AttentionConfig::Chain(Vec::new())
}

fn osnet() -> Architecture {
    let backbone = OsNetConfig::x0_25().with_channels([4, 8, 12, 16]);
    OsNetReidConfig::from_backbone(backbone.after(&[], no_attention())).into()
}

fn light_mbn() -> Architecture {
    let network = OsNetConfig::x0_25().with_channels([4, 8, 12, 16]);
    let mut config = LightMbnConfig::from_network(network.after(&[], no_attention()));
    config.branches.dimensions = 6;
    config.into()
}

/// One network of each kind, with few channels.
fn small_networks() -> Vec<Architecture> {
    let mut baseline = Architecture::strong_baseline();
    if let Architecture::Baseline(config) = &mut baseline {
        let gate = SqueezeExcitationConfig::new().into();
        config.backbone = config.backbone.clone().with_width(8).and_after(&[3], gate);
    }
    let mut rga = RgaConfig::rga_resnet50();
    rga.backbone = rga.backbone.with_width(16);
    let backbone = ResNetConfig::resnet50()
        .with_width(8)
        .with_last_stride(1)
        .inside(None);
    let branched = NetworkConfig {
        backbone: backbone.clone(),
        head: BranchedHeadConfig::batch_drop_block(1),
    };
    let mobile = MobileNetV2Config {
        stem: 4,
        channels: [2, 3, 4, 5, 6, 7, 8],
        last: 9,
        ..MobileNetV2Config::x1_0()
    };
    vec![
        baseline,
        rga.into(),
        branched.into(),
        MgnConfig::from_network(backbone.clone()).into(),
        FncConfig::from_network(backbone).into(),
        osnet(),
        light_mbn(),
        MobileNetReidConfig::from_backbone(mobile.after(&[], no_attention())).into(),
        "osnet-x0.25".parse().expect("a name"),
    ]
}

/// Writes a folder with the fields that a network without a name needs, and random weights.
fn write_by_hand(network: &Architecture, folder: &Path) {
    let model = network.init(SIZE, CLASSES, &Init::new(Seed::new(5), &device()));
    fs::create_dir_all(folder).expect("created");
    weights::save(&model, folder.join("weights.safetensors")).expect("saved");
    let config = json!({
        "architecture": network.name().unwrap_or("reid"),
        "network": network,
        "preprocessing": { "input_size": [96, 32] },
    });
    write_config(folder, &config);
}

fn write_config(folder: &Path, config: &Value) {
    fs::write(folder.join("reid_config.json"), config.to_string()).expect("written");
}

fn read_config(folder: &Path) -> Value {
    let bytes = fs::read(folder.join("reid_config.json")).expect("read");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// A saved model with few channels.
fn saved() -> (TempDir, PathBuf) {
    let folder = tempdir().expect("a folder");
    write_by_hand(&osnet(), &folder.path().join("by-hand"));
    let model = folder.path().join("model");
    open(&folder.path().join("by-hand"))
        .save(&model)
        .expect("saved");
    (folder, model)
}

#[test]
fn every_architecture_is_saved_and_opened() {
    for network in small_networks() {
        let folder = tempdir().expect("a folder");
        let [by_hand, once, twice] = ["0", "1", "2"].map(|name| folder.path().join(name));
        write_by_hand(&network, &by_hand);
        let expected = open(&by_hand);
        expected.save(&once).expect("saved");
        let found = open(&once);
        let image = image();
        let embedding = found.embed(&image).expect("embedded");
        assert_eq!(
            embedding,
            expected.embed(&image).expect("embedded"),
            "{network:?}"
        );
        assert_eq!(print(&found), print(&expected));
        let one = found.heat_maps(std::slice::from_ref(&image)).is_ok();
        assert_eq!(one, expected.heat_maps(&[image]).is_ok());

        found.save(&twice).expect("saved");
        for name in ["reid_config.json", "weights.safetensors"] {
            let read = |folder: &Path| fs::read(folder.join(name)).expect("written");
            assert!(read(&once) == read(&twice), "{name} of {network:?}");
        }
        let config = read_config(&once);
        assert_eq!(config["embedding_size"], embedding.len());
        assert_eq!(config["classes"], CLASSES);
        assert_eq!(config["normalised"], false);
    }
}

#[test]
fn a_run_is_saved_with_its_settings() {
    let folder = tempdir().expect("a folder");
    let [data, run, model] = ["data", "run", "model"].map(|name| folder.path().join(name));
    let data_config = SyntheticConfig::new()
        .with_train_identities(4)
        .with_test_identities(2);
    data_config
        .with_cameras(2)
        .write(&data)
        .expect("a synthetic dataset");
    let splits = market1501::load(&data).expect("a readable dataset");
    let network = BagOfTricksConfig {
        backbone: ResNetConfig::resnet18().with_width(4),
        head: BnNeckConfig::new(),
    };
    let mut recipe = Recipe::strong_baseline("saved", InputSize::new(32, 16), network);
    (recipe.epochs, recipe.sampling.identities, recipe.flip_test) = (1, 4, true);
    recipe.evaluation = recipe
        .evaluation
        .with_metric(Metric::Euclidean)
        .with_max_rank(7);
    recipe.augmentation.normalise.mean = [0.5, 0.4, 0.3];
    let trainer =
        Trainer::new(&recipe, &splits, LoaderConfig::default(), &device()).expect("a trainer");
    let checkpoints = Checkpoints::new(&run);
    trainer
        .with_checkpoints(checkpoints)
        .run(&mut ())
        .expect("a run");

    // Weights that somebody saved in the folder of a run do not make it a model.
    fs::write(run.join("weights.safetensors"), "").expect("written");
    let embedder = open(&run).with_threshold(threshold());
    embedder.save(&model).expect("saved");
    let found = open(&model);
    assert_eq!(print(&found), print(&embedder));
    assert!(print(&found).ends_with(" (32x16), flip test"));
    assert_eq!(found.evaluation(), embedder.evaluation());
    assert_eq!(found.evaluation().max_rank, 7);
    assert_eq!(found.threshold(), Some(threshold()));
    let (one, other) = (found.evaluate(&splits), embedder.evaluate(&splits));
    let (one, other) = (one.expect("scored"), other.expect("scored"));
    assert_eq!(
        one.mean_average_precision.to_bits(),
        other.mean_average_precision.to_bits()
    );
    assert_eq!(read_config(&model)["classes"], 4);

    // A name replaces the fingerprint only in memory.
    open(&run).with_name("Tuesday").save(&model).expect("saved");
    assert_eq!(print(&open(&model)), print(&embedder));
    assert_eq!(open(&model).threshold(), None);

    let custom = Embedder::open_as::<BagOfTricksConfig>(&run, &device()).expect("a run");
    let error = custom.save(&model).expect_err("a custom type");
    assert!(matches!(error, Error::NotAnArchitecture), "{error}");
    let error = embedder.save(&run).expect_err("a run").to_string();
    assert!(error.contains("holds a run"), "{error}");
    fs::remove_dir_all(&run).expect("removed");
    embedder.save(&model).expect_err("no run");
    assert_eq!(print(&open(&model)), print(&embedder));
}

fn threshold() -> Threshold {
    let interval = json!({ "value": 0.25, "low": 0.1, "high": 0.5 });
    let threshold = json!({
        "distance": 0.3,
        "wanted": 0.25,
        "rates": {
            "false_accepts": interval,
            "true_accepts": interval,
            "pairs": { "genuine": 4, "impostor": 8 },
        },
    });
    serde_json::from_value(threshold).expect("a threshold")
}

/// Renames tensors as torchreid does.
fn torchreid(key: &str) -> String {
    key.replace("backbone.pool2.", "conv2.2.0.")
        .replace("backbone.pool3.", "conv3.2.0.")
        .replace("backbone.", "")
        .replace("head.reduction.", "fc.0.")
        .replace("head.norm.", "fc.1.")
}

/// A folder as the Python package of Roboflow writes it: without a classifier and without further fields.
fn write_as_roboflow(folder: &Path) -> Embedder {
    let network: Architecture = "osnet-x0.25".parse().expect("a name");
    let model = network.init(SIZE, CLASSES, &Init::new(Seed::new(5), &device()));
    fs::create_dir_all(folder).expect("created");
    let own = folder.join("own.safetensors");
    weights::save(&model, &own).expect("saved");
    let bytes = fs::read(&own).expect("read");
    fs::remove_file(own).expect("removed");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut tensors: Vec<(String, TensorView<'_>)> = file
        .iter()
        .filter(|(key, _)| !key.starts_with("head.classifier."))
        .map(|(key, view)| (torchreid(key), view))
        .collect();
    let norms = tensors
        .iter()
        .filter_map(|(key, _)| key.strip_suffix("running_var"));
    let counters = norms.map(|norm| {
        let zero = TensorView::new(Dtype::I64, Vec::new(), &[0; 8]).expect("8 bytes");
        (format!("{norm}num_batches_tracked"), zero)
    });
    let counters: Vec<_> = counters.collect();
    tensors.extend(counters);
    let path = folder.join("weights.safetensors");
    safetensors::serialize_to_file(tensors, None, &path).expect("written");
    write_config(folder, &roboflow_config());
    Embedder::new(model.evaluation(), SIZE, &device())
}

fn roboflow_config() -> Value {
    json!({
        "architecture": "osnet_x0_25",
        "preprocessing": {
            "input_size": [96, 32],
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "interpolation": "bilinear",
            "to_rgb": true,
            "resize_mode": "stretch",
            "pad_value": 114,
        },
        "made_by": "another program",
    })
}

#[test]
fn a_folder_of_another_program_is_opened_and_written_back() {
    let folder = tempdir().expect("a folder");
    let [theirs, ours] = ["theirs", "ours"].map(|name| folder.path().join(name));
    let expected = write_as_roboflow(&theirs);
    let embedder = open(&theirs);
    let image = image();
    let embedding = embedder.embed(&image).expect("embedded");
    assert_eq!(embedding, expected.embed(&image).expect("embedded"));
    let error = embedder
        .heat_maps(std::slice::from_ref(&image))
        .expect_err("no classifier");
    assert!(matches!(error, Error::NoClassifier), "{error}");

    embedder.save(&ours).expect("saved");
    assert_eq!(print(&open(&ours)), print(&embedder));
    assert_eq!(open(&ours).embed(&image).expect("embedded"), embedding);
    let config = read_config(&ours);
    let expected = roboflow_config();
    assert_eq!(config["architecture"], expected["architecture"]);
    assert_eq!(config["preprocessing"], expected["preprocessing"]);
    assert_eq!(config.get("classes"), None);
    // The same keys, shapes and values.
    let [theirs, ours] = [theirs, ours].map(|folder| fs::read(folder.join("weights.safetensors")));
    let (theirs, ours) = (theirs.expect("read"), ours.expect("written"));
    let theirs = SafeTensors::deserialize(&theirs).expect("safetensors");
    let ours = SafeTensors::deserialize(&ours).expect("safetensors");
    assert_eq!(theirs.len(), ours.len());
    for (key, view) in theirs.iter() {
        assert!(ours.tensor(key).expect("the same keys") == view, "{key}");
    }
    for key in [
        "conv2.0.conv2b.1.conv1.weight",
        "conv3.2.0.bn.num_batches_tracked",
        "fc.1.bias",
    ] {
        assert!(ours.tensor(key).is_ok(), "{key}");
    }
    assert!(
        ours.tensor("fc.1.num_batches_tracked")
            .expect("a counter")
            .shape()
            .is_empty()
    );
}

/// Missing fields have the values that other programs use, and `to_rgb` is about frames only.
#[test]
fn defaults_are_those_of_other_programs() {
    let folder = tempdir().expect("a folder");
    write_as_roboflow(folder.path());
    let full = print(&open(folder.path()));
    for preprocessing in [
        json!({ "input_size": [96, 32] }),
        json!({ "input_size": [96, 32], "to_rgb": false }),
    ] {
        write_config(
            folder.path(),
            &json!({ "architecture": "osnet_x0_25", "preprocessing": preprocessing }),
        );
        assert_eq!(print(&open(folder.path())), full);
    }
    write_config(folder.path(), &json!({ "architecture": "osnet-x0.25" }));
    assert_eq!(open(folder.path()).input(), InputSize::PERSON);
}

/// Changes a valid configuration and returns the message of the error.
fn error_of(change: impl FnOnce(&mut Value)) -> String {
    let (_folder, model) = saved();
    let mut config = read_config(&model);
    change(&mut config);
    write_config(&model, &config);
    let error = Embedder::open_on(&model, &device()).expect_err("an invalid configuration");
    let text = error.to_string();
    let file = model.join("reid_config.json").display().to_string();
    let text = text.strip_prefix(&file).unwrap_or_else(|| panic!("{text}"));
    text.to_owned()
}

#[test]
fn errors_name_the_field_and_what_was_expected_and_found() {
    let text = error_of(|config| config["embedding_size"] = json!(256));
    assert_eq!(text, ": embedding_size: expected 512, found 256");
    let text = error_of(|config| config["classes"] = json!(4));
    assert_eq!(
        text,
        ": classes: expected 3, as in weights.safetensors, found 4"
    );
    let text = error_of(|config| config["normalised"] = json!(true));
    assert_eq!(
        text,
        ": normalised: expected false: embeddings are returned unscaled, found true"
    );
    let text = error_of(|config| config["preprocessing"]["resize_mode"] = json!("letterbox"));
    assert_eq!(
        text,
        ": preprocessing.resize_mode: expected `stretch`, the only one of this library, found `letterbox`"
    );
    let text = error_of(|config| {
        config["preprocessing"]["interpolation"] = json!("bicubic");
        config["preprocessing"]["input_size"][0] = json!(0);
    });
    assert_eq!(
        text,
        ": 2 problems\npreprocessing.input_size[0]: expected 1 to 8192, found 0\n\
         preprocessing.interpolation: expected `bilinear`, the only one of this library, found `bicubic`"
    );
    let text = error_of(|config| config["preprocessing"]["crop"] = json!("centre"));
    assert!(
        text.contains("preprocessing.crop: unknown field `crop`"),
        "{text}"
    );
    let text = error_of(|config| config["preprocessing"]["mean"] = json!([0.5]));
    assert!(
        text.contains(", preprocessing.mean: invalid length 1"),
        "{text}"
    );
}

#[test]
fn errors_name_the_network() {
    let text = error_of(|config| {
        config["architecture"] = json!("osnet_x9");
        config["network"] = Value::Null;
    });
    let expected = ": architecture: expected one of `osnet_x1_0`, `osnet_x0_75`, `osnet_x0_5`, `osnet_x0_25`, \
        `resnet18`, ";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with(", found `osnet_x9`"), "{text}");
    let text = error_of(|config| config["architecture"] = json!("osnet_x0_25"));
    assert_eq!(
        text,
        ": architecture: expected the name of `network`, or `reid`, found `osnet_x0_25`"
    );
    let text = error_of(|config| config["network"]["osnet"]["backbone"]["channels"][1] = json!(3));
    let expected =
        ": network.osnet.backbone.channels[1]: expected a multiple of 4 from 4 to 4096, found 3";
    assert_eq!(text, expected);
    let text = error_of(|config| config["network"]["osnet"]["backbone"]["width"] = json!(3));
    assert!(
        text.contains(", network: backbone") && text.contains("unknown field `width`"),
        "{text}"
    );
    let text = error_of(|config| *config = json!("a text"));
    assert!(text.contains("line 1"), "{text}");
}

#[test]
fn a_configuration_that_breaks_off_anywhere_is_rejected() {
    let (_folder, model) = saved();
    let path = model.join("reid_config.json");
    let bytes = fs::read(&path).expect("read");
    for length in 0..bytes.len() - 1 {
        fs::write(&path, &bytes[..length]).expect("written");
        let error = Embedder::open_on(&model, &device()).expect_err("a part");
        let text = error.to_string();
        assert!(text.contains("reid_config.json, line "), "{text}");
    }
}

#[test]
fn weights_of_another_network_are_rejected() {
    let (_folder, model) = saved();
    let mut config = read_config(&model);
    config["network"]["osnet"]["backbone"]["channels"] = json!([4, 8, 12, 20]);
    write_config(&model, &config);
    let error = Embedder::open_on(&model, &device())
        .expect_err("another width")
        .to_string();
    assert!(
        error.contains("weights.safetensors: ") && error.contains("backbone.conv4.0."),
        "{error}"
    );
}

#[test]
fn a_changed_byte_of_the_weights_is_rejected() {
    let (_folder, model) = saved();
    let path = model.join("weights.safetensors");
    let mut bytes = fs::read(&path).expect("read");
    for index in [bytes.len() - 1, bytes.len() / 2, 0] {
        bytes[index] ^= 1;
        fs::write(&path, &bytes).expect("written");
        let error = Embedder::open_on(&model, &device()).expect_err("a changed byte");
        assert!(matches!(error, Error::Checksum { .. }), "{error}");
        bytes[index] ^= 1;
    }
    fs::write(&path, &bytes).expect("written");
    open(&model);
    bytes.truncate(bytes.len() - 1);
    fs::write(&path, &bytes).expect("written");
    Embedder::open_on(&model, &device()).expect_err("a missing byte");
}

#[test]
fn a_save_replaces_a_model_and_an_interrupted_one_does_not_open() {
    let (folder, model) = saved();
    let old_config = read_config(&model);
    let other = folder.path().join("other");
    write_by_hand(&"osnet-x0.25".parse().expect("a name"), &other);
    let other = open(&other);
    other.save(&model).expect("saved");
    assert_eq!(print(&open(&model)), print(&other));

    // Only the settings change.
    other
        .with_threshold(threshold())
        .save(&model)
        .expect("saved");
    assert_eq!(open(&model).threshold(), Some(threshold()));
    let names = fs::read_dir(&model)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["reid_config.json", "weights.safetensors"]);

    // A power cut may undo the removal of the old configuration.
    write_config(&model, &old_config);
    let error = Embedder::open_on(&model, &device()).expect_err("weights of another model");
    assert!(matches!(error, Error::Checksum { .. }), "{error}");
    // A kill may leave no configuration.
    fs::remove_file(model.join("reid_config.json")).expect("removed");
    let error = Embedder::open_on(&model, &device())
        .expect_err("no configuration")
        .to_string();
    let file = model.join("reid_config.json").display().to_string();
    assert!(
        error.starts_with(&format!("{file}: expected this file beside")),
        "{error}"
    );
}

#[test]
fn models_that_cannot_be_rebuilt_are_not_saved() {
    let folder = tempdir().expect("a folder");
    let model = osnet().init(SIZE, CLASSES, &Init::new(Seed::new(1), &device()));
    let embedder = Embedder::new(model.evaluation(), SIZE, &device());
    let error = embedder.save(folder.path()).expect_err("a model in memory");
    assert!(matches!(error, Error::NotAnArchitecture), "{error}");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);

    let (_folder, model) = saved();
    let embedder = open(&model);
    let other = OsNetConfig::x0_25().with_channels([4, 8, 12, 16]);
    let other = OsNetReidConfig::from_backbone(other);
    let other = other.init(SIZE, CLASSES, &Init::new(Seed::new(8), &device()));
    weights::save(&other, model.join("weights.safetensors")).expect("saved");
    let error = embedder.save(folder.path()).expect_err("other weights");
    assert!(matches!(error, Error::Changed { .. }), "{error}");
}
