//! Head: feature map → descriptor, and in training what the losses need.

use std::{borrow::Cow, collections::BTreeMap};

use crate::{
    init::Init,
    targets::{Attributes, Targets},
};
use burn::{
    module::{Module, ModuleDisplay},
    tensor::{Device, Tensor},
};
use reid_core::{FeatureShape, Problems, Seed};

mod block_then_head;
mod bn_neck;
mod branched;
mod fnc;
mod linear_bn_relu;
mod mgn;
mod pooled;
mod reduced_bn_neck;
mod stripes;

pub use block_then_head::{BlockThenHead, BlockThenHeadConfig};
pub use bn_neck::{BnNeck, BnNeckConfig, NeckFeature};
pub use branched::{
    AugmentTrace, BranchConfig, BranchedHead, BranchedHeadConfig, CamSource, FeatureAugment,
    TracedOutput,
};
pub use fnc::{FncBranch, FncBranchConfig, FncBranches, FncHead, FncHeadConfig};
pub use linear_bn_relu::{LinearBnReluHead, LinearBnReluHeadConfig};
pub use mgn::{MgnHead, MgnHeadConfig, validate_branches};
pub use pooled::{PooledHead, PooledHeadConfig};
pub use reduced_bn_neck::{ReducedBnNeck, ReducedBnNeckConfig};
pub use stripes::{StripeHead, StripeHeadConfig};

/// A part that takes a feature map and gives one descriptor per image, with the features and logits
/// that losses judge.
///
/// A tuple of heads stands side by side: their descriptors are concatenated, and what the losses
/// judge is listed in order.
///
/// A head of one's own is one struct and one `forward`:
///
/// ```
/// use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::{Device, Tensor}};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Head, HeadConfig, Init, OutputShape, ReidOutput, pool};
///
/// #[derive(Module, Debug)]
/// struct MaxHead {
///     classifier: Linear,
/// }
///
/// impl Head for MaxHead {
///     fn forward(&self, features: Tensor<4>) -> ReidOutput {
///         let features = pool::max(features);
///         ReidOutput::single(features.clone(), self.classifier.forward(features))
///     }
/// }
///
/// struct MaxHeadConfig;
///
/// impl HeadConfig for MaxHeadConfig {
///     type Head = MaxHead;
///
///     fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> MaxHead {
///         MaxHead { classifier: LinearConfig::new(input.channels, classes).init(device) }
///     }
///
///     fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
///         OutputShape::single(input.channels, classes)
///     }
/// }
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let head = MaxHeadConfig.init(FeatureShape::new(16, 4, 2), 10, &init);
/// let output = head.forward(Tensor::ones([2, 16, 4, 2], &device));
/// assert_eq!(output.embedding.dims(), [2, 16]);
/// ```
pub trait Head: Module + ModuleDisplay + 'static {
    /// Describes each image of a batch.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`, as the place said when the head was built
    fn forward(&self, features: Tensor<4>) -> ReidOutput;

    /// The same in training, for heads that look at the identities or draw (feature `CutMix` does
    /// both).
    ///
    /// # Shapes
    /// - `features`: as in [`forward`](Self::forward)
    fn forward_train(&self, features: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput {
        let _ = step;
        self.forward(features)
    }

    /// The same head for evaluation, with batch normalisation folded into convolutions where it
    /// follows them; see [`Block::fold_batch_norm`](crate::Block::fold_batch_norm).
    #[must_use]
    fn fold_batch_norm(self) -> Self {
        self
    }
}

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

/// The numbers of a [`Head`]; the place where it is built gives the dimensions.
pub trait HeadConfig {
    /// The head that is built.
    type Head: Head;

    /// Builds the head for feature maps of shape `input` and `classes` training identities.
    ///
    /// # Panics
    /// If the numbers do not fit.
    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> Self::Head;

    /// The shape of what the head gives.
    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape;

    /// Adds what is wrong with the numbers on feature maps of shape `input`, each with its path from
    /// here: all that [`init`](Self::init) would refuse. Nothing, unless a part says so.
    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        let _ = (input, problems);
    }
}

/// Dimensions that a part of a descriptor may have: 65536, 32 times what published networks have.
pub const MAX_DIMENSIONS: usize = 1 << 16;

/// Refuses a number of dimensions, and a layer from `channels` to them that is too large.
fn validate_dimensions(field: &str, dimensions: usize, channels: usize, problems: &mut Problems) {
    problems.count(field, dimensions, 1..=MAX_DIMENSIONS);
    if dimensions <= MAX_DIMENSIONS {
        problems.at(field, |problems| {
            problems.weights("a layer", dimensions.checked_mul(channels));
        });
    }
}

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

macro_rules! tuple_of_heads {
    ($first:ident 0 $(, $name:ident $index:tt)+) => {
        impl<$first: Head, $($name: Head),+> Head for ($first, $($name),+) {
            fn forward(&self, features: Tensor<4>) -> ReidOutput {
                self.0.forward(features.clone())
                    $(.concat(self.$index.forward(features.clone())))+
            }

            fn forward_train(&self, features: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput {
                self.0.forward_train(features.clone(), step.at(0))
                    $(.concat(self.$index.forward_train(features.clone(), step.at($index))))+
            }

            fn fold_batch_norm(self) -> Self {
                (self.0.fold_batch_norm(), $(self.$index.fold_batch_norm()),+)
            }
        }

        impl<$first: HeadConfig, $($name: HeadConfig),+> HeadConfig for ($first, $($name),+) {
            type Head = ($first::Head, $($name::Head),+);

            fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> Self::Head {
                (
                    self.0.init(input, classes, &init.at(0)),
                    $(self.$index.init(input, classes, &init.at($index))),+
                )
            }

            fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
                self.0.output(input, classes)$(.concat(self.$index.output(input, classes)))+
            }

            fn validate(&self, input: FeatureShape, problems: &mut Problems) {
                problems.at("[0]", |problems| self.0.validate(input, problems));
                $(problems.at(concat!("[", stringify!($index), "]"), |problems| {
                    self.$index.validate(input, problems);
                });)+
            }
        }
    };
}

tuple_of_heads!(A 0, B 1);
tuple_of_heads!(A 0, B 1, C 2);
tuple_of_heads!(A 0, B 1, C 2, D 3);
