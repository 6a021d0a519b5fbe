//! A re-identification model: a backbone and a head.

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use reid_core::{InputSize, Problems};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    block::{Block, BlockConfig, TRIAL_SHAPES},
    device,
    ensemble::Model,
    head::{Head, HeadConfig, OutputShape, ReidOutput, TrainingStep},
    init::Init,
    stage_paths::StagePaths,
};

/// The configuration of a whole network, from which a recipe builds its [`Model`].
///
/// A pair of a backbone configuration and a head configuration is a network; `reid_zoo` has named networks.
///
/// ```
/// use reid_core::{InputSize, Problems};
/// use reid_nn::{Network, backbone::ResNetConfig, head::BnNeckConfig};
///
/// let network = (ResNetConfig::resnet50().with_last_stride(3).with_width(0), BnNeckConfig::new());
/// let mut problems = Problems::new();
/// network.validate_network(InputSize::PERSON, &mut problems);
/// assert_eq!(
///     problems.to_string(),
///     "[0].width: expected 1 to 4096, found 0\n[0].last_stride: expected 1 to 2, found 3"
/// );
/// ```
pub trait Network: Clone + Serialize + DeserializeOwned {
    /// The model that is built.
    type Model: Model;

    /// Builds the model for images of size `input` and `classes` training identities.
    ///
    /// # Panics
    /// If `classes` is 0, or if [`validate_network`](Self::validate_network) reports a problem.
    fn init(&self, input: InputSize, classes: usize, init: &Init<'_>) -> Self::Model;

    /// The shapes of the model's output.
    ///
    /// # Panics
    /// If the backbone does not fit the images.
    fn output(&self, input: InputSize, classes: usize) -> OutputShape;

    /// Adds the problems of the configuration, each with its path from here: everything that building the
    /// network or a training step rejects.
    fn validate_network(&self, input: InputSize, problems: &mut Problems);

    /// The stage of each parameter, by its path in the model. By default all parameters of a module `backbone` are
    /// in the last stage.
    fn stage_paths(&self) -> StagePaths {
        StagePaths::of_model(StagePaths::default(), StagePaths::default())
    }
}

impl<B, H> Network for (B, H)
where
    B: BlockConfig + Clone + Serialize + DeserializeOwned,
    H: HeadConfig + Clone + Serialize + DeserializeOwned,
{
    type Model = ReidModel<B::Block, H::Head>;

    fn init(&self, input: InputSize, classes: usize, init: &Init<'_>) -> Self::Model {
        ReidModel::new(&self.0, &self.1, input, classes, init)
    }

    fn output(&self, input: InputSize, classes: usize) -> OutputShape {
        self.1.output(self.0.output(input.rgb()), classes)
    }

    fn validate_network(&self, input: InputSize, problems: &mut Problems) {
        validate_parts(["[0]", "[1]"], (&self.0, &self.1), input, problems);
    }

    fn stage_paths(&self) -> StagePaths {
        StagePaths::of_model(self.0.stage_paths(), self.1.stage_paths())
    }
}

/// Adds the problems of a backbone and of the head after it, whose fields have these names. If the backbone
/// is invalid, the head is validated on the [trial shapes](TRIAL_SHAPES).
pub fn validate_parts<B: BlockConfig, H: HeadConfig>(
    [backbone_name, head_name]: [&str; 2],
    (backbone, head): (&B, &H),
    input: InputSize,
    problems: &mut Problems,
) {
    let image = input.rgb();
    let fits = problems.at(backbone_name, |problems| backbone.validate(image, problems));
    problems.at(head_name, |problems| {
        if fits {
            head.validate(backbone.output(image), problems);
        } else {
            problems.nested_for_any(TRIAL_SHAPES, |map, problems| head.validate(map, problems));
        }
    });
}

/// A backbone and a head: images → embeddings.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Init, ReidModel, backbone::ResNetConfig, head::BnNeckConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let (size, backbone) = (InputSize::new(32, 16), ResNetConfig::resnet18().with_width(8));
/// let model = ReidModel::new(&backbone, &BnNeckConfig::new(), size, 10, &init);
/// let images = Tensor::random([2, 3, 32, 16], burn::tensor::Distribution::Default, &device);
///
/// let plain = model.embed(images.clone());
/// let folded = model.fold_batch_norm().embed(images);
/// assert!((plain - folded).abs().max().into_scalar::<f32>() < 1e-4);
/// ```
#[derive(Module, Debug)]
pub struct ReidModel<B, H> {
    /// Images → feature map.
    pub backbone: B,
    /// Feature map → embedding.
    pub head: H,
}

impl<B: Block, H: Head> ReidModel<B, H> {
    /// Builds a model for images of size `input` and `classes` training identities, with weights from `init`.
    /// The same seed gives the same weights on every backend.
    ///
    /// # Panics
    /// If a configuration is invalid, or if the head does not fit the backbone.
    #[must_use]
    pub fn new<CB, CH>(
        backbone: &CB,
        head: &CH,
        input: InputSize,
        classes: usize,
        init: &Init<'_>,
    ) -> Self
    where
        CB: BlockConfig<Block = B>,
        CH: HeadConfig<Head = H>,
    {
        let image = input.rgb();
        let (features, init_head) = (backbone.output(image), init.named("head"));
        Self {
            backbone: backbone.init(image, &init.named("backbone")),
            head: head.init(features, classes, &init_head),
        }
    }

