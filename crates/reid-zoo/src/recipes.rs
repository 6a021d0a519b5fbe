//! Recipes of publications. Each can be used with any network, not only with the published one.
//!
//! ```
//! use reid_core::InputSize;
//! use reid_zoo::{RgaConfig, recipes};
//!
//! let recipe = recipes::rga_paper("rga", InputSize::PERSON, RgaConfig::rga_resnet50());
//! assert_eq!(recipe.schedule.base, 8e-4);
//! ```

use reid_core::InputSize;
use reid_data::{
    sampler::EpochDefinition,
    transform::{Augmentation, Cutout, Normalise, PadCrop, RandomTranslation2d},
};
use reid_eval::{AveragePrecision, Denominator, Metric};
use reid_nn::{
    loss::{ClusterContrastConfig, Margin, MultiSimilarityConfig, WeightedConfig},
    segmentation::PixelLoss,
};
use reid_train::{
    Decay, OptimizerConfig, ParameterGroup, Recipe, Schedule, SegmentationRecipe, WarmUp,
};

/// The recipe in the text of relation-aware global attention (Zhang et al., CVPR 2020, arXiv:1904.02998, §4.1): Adam
/// with a learning rate of 8e-4. What the text does not say is as in [`Recipe::strong_baseline`].
#[must_use]
pub fn rga_paper<N>(name: impl Into<String>, input: InputSize, network: N) -> Recipe<N> {
    let mut recipe = Recipe::strong_baseline(name, input, network);
    recipe.schedule.base = 8e-4;
    recipe
}

/// The recipe in the authors' code of relation-aware global attention.
///
/// - 600 epochs, each of which visits each identity once.
/// - Adam with a learning rate of 8e-4 after 20 epochs of warm-up, halved at epoch 80 and every 40 epochs until 360.
/// - Random 2-D translation instead of padding and cropping.
///
/// The rest is as in [`Recipe::strong_baseline`].
#[must_use]
pub fn rga_code<N>(name: impl Into<String>, input: InputSize, network: N) -> Recipe<N> {
    let mut recipe = Recipe::strong_baseline(name, input, network);
    recipe.augmentation.pad_crop = None;
    recipe.augmentation.translation = Some(RandomTranslation2d { probability: 0.5 });
    recipe.sampling.epoch = EpochDefinition::EachIdentityOnce;
    recipe.schedule = Schedule {
        base: 8e-4,
        first_epoch: 0,
        warm_up: Some(WarmUp::Linear {
            epochs: 20,
            from: 0.01,
        }),
        decay: Decay::Halving {
            first: 80,
            every: 40,
            last: 360,
        },
    };
    (recipe.epochs, recipe.evaluate_every) = (600, 40);
    recipe
}

/// The recipe in the authors' code of Batch `DropBlock` (Dai et al., ICCV 2019, arXiv:1811.07130).
///
/// - Images of 384 x 128, augmented by flip and cutout.
/// - 400 epochs, each of which visits each identity once, in batches of 32 identities x 4 images.
/// - Adam with a learning rate of 1e-3 after 50 epochs of staircase warm-up, times 0.1 at epochs 200 and 300.
/// - A triplet loss with a soft margin, and cross-entropy with label smoothing 0.1.
/// - Euclidean distances, and average precision over the first 50 ranks.
#[must_use]
pub fn batch_drop_block<N>(name: impl Into<String>, network: N) -> Recipe<N> {
    let mut recipe = Recipe::strong_baseline(name, InputSize::new(384, 128), network);
    recipe.augmentation = Augmentation::none()
        .with_flip(recipe.augmentation.flip)
        .with_cutout(Cutout::default());
    recipe.sampling.epoch = EpochDefinition::EachIdentityOnce;
    recipe.sampling.identities = 32;
    if let Some(triplet) = &mut recipe.losses.triplet {
        triplet.criterion.margin = Margin::Soft;
    }
    recipe.schedule = Schedule {
        base: 1e-3,
        first_epoch: 1,
        warm_up: Some(WarmUp::Staircase {
            epochs: 50,
            every: 5,
        }),
        decay: Decay::MultiStep {
            milestones: vec![200, 300],
            factor: 0.1,
        },
    };
    recipe.evaluation.metric = Metric::Euclidean;
    recipe.evaluation.average_precision = AveragePrecision::TruncatedAt {
        k: 50,
        denominator: Denominator::AllRelevant,
    };
    (recipe.epochs, recipe.evaluate_every) = (400, 40);
    recipe
}

