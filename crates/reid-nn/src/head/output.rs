//! Output of a head: embedding, features and logits, and what else it has.

use std::{borrow::Cow, collections::BTreeMap};

use burn::tensor::Tensor;

/// What a head gives for a batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReidOutput {
    /// The descriptor that images are compared by, `[batch, dimensions]`.
    pub embedding: Tensor<2>,
    /// The features of each branch that metric losses judge, `[batch, dimensions]`.
    pub features: Vec<Tensor<2>>,
    /// The scores of each branch that identity losses judge, before the softmax, `[batch, classes]`;
    /// at least one.
    pub logits: Vec<Tensor<2>>,
    /// Further outputs by name, such as scores of colours, `[batch, ...]`: for criteria that know the name.
    pub auxiliary: BTreeMap<Cow<'static, str>, Tensor<2>>,
    /// What the head tells of a training step; shown with its losses, and not minimised.
    pub diagnostics: Vec<Diagnostic>,
}

/// A share of the batch, in `[0, 1]`, that a head tells of a training step.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// What progress reports call it.
    pub name: Cow<'static, str>,
    /// Its value, a tensor of one value without gradient.
    pub value: Tensor<1>,
}

impl ReidOutput {
    /// The output of a head with one branch whose features are the descriptor.
    #[must_use]
    pub fn single(features: Tensor<2>, logits: Tensor<2>) -> Self {
        Self::new(features.clone(), vec![features], vec![logits])
    }

    /// The output of a head: embedding, features and logits.
    #[must_use]
    pub fn new(embedding: Tensor<2>, features: Vec<Tensor<2>>, logits: Vec<Tensor<2>>) -> Self {
        Self {
            embedding,
            features,
            logits,
            auxiliary: BTreeMap::new(),
            diagnostics: Vec::new(),
        }
    }

    /// The same with another embedding, such as the normalised features.
    #[must_use]
    pub fn with_embedding(self, embedding: Tensor<2>) -> Self {
        Self { embedding, ..self }
    }

    /// The same with a further output, in place of one of the same name.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use reid_nn::ReidOutput;
    ///
    /// let device = Device::default();
    /// let output = ReidOutput::single(Tensor::ones([2, 8], &device), Tensor::ones([2, 5], &device))
    ///     .with_auxiliary("colour", Tensor::ones([2, 12], &device));
    /// assert_eq!(output.auxiliary("colour").dims(), [2, 12]);
    /// ```
    #[must_use]
    pub fn with_auxiliary(mut self, name: impl Into<Cow<'static, str>>, value: Tensor<2>) -> Self {
        self.auxiliary.insert(name.into(), value);
        self
    }

    /// A further output.
    ///
    /// # Panics
    /// If there is none of this name.
    #[must_use]
    pub fn auxiliary(&self, name: &str) -> &Tensor<2> {
        self.auxiliary.get(name).unwrap_or_else(|| {
            let names: Vec<_> = self.auxiliary.keys().collect();
            panic!("the head has no output {name:?} besides features and logits, only {names:?}")
        })
    }

    /// Two outputs for the same batch as one: embeddings concatenated, the rest in order. Of auxiliary outputs of
    /// one name, the last stays.
    #[must_use]
    pub fn concat(mut self, other: Self) -> Self {
        self.embedding = Tensor::cat(vec![self.embedding, other.embedding], 1);
        self.features.extend(other.features);
        self.logits.extend(other.logits);
        self.auxiliary.extend(other.auxiliary);
        self.diagnostics.extend(other.diagnostics);
        self
    }
}

/// The sizes in a [`ReidOutput`], without the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputShape {
    /// Dimensions of the descriptor.
    pub embedding: usize,
    /// Dimensions of the features of each branch that metric losses judge.
    pub features: Vec<usize>,
    /// Training identities.
    pub classes: usize,
    /// Width of each further output by name.
    pub auxiliary: BTreeMap<Cow<'static, str>, usize>,
}

impl OutputShape {
    /// The shape of [`ReidOutput::new`].
    #[must_use]
    pub fn new(embedding: usize, features: Vec<usize>, classes: usize) -> Self {
        Self {
            embedding,
            features,
            classes,
            auxiliary: BTreeMap::new(),
        }
    }

    /// The shape of [`ReidOutput::with_auxiliary`].
    #[must_use]
    pub fn with_auxiliary(mut self, name: impl Into<Cow<'static, str>>, width: usize) -> Self {
        self.auxiliary.insert(name.into(), width);
        self
    }

    /// The shape of [`ReidOutput::single`].
    #[must_use]
    pub fn single(dimensions: usize, classes: usize) -> Self {
        Self::new(dimensions, vec![dimensions], classes)
    }

    /// The shape of [`ReidOutput::concat`].
    #[must_use]
    pub fn concat(mut self, other: Self) -> Self {
        self.embedding += other.embedding;
        self.features.extend(other.features);
        self.auxiliary.extend(other.auxiliary);
        self
    }
}
