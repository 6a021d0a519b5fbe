//! The branches of a branched head, of one type or of several, and the forward pass of a branch in training.

use std::fmt;

use burn::{
    module::{Module, ModuleDisplay, ModuleVisitor, Param},
    tensor::{Int, Tensor},
};

use super::CamSource;
use crate::{
    Head, ReidOutput, TrainingStep,
    grad_cam::{GradCam, Target},
    similarity_map::EmbeddingTerms,
    traversal,
};

/// The branches of a [`BranchedHead`](super::BranchedHead), in order: a `Vec` of heads of one type, or a
/// tuple of two to four heads.
pub trait Branches: Module + ModuleDisplay + Sync + 'static {
    /// The branches in order.
    fn list(&self) -> Vec<&dyn BranchHead>;

    /// Returns the branches with batch normalisation folded, each as by [`Head::fold_batch_norm`].
    #[must_use]
    fn fold_batch_norm(self) -> Self;
}

/// A head as a trait object, for heads of different types in one list. It is implemented for every [`Head`].
pub trait BranchHead {
    /// Computes [`Head::forward`] of `[batch, channels, height, width]`.
    fn evaluate(&self, features: Tensor<4>) -> ReidOutput;

    /// Computes [`Head::forward_with_cam`] of `[batch, channels, height, width]`.
    fn train(
        &self,
        features: Tensor<4>,
        step: TrainingStep<'_>,
    ) -> (ReidOutput, Option<PassCam<'_>>);

    /// Computes the Grad-CAM of the head's first logits by autodiff. Batch statistics are used if the head is
    /// on an autodiff device, and running statistics otherwise.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    /// - `labels`: `[batch]`
    /// - result: `[batch, height, width]`, on a plain device
    fn autodiff_cam(&self, features: Tensor<4>, labels: &Tensor<1, Int>) -> Tensor<3>;

    /// Computes [`Head::embedding_terms`] of `[batch, channels, height, width]`.
    fn terms(&self, features: Tensor<4>) -> Option<EmbeddingTerms>;
}

impl<H: Head> BranchHead for H {
    fn evaluate(&self, features: Tensor<4>) -> ReidOutput {
        self.forward(features)
    }

    fn train(
        &self,
        features: Tensor<4>,
        step: TrainingStep<'_>,
    ) -> (ReidOutput, Option<PassCam<'_>>) {
        self.forward_with_cam(features, step)
    }

    fn autodiff_cam(&self, features: Tensor<4>, labels: &Tensor<1, Int>) -> Tensor<3> {
        let mut trains = OnAutodiff(false);
        traversal::visit(self, &mut trains);
        let cam = GradCam::new();
        let cam = if trains.0 {
            cam.by_batch_statistics()
        } else {
            cam
        };
        cam.maps(self, features, Target::Labels(labels))
    }

    fn terms(&self, features: Tensor<4>) -> Option<EmbeddingTerms> {
        self.embedding_terms(features)
    }
}

impl<H: Head> Branches for Vec<H> {
    fn list(&self) -> Vec<&dyn BranchHead> {
        self.iter()
            .map(|branch| branch as &dyn BranchHead)
            .collect()
    }

    fn fold_batch_norm(self) -> Self {
        self.into_iter().map(Head::fold_batch_norm).collect()
    }
}

macro_rules! tuple_of_branches {
    ($($name:ident $index:tt),+) => {
        impl<$($name: Head),+> Branches for ($($name,)+) {
            fn list(&self) -> Vec<&dyn BranchHead> {
                vec![$(&self.$index),+]
            }

            fn fold_batch_norm(self) -> Self {
                Head::fold_batch_norm(self)
            }
        }
    };
}

tuple_of_branches!(A 0, B 1);
tuple_of_branches!(A 0, B 1, C 2);
tuple_of_branches!(A 0, B 1, C 2, D 3);

/// Visits a module, and records whether a parameter is on an autodiff device.
struct OnAutodiff(bool);

impl ModuleVisitor for OnAutodiff {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0 |= param.lazy_device().is_autodiff();
    }
}

/// The Grad-CAM of one training pass in closed form: a function from labels, `[batch]`, to CAMs,
/// `[batch, height, width]`. Both are on a plain device.
pub struct PassCam<'a>(Box<dyn Fn(Tensor<1, Int>) -> Tensor<3> + 'a>);

impl<'a> PassCam<'a> {
    /// Wraps a function from labels, `[batch]`, to CAMs, `[batch, height, width]`.
    pub fn new(maps: impl Fn(Tensor<1, Int>) -> Tensor<3> + 'a) -> Self {
        Self(Box::new(maps))
    }
}

impl fmt::Debug for PassCam<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PassCam")
    }
}

/// A branch, with the input and output of its forward pass in a training step.
pub(super) struct BranchPass<'a> {
    head: &'a dyn BranchHead,
    features: Tensor<4>,
    pub(super) output: ReidOutput,
    cam: Option<PassCam<'a>>,
}

impl<'a> BranchPass<'a> {
    /// Computes the forward pass of a branch.
    ///
    /// # Panics
    /// If a label is not below the number of classes.
    pub(super) fn new(
        head: &'a dyn BranchHead,
        features: Tensor<4>,
        step: TrainingStep<'_>,
    ) -> Self {
        let (output, cam) = head.train(features.clone(), step);
        if let Some(logits) = output.logits.first() {
            step.check_classes(logits.dims()[1]);
        }
        Self {
            head,
            features,
            output,
            cam,
        }
    }

    /// Computes the Grad-CAM of this pass, `[batch, height, width]`, on a plain device. A head without a
    /// closed form uses autodiff, whatever `source` is.
    pub(super) fn cam(&self, source: CamSource, step: TrainingStep<'_>) -> Tensor<3> {
        let device = self.features.clone().without_autodiff().device();
        let labels = step.targets(&device).labels;
        match (source, &self.cam) {
            (CamSource::ClosedForm, Some(PassCam(maps))) => maps(labels),
            _ => self.head.autodiff_cam(self.features.clone(), &labels),
        }
    }
}

impl fmt::Debug for BranchPass<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BranchPass")
            .field("features", &self.features)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}