/// The recipe in the text of progressive feature `CutMix` (Zhang et al., §4.2).
///
/// - Images of 384 x 128, augmented by flip and cutout.
/// - 500 epochs, in batches of 16 identities x 4 images.
/// - Adam with a learning rate of 1e-3 after 50 epochs of linear warm-up, times 0.1 at epochs 200 and 300.
/// - A triplet loss with a soft margin, and cross-entropy without label smoothing.
/// - Euclidean distances.
///
/// What the text does not say is as in [`progressive_code`].
#[must_use]
pub fn progressive_paper<N>(name: impl Into<String>, network: N) -> Recipe<N> {
    let mut recipe = progressive_code(name, network);
    recipe.schedule.warm_up = Some(WarmUp::Linear {
        epochs: 50,
        from: 0.0,
    });
    if let Some(identity) = &mut recipe.losses.identity {
        identity.criterion.smoothing = 0.0;
    }
    recipe.epochs = 500;
    recipe
}

/// The recipe in the authors' code of progressive feature `CutMix`: [`batch_drop_block`] with batches of
/// 16 identities x 4 images.
#[must_use]
pub fn progressive_code<N>(name: impl Into<String>, network: N) -> Recipe<N> {
    let mut recipe = batch_drop_block(name, network);
    recipe.sampling.identities = 16;
    recipe
}

/// The recipe in the authors' code of cluster contrast (Dai et al., ACCV 2022, arXiv:2103.11568), for
/// [`UnlabelledTrainer`](reid_train::UnlabelledTrainer).
///
/// - 50 rounds, in batches of 16 clusters x 16 images. A round draws groups of images of each cluster until fewer than
///   16 clusters have one left, whereas the authors' code makes a fixed number of 200 or 400 steps.
/// - Adam with a learning rate of 3.5e-4, times 0.1 every 20 rounds.
/// - The cluster contrast loss alone, with momentum 0.1 and temperature 0.05.
///
/// The augmentation is that of [`Recipe::strong_baseline`].
#[must_use]
pub fn cluster_contrast<N>(
    name: impl Into<String>,
    input: InputSize,
    network: N,
) -> Recipe<N, ClusterContrastConfig> {
    let recipe = Recipe::strong_baseline(name, input, network);
    let mut recipe = recipe.with_losses(ClusterContrastConfig::new());
    (recipe.sampling.identities, recipe.sampling.images) = (16, 16);
    recipe.schedule = Schedule {
        base: 3.5e-4,
        first_epoch: 0,
        warm_up: None,
        decay: Decay::MultiStep {
            milestones: vec![20, 40],
            factor: 0.1,
        },
    };
    recipe.epochs = 50;
    recipe
}

/// The recipe in the text of further non-local and channel attention for vehicles (Liu et al., AI City 2020, §3.4 and
/// 4.2).
///
/// - Images of 288 x 384. The text says "288 \* 384", which is read as height and width.
/// - Ranger with 10 epochs of warm-up from 3.5e-5 to 3.5e-4, times 0.1 at epochs 40 and 70.
/// - An identity loss of weight 2 with label smoothing 0.1, and random erasing with probability 0.5.
///
/// What the text does not say is as in [`Recipe::strong_baseline`], on whose code the authors build: 120 epochs,
/// batches of 16 identities x 4 images, weight decay 5e-4 and a margin of 0.3. Ranger decouples the weight decay from
/// the gradient, so that its effect is very small.
///
/// Equation 6 writes the triplet loss as a sum over anchors. A sum would outweigh the identity loss some sixty-fold.
/// The loss is therefore the mean over anchors, as in the code of the strong baseline.
///
/// The paper re-ranks with k1 = 75, k2 = 10 and λ = 0.1. Re-ranking is not part of a recipe; `reid_eval::Reranked`
/// computes it.
#[must_use]
pub fn fnc_paper<N>(name: impl Into<String>, network: N) -> Recipe<N> {
    let mut recipe = Recipe::strong_baseline(name, InputSize::new(288, 384), network);
    recipe.optimizer = OptimizerConfig::ranger();
    if let Some(identity) = &mut recipe.losses.identity {
        identity.weight = 2.0;
    }
    // The learning rate of the first epoch is 3.5e-5.
    recipe.schedule.first_epoch = 0;
    recipe.schedule.warm_up = Some(WarmUp::Linear {
        epochs: 10,
        from: 0.1,
    });
    recipe
}

