//! Heads: feature map → embedding, and in training also the features and logits that losses see.

use crate::{init::Init, similarity_map::EmbeddingTerms, stage_paths::StagePaths};
use burn::{
    module::{Module, ModuleDisplay},
    tensor::Tensor,
};
use reid_core::{FeatureShape, Problems};

mod block_then_head;
mod bn_neck;
mod branched;
mod channel_groups;
mod fnc;
mod light_mbn;
mod linear_bn_neck;
mod linear_bn_relu;
mod mgn;
mod output;
mod pooled;
mod reduced_bn_neck;
mod step;
mod stripes;

pub use block_then_head::{BlockThenHead, BlockThenHeadConfig};
pub use bn_neck::{BnNeck, BnNeckConfig, NeckFeature};
pub use branched::{
    AugmentConfig, AugmentContext, AugmentTrace, BranchConfig, BranchHead, BranchedHead,
    BranchedHeadConfig, Branches, BranchesConfig, CamSource, FeatureAugment, PassCam, TracedOutput,
};
pub use channel_groups::{ChannelGroupsHead, ChannelGroupsHeadConfig};
pub use fnc::{FncBranch, FncBranchConfig, FncBranches, FncHead, FncHeadConfig};
pub use light_mbn::{LightMbnBranches, LightMbnHead, LightMbnHeadConfig};
pub use linear_bn_neck::{LinearBnNeck, LinearBnNeckConfig};
pub use linear_bn_relu::{LinearBnReluHead, LinearBnReluHeadConfig};
pub use mgn::{MgnBranch, MgnHead, MgnHeadConfig, validate_branches};
pub use output::{Diagnostic, OutputShape, ReidOutput};
pub use pooled::{ClassifierInit, PooledHead, PooledHeadConfig};
pub use reduced_bn_neck::{ReducedBnNeck, ReducedBnNeckConfig};
pub use step::TrainingStep;
pub use stripes::{StripeHead, StripeHeadConfig, StripesConfig};

/// A part that computes one embedding per image from a feature map, and the features and logits that losses
/// see.
///
/// A tuple or a `Vec` of heads is a head: each sees the same feature map. Their embeddings are concatenated,
/// and their features and logits are listed in order.
///
/// A custom head is a struct with the method `forward`, and a configuration:
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
///         MaxHead { classifier: init.linear(&LinearConfig::new(input.channels, classes)) }
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
pub trait Head: Module + ModuleDisplay + Sync + 'static {
    /// Computes the embeddings, features and logits of a batch.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`, of the shape that the head was built for
    fn forward(&self, features: Tensor<4>) -> ReidOutput;

    /// Computes the output in a training step, for heads that use the labels or draw random numbers, as
    /// feature `CutMix` does. By default it is [`forward`](Self::forward).
    ///
    /// # Shapes
    /// - `features`: as in [`forward`](Self::forward)
    fn forward_train(&self, features: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput {
        let _ = step;
        self.forward(features)
    }

    /// Computes [`forward_train`](Self::forward_train), and the Grad-CAM of this pass if the head has a
    /// closed form for it. By default it returns `None`, and an augmentation that needs Grad-CAM computes it
    /// by autodiff.
    ///
    /// # Shapes
    /// - `features`: as in [`forward`](Self::forward)
    fn forward_with_cam(
        &self,
        features: Tensor<4>,
        step: TrainingStep<'_>,
    ) -> (ReidOutput, Option<PassCam<'_>>) {
        (self.forward_train(features, step), None)
    }

    /// Splits the embedding of evaluation into one term per position in closed form, for
    /// [similarity maps](crate::similarity_map). By default it returns `None`, and autodiff computes the terms.
    ///
    /// # Shapes
    /// - `features`: as in [`forward`](Self::forward), on a plain device like the head
    fn embedding_terms(&self, features: Tensor<4>) -> Option<EmbeddingTerms> {
        let _ = features;
        None
    }

    /// Returns the head for evaluation, with each batch normalisation folded into the convolution before it;
    /// see [`Block::fold_batch_norm`](crate::Block::fold_batch_norm).
    #[must_use]
    fn fold_batch_norm(self) -> Self {
        self
    }
}

