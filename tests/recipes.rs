//! Checks that every value of a recipe is either rejected with its JSON path, or can be built and trained
//! for a step.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use burn::{
    optim::GradientsParams,
    tensor::{Device, Distribution, Tensor},
};
use reid::{
    core::{Problems, Source},
    data::{
        sampler::Sampler,
        transform::{Picture, Transform},
    },
    nn::{
        TrainingStep,
        attention::{AttentionConfig, SqueezeExcitationConfig},
    },
    prelude::*,
    train::ReidLearner,
    zoo::{
        BranchedConfig, FncConfig, LightMbnConfig, MgnConfig, MobileNetReidConfig, OsNetReidConfig,
        RgaConfig,
    },
};
use serde_json::{Value, json};

/// A recipe that is as small as possible and has every optional field.
fn tiny(network: &Value) -> Value {
    json!({
        "name": "tiny",
        "seed": 1,
        "input": { "height": 16, "width": 8 },
        "network": network,
        "precision": "single",
        "augmentation": {
            "flip": { "probability": 0.5 },
            "translation": { "probability": 0.5 },
            "pad_crop": { "padding": 2 },
            "affine": { "degrees": 10.0, "translate": [0.1, 0.1], "scale": [0.8, 1.25], "shear": 5.0, "fill": 0.5 },
            "colour": { "brightness": 0.1, "contrast": 0.1, "saturation": 0.1 },
            "erasing": { "probability": 0.5, "area": [0.02, 0.4], "aspect": 0.3, "fill": [0.4, 0.4, 0.4] },
            "cutout": { "probability": 0.5, "height": 4, "width": 4, "fill": [0.4, 0.4, 0.4] },
            "normalise": { "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225] }
        },
        "sampling": {
            "identities": 2, "images": 2, "epoch": "all_images", "balanced_cameras": true, "balanced_sources": true
        },
        "losses": losses(),
        "groups": [{ "parameters": ["criterion.2"], "rate": { "fixed": 0.5 }, "frozen_epochs": 0 }],
        "layer_decay": 0.75,
        "accumulated_batches": 2,
        "average_decay": 0.9,
        "renewal_batches": 2,
        "optimizer": { "ranger": {
            "beta1": 0.95, "beta2": 0.999, "epsilon": 1e-5, "weight_decay": 5e-4, "alpha": 0.5, "period": 6,
            "centralised": true
        } },
        "schedule": {
            "base": 3.5e-4,
            "first_epoch": 1,
            "warm_up": { "staircase": { "epochs": 10, "every": 5 } },
            "decay": { "multi-step": { "milestones": [40, 70], "factor": 0.1 } }
        },
        "clip_norm": 1.0,
        "epochs": 6,
        "evaluate_every": 1,
        "flip_test": false,
        "evaluation": {
            "metric": "cosine",
            "protocol": "market",
            "average_precision": { "truncated-at": { "k": 5, "denominator": "capped" } },
            "unmatched": "skip",
            "max_rank": 50
        }
    })
}

/// Every loss.
fn losses() -> Value {
    json!({
        "identity": { "weight": 1.0, "criterion": { "smoothing": 0.1, "form": "all-classes" } },
        "triplet": {
            "weight": 1.0,
            "criterion": {
                "margin": { "hard": 0.3 }, "distance": "euclidean", "reduction": "mean", "mining": "all"
            }
        },
        "center": { "weight": 5e-4 },
        "multi_similarity": {
            "weight": 1.0,
            "criterion": {
                "margin": 0.1, "threshold": 0.5, "positive_scale": 2.0, "negative_scale": 50.0
            }
        },
        "circle": { "weight": 1.0, "criterion": { "margin": 0.25, "gamma": 64.0 } },
        "supervised_contrastive": { "weight": 1.0, "criterion": { "temperature": 0.1 } },
        "weighted_regularised_triplet": { "weight": 1.0, "criterion": { "distance": "euclidean" } },
        "arc_face": { "weight": 1.0, "criterion": { "scale": 30.0, "margin": 0.5 } },
        "cos_face": { "weight": 1.0, "criterion": { "scale": 30.0, "margin": 0.35 } },
        "cross_batch_memory": {
            "weight": 1.0,
            "criterion": {
                "capacity": 8, "start": 0,
                "criterion": { "circle": { "margin": 0.25, "gamma": 64.0 } }
            }
        },
        "distillation": { "weight": 1.0, "criterion": { "objective": "similarities" } }
    })
}

fn resnet(kind: &str, inside: &Value, block: &Value, stages: &[usize]) -> Value {
    let after = |stage: &usize| json!({ "stage": stage, "block": block });
    let after: Vec<Value> = stages.iter().map(after).collect();
    json!({
        "kind": kind, "blocks": [1, 1, 2, 1], "width": 8, "groups": 1, "width_per_group": 64, "last_stride": 1,
        "stem": "small", "ibn": "none", "inside": inside, "after": after
    })
}

/// Small networks, which together have every part of the zoo.
mod networks {
    use super::*;

    pub(super) fn attentive() -> Value {
        let rga = || json!({ "s1": 8, "s2": 8, "terms": "both", "initial_gate": 0.95 });
        json!({
            "backbone": resnet("bottleneck", &Value::Null, &json!([rga(), rga()]), &[4]),
            "head": { "pool": { "generalised-mean": { "exponent": 3.0 } }, "embedding": "after" }
        })
    }

    pub(super) fn branched() -> Value {
        let mix = json!({
            "patches": { "height": 2, "width": 1 }, "cut": 1, "partner": "negative", "partner_gradient": "flows",
            "on_empty_cam": "cut"
        });
        json!({
            "backbone": resnet("basic", &Value::Null, &Value::Null, &[]),
            "head": {
                "global": 4,
                "branches": [
                    { "dimensions": 4, "augment": { "cut-mix": { "mix": mix, "cam_source": "closed-form" } } },
                    { "dimensions": 4, "augment": { "drop": { "height": 0.33, "width": 1.0 } } }
                ]
            }
        })
    }

    pub(super) fn fnc() -> Value {
        let neck = || json!({ "dimensions": 4, "pool": "average", "embedding": "after" });
        json!({
            "network": resnet("basic", &json!({ "reduction": 4 }), &Value::Null, &[]),
            "split": { "stage": 3, "block": 1 },
            "branches": {
                "spatial": { "reduction": 2, "combine": "multiply", "initial_gate": 0.95 },
                "spatial_neck": neck(),
                "channel": {
                    "hidden": 8, "groups": 4, "squeeze": { "reduction": 4 }, "gate": "map", "combine": "add"
                },
                "channel_neck": neck()
            }
        })
    }

    pub(super) fn mgn() -> Value {
        json!({
            "network": resnet("basic", &Value::Null, &Value::Null, &[]),
            "split": { "stage": 3, "block": 1 },
            "branches": [{ "stripes": 0, "dimensions": 4 }, { "stripes": 2, "dimensions": 4 }]
        })
    }

    pub(super) fn osnet() -> Value {
        json!({
            "backbone": {
                "channels": [2, 4, 4, 8], "blocks": [["none"], ["sum"], ["residual"]], "instance_stem": true,
                "stem": "small", "after": [{ "stage": 2, "block": { "reduction": 4, "initial_gate": 0.95 } }]
            },
            "head": { "dimensions": 4, "pool": "average" }
        })
    }

    pub(super) fn light_mbn() -> Value {
        json!({
            "network": {
                "channels": [2, 4, 4, 8], "blocks": [["none"], ["none", "none"], ["none"]],
                "instance_stem": false, "stem": "small", "after": [{ "stage": 3, "block": { "reduction": 4 } }]
            },
            "split": { "stage": 2, "block": 1 },
            "branches": {
                "dimensions": 4, "drop": { "height": 0.33 }, "stripes": 2, "groups": 2, "embedding": "after-unit"
            }
        })
    }

    pub(super) fn mobilenet() -> Value {
        json!({
            "backbone": {
                "stem": 2, "channels": [2, 2, 2, 2, 2, 2, 2], "blocks": [1, 1, 1, 1, 1, 1, 1], "last": 4,
                "first_expansion": false, "last_stride": 1,
                "after": [{ "stage": 4, "block": { "reduction": 4 } }]
            },
            "head": { "pool": "average" }
        })
    }
}

/// Builds the network of a recipe, trains it for a step, and embeds an image.
fn step<N: Network>(recipe: &Recipe<N>) {
    let device = Device::default();
    let ReidLearner { model, criterion } = ReidLearner::build(recipe, 2, &device);
    let InputSize { height, width } = recipe.input;
    let device = device.autodiff();
    let images = Tensor::random([4, 3, height, width], Distribution::Default, &device);
    let teacher = Tensor::random([4, 6], Distribution::Default, &device);
    let step = TrainingStep::new(&[0, 0, 1, 1], Seed::new(1)).with_teacher(&teacher);
    let output = model.forward_train(images, step);
    let losses = criterion
        .losses(&output, &step.targets(&device))
        .into_iter();
    let loss = losses
        .map(|loss| loss.value)
        .reduce(Tensor::add)
        .expect("a loss");
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    let rate = recipe.schedule.rate(0, recipe.epochs);
    let model = recipe.optimizer.init().step(rate, model, gradients);
    let _ = model
        .embed(Tensor::zeros([1, 3, height, width], &device))
        .into_data();
}

/// Runs the parts of a recipe outside the training step: augmentation, schedule, sampling and evaluation.
fn run_without_steps<N>(recipe: &Recipe<N>) {
    let InputSize { height, width } = recipe.input;
    let mut picture = Picture::new(height, width, vec![0.5; 3 * height * width]);
    let transforms = recipe.augmentation.transforms();
    for seed in 0..4 {
        transforms.apply(&mut picture, &mut Seed::new(seed).stream());
        recipe.augmentation.normalise.normalise(&mut picture);
    }
    for epoch in [0, 1, recipe.epochs - 1] {
        let _ = recipe.schedule.rate(epoch, recipe.epochs);
    }
    let samples = [1_u32, 1, 2, 2, 3, 4].map(|label| {
        Sample::new("a.jpg", Identity::new(label.into()))
            .with_camera(Camera::new(label % 2))
            .with_source(Source::new(usize::from(label > 2)))
    });
    let sampler = recipe.sampling.sampler();
    let _ = sampler.batches(&samples, Seed::new(1)); // too few identities are an error
    let embeddings = |camera| {
        let embeddings = Embeddings::new(vec![1.0, 0.0, 0.0, 1.0], 2, vec![Identity::new(1); 2]);
        embeddings
            .and_then(|embeddings| embeddings.with_cameras(vec![Camera::new(camera); 2]))
            .expect("two embeddings, labels and cameras")
    };
    let _ = evaluate(&embeddings(1), &embeddings(2), &recipe.evaluation).expect("a match");
}

/// Collects the JSON pointers of all values below `value`: those of leaves, and those of objects.
fn paths(value: &Value, path: String, leaves: &mut Vec<String>, objects: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            objects.push(path.clone());
            for (key, value) in map {
                paths(value, format!("{path}/{key}"), leaves, objects);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                paths(value, format!("{path}/{index}"), leaves, objects);
            }
        }
        _ => leaves.push(path),
    }
}

