//! The content of the files, files of trained runs, and errors.

use std::fs;

use crate::runtime::{assert_close, build, run};
use burn::nn::PaddingConfig2d;
use reid_core::{InputSize, Split};
use reid_data::{
    dataset::market1501,
    loader::{EvalLoader, LoaderConfig},
    open_image,
    transform::Normalise,
};
use reid_nn::{
    attention::AttentionConfig,
    backbone::ResNetConfig,
    head::{BnNeckConfig, PooledHeadConfig},
    pool::PoolConfig,
};
use reid_onnx::{Error, ExportConfig, export_onnx, export_run, to_onnx};
use reid_synthetic::SyntheticConfig;
use reid_train::{Checkpoints, Recipe, Trainer};
use reid_zoo::{Architecture, Embedder, NetworkConfig};
use rten_onnx::onnx::{DataType, ModelProto, ValueInfoProto};

const SIZE: InputSize = InputSize::new(32, 16);

fn backbone() -> ResNetConfig {
    ResNetConfig::resnet18().with_width(4)
}

fn read(file: &[u8]) -> ModelProto {
    ModelProto::parse_buf(file).expect("an ONNX file")
}

fn metadata(file: &ModelProto) -> Vec<(String, String)> {
    let properties = file.metadata_props.iter();
    properties
        .map(|property| (property.key.clone(), property.value.clone()))
        .map(|(key, value)| (key.expect("a key"), value.expect("a value")))
        .collect()
}

#[test]
fn the_file_names_its_input_output_and_preparation() {
    let model = build(&(backbone(), BnNeckConfig::new()), SIZE);
    let normalise = Normalise {
        mean: [0.5, 0.25, 0.125],
        std: [1.0, 0.1, 2.0],
    };
    let config = ExportConfig::new(SIZE)
        .with_normalise(normalise)
        .with_unit_length();
    let file = read(&to_onnx(&model, &config).expect("exported"));
    let expected = [
        ("input_size", "[32,16]"),
        ("colours", "RGB"),
        ("pixel_scale", "255"),
        ("mean", "[0.5,0.25,0.125]"),
        ("std", "[1,0.1,2]"),
        ("interpolation", "bilinear, antialiased"),
        ("embedding_dimensions", "32"),
        ("embedding_unit_length", "true"),
        ("flip_test", "false"),
    ];
    let expected = expected.map(|(key, value)| (format!("reid.{key}"), value.to_owned()));
    assert_eq!(metadata(&file), expected);
    let versions = (file.ir_version, file.opset_import[0].version);
    assert_eq!(versions, (Some(7), Some(13)));

    let graph = file.graph.expect("a graph");
    let shape = |info: &ValueInfoProto| {
        let kind = info.r#type.as_ref().expect("a type");
        let tensor = kind.tensor_type.as_ref().expect("a tensor");
        assert_eq!(tensor.elem_type, Some(DataType::FLOAT));
        let shape = tensor.shape.as_ref().expect("a shape");
        let sizes = shape.dim.iter().map(|size| match size.dim_value {
            Some(size) => size.to_string(),
            None => size.dim_param.clone().expect("a size or a name"),
        });
        let sizes: Vec<String> = sizes.collect();
        (info.name.clone().expect("a name"), sizes.join(" x "))
    };
    let named = |name: &str, shape: &str| (name.to_owned(), shape.to_owned());
    assert_eq!(
        shape(&graph.input[0]),
        named("images", "batch x 3 x 32 x 16")
    );
    assert_eq!(shape(&graph.output[0]), named("embeddings", "batch x 32"));
}

