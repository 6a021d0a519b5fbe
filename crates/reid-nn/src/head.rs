//! Head: feature map → embedding, and in training what the losses need.

use crate::init::Init;
use burn::{
    module::{Module, ModuleDisplay},
    tensor::Tensor,
};
use reid_core::{FeatureShape, Problems};

mod block_then_head;
mod bn_neck;
mod branched;
mod fnc;
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
pub use fnc::{FncBranch, FncBranchConfig, FncBranches, FncHead, FncHeadConfig};
pub use linear_bn_relu::{LinearBnReluHead, LinearBnReluHeadConfig};
pub use mgn::{MgnBranch, MgnHead, MgnHeadConfig, validate_branches};
pub use output::{Diagnostic, OutputShape, ReidOutput};
pub use pooled::{PooledHead, PooledHeadConfig};
pub use reduced_bn_neck::{ReducedBnNeck, ReducedBnNeckConfig};
pub use step::TrainingStep;
pub use stripes::{StripeHead, StripeHeadConfig};

/// A part that takes a feature map and gives one embedding per image, with the features and logits
/// that losses judge.
///
/// A tuple of heads stands side by side: their embeddings are concatenated, and what the losses
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
pub trait Head: Module + ModuleDisplay + 'static {
    /// Describes each image of a batch.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`, as announced when the head was built
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

    /// Computes [`forward_train`](Self::forward_train), and with it the Grad-CAM of this pass in closed form if the
    /// head has one. Without it, an augmentation that needs Grad-CAM computes it by autodiff.
    fn forward_with_cam(
        &self,
        features: Tensor<4>,
        step: TrainingStep<'_>,
    ) -> (ReidOutput, Option<PassCam<'_>>) {
        (self.forward_train(features, step), None)
    }

    /// The same head for evaluation, with batch normalisation folded into convolutions where it
    /// follows them; see [`Block::fold_batch_norm`](crate::Block::fold_batch_norm).
    #[must_use]
    fn fold_batch_norm(self) -> Self {
        self
    }
}

/// The settings of a [`Head`]; the input shape gives the dimensions.
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

    /// The number of heads side by side: 1, but for a `Vec` or a tuple of configurations.
    fn heads(&self) -> usize {
        1
    }

    /// Adds what is wrong with the numbers on feature maps of shape `input`, each with its path from
    /// here: all that [`init`](Self::init) would refuse. Nothing, unless a part says so.
    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        let _ = (input, problems);
    }
}

/// Dimensions that a part of an embedding may have: 65536, 32 times what published networks have.
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

impl<H: Head> Head for Vec<H> {
    fn forward(&self, features: Tensor<4>) -> ReidOutput {
        let outputs = self.iter().map(|head| head.forward(features.clone()));
        outputs.reduce(ReidOutput::concat).expect("at least 1 head")
    }

    fn forward_train(&self, features: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput {
        let outputs = self.iter().enumerate();
        let outputs =
            outputs.map(|(index, head)| head.forward_train(features.clone(), step.at(index)));
        outputs.reduce(ReidOutput::concat).expect("at least 1 head")
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