/// Replaces each leaf below the JSON pointer `below` by each of a list of values, and adds an unknown field
/// to each object. Nothing may panic: the recipe is rejected, or a step is trained.
fn sweep<N: Network>(network: &Value, below: &str) {
    sweep_recipe::<N>(&tiny(network), below);
}

fn sweep_recipe<N: Network>(recipe: &Value, below: &str) {
    try_recipe::<N>(recipe, true).expect("the unchanged recipe is valid");
    let (mut leaves, mut objects) = (Vec::new(), Vec::new());
    let part = recipe.pointer(below).expect("a part");
    paths(part, below.to_owned(), &mut leaves, &mut objects);

    let values = [
        json!(-1),
        json!(0),
        json!(1),
        json!(3),
        json!(1.5),
        json!(1e-30),
        json!(1e30),
        json!(1_u64 << 40),
        json!(u64::MAX),
        json!("text"),
        json!(null),
        json!(true),
        json!([]),
        json!([1, 2, 3]),
        json!({}),
    ];
    let (mut refused, mut trained) = (0, 0);
    for leaf in &leaves {
        for value in &values {
            let mut changed = recipe.clone();
            *changed.pointer_mut(leaf).expect("a leaf") = value.clone();
            let decides = ["/network", "/input", "/losses", "/optimizer"];
            let steps = decides.iter().any(|part| leaf.starts_with(part));
            let outcome = catch_unwind(AssertUnwindSafe(|| try_recipe::<N>(&changed, steps)));
            match outcome {
                Ok(Ok(())) => trained += 1,
                Ok(Err(text)) => {
                    refused += 1;
                    assert!(!text.is_empty());
                }
                Err(panic) => panic!("{leaf} = {value} was accepted, then panicked: {panic:?}"),
            }
        }
    }
    assert!(
        refused > 5 * leaves.len() && trained > 0,
        "expected many values to be rejected and some to be trained: {refused} rejected, {trained} trained"
    );
    for object in &objects {
        let mut changed = recipe.clone();
        let map = changed
            .pointer_mut(object)
            .and_then(Value::as_object_mut)
            .expect("an object");
        map.insert("colour".to_owned(), json!(1));
        let error = try_recipe::<N>(&changed, false).expect_err("an unknown field");
        assert!(
            error.contains("colour") || error.contains("expected"),
            "{object}: {error}"
        );
    }
}

