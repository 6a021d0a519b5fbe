//! A teacher: a trained model whose embeddings another model learns to reproduce.

use std::fmt;

use burn::tensor::{Device, Tensor, TensorData};
use reid_core::{InputSize, Problems};
use reid_data::transform::Normalise;
use reid_nn::{
    CriterionConfig, Embed, Precision,
    resample::{self, Alignment},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A trained model whose embeddings the model of a run learns to reproduce
/// ([`Distillation`](reid_nn::loss::Distillation)).
///
/// In each step the teacher embeds the augmented images of the batch in evaluation mode, without gradients. If its
/// images have another size or normalisation, the batch is resized bilinearly and normalised again. The teacher
/// computes in its own precision, whatever the precision of the run. This costs a forward pass of the teacher for each batch,
/// and the memory of its weights.
///
/// The teacher is not saved in checkpoints. They hold its name and its precision, and a run resumes only with a
/// teacher of the same name and precision.
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
    precision: Precision,
    name: String,
}

impl Teacher {
    /// Creates a teacher from a model for images of this size and normalisation, in single precision. The name
    /// should change with the weights, such as a fingerprint.
    ///
    /// The model must be on the device of the run, which is checked when the run starts. A model in training mode
    /// computes the same embeddings, because [`Embed::embed`] of every model of this library uses evaluation mode.
    /// [`Model::evaluation`](reid_nn::Model::evaluation) is faster.
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
            precision: Precision::Single,
            name: name.into(),
        }
    }

    /// Sets the precision in which the teacher computes; single precision by default. Its embeddings are in single
    /// precision.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The name that checkpoints hold.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Computes the embeddings of images in single precision that have the normalisation `normalise`.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - result: `[batch, dimensions]`, on a plain device
    #[must_use]
    pub fn embed(&self, images: Tensor<4>, normalise: Normalise) -> Tensor<2> {
        let InputSize { height, width } = self.input;
        let images = normalised(images.without_autodiff(), normalise, self.normalise);
        let images = resample::bilinear(images, [height, width], Alignment::Edges);
        let images = self.precision.cast(images);
        self.model.embed(images).without_autodiff()
    }

    /// What checkpoints hold: the name, and the precision if it is not single precision.
    pub(crate) fn identity(&self) -> String {
        match self.precision {
            Precision::Single => self.name.clone(),
            precision => format!("{} in {precision:?}", self.name),
        }
    }

    /// The number of dimensions of the embeddings. Adds a problem instead if the teacher cannot be used on a device.
    pub(crate) fn dimensions(&self, device: &Device, problems: &mut Problems) -> Option<usize> {
        let fits = problems.at("teacher", |problems| {
            let found = self.model.device();
            if let Some(found) = found.filter(|found| found != device) {
                let expected = format_args!("a model on {device:?}");
                problems.add(expected, format_args!("one on {found:?}"));
            }
            if !self.precision.is_supported(device) {
                let found = format_args!("{:?} on {device:?}", self.precision);
                problems.add("a precision that the device supports", found);
            }
        });
        if !fits {
            return None;
        }
        let InputSize { height, width } = self.input;
        let image = Tensor::zeros([1, 3, height, width], device);
        let embedding = self.model.embed(self.precision.cast(image));
        let (found, [_, dimensions]) = (embedding.device(), embedding.dims());
        if found.is_autodiff() || found != *device {
            let expected = format_args!("embeddings on {device:?}, in evaluation mode");
            problems.at("teacher", |problems| {
                problems.add(expected, format_args!("some on {found:?}"));
            });
            return None;
        }
        Some(dimensions)
    }
}

/// The losses of a recipe, which a teacher must fit. A trainer does not have their type.
#[derive(Clone, Debug)]
pub(crate) struct TeacherLosses {
    losses: Value,
    uses_teacher: bool,
    validate: fn(&Value, usize, Option<usize>, &mut Problems),
}

impl TeacherLosses {
    /// `json` are the losses as a recipe saves them.
    pub(crate) fn new<L>(losses: &L, json: Value) -> Self
    where
        L: CriterionConfig + DeserializeOwned,
    {
        Self {
            losses: json,
            uses_teacher: losses.uses_teacher(),
            validate: validate::<L>,
        }
    }

