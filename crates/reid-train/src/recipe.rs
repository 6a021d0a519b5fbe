//! Recipe: everything that decides a run.

use std::path::Path;

use reid_core::{InputSize, Seed, strict, write_atomic};
use reid_data::{
    sampler::{EpochDefinition, IdentitySampler},
    transform::{Augmentation, Cutout, RandomTranslation2d},
};
use reid_eval::{AveragePrecision, Denominator, EvaluationConfig, Metric};
use reid_nn::{
    CriterionConfig, Network, Precision,
    loss::{CenterLossConfig, Margin},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::{Error, at},
    groups::ParameterGroup,
    json,
    losses::LossesConfig,
    optimizer::OptimizerConfig,
    schedule::{Decay, Schedule, WarmUp},
};

mod legacy;
mod validation;

pub(crate) use legacy::renamed;
pub(crate) use validation::{images, openable, refused};

/// Everything that decides a run: network, data, losses, optimizer, schedule, evaluation and seed.
///
/// It is plain data, read from and written to JSON, and saved in every checkpoint. `N` is the
/// network's configuration, such as `reid_zoo::BagOfTricksConfig`, a [`Network`].
/// `L` is the losses' configuration, by default those that publications use.
///
/// ```
/// use reid_core::InputSize;
/// use reid_train::Recipe;
///
/// let recipe = Recipe::strong_baseline("toy", InputSize::PERSON, "any network");
/// let json = serde_json::to_string_pretty(&recipe)?;
/// let read: Recipe<String> = serde_json::from_str(&json)?;
/// assert_eq!((read.epochs, read.sampling.batch_size()), (120, 64));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    bound(deserialize = "N: Deserialize<'de>, L: Deserialize<'de>")
)]
pub struct Recipe<N, L = LossesConfig> {
    /// What the run is called in reports.
    pub name: String,
    /// The only source of randomness.
    pub seed: Seed,
    /// Height and width of the images.
    pub input: InputSize,
    /// The network.
    #[serde(deserialize_with = "strict")]
    pub network: N,
    /// In which type of numbers the network computes; single precision by default. Weights, losses
    /// and all that is saved stay in single precision. In half precision losses are scaled while gradients
    /// are computed, by 2^16 at first, half as much after each step whose gradients overflowed, which is
    /// left out, and twice as much after 2000 steps that did not; checkpoints hold the scale.
    #[serde(default)]
    pub precision: Precision,
    /// How training images are varied.
    pub augmentation: Augmentation,
    /// How batches are drawn.
    pub sampling: Sampling,
    /// What is minimised.
    #[serde(deserialize_with = "strict")]
    pub losses: L,
    /// Who minimises it.
    pub optimizer: OptimizerConfig,
    /// The learning rate of each epoch.
    pub schedule: Schedule,
    /// Largest norm of the gradient of all parameters together; none by default.
    pub clip_norm: Option<f64>,
    /// Groups of parameters that learn differently.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ParameterGroup>,
    /// Batches whose gradients are averaged to one step, at least 1. A triplet is mined within one batch: a step
    /// of two batches of 32 images is not one of a batch of 64.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulated_batches: usize,
    /// With a decay, in `[0, 1)`, the exponential mean of the weights and of the running statistics over the
    /// steps is what is evaluated and saved as the model: `average ← decay·average + (1 - decay)·weights`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_decay: Option<f64>,
    /// Epochs, at least 1.
    pub epochs: usize,
    /// Epochs between evaluations; 0 evaluates only after the last.
    pub evaluate_every: usize,
    /// Whether an image is described by the mean of its descriptor and that of its mirror image in
    /// evaluation; not by default.
    #[serde(default)]
    pub flip_test: bool,
    /// How descriptors are scored.
    pub evaluation: EvaluationConfig,
}

/// How batches are drawn: P identities with K images each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Identities per batch (P), at least 1.
    pub identities: usize,
    /// Images per identity (K), at least 1.
    pub images: usize,
    /// What counts as an epoch.
    pub epoch: EpochDefinition,
}

impl Sampling {
    /// Images per batch: P·K.
    #[must_use]
    pub const fn batch_size(&self) -> usize {
        self.identities * self.images
    }

    pub(crate) fn sampler(&self) -> IdentitySampler {
        IdentitySampler::new(self.identities, self.images, self.epoch)
    }
}