/// The recipe of torchreid for `OSNet` x1.0 (Zhou et al., ICCV 2019, arXiv:1905.00953), for a backbone with
/// weights of `ImageNet`.
///
/// - 150 epochs in batches of 64 images. Only the classifier is trained in the first 10 epochs.
/// - A learning rate of 1.5e-3, times 0.1 at epochs 60 and 120.
/// - Flip, and no other augmentation.
/// - Cross-entropy with label smoothing 0.1, and no triplet loss.
/// - Euclidean distances.
///
/// Two settings differ from torchreid's: the optimizer is Adam instead of `AMSGrad`, and a batch has one image of
/// each of 64 identities instead of 64 random images.
#[must_use]
pub fn osnet<N>(name: impl Into<String>, network: N) -> Recipe<N> {
    let mut recipe = Recipe::strong_baseline(name, InputSize::PERSON, network);
    recipe.augmentation = Augmentation::none().with_flip(recipe.augmentation.flip);
    (recipe.sampling.identities, recipe.sampling.images) = (64, 1);
    recipe.losses.triplet = None;
    recipe.schedule = Schedule {
        base: 1.5e-3,
        first_epoch: 0,
        warm_up: None,
        decay: Decay::MultiStep {
            milestones: vec![60, 120],
            factor: 0.1,
        },
    };
    let base = ParameterGroup::new(["backbone", "head.reduction", "head.norm"]);
    recipe.groups.push(base.with_frozen_epochs(10));
    recipe.evaluation.metric = Metric::Euclidean;
    recipe.epochs = 150;
    recipe
}

/// The recipe in the authors' code of `LightMBN` (Herzog et al., ICIP 2021, arXiv:2101.10774), for an `OSNet` with
/// weights of `ImageNet`.
///
/// - Images of 384 x 128, augmented by flip, random 2-D translation and erasing.
/// - 130 epochs of all images, in batches of 6 identities x 8 images.
/// - Adam with a learning rate of 6e-4 after 10 epochs of warm-up, then half a cosine to a thousandth of it.
/// - Multi-similarity loss with a margin of 0.7, and cross-entropy with label smoothing 0.1, both of weight 0.5.
/// - Cosine distances of the mean embeddings of each image and its mirror image.
///
/// Two settings differ from the authors'. They fill erased rectangles with the values of the mean colour after the
/// normalisation, and here the rectangles have the mean colour. They add the embeddings of an image and its mirror
/// image before the parts are scaled to length 1, and here they are added afterwards.
#[must_use]
pub fn light_mbn<N>(name: impl Into<String>, network: N) -> Recipe<N> {
    let mut recipe = Recipe::strong_baseline(name, InputSize::new(384, 128), network);
    recipe.augmentation.pad_crop = None;
    recipe.augmentation.translation = Some(RandomTranslation2d { probability: 0.5 });
    (recipe.sampling.identities, recipe.sampling.images) = (6, 8);
    if let Some(identity) = &mut recipe.losses.identity {
        identity.weight = 0.5;
    }
    recipe.losses.triplet = None;
    recipe.losses.multi_similarity = Some(WeightedConfig {
        weight: 0.5,
        criterion: MultiSimilarityConfig::new()
            .with_margin(0.7)
            .with_negative_scale(40.0),
    });
    recipe.schedule = Schedule {
        base: 6e-4,
        first_epoch: 0,
        warm_up: Some(WarmUp::Staircase {
            epochs: 10,
            every: 1,
        }),
        decay: Decay::Cosine { floor: 1e-3 },
    };
    (recipe.epochs, recipe.flip_test) = (130, true);
    recipe
}

/// The recipe of a common implementation of `ResNet` for CIFAR (He et al., CVPR 2016, arXiv:1512.03385,
/// section 4.2).
///
/// - Images of 32 x 32, augmented by flip, and by padding of 4 pixels and cropping.
/// - 200 epochs of shuffled images in batches of 128.
/// - SGD with momentum 0.9 and weight decay 1e-4; a learning rate of 0.1, times 0.1 at epochs 100 and 150.
/// - Cross-entropy without label smoothing.
/// - The mean and standard deviation of `ImageNet`.
///
/// The paper has 64,000 iterations, about 164 epochs, and divides the rate after 32,000 and 48,000. For
/// ResNet-110 use [`cifar_resnet110`].
#[must_use]
pub fn cifar_resnet<N>(name: impl Into<String>, network: N) -> Recipe<N> {
    let mut recipe = Recipe::strong_baseline(name, InputSize::new(32, 32), network);
    recipe.augmentation = Augmentation::none()
        .with_flip(recipe.augmentation.flip)
        .with_pad_crop(PadCrop { padding: 4 });
    recipe.sampling.shuffled = Some(128);
    recipe.losses.triplet = None;
    if let Some(identity) = &mut recipe.losses.identity {
        identity.criterion.smoothing = 0.0;
    }
    recipe.optimizer = OptimizerConfig::Sgd {
        momentum: 0.9,
        nesterov: false,
        weight_decay: 1e-4,
    };
    recipe.schedule = Schedule {
        base: 0.1,
        first_epoch: 0,
        warm_up: None,
        decay: Decay::MultiStep {
            milestones: vec![100, 150],
            factor: 0.1,
        },
    };
    recipe.epochs = 200;
    recipe
}

