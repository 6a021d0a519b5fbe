//! Exported segmentation models compute the same logits in another runtime, RTen, for every batch size.

use std::fs;

use crate::runtime::{Values, assert_close, images, keep, run_as};
use burn::{module::Module, tensor::Device};
use reid_core::{InputSize, Seed};
use reid_data::{
    loader::LoaderConfig,
    segmentation::{LabelEncoding, pairs},
};
use reid_nn::{
    Init,
    attention::{
        AttentionConfig, FixedSize, ResizedConfig, RgaChannelConfig, RgaSpatialConfig,
        SqueezeExcitationConfig,
    },
    backbone::ResNetConfig,
    resample::Alignment,
    segmentation::{
        DecodeHeadConfig, PixelModel, PixelNetwork, PyramidPoolingConfig, SegmentationConfig,
    },
};
use reid_onnx::{
    LowerPixelModel, SegmentationExportConfig, export_segmentation, export_segmentation_run,
    segmentation_to_onnx,
};
use reid_synthetic::StreetsConfig;
use reid_train::{Checkpoints, Trainer};
use reid_zoo::{recipes, segmentation};
use rten_onnx::onnx::ModelProto;

type Plain = SegmentationConfig;
type Pyramid = SegmentationConfig<PyramidPoolingConfig>;

const CLASSES: usize = 5;

/// Sides of 8n + 1 pixels, which aligned corners resize exactly, and others.
const SIZES: [InputSize; 2] = [InputSize::new(33, 49), InputSize::new(38, 28)];

/// A bottleneck network of four narrow blocks.
fn backbone() -> ResNetConfig {
    let mut backbone = ResNetConfig::resnet50().with_width(4);
    backbone.blocks = [1; 4];
    backbone
}

fn build<N: PixelNetwork>(network: &N, input: InputSize) -> N::Model {
    let device = Device::default();
    let model = network.init(input, CLASSES, &Init::new(Seed::new(7), &device));
    model.map(&mut Values(7))
}

/// Compares the logits of batches of 1 and 3 images, from the same file.
fn compare<N: PixelNetwork<Model: LowerPixelModel>>(name: &str, network: &N, input: InputSize) {
    let model = build(network, input);
    let config = SegmentationExportConfig::new(input);
    let file = segmentation_to_onnx(&model, &config).expect("a model that can be exported");
    for batch in [1, 3] {
        let images = images(batch, input);
        let expected = model.evaluation().forward(images.clone());
        keep(&format!("{name} {input}"), &file, &images, &expected);
        let found = run_as::<4>(&file, images);
        let name = format!("{name}, {input}, batch of {batch}");
        assert_close(&name, &found, expected);
    }
}

#[test]
fn torchvision_networks() {
    for input in SIZES {
        let mut network = segmentation::fcn(backbone());
        network.head = network.head.with_channels(8);
        compare("FCN", &network, input);

        let mut network = segmentation::deeplab_v3(backbone());
        network.head.context = network.head.context.with_channels(6);
        network.head.context.rates = vec![2, 3];
        network.head = network.head.with_channels(8);
        compare("DeepLabV3", &network, input);
    }
}

#[test]
fn networks_of_mmsegmentation() {
    for input in SIZES {
        let mut network = segmentation::mmseg_pspnet(backbone());
        network.head = network.head.with_channels(8);
        compare("mmseg PSPNet", &network, input);
        let mut network = segmentation::mmseg_deeplab_v3(backbone());
        network.head.context = network.head.context.with_channels(6);
        network.head.context.rates = vec![2, 3];
        network.head = network.head.with_channels(8);
        compare("mmseg DeepLabV3", &network, input);
    }
}

#[test]
fn pyramid_pooling() {
    for input in SIZES {
        for alignment in [Alignment::Corners, Alignment::Edges] {
            let mut network = segmentation::pspnet(backbone()).with_alignment(alignment);
            network.head.context = PyramidPoolingConfig::new()
                .with_channels(3)
                .with_alignment(alignment);
            network.head = network.head.with_channels(8);
            compare(&format!("PSPNet, {alignment:?}"), &network, input);
        }
    }
}

/// The plain head has a leaky ReLU. Its attention works at a fixed size, larger or smaller than the features.
#[test]
fn plain_heads_with_attention() {
    for input in SIZES {
        let mut network = segmentation::ocnet_baseline(backbone());
        network.head = network.head.with_channels(8);
        compare("OCNet", &network, input);
    }
    for (pooling, size) in [
        (FixedSize::RoiAlign, [3, 4]),
        (FixedSize::RoiAlign, [7, 5]),
        (FixedSize::Average, [4, 3]),
    ] {
        // More hidden units than the default, so that the factors differ.
        let (spatial, channel) = (RgaSpatialConfig::new(), RgaChannelConfig::new());
        let attention = (
            ResizedConfig::new(size, spatial.with_s1(2).with_s2(2)).with_pooling(pooling),
            ResizedConfig::new(size, channel.with_s1(2).with_s2(2)).with_pooling(pooling),
        );
        let mut network = segmentation::rga(backbone(), 4);
        network.head = network.head.with_channels(16);
        network.head.attention = Some(attention);
        let name = format!("RGA-SC, {pooling:?} {size:?}");
        compare(&name, &network, SIZES[0]);
    }
    let gate = AttentionConfig::SqueezeExcitation(SqueezeExcitationConfig::new().with_reduction(2));
    let head = DecodeHeadConfig::pyramid_pooling().with_channels(4);
    let head = head.with_attention(AttentionConfig::Chain(vec![gate]));
    compare(
        "attention chosen at run time",
        &SegmentationConfig::new(backbone(), head),
        SIZES[1],
    );
}