    /// Computes the embeddings, features and logits of images.
    ///
    /// A model on an autodiff device is in training mode, except for layers whose
    /// [training flag](crate::norm::BatchNorm) is off. [`embed`](Self::embed) always uses evaluation mode.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    pub fn forward(&self, images: Tensor<4>) -> ReidOutput {
        self.head.forward(self.backbone.forward(images))
    }

    /// Computes the same in a training step, for heads that use labels or random numbers, and for backbones
    /// with dropout.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    pub fn forward_train(&self, images: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput {
        let seed = step.seed.named("backbone");
        let features = self.backbone.forward_train(images, seed);
        self.head.forward_train(features, step)
    }

    /// Computes the embeddings of images in evaluation mode.
    ///
    /// The embedding of an image does not depend on the rest of the batch, and no running statistics are
    /// updated, whatever device the model and the images are on. The result is on a plain device. A model on
    /// an autodiff device is [copied](Module::valid) to a plain device in each call, which costs one handle
    /// per parameter.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    /// - result: `[batch, dimensions]`
    pub fn embed(&self, images: Tensor<4>) -> Tensor<2> {
        self.evaluate(images, |output| output.embedding)
    }

    /// Computes the class scores of images in evaluation mode, before the softmax. A head with several
    /// classifiers gives the mean of their scores.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    /// - result: `[batch, classes]`, on a plain device
    ///
    /// # Panics
    /// If a custom head has no logits.
    pub fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.evaluate(images, |output| {
            let count = output.logits.len();
            let sum = output.logits.into_iter().reduce(|sum, more| sum + more);
            let sum = sum.expect("a head has at least one list of logits");
            if count > 1 { sum / count as f64 } else { sum }
        })
    }

    /// Computes a part of the output in evaluation mode, on a plain device. With CPU kernels, it is computed on a
    /// worker thread, for a few images at a time, whose feature maps stay in the caches.
    fn evaluate(
        &self,
        images: Tensor<4>,
        part: impl Fn(ReidOutput) -> Tensor<2> + Sync,
    ) -> Tensor<2> {
        let images = images.without_autodiff();
        let plain;
        let model = if self.is_on_autodiff() {
            plain = self.valid();
            &plain
        } else {
            self
        };
        let device = images.device();
        let most = device::batch_size(&device);
        reid_ops::on_workers(&device, || {
            if !reid_ops::uses_workers(&device) || images.dims()[0] <= most {
                return part(model.forward(images));
            }
            let parts = images.split(most, 0).into_iter();
            Tensor::cat(parts.map(|images| part(model.forward(images))).collect(), 0)
        })
    }

    /// Returns the model for evaluation, on a plain device, with batch normalisation folded into
    /// convolutions; see [`Block::fold_batch_norm`].
    #[must_use]
    pub fn fold_batch_norm(self) -> Self {
        let model = if self.is_on_autodiff() {
            self.valid()
        } else {
            self
        };
        Self {
            backbone: model.backbone.fold_batch_norm(),
            head: model.head.fold_batch_norm(),
        }
    }

    fn is_on_autodiff(&self) -> bool {
        self.devices().iter().any(Device::is_autodiff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backbone::{ResNet, ResNetConfig},
        fixtures,
        head::{BnNeck, BnNeckConfig},
    };

    const SIZE: InputSize = InputSize::new(32, 16);

    type Model = ReidModel<ResNet, BnNeck>;

    /// A model in training mode after a forward pass of one batch.
    fn trained() -> Model {
        let device = Device::default().autodiff();
        let backbone = ResNetConfig::resnet18().with_width(2);
        let model = ReidModel::new(
            &backbone,
            &BnNeckConfig::new(),
            SIZE,
            3,
            &fixtures::init(&device),
        );
        let model = fixtures::weights(model);
        let _ = model.forward(images().autodiff());
        model
    }

    fn images() -> Tensor<4> {
        fixtures::tensor([4, 3, 32, 16], -1.0..1.0, &Device::default())
    }

    fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().expect("f32 values")
    }

    fn statistics(model: &Model) -> Vec<f32> {
        let norms = [&model.backbone.bn1, &model.backbone.layer4[0].bn2];
        let norms = norms.into_iter().flatten();
        let all = norms.chain([&model.head.bottleneck]);
        all.flat_map(|norm| read(norm.running_mean.value()))
            .collect()
    }

    #[test]
    fn embed_uses_evaluation_mode_on_an_autodiff_device() {
        let model = trained();
        let before = statistics(&model);
        let expected = read(model.valid().embed(images()));
        for images in [images(), images().autodiff()] {
            let embeddings = model.embed(images);
            assert!(!embeddings.device().is_autodiff());
            assert_eq!(read(embeddings), expected);
        }
        // The embedding of an image does not depend on the batch.
        let single = read(model.embed(images().narrow(0, 2, 1)));
        let width = single.len();
        for (single, batch) in single.iter().zip(&expected[2 * width..]) {
            assert!((single - batch).abs() < 1e-4, "{single} and {batch}");
        }
        assert_eq!(statistics(&model), before);
    }

    #[test]
    fn logits_are_the_mean_over_the_classifiers() {
        let device = Device::default();
        let backbone = ResNetConfig::resnet18().with_width(2);
        let heads = vec![BnNeckConfig::new(); 2];
        let model = ReidModel::new(&backbone, &heads, SIZE, 3, &fixtures::init(&device));
        let logits = model.forward(images()).logits;
        let [one, two] = [0, 1].map(|index| read(logits[index].clone()));
        assert_ne!(one, two);
        let found = read(model.logits(images()));
        for ((found, one), two) in found.iter().zip(&one).zip(&two) {
            assert!((found - f32::midpoint(*one, *two)).abs() < 1e-5);
        }
    }

    #[test]
    fn images_on_a_plain_device_use_training_mode_in_every_layer() {
        let (plain, autodiff) = (trained(), trained());
        let found = plain.forward(images()).embedding;
        let expected = autodiff.forward(images().autodiff()).embedding;
        assert_eq!(read(found.inner()), read(expected.inner()));
        assert_eq!(statistics(&plain), statistics(&autodiff));
    }

    #[test]
    fn folding_a_model_in_training_mode_gives_its_evaluation_results() {
        let model = trained();
        let expected = read(model.embed(images()));
        let folded = model.fold_batch_norm();
        assert!(folded.backbone.bn1.is_none() && !folded.is_on_autodiff());
        for (found, expected) in read(folded.embed(images())).iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-3, "{found} and {expected}");
        }
    }

    #[test]
    fn folding_a_block_keeps_its_autodiff_device() {
        let model = trained();
        let backbone = model.backbone.clone().fold_batch_norm();
        let expected = model.backbone.valid().forward(images());
        let found = backbone.forward(images().autodiff()).inner();
        let difference = (found - expected).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-3, "{difference}");
        assert!(backbone.conv1.weight.val().is_require_grad());
    }
}