/// [`cifar_resnet`] with a learning rate of 0.01 in the first epoch, as for ResNet-110. The paper uses it until
/// the training error is below 80 %, about 400 iterations. The script of the common implementation sets it too,
/// and with recent versions of `PyTorch` never restores 0.1.
#[must_use]
pub fn cifar_resnet110<N>(name: impl Into<String>, network: N) -> Recipe<N> {
    let mut recipe = cifar_resnet(name, network);
    recipe.schedule.warm_up = Some(WarmUp::Linear {
        epochs: 1,
        from: 0.1,
    });
    recipe
}

/// The recipe of `DenseNet` for CIFAR with augmentation (Huang et al., CVPR 2017, arXiv:1608.06993, section
/// 4.2).
///
/// - Images of 32 x 32, augmented by flip, and by padding of 4 pixels and cropping.
/// - 300 epochs of shuffled images in batches of 64.
/// - SGD with Nesterov momentum 0.9 and weight decay 1e-4; a learning rate of 0.1, times 0.1 at epochs 150
///   and 225.
/// - Cross-entropy without label smoothing.
/// - The mean and standard deviation of CIFAR-10.
///
/// Without augmentation the paper uses a dropout of 0.2 (`DenseNetConfig::with_dropout`).
#[must_use]
pub fn cifar_densenet<N>(name: impl Into<String>, network: N) -> Recipe<N> {
    let mut recipe = cifar_resnet(name, network);
    recipe.augmentation.normalise = Normalise::CIFAR;
    recipe.sampling.shuffled = Some(64);
    recipe.optimizer = OptimizerConfig::Sgd {
        momentum: 0.9,
        nesterov: true,
        weight_decay: 1e-4,
    };
    recipe.schedule.decay = Decay::MultiStep {
        milestones: vec![150, 225],
        factor: 0.1,
    };
    recipe.epochs = 300;
    recipe
}