    /// Whether a loss uses a teacher.
    pub(crate) const fn uses_teacher(&self) -> bool {
        self.uses_teacher
    }

    /// Adds a problem if the losses do not fit a teacher. `student` and `teacher` are the dimensions of the
    /// embeddings; `None` without a teacher.
    pub(crate) fn validate(&self, student: usize, teacher: Option<usize>, problems: &mut Problems) {
        problems.at("losses", |problems| {
            (self.validate)(&self.losses, student, teacher, problems);
        });
    }
}

fn validate<L>(losses: &Value, student: usize, teacher: Option<usize>, problems: &mut Problems)
where
    L: CriterionConfig + DeserializeOwned,
{
    match serde_json::from_value::<L>(losses.clone()) {
        Ok(losses) => losses.validate_teacher(student, teacher, problems),
        Err(error) => problems.add("losses that are read as they were saved", error),
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
    use burn::tensor::DType;

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
        let mut problems = Problems::new();
        assert_eq!(teacher.dimensions(&device, &mut problems), Some(3));
        assert!(problems.is_empty(), "{problems}");
        assert_eq!((teacher.name(), &*teacher.identity()), ("means", "means"));
        // Red of 0.2 + 0.1·2 = 0.4 is (0.4 - 0.5)/0.5.
        let images = Tensor::<4>::full([2, 3, 8, 6], 2.0, &device.autodiff());
        let found = teacher.embed(images, unit(0.2, 0.1));
        assert!(!found.device().is_autodiff());
        let found: Vec<f32> = found.into_data().iter::<f32>().collect();
        for (found, expected) in found.iter().zip([-0.2, 2.0, 2.0, -0.2, 2.0, 2.0]) {
            assert!((found - expected).abs() < 1e-5, "{found}, {expected}");
        }
    }

    /// The mean of the red channel, in training mode or not, and whether it was computed in bfloat16.
    struct Red {
        trains: bool,
    }

    impl Embed for Red {
        fn embed(&self, images: Tensor<4>) -> Tensor<2> {
            let is_half = images.dtype() == DType::BF16;
            let means = reid_nn::pool::average(images.cast(DType::F32)).narrow(1, 0, 1);
            let marks = means.full_like(f32::from(u8::from(is_half)));
            let embeddings = Tensor::cat(vec![means, marks], 1);
            if self.trains {
                embeddings.autodiff()
            } else {
                embeddings
            }
        }
    }

    /// bfloat16 has no value between 1 and 1 + 2⁻⁷.
    #[test]
    fn a_teacher_has_its_own_precision() {
        let device = Device::default();
        let size = InputSize::new(1, 1);
        let teacher = |precision| {
            let teacher = Teacher::new(Red { trains: false }, size, Normalise::IMAGENET, "red");
            teacher.with_precision(precision)
        };
        let images = Tensor::<4>::full([1, 3, 1, 1], 1.0 + 1.0 / 1024.0, &device);
        let embed = |teacher: Teacher| {
            let found = teacher.embed(images.clone(), Normalise::IMAGENET);
            found.into_data().iter::<f32>().collect::<Vec<_>>()
        };
        assert_eq!(embed(teacher(Precision::Single)), [1.0 + 1.0 / 1024.0, 0.0]);
        assert_eq!(embed(teacher(Precision::BFloat16)), [1.0, 1.0]);
        assert_eq!(teacher(Precision::BFloat16).identity(), "red in BFloat16");
    }

    #[test]
    fn embeddings_with_gradients_are_rejected() {
        let size = InputSize::new(4, 2);
        let teacher = Teacher::new(Red { trains: true }, size, Normalise::IMAGENET, "red");
        let mut problems = Problems::new();
        let found = teacher.dimensions(&Device::default(), &mut problems);
        let text = problems.to_string();
        assert!(found.is_none() && problems.len() == 1, "{text}");
        assert!(
            text.starts_with("teacher: expected embeddings on"),
            "{text}"
        );
    }
}