/// Batch normalisation is folded, and parameters have the names that they have in the model.
#[test]
fn the_graph_has_folded_layers_under_their_names() {
    let model = build(&(backbone(), BnNeckConfig::new()), SIZE);
    let file = read(&to_onnx(&model, &ExportConfig::new(SIZE)).expect("exported"));
    let graph = file.graph.expect("a graph");
    let operators: Vec<&str> = graph
        .node
        .iter()
        .filter_map(|node| node.op_type.as_deref())
        .collect();
    assert!(!operators.contains(&"BatchNormalization"));
    assert_eq!(
        operators
            .iter()
            .filter(|&&operator| operator == "Conv")
            .count(),
        20
    );
    let names: Vec<&str> = graph
        .initializer
        .iter()
        .filter_map(|tensor| tensor.name.as_deref())
        .collect();
    for name in [
        "backbone.conv1.weight",
        "backbone.layer2.0.downsample.0.bias",
        "backbone.layer4.1.conv2.weight",
        "head.bottleneck.scale",
    ] {
        assert!(names.contains(&name), "expected {name} among {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("classifier")));
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len());
}

/// A file of a run, given images that are prepared as its metadata says, returns what the embedder computes.
#[test]
fn a_run_is_exported_as_its_embedder_computes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, run_folder) = (folder.path().join("data"), folder.path().join("run"));
    let synthetic = SyntheticConfig::new()
        .with_train_identities(4)
        .with_test_identities(2);
    synthetic
        .with_cameras(2)
        .write(&data)
        .expect("a synthetic dataset");
    let splits = market1501::load(&data).expect("a readable dataset");
    let backbone = backbone()
        .inside(None)
        .after(&[], AttentionConfig::Chain(Vec::new()));
    let network = Architecture::from(NetworkConfig {
        backbone,
        head: BnNeckConfig::new(),
    });
    let mut recipe = Recipe::strong_baseline("exported", SIZE, network);
    (recipe.epochs, recipe.flip_test) = (1, true);
    (recipe.sampling.identities, recipe.sampling.images) = (2, 2);
    recipe.augmentation.normalise = Normalise {
        mean: [0.5; 3],
        std: [0.25; 3],
    };
    let device = burn::tensor::Device::flex();
    let trainer = Trainer::new(&recipe, &splits, LoaderConfig::default(), &device);
    let trainer = trainer.expect("a valid recipe");
    let checkpoints = Checkpoints::new(&run_folder);
    trainer
        .with_checkpoints(checkpoints)
        .run(&mut ())
        .expect("a run");

    let path = folder.path().join("model.onnx");
    export_run(run_folder.join("best"), &path).expect("exported");
    let file = fs::read(&path).expect("the file");
    let properties = metadata(&read(&file));
    for (key, value) in [
        ("mean", "[0.5,0.5,0.5]"),
        ("flip_test", "true"),
        ("std", "[0.25,0.25,0.25]"),
    ] {
        assert!(properties.contains(&(format!("reid.{key}"), value.to_owned())));
    }

    let embedder = Embedder::open_on(&run_folder, &device).expect("a run");
    let expected = embedder
        .embed_samples(&splits.query, Split::Query)
        .expect("embedded");
    let loader = EvalLoader::new(SIZE, recipe.augmentation.normalise, LoaderConfig::default());
    for (index, sample) in splits.query.iter().enumerate() {
        let image = loader.prepare(&open_image(&sample.path).expect("an image"));
        let data = burn::tensor::TensorData::new(image, [1, 3, SIZE.height, SIZE.width]);
        let found = run(&file, burn::tensor::Tensor::from_data(data, &device));
        let row = expected.row(index).to_vec();
        let row = burn::tensor::TensorData::new(row, [1, found.len()]);
        let row = burn::tensor::Tensor::<2>::from_data(row, &device);
        assert_close("a run", &found, row);
    }
}

#[test]
fn parts_without_an_onnx_form_are_named() {
    let pool = PoolConfig::GeneralisedMean { exponent: 0.001 };
    let network = (backbone(), PooledHeadConfig::new().with_pool(pool));
    let device = burn::tensor::Device::default();
    let init = reid_nn::Init::new(reid_core::Seed::new(1), &device);
    let model = reid_nn::Network::init(&network, SIZE, 3, &init);
    let error = to_onnx(&model, &ExportConfig::new(SIZE)).expect_err("an extreme exponent");
    assert_eq!(
        error.to_string(),
        "head.pool: cannot be exported as ONNX: expected an exponent of generalised-mean pooling of at least 0.01, \
         found 0.001"
    );

    let mut model = build(&(backbone(), BnNeckConfig::new()), SIZE);
    model.backbone.layer3[1].conv2.padding = PaddingConfig2d::Same;
    let error = to_onnx(&model, &ExportConfig::new(SIZE)).expect_err("another padding");
    assert_eq!(
        error.to_string(),
        "backbone.layer3.1.conv2: cannot be exported as ONNX: expected a convolution with explicit padding, found \
         `Same`"
    );
}

#[test]
fn a_path_that_cannot_be_written_is_reported_with_the_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("none/model.onnx");
    let model = build(&(backbone(), BnNeckConfig::new()), SIZE);
    let error = export_onnx(&model, &ExportConfig::new(SIZE), &path).expect_err("no folder");
    assert!(matches!(error, Error::Write { .. }), "{error}");
    assert!(
        error
            .to_string()
            .starts_with(&format!("{}: ", path.display())),
        "{error}"
    );
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);

    let error = export_run(folder.path(), folder.path().join("model.onnx")).expect_err("no run");
    let expected = format!("{}: expected a run, a checkpoint", folder.path().display());
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[test]
#[should_panic(expected = "RGA-S was built for features of 4x8x4 and got [4, 16, 8]")]
fn another_input_size_panics_if_the_weights_do_not_fit() {
    let backbone = backbone().after(&[1], reid_nn::attention::RgaSpatialConfig::new());
    let model = build(&(backbone, BnNeckConfig::new()), SIZE);
    let _ = to_onnx(&model, &ExportConfig::new(InputSize::new(64, 32)));
}