fn try_recipe<N: Network>(json: &Value, steps: bool) -> Result<(), String> {
    let recipe: Recipe<N> =
        serde_json::from_value(json.clone()).map_err(|error| error.to_string())?;
    recipe.check().map_err(|error| error.to_string())?;
    run_without_steps(&recipe);
    if steps {
        step(&recipe);
    }
    Ok(())
}

#[test]
fn no_value_of_a_recipe_panics() {
    sweep::<RgaConfig>(&networks::attentive(), "");
}

/// The settings that exclude others of the tiny recipe.
#[test]
fn no_value_of_stochastic_weight_averaging_panics() {
    let mut recipe = tiny(&networks::mgn());
    recipe["average_decay"] = Value::Null;
    recipe["swa"] = json!({ "first_epoch": 2, "every_steps": 3 });
    sweep_recipe::<MgnConfig>(&recipe, "/swa");
}

#[test]
fn no_value_of_other_networks_panics() {
    sweep::<BranchedConfig>(&networks::branched(), "/network");
    sweep::<FncConfig>(&networks::fnc(), "/network");
    sweep::<MgnConfig>(&networks::mgn(), "/network");
    sweep::<OsNetReidConfig<SqueezeExcitationConfig>>(&networks::osnet(), "/network");
    sweep::<LightMbnConfig<SqueezeExcitationConfig>>(&networks::light_mbn(), "/network");
    sweep::<MobileNetReidConfig<SqueezeExcitationConfig>>(&networks::mobilenet(), "/network");
}