impl<N> Recipe<N> {
    /// The strong baseline (Luo et al., Bag of Tricks, 2019, arXiv:1903.07071) as in the authors'
    /// code, without center loss: 120 epochs of all images in batches of 16 x 4, Adam 3.5e-4 with
    /// 10 epochs of warm-up, a tenth at 40 and 70.
    pub fn strong_baseline(name: impl Into<String>, input: InputSize, network: N) -> Self {
        Self {
            name: name.into(),
            seed: Seed::new(1),
            input,
            network,
            precision: Precision::Single,
            augmentation: Augmentation::default(),
            sampling: Sampling {
                identities: 16,
                images: 4,
                epoch: EpochDefinition::AllImages,
            },
            losses: LossesConfig::default(),
            optimizer: OptimizerConfig::adam(),
            schedule: Schedule {
                base: 3.5e-4,
                first_epoch: 1,
                warm_up: Some(WarmUp::Linear {
                    epochs: 10,
                    from: 0.01,
                }),
                decay: Decay::MultiStep {
                    milestones: vec![40, 70],
                    factor: 0.1,
                },
            },
            clip_norm: None,
            groups: Vec::new(),
            accumulated_batches: 1,
            average_decay: None,
            epochs: 120,
            evaluate_every: 10,
            flip_test: false,
            evaluation: EvaluationConfig::default(),
        }
    }

    /// Relation-aware global attention (Zhang et al., CVPR 2020, arXiv:1904.02998) as its text tells it
    /// (§4.1): the strong baseline's recipe, which fills what the text leaves open, with Adam at
    /// 8e-4.
    pub fn rga_paper(name: impl Into<String>, input: InputSize, network: N) -> Self {
        let mut recipe = Self::strong_baseline(name, input, network);
        recipe.schedule.base = 8e-4;
        recipe
    }

    /// Relation-aware global attention as its authors' code trains it: 600 epochs that visit each
    /// identity once, Adam 8e-4 with 20 epochs of warm-up, halved at 80 and every 40 epochs until
    /// 360, random 2-D translation instead of padding and cropping.
    pub fn rga_code(name: impl Into<String>, input: InputSize, network: N) -> Self {
        let mut recipe = Self::strong_baseline(name, input, network);
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

    /// Batch `DropBlock` (Dai et al., ICCV 2019, arXiv:1811.07130) as its authors' code trains it, on
    /// images of 384 x 128: 400 epochs that visit each identity once in batches of 32 x 4, Adam
    /// 1e-3 with 50 epochs of warm-up in stairs, a tenth at 200 and 300; flip and cutout; a soft
    /// margin and label smoothing 0.1; Euclidean distances, and average precision over the first
    /// 50 ranks.
    pub fn batch_drop_block(name: impl Into<String>, network: N) -> Self {
        let mut recipe = Self::strong_baseline(name, InputSize::new(384, 128), network);
        recipe.augmentation = Augmentation {
            flip: recipe.augmentation.flip,
            cutout: Some(Cutout::default()),
            ..Augmentation::none()
        };
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

    /// Progressive feature `CutMix` (Zhang et al.) as its text tells it (§4.2): 500 epochs in batches
    /// of 16 x 4, Adam 1e-3 with 50 epochs of linear warm-up, a tenth at 200 and 300; flip and cutout;
    /// a soft margin and plain cross-entropy; Euclidean distances. What the text leaves open is as
    /// in the authors' code.
    pub fn progressive_paper(name: impl Into<String>, network: N) -> Self {
        let mut recipe = Self::progressive_code(name, network);
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

    /// Progressive feature `CutMix` as its authors' code trains it: as
    /// [`batch_drop_block`](Self::batch_drop_block), in batches of 16 x 4.
    pub fn progressive_code(name: impl Into<String>, network: N) -> Self {
        let mut recipe = Self::batch_drop_block(name, network);
        recipe.sampling.identities = 16;
        recipe
    }

    /// Further non-local and channel attention for vehicles (Liu et al., AI City 2020) as its text tells
    /// it (§3.4, 4.2): the strong baseline's recipe, on images of 288 x 384, with Ranger and an
    /// identity loss of weight 2.
    ///
    /// The text gives 10 epochs of warm-up from 3.5e-5 to 3.5e-4, a tenth at 40 and 70, label smoothing
    /// 0.1 and random erasing at 0.5. What it leaves open is as in the strong baseline, which it
    /// starts from: 120 epochs, batches of 16 x 4, weight decay 5e-4 (which Ranger decouples, so that it
    /// is next to none), a margin of 0.3. "288 \* 384" is
    /// read as height and width. Equation 6 writes the triplet loss as a sum over anchors; a sum would
    /// outweigh the identity loss some sixty-fold, so it is their mean, as in the code it starts from.
    /// The paper re-ranks with k1 = 75, k2 = 10 and λ = 0.1 (`reid_eval::Reranked`), which is not part of
    /// a recipe.
    pub fn fnc_paper(name: impl Into<String>, network: N) -> Self {
        let mut recipe = Self::strong_baseline(name, InputSize::new(288, 384), network);
        recipe.optimizer = OptimizerConfig::ranger();
        if let Some(identity) = &mut recipe.losses.identity {
            identity.weight = 2.0;
        }
        // The first epoch is at 3.5e-5 itself.
        recipe.schedule.first_epoch = 0;
        recipe.schedule.warm_up = Some(WarmUp::Linear {
            epochs: 10,
            from: 0.1,
        });
        recipe
    }

    /// Adds center loss, whose centres learn by plain SGD at a rate of their own (Wen et al., ECCV 2016); 5e-4
    /// and 0.5 in the strong baseline.
    #[must_use]
    pub fn with_center_loss(mut self, weight: f64, rate: f64) -> Self {
        self.losses.center = Some(CenterLossConfig::new().with_weight(weight));
        let centers = ParameterGroup::new(["criterion.2"])
            .with_optimizer(OptimizerConfig::plain_sgd())
            .with_fixed_rate(rate);
        self.groups.push(centers);
        self
    }
}

impl<N, L> Recipe<N, L> {
    /// The same recipe for another network.
    #[must_use]
    pub fn with_network<M>(self, network: M) -> Recipe<M, L> {
        self.with_both(|_, losses| (network, losses))
    }

    /// The same with other losses, which may be of a type of one's own.
    #[must_use]
    pub fn with_losses<M>(self, losses: M) -> Recipe<N, M> {
        self.with_both(|network, _| (network, losses))
    }

    fn with_both<M, K>(self, change: impl FnOnce(N, L) -> (M, K)) -> Recipe<M, K> {
        let (network, losses) = change(self.network, self.losses);
        Recipe {
            name: self.name,
            seed: self.seed,
            input: self.input,
            network,
            precision: self.precision,
            augmentation: self.augmentation,
            sampling: self.sampling,
            losses,
            optimizer: self.optimizer,
            schedule: self.schedule,
            clip_norm: self.clip_norm,
            groups: self.groups,
            accumulated_batches: self.accumulated_batches,
            average_decay: self.average_decay,
            epochs: self.epochs,
            evaluate_every: self.evaluate_every,
            flip_test: self.flip_test,
            evaluation: self.evaluation,
        }
    }
}

impl<N, L> Recipe<N, L>
where
    N: DeserializeOwned + Network,
    L: DeserializeOwned + CriterionConfig,
{
    /// Reads a recipe from a JSON file and refuses what is impossible whatever the data.
    ///
    /// # Errors
    /// If the file cannot be read, is not a recipe (the message names line, column and path in it), or asks
    /// for something impossible: [`Error::Recipe`] lists all of it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let recipe: Self = match json::read(path) {
            Ok(recipe) => recipe,
            // What is wrong with a recipe is said of the file as it is, unless it is one of version 0.1.
            Err(error) => json::read(path)
                .and_then(|old| json::from_value(path, renamed(old)))
                .map_err(|_| error)?,
        };
        refused(Some(path), recipe.problems())?;
        Ok(recipe)
    }
}

impl<N: Serialize, L: Serialize> Recipe<N, L> {
    /// Writes the recipe as a JSON file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let json = serde_json::to_string_pretty(self).map_err(|source| Error::Json {
            path: path.to_owned(),
            source,
        })?;
        write_atomic(path, json + "\n").map_err(at(path))
    }
}

