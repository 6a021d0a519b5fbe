//! `BranchedHead`: an optional global branch and further branches, whose features are augmented in training
//! (Zhang et al., Grad-CAM guided progressive feature `CutMix`; Dai et al., Batch `DropBlock` Network, ICCV
//! 2019, arXiv:1811.07130). The heads of FNC, MGN and `LightMBN` are configurations of it.

use std::sync::Arc;

use burn::{module::Module, tensor::Tensor};

mod augment;
mod branches;
mod composition;
mod config;

pub use augment::{AugmentContext, AugmentTrace, FeatureAugment};
pub use branches::{BranchHead, Branches, PassCam};
pub use composition::BranchesConfig;
pub use config::{AugmentConfig, BranchConfig, BranchedHeadConfig, CamSource};

use self::branches::BranchPass;
use super::{Head, LinearBnReluHead, ReidOutput, TrainingStep};
use crate::{
    backbone::ResidualBlock,
    block::Block,
    grad_cam::{ClosedForm, Target},
    similarity_map::EmbeddingTerms,
};

/// An optional global branch on the feature map, and further branches whose features can be augmented in
/// training.
///
/// ```text
/// f₀ = global(T)                               the global branch, if there is one
/// T' = bottleneck(T)                           as large as T; T' = T if there is no bottleneck
/// fᵢ = branchᵢ(augmentᵢ(T'))                   i = 1, 2, …; augmentᵢ applies in training only
/// f  = [f₀, f₁, …]                             the embedding
/// ```
///
/// | head | global | bottleneck | branches |
/// |---|---|---|---|
/// | [Progressive feature `CutMix`, Batch `DropBlock`](BranchedHeadConfig) | linear, batch norm, `ReLU` | yes | the same, each with an augmentation |
/// | [FNC](super::FncHead) | no | no | each has its own late stages and attention, then a neck |
/// | [MGN](super::MgnHead) | no | no | each has its own late stages, then stripes |
/// | [LightMBN](super::LightMbnHead) | no | no | each has its own late stages, then necks, stripes or groups of channels |
/// | [any other](BranchesConfig) | any [`Head`] | yes or no | [`Branches`]: a `Vec` of one type of head, or a tuple of several |
///
/// An augmentation can use the Grad-CAM of the previous branch on its input: T for the global branch, and the
/// augmented features for the others. [`CutMix`](crate::cut_mix::CutMix) cuts the patches of T' where this
/// Grad-CAM is highest. Each mask is applied to T' itself, and no gradient flows through it. Grad-CAM is that
/// of the training pass: of the logit of the true label, with the batch statistics of the pass.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Head, HeadConfig, Init, TrainingStep, head::BranchedHeadConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let config = BranchedHeadConfig::progressive_cut_mix(2);
/// let head = config.init(FeatureShape::new(16, 12, 4), 10, &init); // feature maps of 8 patches
///
/// let features = Tensor::ones([2, 16, 12, 4], &device);
/// let step = TrainingStep::new(&[3, 7], Seed::new(1));
/// let output = head.forward_train(features, step);
/// assert_eq!(output.embedding.dims(), [2, 2048]);
/// assert_eq!(output.logits.len(), 3);
/// ```
#[derive(Module, Debug)]
pub struct BranchedHead<B = Vec<LinearBnReluHead>, G = LinearBnReluHead> {
    /// The branch that sees the feature map as it is, if there is one.
    pub global: Option<G>,
    /// The block whose output the branches share, if there is one.
    pub bottleneck: Option<ResidualBlock>,
    /// The branches after the global one.
    pub branches: B,
    #[module(skip)]
    augments: Vec<Arc<dyn FeatureAugment>>,
}

/// The output of a training step, and the traces of its augmentations.
#[derive(Clone, Debug)]
pub struct TracedOutput {
    /// The output that the losses see.
    pub output: ReidOutput,
    /// The trace of each branch after the global one.
    pub traces: Vec<AugmentTrace>,
}

