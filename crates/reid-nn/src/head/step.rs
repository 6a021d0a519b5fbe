//! Training step: what a head may look at besides its features.

use burn::tensor::Device;
use reid_core::Seed;

use crate::targets::{Attributes, Targets};

/// What a head may look at in a training step besides its features.
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
    /// The class number of each image, from 0.
    pub labels: &'a [usize],
    /// Where random choices are drawn from; another one in every step.
    pub seed: Seed,
    /// What else is known of the images, if anything is.
    pub attributes: Option<&'a Attributes>,
}

impl<'a> TrainingStep<'a> {
    /// A step on images with these labels.
    #[must_use]
    pub const fn new(labels: &'a [usize], seed: Seed) -> Self {
        Self {
            labels,
            seed,
            attributes: None,
        }
    }

    /// The same with what else is known of the images.
    #[must_use]
    pub const fn with_attributes(self, attributes: &'a Attributes) -> Self {
        Self {
            attributes: Some(attributes),
            ..self
        }
    }

    /// Labels and attributes as criteria take them.
    ///
    /// # Panics
    /// If an attribute has not one value per label, or a class number is 2³¹ or more.
    #[must_use]
    pub fn targets(self, device: &Device) -> Targets {
        let attributes = self.attributes.into_iter().flatten();
        attributes.fold(
            Targets::new(self.labels, device),
            |targets, (name, values)| targets.with_attribute(name, values),
        )
    }

    /// Refuses labels that a classifier does not have.
    ///
    /// # Panics
    /// If a label is not below `classes`.
    pub(crate) fn check_classes(self, classes: usize) {
        for (image, &label) in self.labels.iter().enumerate() {
            assert!(
                label < classes,
                "label {label} of image {image} is not among the {classes} classes that the model was built for"
            );
        }
    }

    /// The same step for one of several parts that draw: each draws from its own place.
    #[must_use]
    pub fn at(self, place: usize) -> Self {
        let seed = self.seed.at(place as u64);
        Self { seed, ..self }
    }
}
