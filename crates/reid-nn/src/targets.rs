//! Targets: the labels, attributes and embeddings of a teacher that criteria compare an output with.

use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor};
use reid_core::Ranks;

use crate::ranks::{gather, gather_integers};

/// Attributes of the images of a batch besides their identity. Each name has one class index per image, or
/// `None` where it is unknown.
pub type Attributes = BTreeMap<String, Vec<Option<usize>>>;

/// The labels and attributes that criteria compare the output of a batch with, and the embeddings of a teacher if
/// there is one.
///
/// ```
/// use burn::tensor::Device;
/// use reid_nn::Targets;
///
/// let targets = Targets::new(&[0, 0, 1], &Device::default());
/// // The colour of the second image is unknown.
/// let targets = targets.with_attribute("colour", &[Some(4), None, Some(2)]);
/// assert_eq!(targets.attribute("colour").to_data().try_to_vec::<i32>()?, [4, -1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Targets {
    /// The label of each image's identity, from 0, `[batch]`.
    pub labels: Tensor<1, Int>,
    /// The class indices of attributes by name, from 0, `[batch]`; -1 where an attribute is unknown.
    pub attributes: BTreeMap<String, Tensor<1, Int>>,
    /// The labels, if they are known without reading from a device.
    known: Option<Vec<usize>>,
    /// The embeddings of a teacher, `[batch, dimensions]`.
    teacher: Option<Tensor<2>>,
}

impl Targets {
    /// Copies labels, one per image from 0, to a device: `[batch]`.
    ///
    /// # Panics
    /// If a label is 2³¹ or more. All backends support integers of 32 bits, and no dataset has more classes.
    #[must_use]
    pub fn new(labels: &[usize], device: &Device) -> Self {
        Self {
            labels: tensor(labels.iter().map(|&label| Some(label)), device),
            attributes: BTreeMap::new(),
            known: Some(labels.to_vec()),
            teacher: None,
        }
    }

    /// Adds an attribute, `[batch]` class indices from 0 or `None`, or replaces the one of the same name.
    ///
    /// # Panics
    /// If there is not one value per label, or a class index is 2³¹ or more.
    #[must_use]
    pub fn with_attribute(mut self, name: impl Into<String>, values: &[Option<usize>]) -> Self {
        let (name, [labels], found) = (name.into(), self.labels.dims(), values.len());
        assert_eq!(
            found, labels,
            "attribute {name:?} has {found} values for a batch of {labels} images"
        );
        let values = tensor(values.iter().copied(), &self.labels.device());
        self.attributes.insert(name, values);
        self
    }

    /// Sets the embeddings that a teacher computed of the images of the batch, for
    /// [`Distillation`](crate::loss::Distillation).
    ///
    /// # Shapes
    /// - `embeddings`: `[batch, dimensions]`
    #[must_use]
    pub fn with_teacher(self, embeddings: Tensor<2>) -> Self {
        Self {
            teacher: Some(embeddings),
            ..self
        }
    }

    /// The embeddings of the teacher, `[batch, dimensions]`.
    ///
    /// # Panics
    /// If there is no teacher.
    #[must_use]
    pub fn teacher(&self) -> &Tensor<2> {
        let teacher = self.teacher.as_ref();
        teacher.expect("a loss of distillation needs the embeddings of a teacher, found none")
    }

    /// The class indices of an attribute, `[batch]`; -1 where it is unknown.
    ///
    /// # Panics
    /// If the batch has no attribute of this name.
    #[must_use]
    pub fn attribute(&self, name: &str) -> &Tensor<1, Int> {
        self.attributes.get(name).unwrap_or_else(|| {
            let names: Vec<_> = self.attributes.keys().collect();
            panic!("the batch has no attribute {name:?}, found {names:?}")
        })
    }

    /// The targets of the batches of all ranks, in the order of the ranks: those of
    /// [`ReidOutput::gathered`](crate::ReidOutput::gathered).
    ///
    /// # Panics
    /// If the ranks have different attributes, or a label or class index is 2³¹ or more.
    #[must_use]
    pub fn gathered(self, ranks: &Ranks) -> Self {
        let attributes = self.attributes.into_iter();
        Self {
            labels: gather_integers(&self.labels, ranks),
            attributes: attributes
                .map(|(name, values)| (name, gather_integers(&values, ranks)))
                .collect(),
            known: None,
            teacher: self.teacher.map(|rows| gather(rows, ranks)),
        }
    }

    /// Panics if a label is not below the number of classes of a criterion.
    pub(crate) fn check_classes(&self, classes: usize) {
        let known = self.known.iter().flatten().copied().enumerate();
        if let Some((image, label)) = known.max_by_key(|&(_, label)| label) {
            assert!(
                label < classes,
                "label {label} of image {image} is not among the {classes} classes \
                 that the model was built for"
            );
        }
    }

    /// The labels on the host. Labels that were given as a tensor are read from its device.
    ///
    /// # Panics
    /// If a label is negative.
    pub(crate) fn on_host(&self) -> Vec<usize> {
        let read = || {
            let labels = self.labels.to_data();
            let labels = labels.iter::<i64>().collect::<Vec<_>>().into_iter();
            let label = |label| usize::try_from(label).expect("a label must be at least 0");
            labels.map(label).collect()
        };
        self.known.clone().unwrap_or_else(read)
    }
}

/// Takes labels that are already on a device. They are not checked against the number of classes, since
/// reading them would wait for the device.
impl From<Tensor<1, Int>> for Targets {
    fn from(labels: Tensor<1, Int>) -> Self {
        Self {
            labels,
            attributes: BTreeMap::new(),
            known: None,
            teacher: None,
        }
    }
}

fn tensor(values: impl Iterator<Item = Option<usize>>, device: &Device) -> Tensor<1, Int> {
    let class = |class: Option<usize>| {
        class.map_or(-1, |class| {
            i32::try_from(class).expect("a label or class index must be below 2³¹")
        })
    };
    let values: Vec<i32> = values.map(class).collect();
    Tensor::from_data(values.as_slice(), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "\"view\" has 1 values for a batch of 2 images")]
    fn an_attribute_of_another_batch_size_panics() {
        let _ = Targets::new(&[0, 1], &Device::default()).with_attribute("view", &[None]);
    }

    #[test]
    #[should_panic(expected = "no attribute \"view\", found [\"colour\"]")]
    fn a_missing_attribute_panics_with_its_name() {
        let targets = Targets::new(&[0], &Device::default()).with_attribute("colour", &[None]);
        let _ = targets.attribute("view");
    }

    #[test]
    #[should_panic(expected = "needs the embeddings of a teacher, found none")]
    fn a_missing_teacher_panics() {
        let _ = Targets::new(&[0], &Device::default()).teacher();
    }

    #[test]
    #[should_panic(expected = "label 5 of image 1 is not among the 5 classes")]
    fn a_label_beyond_the_classes_panics() {
        Targets::new(&[4, 5, 0], &Device::default()).check_classes(5);
    }
}
