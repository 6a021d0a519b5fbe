//! Compares whole networks with a classifier, whose parameters come from the formula.

use burn::{
    module::Module,
    tensor::{DType, Device, Tensor},
};
use reid::{
    core::{FeatureShape, Seed},
    nn::{
        Block, BlockConfig, HeadConfig, Init, ReidModel,
        backbone::{ResNet, ResNetConfig},
        block::Identity,
        head::{PooledHead, PooledHeadConfig},
    },
};

use super::{DOUBLE, Golden, LOGITS, OUTPUT, STATISTIC};
use crate::formula::{self, INPUT, UNIT};

/// A network with average pooling and a linear classifier.
pub(crate) type Classifier<I = Identity> = ReidModel<ResNet<I>, PooledHead>;

/// Maps the path of a parameter in the module to its name in the file.
pub(crate) type Naming = fn(&str) -> String;

/// Builds a network whose parameters come from the formula.
pub(crate) fn classifier<I: BlockConfig + Clone>(
    config: &ResNetConfig<I>,
    classes: usize,
    naming: Naming,
    (device, dtype): (&Device, DType),
) -> Classifier<I::Block> {
    let image = FeatureShape::new(3, 64, 32);
    let head = PooledHeadConfig::new();
    let model = ReidModel {
        backbone: config.init(image, &Init::new(Seed::new(1), device)),
        head: head.init(
            config.output(image),
            classes,
            &Init::new(Seed::new(1), device),
        ),
    };
    formula::filled(model, naming, dtype)
}

/// Maps the path of a parameter to its name in torchvision's state dict.
pub(crate) fn torchvision(path: &str) -> String {
    path.replace("backbone.", "")
        .replace("head.classifier", "fc")
}

/// Computes the input images of the formula, `[batch, 3, 64, 32]`.
pub(crate) fn images(batch: usize, options: (&Device, DType)) -> Tensor<4> {
    formula::tensor("input", [batch, 3, 64, 32], INPUT, options)
}

fn logits<I: Block>(model: &Classifier<I>, images: Tensor<4>) -> Tensor<2> {
    model.forward(images).logits.remove(0)
}

/// Compares logits in evaluation and in training. Returns the network before and after the training pass.
pub(crate) fn both_modes<I: BlockConfig + Clone>(
    golden: &Golden,
    config: &ResNetConfig<I>,
    naming: Naming,
) -> [Classifier<I::Block>; 2] {
    let device = Device::default().autodiff();
    let options = (&device, DType::F32);
    let [batch, classes] = golden.shape("eval.logits");
    let model = classifier(config, classes, naming, options);
    let images = images(batch, options);
    let before = model.valid();
    let evaluated = logits(&before, images.clone().inner());
    golden.meets("eval.logits", evaluated, LOGITS);
    golden.meets("train.logits", logits(&model, images), LOGITS);
    [before, model]
}

/// Compares logits, the output of each stage and running statistics; in double precision also the gradient of
/// every parameter.
pub(crate) fn whole<I: BlockConfig + Clone>(
    golden: &Golden,
    config: &ResNetConfig<I>,
    naming: Naming,
) {
    let [before, after] = both_modes(golden, config, naming);
    let key = |path: &str| format!("state_after.{}", naming(path));
    golden.meets_known_statistics(&after, key, STATISTIC);

    let [batch, classes] = golden.shape("eval.logits");
    let device = Device::default();
    let images = images(batch, (&device, DType::F32));
    if golden.has("input") {
        golden.meets("input", images.clone(), 0.0);
    }
    let stages = before.backbone.stages(images);
    for (name, map) in ["stem", "layer1", "layer2", "layer3", "layer4"]
        .into_iter()
        .zip(stages)
    {
        let map = formula::read(map);
        let mean = map.iter().sum::<f64>() / map.len() as f64;
        let key = format!("eval.{name}");
        let expected = golden.values(&key);
        // Values cancel in a mean, so its tolerance is relative to the root mean square.
        let size = norm(&map) / (map.len() as f64).sqrt();
        golden.compare_scaled(&key, &[mean], &expected[..1], OUTPUT * size);
        golden.compare_scaled(&key, &[norm(&map)], &expected[1..], OUTPUT * expected[1]);
    }
    if device.supports_dtype(DType::F64) {
        double_gradients(golden, config, naming, [batch, classes]);
    } else {
        // In single precision, the gradients of a whole network differ by 1e-2 between implementations.
        golden.skip(|name| name.starts_with("grad"));
    }
}

/// Compares the gradients of a whole network in double precision.
fn double_gradients<I: BlockConfig + Clone>(
    golden: &Golden,
    config: &ResNetConfig<I>,
    naming: Naming,
    [batch, classes]: [usize; 2],
) {
    let device = Device::default().autodiff();
    let options = (&device, DType::F64);
    let model = classifier(config, classes, naming, options);
    let logits = logits(&model, images(batch, options));
    golden.meets("train.logits", logits.clone(), DOUBLE);
    let weights = formula::tensor("grad_output", [batch, classes], UNIT, options);
    let gradients = (logits * weights).sum().backward();
    golden.meets_gradients(&model, &gradients, naming, DOUBLE);
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}
