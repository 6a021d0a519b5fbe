//! `TrainingStep`: the input of a head in training besides its features.

use burn::tensor::{Device, Tensor};
use reid_core::{Ranks, Seed};

use crate::targets::{Attributes, Targets};

/// The labels, attributes and seed that a head receives in a training step, besides its features. Criteria also
/// receive the embeddings of a teacher.
///
/// ```
/// use burn::tensor::Device;
/// use reid_core::Seed;
/// use reid_nn::{Attributes, TrainingStep};
///
/// let colours = Attributes::from([("colour".into(), vec![Some(1), None])]);
/// let step = TrainingStep::new(&[3, 7], Seed::new(1)).with_attributes(&colours);
/// let targets = step.targets(&Device::default()); // as criteria take them
/// assert_eq!(targets.attribute("colour").dims(), [2]);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TrainingStep<'a> {
    /// The label of each image: a class index, from 0.
    pub labels: &'a [usize],
    /// The seed of random choices, which differs from step to step.
    pub seed: Seed,
    /// The attributes of the images, if there are any.
    pub attributes: Option<&'a Attributes>,
    /// The embeddings of the images by a teacher, `[batch, dimensions]`, if there is one.
    pub teacher: Option<&'a Tensor<2>>,
    /// The ranks over whose batches the losses are computed; `None`, the usual value, for the losses of this batch. See
    /// [`ReidOutput::gathered`](super::ReidOutput::gathered).
    pub ranks: Option<&'a Ranks>,
}

impl<'a> TrainingStep<'a> {
    /// Creates a step on images with these labels, without attributes.
    #[must_use]
    pub const fn new(labels: &'a [usize], seed: Seed) -> Self {
        Self {
            labels,
            seed,
            attributes: None,
            teacher: None,
            ranks: None,
        }
    }

    /// Sets the attributes of the images.
    #[must_use]
    pub const fn with_attributes(self, attributes: &'a Attributes) -> Self {
        Self {
            attributes: Some(attributes),
            ..self
        }
    }

    /// Sets the embeddings of the images by a teacher, `[batch, dimensions]`.
    #[must_use]
    pub const fn with_teacher(self, teacher: &'a Tensor<2>) -> Self {
        Self {
            teacher: Some(teacher),
            ..self
        }
    }

    /// Sets the ranks over whose batches the losses are computed.
    #[must_use]
    pub const fn with_ranks(self, ranks: &'a Ranks) -> Self {
        Self {
            ranks: Some(ranks),
            ..self
        }
    }

    /// Returns labels, attributes and the embeddings of the teacher as criteria take them.
    ///
    /// # Panics
    /// If the number of values of an attribute is not that of the labels, or a class index is 2³¹ or more.
    #[must_use]
    pub fn targets(self, device: &Device) -> Targets {
        let attributes = self.attributes.into_iter().flatten();
        let targets = attributes.fold(
            Targets::new(self.labels, device),
            |targets, (name, values)| targets.with_attribute(name, values),
        );
        match self.teacher {
            Some(teacher) => targets.with_teacher(teacher.clone()),
            None => targets,
        }
    }

    /// Checks that every label is a class of the classifier.
    ///
    /// # Panics
    /// If a label is not below `classes`.
    pub(crate) fn check_classes(self, classes: usize) {
        for (image, &label) in self.labels.iter().enumerate() {
            assert!(
                label < classes,
                "label {label} of image {image} is not among the {classes} classes \
                 that the model was built for"
            );
        }
    }

    /// Returns the step for one of several parts that draw random numbers: the seed depends on `index`.
    #[must_use]
    pub fn at(self, index: usize) -> Self {
        let seed = self.seed.at(index as u64);
        Self { seed, ..self }
    }
}