/// A small recipe of semantic segmentation, for synthetic streets (`reid_synthetic::StreetsConfig`).
///
/// - 400 training steps of 8 crops of 97 x 97 pixels. An epoch is 50 of them.
/// - A learning rate of 0.05, and equal weights of the four classes.
///
/// The rest is as in [`SegmentationRecipe::ocnet`].
#[must_use]
pub fn streets<N>(name: impl Into<String>, network: N) -> SegmentationRecipe<N> {
    let mut recipe = SegmentationRecipe::ocnet(name, network);
    (recipe.classes, recipe.losses) = (4, PixelLoss::new());
    recipe.crop.size = InputSize::new(97, 97);
    recipe.sampling.batches = 50;
    recipe.schedule.base = 0.05;
    (recipe.epochs, recipe.evaluate_every) = (8, 2);
    recipe
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;

    fn assert_rates(schedule: &Schedule, epochs: usize, expected: &[(usize, f64)]) {
        for &(number, rate) in expected {
            let found = schedule.rate(number - schedule.first_epoch, epochs);
            assert!(
                (found / rate - 1.0).abs() < 1e-9,
                "epoch {number}: expected {rate}, found {found}"
            );
        }
    }

    #[test]
    fn batch_drop_block() {
        let recipe = super::batch_drop_block("bdb", ());
        let expected = [
            (1, 1e-4),
            (4, 1e-4),
            (5, 2e-4),
            (9, 2e-4),
            (25, 6e-4),
            (45, 1e-3),
            (199, 1e-3),
            (200, 1e-4),
            (299, 1e-4),
            (300, 1e-5),
            (400, 1e-5),
        ];
        assert_rates(&recipe.schedule, recipe.epochs, &expected);
    }

    #[test]
    fn progressive_feature_cut_mix() {
        let recipe = progressive_paper("progressive", ());
        let expected = [(1, 2e-5), (25, 5e-4), (50, 1e-3), (200, 1e-4), (500, 1e-5)];
        assert_rates(&recipe.schedule, recipe.epochs, &expected);
    }

    #[test]
    fn omni_scale_network() {
        let recipe = osnet("osnet", ());
        let expected = [
            (0, 1.5e-3),
            (59, 1.5e-3),
            (60, 1.5e-4),
            (119, 1.5e-4),
            (120, 1.5e-5),
            (149, 1.5e-5),
        ];
        assert_rates(&recipe.schedule, recipe.epochs, &expected);
        assert_eq!(recipe.sampling.batch_size(), 64);
        assert_eq!(recipe.groups[0].frozen_epochs, 10);
    }

    #[test]
    fn lightweight_multi_branch_network() {
        let recipe = light_mbn("light-mbn", ());
        // The cosine reaches its middle after half of the 119 epochs from epoch 10 to epoch 129.
        let middle = 6e-4 * (1e-3 + (1.0 - 1e-3) * f64::midpoint(1.0, (60.0 / 119.0 * PI).cos()));
        let expected = [
            (0, 6e-5),
            (1, 1.2e-4),
            (9, 6e-4),
            (10, 6e-4),
            (70, middle),
            (129, 6e-7),
        ];
        assert_rates(&recipe.schedule, recipe.epochs, &expected);
        assert_eq!(recipe.sampling.batch_size(), 48);
        let loss = recipe.losses.multi_similarity.expect("a metric loss");
        assert_eq!((loss.weight, loss.criterion.margin), (0.5, 0.7));
        assert!(recipe.losses.triplet.is_none() && recipe.flip_test);
    }

    #[test]
    fn cluster_contrast_for_people() {
        let recipe = cluster_contrast("clusters", InputSize::PERSON, ());
        let expected = [
            (0, 3.5e-4),
            (19, 3.5e-4),
            (20, 3.5e-5),
            (40, 3.5e-6),
            (49, 3.5e-6),
        ];
        assert_rates(&recipe.schedule, recipe.epochs, &expected);
        assert_eq!(recipe.sampling.batch_size(), 256);
        assert_eq!(
            (recipe.losses.momentum, recipe.losses.temperature),
            (0.1, 0.05)
        );
    }

    #[test]
    fn classification_of_small_images() {
        let recipe = cifar_resnet("resnet", ());
        let expected = [
            (0, 0.1),
            (99, 0.1),
            (100, 0.01),
            (149, 0.01),
            (150, 1e-3),
            (199, 1e-3),
        ];
        assert_rates(&recipe.schedule, recipe.epochs, &expected);
        assert_eq!((recipe.sampling.batch_size(), recipe.epochs), (128, 200));
        assert!(recipe.losses.triplet.is_none());
        let recipe = cifar_resnet110("resnet", ());
        assert_rates(
            &recipe.schedule,
            recipe.epochs,
            &[(0, 0.01), (1, 0.1), (100, 0.01)],
        );
        let recipe = cifar_densenet("densenet", ());
        let expected = [(0, 0.1), (149, 0.1), (150, 0.01), (225, 1e-3), (299, 1e-3)];
        assert_rates(&recipe.schedule, recipe.epochs, &expected);
        assert_eq!((recipe.sampling.batch_size(), recipe.epochs), (64, 300));
    }

    #[test]
    fn semantic_segmentation() {
        let paper = SegmentationRecipe::ocnet("ocnet", ());
        let steps = |recipe: &SegmentationRecipe<()>| recipe.epochs * recipe.sampling.batches;
        assert_eq!((steps(&paper), paper.sampling.images), (40_000, 8));
        assert_eq!(paper.optimizer, OptimizerConfig::sgd());
        let rate = paper.schedule.rate(20, 40);
        assert!((rate - 0.01 * 0.5_f64.powf(0.9)).abs() < 1e-15, "{rate}");
        let small = streets("streets", ());
        assert_eq!((steps(&small), small.sampling.images), (400, 8));
        assert_eq!(small.losses, PixelLoss::new());
    }

    #[test]
    fn relation_aware_global_attention() {
        let recipe = rga_code("rga", InputSize::PERSON, ());
        let expected = [
            (0, 8e-6),
            (1, 4.76e-5),
            (10, 4.04e-4),
            (19, 7.604e-4),
            (20, 8e-4),
            (79, 8e-4),
            (80, 4e-4),
            (120, 2e-4),
            (359, 6.25e-6),
            (360, 3.125e-6),
            (599, 3.125e-6),
        ];
        assert_rates(&recipe.schedule, recipe.epochs, &expected);
    }
}