impl<B: Branches, G: Head> BranchedHead<B, G> {
    /// Replaces the augmentations by others, of the library ([`AugmentConfig`]) or custom: one per branch
    /// after the global one.
    ///
    /// # Panics
    /// If the number of augmentations is not the number of these branches.
    #[must_use]
    pub fn with_augments(self, augments: Vec<Arc<dyn FeatureAugment>>) -> Self {
        let (branches, found) = (self.branches.list().len(), augments.len());
        assert_eq!(
            branches, found,
            "{branches} branches have one augmentation each, found {found}"
        );
        Self { augments, ..self }
    }

    /// Computes [`forward_train`](Head::forward_train), and returns the traces of the augmentations with the
    /// output.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    ///
    /// # Panics
    /// If there is not one label per image, or a label is not below the number of classes. Also if the
    /// augmentation of the first branch needs a Grad-CAM and there is no global branch.
    #[must_use]
    pub fn forward_traced(&self, features: Tensor<4>, step: TrainingStep<'_>) -> TracedOutput {
        let ([images, ..], labels) = (features.dims(), step.labels.len());
        assert_eq!(
            labels, images,
            "a training step has one label per image, found {labels} for {images} images"
        );
        let shared = self.shared(&features);
        let global = self.global.as_ref();
        let mut previous = global.map(|global| BranchPass::new(global, features, step));
        let mut output = previous.as_ref().map(|pass| pass.output.clone());
        let branches = self.branches.list();
        let mut traces = Vec::with_capacity(branches.len());
        for (index, (head, augment)) in branches.into_iter().zip(&self.augments).enumerate() {
            let step = step.at(index);
            let context = AugmentContext {
                previous: previous.as_ref(),
                step,
            };
            let trace = augment.apply(shared.clone(), &context);
            let pass = BranchPass::new(head, trace.features().clone(), step);
            let own = pass.output.clone();
            let mut all = match output {
                Some(output) => output.concat(own),
                None => own,
            };
            all.diagnostics.extend(trace.diagnostic(index + 1));
            output = Some(all);
            previous = Some(pass);
            traces.push(trace);
        }
        let output = output.expect("a branched head has at least 1 branch");
        TracedOutput { output, traces }
    }

    /// Computes the features T' that the branches after the global one share.
    fn shared(&self, features: &Tensor<4>) -> Tensor<4> {
        let bottleneck = self.bottleneck.as_ref();
        bottleneck.map_or_else(
            || features.clone(),
            |bottleneck| bottleneck.forward(features.clone()),
        )
    }
}

impl<H: ClosedForm, G: ClosedForm> BranchedHead<Vec<H>, G> {
    /// Computes the Grad-CAM of every branch on its input in evaluation: T for the global branch, T' for the
    /// others.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    /// - result: one CAM per branch, `[batch, height, width]`
    ///
    /// # Panics
    /// If there is not one label per image, or a label is not below the number of classes.
    #[must_use]
    pub fn grad_cams(&self, features: Tensor<4>, target: Target<'_>) -> Vec<Tensor<3>> {
        let features = features.without_autodiff();
        let shared = self.valid().shared(&features);
        let global = self.global.iter();
        let global = global.map(|global| global.grad_cam(features.clone(), target));
        let branches = self.branches.iter();
        let branches = branches.map(|branch| branch.grad_cam(shared.clone(), target));
        global.chain(branches).collect()
    }
}

impl<B: Branches, G: Head> Head for BranchedHead<B, G> {
    fn forward(&self, features: Tensor<4>) -> ReidOutput {
        let shared = self.shared(&features);
        let global = self
            .global
            .iter()
            .map(|global| global.forward(features.clone()));
        let branches = self.branches.list().into_iter();
        let branches = branches.map(|branch| branch.evaluate(shared.clone()));
        let outputs = global.chain(branches);
        outputs
            .reduce(ReidOutput::concat)
            .expect("a branched head has at least 1 branch")
    }

