//! A teacher: a trained model whose embeddings another model learns to reproduce.

use std::fmt;

use burn::tensor::{Device, Tensor, TensorData};
use reid_core::InputSize;
use reid_data::transform::Normalise;
use reid_nn::{
    Embed,
    resample::{self, Alignment},
};

/// A trained model whose embeddings the model of a run learns to reproduce
/// ([`Distillation`](reid_nn::loss::Distillation)).
///
/// In each step the teacher embeds the augmented images of the batch in evaluation mode, without gradients. If its
/// images have another size or normalisation, the batch is resized bilinearly and normalised again. This costs a
/// forward pass of the teacher for each batch, and the memory of its weights.
///
/// The teacher is not saved in checkpoints. They hold its name, and a run resumes only with a teacher of this name.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_data::transform::Normalise;
/// use reid_nn::{Init, Model, ReidModel, backbone::ResNetConfig, head::BnNeckConfig};
/// use reid_train::Teacher;
///
/// let (device, size) = (Device::default(), InputSize::new(64, 32));
/// let (backbone, init) = (ResNetConfig::resnet18().with_width(4), Init::new(Seed::new(1), &device));
/// let model = ReidModel::new(&backbone, &BnNeckConfig::new(), size, 3, &init);
/// let teacher = Teacher::new(model.evaluation(), size, Normalise::IMAGENET, "seed 1");
/// let smaller = Tensor::ones([2, 3, 32, 16], &device); // images of another size
/// assert_eq!(teacher.embed(smaller, Normalise::IMAGENET).dims(), [2, 32]);
/// ```
pub struct Teacher {
    model: Box<dyn Embed>,
    input: InputSize,
    normalise: Normalise,
    name: String,
}

impl Teacher {
    /// Creates a teacher from a model in evaluation mode, for images of this size and normalisation, on the device
    /// of the run. The name should change with the weights, such as a fingerprint.
    pub fn new(
        model: impl Embed + 'static,
        input: InputSize,
        normalise: Normalise,
        name: impl Into<String>,
    ) -> Self {
        Self {
            model: Box::new(model),
            input,
            normalise,
            name: name.into(),
        }
    }

    /// The name that checkpoints hold.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Computes the embeddings of images that have the normalisation `normalise`.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - result: `[batch, dimensions]`, on a plain device
    #[must_use]
    pub fn embed(&self, images: Tensor<4>, normalise: Normalise) -> Tensor<2> {
        let InputSize { height, width } = self.input;
        let images = normalised(images.without_autodiff(), normalise, self.normalise);
        let images = resample::bilinear(images, [height, width], Alignment::Edges);
        self.model.embed(images).without_autodiff()
    }

    /// The number of dimensions of the embeddings.
    pub(crate) fn dimensions(&self, device: &Device) -> usize {
        let InputSize { height, width } = self.input;
        let image = Tensor::zeros([1, 3, height, width], device);
        let [_, dimensions] = self.model.embed(image).dims();
        dimensions
    }
}

impl fmt::Debug for Teacher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teacher")
            .field("name", &self.name)
            .field("input", &self.input)
            .finish_non_exhaustive()
    }
}

/// Replaces the normalisation of images: `((x·σ₁ + μ₁) - μ₂)/σ₂`.
fn normalised(images: Tensor<4>, from: Normalise, to: Normalise) -> Tensor<4> {
    if from == to {
        return images;
    }
    let channels = [0, 1, 2];
    let scale = channels.map(|channel| from.std[channel] / to.std[channel]);
    let shift = channels.map(|channel| (from.mean[channel] - to.mean[channel]) / to.std[channel]);
    let (device, dtype) = (images.device(), images.dtype());
    let constant = |values: [f32; 3]| {
        let data = TensorData::new(values.to_vec(), [1, 3, 1, 1]);
        Tensor::<4>::from_data(data, (&device, dtype))
    };
    images * constant(scale) + constant(shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean of each channel.
    struct Means;

    impl Embed for Means {
        fn embed(&self, images: Tensor<4>) -> Tensor<2> {
            assert_eq!(images.dims()[2..], [4, 2]);
            reid_nn::pool::average(images)
        }
    }

    #[test]
    fn images_are_resized_and_normalised_for_the_teacher() {
        let unit = |mean: f32, std: f32| Normalise {
            mean: [mean, 0.0, 0.5],
            std: [std, 1.0, 0.25],
        };
        let teacher = Teacher::new(Means, InputSize::new(4, 2), unit(0.5, 0.5), "means");
        let device = Device::default();
        assert_eq!(teacher.dimensions(&device), 3);
        assert_eq!(teacher.name(), "means");
        // Red of 0.2 + 0.1·2 = 0.4 is (0.4 - 0.5)/0.5.
        let images = Tensor::<4>::full([2, 3, 8, 6], 2.0, &device.autodiff());
        let found = teacher.embed(images, unit(0.2, 0.1));
        assert!(!found.device().is_autodiff());
        let found: Vec<f32> = found.into_data().iter::<f32>().collect();
        for (found, expected) in found.iter().zip([-0.2, 2.0, 2.0, -0.2, 2.0, 2.0]) {
            assert!((found - expected).abs() < 1e-5, "{found}, {expected}");
        }
    }
}
