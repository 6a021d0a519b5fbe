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
    transform::{Augmentation, Cutout, RandomTranslation2d},
};
use reid_eval::{AveragePrecision, Denominator, Metric};
use reid_nn::loss::Margin;
use reid_train::{Decay, OptimizerConfig, Recipe, Schedule, WarmUp};

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

#[cfg(test)]
mod tests {
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