fn problems<N: Network>(network: &Value) -> String {
    match serde_json::from_value::<Recipe<N>>(tiny(network)) {
        Ok(recipe) => recipe.problems().to_string(),
        Err(error) => error.to_string(),
    }
}

/// Values that once panicked, or that were wrongly accepted.
#[test]
fn impossible_values_of_a_network_are_rejected_with_their_path() {
    let attentive = |pointer: &str, value: Value| {
        let mut network = networks::attentive();
        *network.pointer_mut(pointer).expect("a value at this path") = value;
        problems::<RgaConfig>(&network)
    };
    let gem = "network.head.pool.generalised-mean.exponent: \
               expected a value above 0 and within single precision, found 0";
    assert_eq!(
        attentive("/head/pool/generalised-mean/exponent", json!(0.0)),
        gem
    );
    assert_eq!(
        attentive("/backbone/after/0/block/1/s1", json!(0)),
        "network.backbone.after[0].block[1].s1: expected at least 1, found 0"
    );
    assert_eq!(
        attentive("/backbone/after/0/block/1/initial_gate", json!(1)),
        "network.backbone.after[0].block[1].initial_gate: expected above 0 and below 1, found 1"
    );
    assert_eq!(
        attentive("/backbone/width_per_group", json!(4)),
        "network.backbone.width_per_group: expected at least 8 for a width of 8, found 4"
    );
    let unknown = attentive(
        "/head",
        json!({ "pool": "max", "embedding": "after", "colour": 1 }),
    );
    assert!(unknown.contains("unknown field `colour`"), "{unknown}");
}

/// An impossible value does not hide the problems of the parts after it.
#[test]
fn parts_after_an_impossible_one_are_validated_too() {
    let mut network = networks::attentive();
    network["backbone"]["width"] = json!(0);
    network["backbone"]["after"][0]["block"][0]["s2"] = json!(0);
    network["head"]["pool"]["generalised-mean"]["exponent"] = json!(-1.0);
    let found = problems::<RgaConfig>(&network);
    let paths: Vec<&str> = found
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    let expected = [
        "backbone.width",
        "backbone.after[0].block[0].s2",
        "head.pool.generalised-mean.exponent",
    ];
    assert_eq!(
        paths,
        expected.map(|path| format!("network.{path}")),
        "{found}"
    );
}

