//! The output of a head: embedding, features, logits, auxiliary outputs and diagnostics.

use std::{borrow::Cow, collections::BTreeMap};

use burn::tensor::Tensor;
use reid_core::Ranks;

use crate::ranks::gather;

/// The output of a head for a batch of images.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReidOutput {
    /// The vectors by which images are compared, `[batch, dimensions]`.
    pub embedding: Tensor<2>,
    /// The vectors that metric losses see, `[batch, dimensions]`: one per branch with such a loss.
    pub features: Vec<Tensor<2>>,
    /// The class scores before the softmax that identity losses see, `[batch, classes]`: one per branch with
    /// such a loss, and at least one.
    pub logits: Vec<Tensor<2>>,
    /// Further outputs, `[batch, width]`, such as scores of colours. A criterion selects one by its name.
    pub auxiliary: BTreeMap<Cow<'static, str>, Tensor<2>>,
    /// Scalars of a training step that are reported with its losses and not minimised.
    pub diagnostics: Vec<Diagnostic>,
}

/// A named share of the batch, in `[0, 1]`, that is reported with the losses of a training step and not
/// minimised.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// The name in progress reports.
    pub name: Cow<'static, str>,
    /// The share, a tensor of one value without gradient.
    pub value: Tensor<1>,
}

impl ReidOutput {
    /// Creates the output of a head with one branch, whose features, `[batch, dimensions]`, are the embedding, and
    /// whose logits are `[batch, classes]`.
    #[must_use]
    pub fn single(features: Tensor<2>, logits: Tensor<2>) -> Self {
        Self::new(features.clone(), vec![features], vec![logits])
    }

    /// Creates an output without auxiliary outputs or diagnostics. Embedding and features are `[batch, dimensions]`,
    /// and logits `[batch, classes]`.
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

    /// Replaces the embedding, `[batch, dimensions]`, for example by the normalised features.
    #[must_use]
    pub fn with_embedding(self, embedding: Tensor<2>) -> Self {
        Self { embedding, ..self }
    }

    /// Adds an auxiliary output, `[batch, width]`, which replaces one of the same name.
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

    /// Returns the auxiliary output of this name, `[batch, width]`.
    ///
    /// # Panics
    /// If there is no such output.
    #[must_use]
    pub fn auxiliary(&self, name: &str) -> &Tensor<2> {
        self.auxiliary.get(name).unwrap_or_else(|| {
            let names: Vec<_> = self.auxiliary.keys().collect();
            panic!("the head has no auxiliary output {name:?}; it has {names:?}")
        })
    }

    /// Combines two outputs of the same batch: embeddings are concatenated, and the lists of features, logits
    /// and diagnostics are appended. If both have an auxiliary output of the same name, that of `other` is
    /// kept.
    #[must_use]
    pub fn concat(mut self, other: Self) -> Self {
        self.embedding = Tensor::cat(vec![self.embedding, other.embedding], 1);
        self.features.extend(other.features);
        self.logits.extend(other.logits);
        self.auxiliary.extend(other.auxiliary);
        self.diagnostics.extend(other.diagnostics);
        self
    }

    /// The output for the batches of all ranks, in the order of the ranks, with gradients. Diagnostics stay those of
    /// this rank.
    ///
    /// Losses of the result are those of one process with the whole batch, equal on all ranks. After the backward
    /// pass, the gradients of a parameter must be averaged over the ranks: their mean is that of one process.
    ///
    /// # Shapes
    /// - each tensor `[batch, dimensions]` becomes `[ranks·batch, dimensions]`
    #[must_use]
    pub fn gathered(mut self, ranks: &Ranks) -> Self {
        let gathered = |rows| gather(rows, ranks);
        self.embedding = gathered(self.embedding);
        self.features = self.features.into_iter().map(gathered).collect();
        self.logits = self.logits.into_iter().map(gathered).collect();
        let auxiliary = self.auxiliary.into_iter();
        self.auxiliary = auxiliary
            .map(|(name, rows)| (name, gathered(rows)))
            .collect();
        self
    }
}

/// The dimensions of a [`ReidOutput`], without that of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputShape {
    /// Dimensions of the embedding.
    pub embedding: usize,
    /// Dimensions of each of the vectors that metric losses see.
    pub features: Vec<usize>,
    /// The number of training identities.
    pub classes: usize,
    /// The width of each auxiliary output.
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