/// The hyper-parameters of a [`Head`], which has an example. Its dimensions come from the input shape.
pub trait HeadConfig {
    /// The head that [`init`](Self::init) builds.
    type Head: Head;

    /// Builds the head for feature maps of shape `input` and `classes` training identities.
    ///
    /// # Panics
    /// If the configuration is invalid for `input`, or `classes` is 0.
    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> Self::Head;

    /// The dimensions of the head's output.
    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape;

    /// The number of parallel heads: 1, except for a `Vec` or a tuple of configurations.
    fn heads(&self) -> usize {
        1
    }

    /// Adds the problems of this configuration on feature maps of shape `input`, each with its path from
    /// here: all that [`init`](Self::init) would refuse. By default it adds none.
    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        let _ = (input, problems);
    }

    /// The stage of each parameter that belongs to a stage of the backbone, by its path in the head: that of late
    /// stages in branches. By default there are none.
    fn stage_paths(&self) -> StagePaths {
        StagePaths::default()
    }
}

/// The maximum number of dimensions of one part of an embedding: 65536, 32 times that of published networks.
pub const MAX_DIMENSIONS: usize = 1 << 16;

/// Adds a problem if `dimensions` is out of range, or a layer from `channels` to `dimensions` is too large.
fn validate_dimensions(field: &str, dimensions: usize, channels: usize, problems: &mut Problems) {
    problems.count(field, dimensions, 1..=MAX_DIMENSIONS);
    if dimensions <= MAX_DIMENSIONS {
        problems.at(field, |problems| {
            problems.weights("a layer", dimensions.checked_mul(channels));
        });
    }
}

impl<H: Head> Head for Vec<H> {
    fn forward(&self, features: Tensor<4>) -> ReidOutput {
        let outputs = self.iter().map(|head| head.forward(features.clone()));
        outputs
            .reduce(ReidOutput::concat)
            .expect("a `Vec` of heads has at least 1 head")
    }

    fn forward_train(&self, features: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput {
        let outputs = self.iter().enumerate();
        let outputs =
            outputs.map(|(index, head)| head.forward_train(features.clone(), step.at(index)));
        outputs
            .reduce(ReidOutput::concat)
            .expect("a `Vec` of heads has at least 1 head")
    }

    fn embedding_terms(&self, features: Tensor<4>) -> Option<EmbeddingTerms> {
        let terms = self.iter();
        let terms: Option<Vec<_>> = terms
            .map(|head| head.embedding_terms(features.clone()))
            .collect();
        terms?.into_iter().reduce(EmbeddingTerms::concat)
    }

    fn fold_batch_norm(self) -> Self {
        self.into_iter().map(Head::fold_batch_norm).collect()
    }
}

impl<H: HeadConfig> HeadConfig for Vec<H> {
    type Head = Vec<H::Head>;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> Self::Head {
        let heads = self.iter().enumerate();
        heads
            .map(|(index, head)| head.init(input, classes, &init.at(index)))
            .collect()
    }

    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
        let shapes = self.iter().map(|head| head.output(input, classes));
        let none = || OutputShape::new(0, Vec::new(), classes);
        shapes.reduce(OutputShape::concat).unwrap_or_else(none)
    }

    fn heads(&self) -> usize {
        self.len()
    }

    fn stage_paths(&self) -> StagePaths {
        StagePaths::of_list(self.iter().map(HeadConfig::stage_paths))
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        for (index, head) in self.iter().enumerate() {
            problems.at(&format!("[{index}]"), |problems| {
                head.validate(input, problems);
            });
        }
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

            fn embedding_terms(&self, features: Tensor<4>) -> Option<EmbeddingTerms> {
                let terms = self.0.embedding_terms(features.clone())?;
                $(let terms = terms.concat(self.$index.embedding_terms(features.clone())?);)+
                Some(terms)
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

            fn heads(&self) -> usize {
                [0, $($index),+].len()
            }

            fn stage_paths(&self) -> StagePaths {
                StagePaths::of_list([self.0.stage_paths(), $(self.$index.stage_paths()),+])
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