    fn forward_train(&self, features: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput {
        self.forward_traced(features, step).output
    }

    fn embedding_terms(&self, features: Tensor<4>) -> Option<EmbeddingTerms> {
        let shared = self.shared(&features);
        let global = self.global.iter();
        let global = global.map(|global| global.embedding_terms(features.clone()));
        let branches = self.branches.list().into_iter();
        let branches = branches.map(|branch| branch.terms(shared.clone()));
        let terms: Option<Vec<_>> = global.chain(branches).collect();
        terms?.into_iter().reduce(EmbeddingTerms::concat)
    }

    fn fold_batch_norm(self) -> Self {
        Self {
            global: self.global.map(Head::fold_batch_norm),
            bottleneck: self.bottleneck.map(Block::fold_batch_norm),
            branches: self.branches.fold_batch_norm(),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        module::{ModuleVisitor, Param},
        tensor::Device,
    };
    use reid_core::{FeatureShape, Seed};

    use super::*;
    use crate::{
        HeadConfig,
        batch_drop::BatchDrop,
        cut_mix::{CutMix, Mixed, Patches},
        fixtures, parameters,
    };

    const INPUT: FeatureShape = FeatureShape {
        channels: 8,
        height: 6,
        width: 4,
    };
    const LABELS: [usize; 6] = [0, 0, 1, 1, 2, 2];

    fn step(seed: u64) -> TrainingStep<'static> {
        TrainingStep::new(&LABELS, Seed::new(seed))
    }

    fn progressive(cut: usize, cam_source: CamSource) -> BranchedHeadConfig {
        let branch = |dimensions| BranchConfig {
            dimensions,
            augment: AugmentConfig::CutMix {
                mix: CutMix::new().with_cut(cut),
                cam_source,
            },
        };
        let branches = vec![branch(6), branch(5)];
        BranchedHeadConfig::new()
            .with_global(7)
            .with_branches(branches)
    }

    fn augments(cut: usize, cam_source: CamSource) -> Vec<Arc<dyn FeatureAugment>> {
        let branches = progressive(cut, cam_source).branches.into_iter();
        let augments =
            branches.map(|branch| -> Arc<dyn FeatureAugment> { Arc::new(branch.augment) });
        augments.collect()
    }

    /// A head and features on an autodiff device.
    fn training(config: &BranchedHeadConfig) -> (BranchedHead, Tensor<4>) {
        let device = Device::default().autodiff();
        let head = fixtures::weights(config.init(INPUT, 3, &fixtures::init(&device)));
        (head, fixtures::tensor([6, 8, 6, 4], -1.3..1.9, &device))
    }

    fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().expect("f32")
    }

    fn mixes(traces: &[AugmentTrace]) -> impl Iterator<Item = (&Tensor<3>, &Mixed)> {
        traces.iter().map(|trace| match trace {
            AugmentTrace::CutMix { map, mixed } => (map, mixed),
            other => panic!("expected the trace of CutMix, found {other:?}"),
        })
    }

    #[test]
    fn both_cam_sources_give_the_same_cam_and_cut_in_training() {
        let (head, features) = training(&progressive(3, CamSource::ClosedForm));
        let closed = head.forward_traced(features.clone(), step(1)).traces;
        let head = head.with_augments(augments(3, CamSource::Autodiff));
        let general = head.forward_traced(features, step(1)).traces;
        for ((closed, mixed), (general, same)) in mixes(&closed).zip(mixes(&general)) {
            let largest = general.clone().max().into_scalar::<f32>();
            let difference = (closed.clone() - general.clone()).abs().max();
            assert!(largest > 0.0 && difference.into_scalar::<f32>() <= 1e-5 * largest);
            assert_eq!(mixed.cut.to_data(), same.cut.to_data());
        }
    }

    #[test]
    fn no_gradient_flows_through_the_mask() {
        for cam_source in [CamSource::ClosedForm, CamSource::Autodiff] {
            let (head, features) = training(&progressive(3, cam_source));
            let output = head.forward_train(features, step(1));
            let gradients = output.logits[2].clone().sum().backward();
            let reached =
                |head: &LinearBnReluHead| head.reduction.weight.grad(&gradients).is_some();
            assert!(!reached(head.global.as_ref().expect("global")) && !reached(&head.branches[0]));
            assert!(reached(&head.branches[1]));
            assert!(
                head.bottleneck
                    .expect("shared")
                    .conv1
                    .weight
                    .grad(&gradients)
                    .is_some()
            );
        }
    }