const fn one() -> usize {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
const fn is_one(batches: &usize) -> bool {
    *batches == 1
}

#[cfg(test)]
mod tests {
    use std::fs;

    use reid_nn::{backbone::ResNetConfig, head::BnNeckConfig};

    use super::*;

    type Toy = (ResNetConfig, BnNeckConfig);

    fn toy() -> Recipe<Toy> {
        let network = (ResNetConfig::resnet18(), BnNeckConfig::new());
        Recipe::strong_baseline("toy", InputSize::PERSON, network)
    }

    #[test]
    fn a_file_holds_the_whole_recipe() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("recipe.json");
        toy().save(&path).expect("written");
        let read = Recipe::<Toy>::load(&path).expect("read");
        let json = |recipe: &Recipe<Toy>| serde_json::to_value(recipe).expect("plain data");
        assert_eq!(json(&read), json(&toy()));
    }

    #[test]
    fn a_byte_order_mark_before_the_recipe_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("recipe.json");
        toy().save(&path).expect("written");
        let text = fs::read_to_string(&path).expect("read");
        fs::write(&path, format!("\u{feff}{text}")).expect("written");
        assert_eq!(Recipe::<Toy>::load(&path).expect("read").epochs, 120);
    }

    #[test]
    fn an_impossible_file_is_named_with_all_that_is_impossible() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("recipe.json");
        let mut recipe = toy();
        (recipe.epochs, recipe.evaluation.max_rank) = (0, 0);
        recipe.save(&path).expect("written");
        let error = Recipe::<Toy>::load(&path)
            .expect_err("impossible")
            .to_string();
        assert!(
            error.contains("recipe.json: 2 problems\nepochs: ")
                && error.contains("\nevaluation.max_rank: "),
            "{error}"
        );
    }

    #[test]
    fn a_bad_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("recipe.json");
        fs::write(&path, "{\n  \"nome\": 1\n}").expect("written");
        let error = Recipe::<Toy>::load(&path)
            .expect_err("no recipe")
            .to_string();
        assert!(
            error.contains("recipe.json, line 2") && error.contains("`nome`"),
            "{error}"
        );
    }
}