#[test]
fn the_file_names_its_logits_and_how_they_are_resized() {
    for (alignment, mode) in [
        (Alignment::Edges, "half_pixel"),
        (Alignment::Corners, "align_corners"),
    ] {
        let head = DecodeHeadConfig::plain().with_channels(4);
        let network = SegmentationConfig::new(backbone(), head)
            .with_auxiliary(DecodeHeadConfig::auxiliary().with_channels(4))
            .with_alignment(alignment);
        let config = SegmentationExportConfig::new(InputSize::new(32, 48));
        let model = build(&network, config.input);
        let file = segmentation_to_onnx(&model, &config).expect("exported");
        let file = ModelProto::parse_buf(&file).expect("an ONNX file");
        let properties = file.metadata_props.iter();
        let properties: Vec<_> = properties
            .map(|property| (property.key.as_deref(), property.value.as_deref()))
            .collect();
        for property in [("reid.input_size", "[32,48]"), ("reid.classes", "5")] {
            let (key, value) = property;
            assert!(
                properties.contains(&(Some(key), Some(value))),
                "{properties:?}"
            );
        }
        let graph = file.graph.expect("a graph");
        assert_eq!(graph.output[0].name.as_deref(), Some("logits"));
        let mut parameters = graph.initializer.iter();
        let auxiliary = parameters.find(|tensor| {
            let name = tensor.name.as_deref();
            name.is_some_and(|name| name.starts_with("auxiliary"))
        });
        assert!(auxiliary.is_none());
        let resize = graph
            .node
            .iter()
            .find(|node| node.op_type.as_deref() == Some("Resize"))
            .expect("logits are resized");
        assert_eq!(resize.output, ["logits"]);
        let texts = resize
            .attribute
            .iter()
            .filter_map(|attribute| attribute.s.as_deref());
        assert_eq!(texts.collect::<Vec<_>>(), ["linear", mode]);
    }
}

/// A file of a run computes what the trained model computes, for images of another size than the crops too.
#[test]
fn a_run_is_exported_for_the_size_of_its_crops_or_another_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    let streets = StreetsConfig::new().with_train(2).with_val(1);
    let streets = streets.with_size(40, 56);
    streets.write(&data).expect("the synthetic streets");
    let head = DecodeHeadConfig::plain().with_channels(4);
    let network = SegmentationConfig::new(backbone(), head);
    let mut recipe = recipes::streets("exported", network);
    recipe.crop.size = InputSize::new(33, 33);
    (recipe.sampling.images, recipe.sampling.batches) = (2, 1);
    (recipe.epochs, recipe.evaluate_every) = (1, 1);
    let splits = pairs::load(&data).expect("readable streets");
    let encoding = LabelEncoding::classes(StreetsConfig::CLASSES.len());
    let (loading, device) = (LoaderConfig::default(), Device::flex());
    let trainer = Trainer::segmentation(&recipe, &splits, &encoding, loading, &device);
    let trainer = trainer.expect("a valid recipe");
    let outcome = trainer
        .with_checkpoints(Checkpoints::new(&run))
        .run(&mut ())
        .expect("a run");
    let model = outcome.learner.model.evaluation();

    let path = folder.path().join("model.onnx");
    for input in [None, Some(InputSize::new(40, 56))] {
        export_segmentation_run::<Plain>(&run, input, &path).expect("exported");
        let images = images(2, input.unwrap_or(recipe.crop.size));
        let file = fs::read(&path).expect("the file");
        let found = run_as::<4>(&file, images.clone());
        assert_close("a run", &found, model.forward(images));
    }

    let huge = Some(InputSize::new(9000, 8));
    let error = export_segmentation_run::<Plain>(&run, huge, &path).expect_err("too many rows");
    let expected = "input.height: expected 1 to 8192, found 9000";
    assert!(error.to_string().contains(expected), "{error}");
    let error = export_segmentation_run::<Pyramid>(&run, None, &path).expect_err("another head");
    assert!(
        error.to_string().contains("PyramidPoolingConfig"),
        "{error}"
    );
}

/// Attention whose weights fit one size of the feature map.
#[test]
#[should_panic(expected = "RGA-S was built for features of 8x5x7 and got [8, 4, 6]")]
fn another_input_size_panics_if_the_weights_do_not_fit() {
    let head = DecodeHeadConfig::plain().with_channels(8);
    let head = head.with_attention(RgaSpatialConfig::new());
    let backbone = segmentation::ocnet_baseline(backbone()).backbone;
    let network = SegmentationConfig::new(backbone, head);
    let model = build(&network, InputSize::new(33, 49));
    let config = SegmentationExportConfig::new(InputSize::new(32, 48));
    drop(export_segmentation(&model, &config, "never written"));
}