    /// Every running statistic of a head.
    fn statistics(head: &BranchedHead) -> Vec<f32> {
        struct Statistics(Vec<f32>);
        impl ModuleVisitor for Statistics {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if !param.val().is_require_grad() {
                    self.0.extend(param.val().into_data().iter::<f32>());
                }
            }
        }
        let mut statistics = Statistics(Vec::new());
        head.visit(&mut statistics);
        // A mean and a variance of each of the bottleneck's three norms and each branch's one.
        assert_eq!(statistics.0.len(), 2 * (2 + 2 + 8 + 7 + 6 + 5));
        statistics.0
    }

    #[test]
    fn running_statistics_are_updated_once() {
        for cam_source in [CamSource::ClosedForm, CamSource::Autodiff] {
            let (head, features) = training(&progressive(3, cam_source));
            let (before, separate) = (head.clone(), head.clone());
            let TracedOutput { traces, .. } = head.forward_traced(features.clone(), step(1));
            let _ = separate
                .global
                .as_ref()
                .expect("global")
                .forward(features.clone());
            let _ = separate
                .bottleneck
                .as_ref()
                .expect("shared")
                .forward(features);
            for (branch, trace) in separate.branches.iter().zip(&traces) {
                let _ = branch.forward(trace.features().clone());
            }
            assert_eq!(statistics(&head), statistics(&separate));
            assert_ne!(statistics(&head), statistics(&before));
        }
    }

    #[test]
    fn partners_have_other_labels_and_are_drawn_per_branch() {
        let (head, features) = training(&progressive(3, CamSource::ClosedForm));
        let mut differ = false;
        for seed in 0..10 {
            let TracedOutput { traces, .. } = head.forward_traced(features.clone(), step(seed));
            let partners: Vec<_> = mixes(&traces).map(|(_, mixed)| &mixed.partners).collect();
            for partners in &partners {
                for (image, &partner) in partners.iter().enumerate() {
                    assert_ne!(LABELS[image], LABELS[partner]);
                }
            }
            differ |= partners[0] != partners[1];
        }
        assert!(differ);
    }

    /// Outside its own cut, each branch sees the features of T', whatever an earlier branch replaced.
    #[test]
    fn each_mask_is_applied_to_the_shared_features() {
        let (head, features) = training(&progressive(3, CamSource::ClosedForm));
        let shared = head
            .bottleneck
            .as_ref()
            .expect("shared")
            .forward(features.clone());
        let TracedOutput { traces, .. } = head.forward_traced(features, step(1));
        for (_, mixed) in mixes(&traces) {
            let changed = (mixed.features.clone() - shared.clone()).abs().sum_dim(1);
            let outside = changed
                .squeeze_dim::<3>(1)
                .inner()
                .mask_fill(mixed.cut.clone(), 0.0);
            assert!(outside.max().into_scalar::<f32>() <= 0.0);
            let patches = Patches {
                height: 3,
                width: 2,
            };
            let cut = patches.scores(mixed.cut.clone().float()).greater_elem(0.0);
            assert_eq!(read(cut.float().sum_dim(1)), [3.0; 6]);
        }
    }

    #[test]
    fn evaluation_ignores_augmentations() {
        let (head, features) = training(&progressive(3, CamSource::ClosedForm));
        let _ = head.forward_train(features.clone(), step(1)); // updates the running statistics
        let drop: Arc<dyn FeatureAugment> = Arc::new(AugmentConfig::Drop(BatchDrop::new()));
        let drops = vec![drop; 2];
        let drops = head.clone().with_augments(drops);
        let none = head
            .clone()
            .with_augments(augments(0, CamSource::ClosedForm));
        let embed = |head: &BranchedHead| head.valid().forward(features.clone().inner()).embedding;
        let expected = embed(&head).into_data();
        assert_eq!(embed(&drops).into_data(), expected);
        // If no patch is cut, a training step on a plain device computes the output of evaluation.
        let trained = none
            .valid()
            .forward_train(features.clone().inner(), step(2));
        assert_eq!(trained.embedding.into_data(), expected);
        assert_ne!(
            head.valid()
                .forward_train(features.inner(), step(2))
                .embedding
                .into_data(),
            expected
        );
    }

    #[test]
    fn each_branch_drops_its_own_rectangle() {
        let branch = || BranchConfig::drop(4, BatchDrop::new().with_height(0.5).with_width(0.5));
        let config = BranchedHeadConfig::new().with_branches(vec![branch(), branch()]);
        let (head, features) = training(&config);
        let differ = (0..10).any(|seed| {
            let TracedOutput { traces, .. } = head.forward_traced(features.clone(), step(seed));
            let features = traces.iter().map(|trace| trace.features().to_data());
            let features: Vec<_> = features.collect();
            features[0] != features[1]
        });
        assert!(differ);
    }

    /// The parameters for 2048 channels: a bottleneck of 512 planes, linear layers with batch normalisation,
    /// and classifiers with bias.
    #[test]
    fn the_number_of_parameters_is_the_sum_of_those_of_the_layers() {
        let device = Device::default();
        let input = FeatureShape::new(2048, 24, 8);
        let count = |config: BranchedHeadConfig| {
            parameters::count(&config.init(input, 751, &fixtures::init(&device)))
        };
        let bottleneck = 4_462_592;
        let global = 1_049_088 + 1_024 + 513 * 751;
        let first = 2_098_176 + 2_048 + 1_025 * 751;
        let second = 1_049_088 + 1_024 + 513 * 751;
        assert_eq!(count(BranchedHeadConfig::new()), global);
        let two = global + bottleneck + first;
        assert_eq!(count(BranchedHeadConfig::batch_drop_block(1)), two);
        assert_eq!(count(BranchedHeadConfig::batch_drop_block(2)), two + second);
        assert_eq!(
            count(BranchedHeadConfig::progressive_cut_mix(2)),
            two + second
        );
    }

    #[test]
    #[should_panic(expected = "patches: expected a size that divides a map of 16x8, found 3x2")]
    fn patches_that_do_not_tile_the_feature_map_are_refused() {
        let config = BranchedHeadConfig::progressive_cut_mix(2);
        let _ = config.init(
            FeatureShape::new(8, 16, 8),
            3,
            &fixtures::init(&Device::default()),
        );
    }

    #[test]
    fn a_branch_without_augmentation_computes_as_in_evaluation() {
        let branch = BranchConfig {
            dimensions: 4,
            augment: AugmentConfig::None,
        };
        let config = BranchedHeadConfig::new().with_branches(vec![branch]);
        let (head, features) = training(&config);
        let (head, features) = (head.valid(), features.inner());
        let trained = head.forward_train(features.clone(), step(1)).embedding;
        assert_eq!(
            trained.into_data(),
            head.forward(features).embedding.into_data()
        );
    }

    #[test]
    #[should_panic(expected = "2 branches have one augmentation each, found 1")]
    fn a_missing_augmentation_is_refused() {
        let (head, _) = training(&progressive(3, CamSource::ClosedForm));
        let _ = head.with_augments(vec![Arc::new(AugmentConfig::None)]);
    }

    #[test]
    #[should_panic(expected = "one label per image, found 2 for 6 images")]
    fn missing_labels_are_refused() {
        let (head, features) = training(&progressive(3, CamSource::ClosedForm));
        let step = TrainingStep::new(&[0, 1], Seed::new(1));
        let _ = head.forward_train(features, step);
    }

    #[test]
    #[should_panic(expected = "label 7 of image 1 is not among the 3 classes")]
    fn labels_beyond_the_classes_are_refused() {
        let (head, features) = training(&progressive(3, CamSource::ClosedForm));
        let step = TrainingStep::new(&[0, 7, 1, 1, 2, 2], Seed::new(1));
        let _ = head.forward_train(features, step);
    }
}