#[test]
fn impossible_values_of_branches_are_rejected_with_their_path() {
    let mut network = networks::branched();
    *network
        .pointer_mut("/head/branches/0/augment/cut-mix/mix/patches/height")
        .expect("a value at this path") = json!(3);
    *network
        .pointer_mut("/head/branches/1/augment/drop/height")
        .expect("a value at this path") = json!(1.5);
    assert_eq!(
        problems::<BranchedConfig>(&network),
        "network.head.branches[0].augment.cut-mix.mix.patches: expected a size that divides a map of 4x2, \
         found 3x1\n\
         network.head.branches[1].augment.drop.height: expected 0 to 1, found 1.5"
    );

    let mut network = networks::fnc();
    *network
        .pointer_mut("/split/block")
        .expect("a value at this path") = json!(2);
    *network
        .pointer_mut("/branches/channel/groups")
        .expect("a value at this path") = json!(3);
    assert_eq!(
        problems::<FncConfig>(&network),
        "network.split.block: expected below 2, the number of blocks in stage 3, found 2\n\
         network.branches.channel.groups: expected a divisor of the 8 hidden channels, found 3"
    );

    let mut network = networks::fnc();
    network["branches"]["spatial"]["combine"] = json!("add");
    network["branches"]["channel"]["squeeze"]["initial_gate"] = json!(0.95);
    assert_eq!(
        problems::<FncConfig>(&network),
        "network.branches.spatial.initial_gate: expected none for attention that is added, found 0.95\n\
         network.branches.channel.squeeze.initial_gate: expected none unless the attention is a vector that \
         multiplies the features, found 0.95"
    );

    let mut network = networks::light_mbn();
    network["split"]["stage"] = json!(4);
    network["branches"]["groups"] = json!(3);
    assert_eq!(
        problems::<LightMbnConfig<SqueezeExcitationConfig>>(&network),
        "network.split.block: expected below 1, the number of blocks in stage 4, found 1\n\
         network.branches.groups: expected a divisor of the 8 channels of the feature map, found 3"
    );

    let mut network = networks::mgn();
    network["branches"] = json!([]);
    assert_eq!(
        problems::<MgnConfig>(&network),
        "network.branches: expected at least 1 branch, found none"
    );
}

/// Without padding, the pooling of the stem needs a feature map as large as its window.
#[test]
fn images_too_small_for_a_stem_are_rejected() {
    use reid::nn::backbone::ResNetConfig;

    let mut found = Problems::new();
    let network = ResNetConfig::se_resnext50();
    network.validate(InputSize::new(2, 64).rgb(), &mut found);
    assert_eq!(
        found.to_string(),
        "stem: expected a stem that fits the images, found images of 3x2x64"
    );
}

/// A recipe from an earlier version lacks the fields that were added later.
#[test]
fn recipes_without_newer_fields_are_read() {
    let mut recipe = tiny(&networks::attentive());
    let map = recipe.as_object_mut().expect("an object");
    assert!(map.remove("precision").is_some() && map.remove("flip_test").is_some());
    let augmentation = map["augmentation"].as_object_mut().expect("an object");
    assert!(augmentation.remove("cutout").is_some());
    let sampling = map["sampling"].as_object_mut().expect("an object");
    assert!(sampling.remove("balanced_cameras").is_some());
    assert!(sampling.remove("balanced_sources").is_some());
    let losses = map["losses"].as_object_mut().expect("an object");
    assert!(losses.remove("center").is_some() && losses.remove("triplet").is_some());
    let backbone = map["network"]["backbone"]
        .as_object_mut()
        .expect("an object");
    assert!(backbone.remove("ibn").is_some());
    let attention = backbone["after"][0]["block"][0].as_object_mut();
    let attention = attention.expect("an object");
    assert!(attention.remove("initial_gate").is_some());
    try_recipe::<RgaConfig>(&recipe, false).expect("fields with a default may be missing");
}

/// A recipe without `initial_gate` is written as before this setting existed.
#[test]
fn attention_is_written_as_it_was_read() {
    let rga = json!({ "s1": 8, "s2": 8, "terms": "both" });
    let blocks = [
        json!({ "squeeze-excitation": { "reduction": 16 } }),
        json!({ "cbam-channel": { "reduction": 16 } }),
        json!({ "cbam-spatial": { "kernel": 7, "normalised": true } }),
        json!({ "fully-connected-channel": { "reduction": 8 } }),
        json!({ "fully-connected-spatial": { "reduction": 8 } }),
        json!({ "rga-spatial": rga.clone() }),
        json!({ "rga-channel": rga }),
        json!({ "fnc-spatial": { "reduction": 2, "combine": "multiply" } }),
    ];
    let rewritten = |block: &Value| {
        let read = serde_json::from_value::<AttentionConfig>(block.clone());
        serde_json::to_value(read.expect("attention")).expect("JSON")
    };
    for mut block in blocks {
        assert_eq!(rewritten(&block), block);
        for settings in block.as_object_mut().expect("an object").values_mut() {
            settings["initial_gate"] = json!(0.95);
        }
        assert_eq!(rewritten(&block), block);
    }
}

#[test]
fn the_recipes_of_the_examples_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/recipes");
    let mut read = 0;
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        Recipe::<BagOfTricksConfig>::load(&path).expect("a valid recipe");
        read += 1;
    }
    assert!(read > 0);
}
