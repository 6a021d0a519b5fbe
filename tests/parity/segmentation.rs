//! Compares `RoIAlign`, `DeepLabV3` and `PSPNet` with reference values from
//! `tests/golden/make_segmentation.py`.

use burn::tensor::{DType, Device, Tensor};
use reid::{
    core::{FeatureShape, InputSize, Seed},
    nn::{
        Block, BlockConfig, Init,
        backbone::{MaxPool, ResNetConfig, Stem},
        resample::{RoiAlign, SamplingRatio},
        segmentation::{DecodeHead, DecodeHeadConfig, SegmentationConfig, SegmentationModel},
    },
    zoo::segmentation::{deeplab_v3, pspnet},
};

use crate::{
    formula::{self, INPUT, UNIT},
    golden::{
        self, Checker, GRADIENT, Golden, OUTPUT,
        part::{compare, compare_network},
    },
};

const CHECKERS: [Checker; 4] = [
    ("roi_align", roi_align),
    ("segmentation_deeplab", deeplab),
    ("segmentation_pspnet", psp),
    ("segmentation_plain", plain),
];

#[test]
fn every_known_golden_file_agrees() {
    golden::check_files(&CHECKERS);
}

fn roi_align(golden: &Golden) {
    let boxes = ["boxes.0", "boxes.1"].map(|name| {
        let (boxes, []) = golden.values(name).as_chunks::<4>() else {
            panic!("{name}: expected 4 values per box")
        };
        boxes.iter().map(|of| of.map(|value| 2.0 * value)).collect()
    });
    for (alignment, aligned) in [("aligned", true), ("plain", false)] {
        for (samples, sampling) in [
            ("adaptive", SamplingRatio::Adaptive),
            ("2", SamplingRatio::Fixed(2)),
        ] {
            let align = RoiAlign::new([3, 2]).with_scale(0.5).with_aligned(aligned);
            let align = align.with_sampling_ratio(sampling);
            let name = format!("{alignment}.{samples}");
            pooled(golden, &name, |map| align.forward(map, &boxes));
        }
    }
    for size @ [rows, columns] in [[3, 4], [10, 5]] {
        let name = format!("whole.{rows}x{columns}");
        pooled(golden, &name, |map| RoiAlign::new(size).whole(map.clone()));
    }
}

/// Compares an output and the gradient with respect to the feature maps.
fn pooled(golden: &Golden, name: &str, pool: impl Fn(&Tensor<4>) -> Tensor<4>) {
    let device = Device::default().autodiff();
    let options = (&device, DType::F32);
    let map = formula::tensor("roi_align.input", [2, 3, 7, 9], INPUT, options).require_grad();
    let output = pool(&map);
    let weights = formula::tensor("roi_align.grad_output", output.dims(), UNIT, options);
    golden.meets(&format!("{name}.output"), output.clone().inner(), OUTPUT);
    let gradients = (output * weights).sum().backward();
    let gradient = map.grad(&gradients).expect("the gradient of the map");
    golden.meets(&format!("{name}.grad.input"), gradient, GRADIENT);
}

fn narrow(blocks: [usize; 4]) -> ResNetConfig {
    ResNetConfig {
        blocks,
        ..ResNetConfig::resnet50().with_width(2)
    }
}

fn deeplab(golden: &Golden) {
    let mut config = deeplab_v3(narrow([1, 1, 2, 2]));
    config.head = config.head.with_channels(6).without_dropout();
    config.head.context = config
        .head
        .context
        .with_rates(vec![1, 2, 3])
        .with_channels(6);
    config.auxiliary = Some(
        DecodeHeadConfig::auxiliary()
            .with_channels(8)
            .without_dropout(),
    );
    network(golden, "deeplab", &config);
}

fn psp(golden: &Golden) {
    let mut config = pspnet(narrow([1, 1, 2, 1]));
    assert_eq!(config.backbone.stem, Stem::Deep(MaxPool::Padded));
    config.head = config.head.with_channels(6).without_dropout();
    config.head.context = config.head.context.with_channels(4);
    config.auxiliary = Some(
        DecodeHeadConfig::auxiliary()
            .with_channels(5)
            .without_dropout(),
    );
    network(golden, "pspnet", &config);
}

/// Compares a network whose output in training ends with the logits of the auxiliary head.
fn network<C: BlockConfig>(golden: &Golden, part: &str, config: &SegmentationConfig<C>) {
    let [_, _, height, width] = golden.shape(&format!("{part}.grad.input"));
    let [_, classes, _, _] = golden.shape(&format!("{part}.output.eval"));
    let device = Device::default().autodiff();
    let init = Init::new(Seed::new(1), &device);
    let model = config.init(InputSize::new(height, width), classes, &init);
    let forward = |model: &SegmentationModel<C::Block>, images: Tensor<4>| {
        if !images.device().is_autodiff() {
            return model.forward(images);
        }
        let output = model.forward_train(images, Seed::new(1));
        let auxiliary = output.auxiliary.expect("an auxiliary head");
        Tensor::cat(vec![output.logits, auxiliary], 1)
    };
    compare_network(golden, part, model, forward);
}

/// The plain head, with a bias and a leaky ReLU.
fn plain(golden: &Golden) {
    let [_, channels, height, width] = golden.shape("plain.grad.input");
    let [_, classes, _, _] = golden.shape("plain.output.eval");
    let config = DecodeHeadConfig::plain().with_channels(5);
    let device = Device::default().autodiff();
    let head = config.init(
        FeatureShape::new(channels, height, width),
        classes,
        &Init::new(Seed::new(1), &device),
    );
    let forward = |head: &DecodeHead, features: Tensor<4>| head.forward(features);
    compare(golden, "plain", head, forward);
}
