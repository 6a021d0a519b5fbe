//! Recipes: all settings of a run as plain data.

use std::path::Path;

use reid_core::{InputSize, Seed, strict};
use reid_data::{sampler::EpochDefinition, transform::Augmentation};
use reid_eval::EvaluationConfig;
use reid_nn::{CriterionConfig, Network, Precision, loss::CenterLossConfig};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    averaging::Swa,
    error::Error,
    groups::ParameterGroup,
    json,
    losses::LossesConfig,
    optimizer::OptimizerConfig,
    schedule::{Decay, Schedule, WarmUp},
};

mod legacy;
mod sampling;
mod segmentation;
mod validation;

pub(crate) use legacy::renamed;
pub use sampling::Sampling;
pub use segmentation::SegmentationRecipe;
pub(crate) use validation::{images, openable, refused};

/// All settings of a run: network, augmentation, sampling, losses, optimizer, schedule, evaluation and seed.
///
/// A recipe is plain data. It is read from and written to JSON, and saved in every checkpoint. `N` is the
/// configuration of the network (a [`Network`]), such as `reid_zoo::BagOfTricksConfig`. `L` is the
/// configuration of the losses, by default identity, triplet and center loss.
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
    /// The name of the run in reports.
    pub name: String,
    /// The seed of all random streams of the run.
    pub seed: Seed,
    /// The height and width to which images are resized.
    pub input: InputSize,
    /// The configuration of the network.
    #[serde(deserialize_with = "strict")]
    pub network: N,
    /// The precision in which the network computes; single precision by default. Weights, losses and
    /// checkpoints stay in single precision.
    ///
    /// In IEEE half precision the losses are scaled for the backward pass. The scale is 2^16 at first, at
    /// most 2^24, and saved in checkpoints. A step whose gradients overflow is skipped and halves the
    /// scale; 2000 steps without an overflow double it.
    #[serde(default)]
    pub precision: Precision,
    /// The augmentation of training images.
    pub augmentation: Augmentation,
    /// The sampling of batches.
    pub sampling: Sampling,
    /// The configuration of the losses, whose sum is minimised.
    #[serde(deserialize_with = "strict")]
    pub losses: L,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// The learning rate of each epoch.
    pub schedule: Schedule,
    /// The largest joint norm of the gradients of all model parameters, above 0. Larger gradients are
    /// clipped to it; `None` does not clip. The gradients of the criterion are neither counted nor clipped.
    pub clip_norm: Option<f64>,
    /// Parameter groups with their own learning rate, optimizer or frozen epochs; none by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ParameterGroup>,
    /// The factor by which the learning rate decays from each stage to the one before it, above 0 and up to 1; absent
    /// by default.
    ///
    /// ```text
    /// rate of stage i = rate · layer_decay^(last - i)        i = 0 … last
    /// ```
    ///
    /// Stage 0 is the stem, then come the stages of the backbone, and the last stage is the head
    /// ([`StagePaths`](reid_nn::StagePaths)). The rate of the criterion does not decay. The rate is that of the
    /// schedule times the factor of the group of a parameter; fixed rates of groups do not decay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_decay: Option<f64>,
    /// The number of batches whose gradients are averaged in one step, 1 to 65,536, by default 1. Triplets are mined
    /// within a batch, so two accumulated batches of 32 images differ from one batch of 64.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulated_batches: usize,
    /// The decay of an exponential average of weights and running statistics over the steps, in `[0, 1)`:
    /// `average ← average + (1 - decay)·(weights - average)`. If it is set, the averaged model is evaluated and
    /// is the model that is loaded from checkpoints. `None`, the default, averages no weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_decay: Option<f64>,
    /// Stochastic weight averaging: the mean of the weights at several points of the run; absent by default. If it is
    /// set, `average_decay` must be absent, and the mean is evaluated and loaded from checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swa: Option<Swa>,
    /// The number of training batches from which the running statistics of batch normalisation are computed anew
    /// for averaged weights, 1 to 1,000,000,000; an epoch with fewer batches is used whole. It happens before each
    /// evaluation and at the end of the run, with batches of the epoch in which the average changed last.
    ///
    /// It costs a forward pass of each batch in training mode, with the Grad-CAM of heads that mix or drop by it, and
    /// without losses and teacher. A custom [`Learner`](crate::Learner) without its own
    /// [`forward_train`](crate::Learner::forward_train) computes whole training steps.
    ///
    /// `None`, the default, uses a whole epoch with `swa`. With `average_decay` the statistics are averaged
    /// instead, as in timm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_batches: Option<usize>,
    /// The number of epochs, 1 to 1,000,000.
    pub epochs: usize,
    /// The number of epochs between evaluations; 0 evaluates only after the last epoch.
    pub evaluate_every: usize,
    /// Whether evaluation uses the mean of the embeddings of an image and of its mirror image; `false` by
    /// default.
    #[serde(default)]
    pub flip_test: bool,
    /// The configuration of the evaluation.
    pub evaluation: EvaluationConfig,
}

impl<N> Recipe<N> {
    /// The recipe of the strong baseline (Luo et al., Bag of Tricks, 2019, arXiv:1903.07071), as in the
    /// authors' code, without center loss.
    ///
    /// It has 120 epochs of all images, in batches of 16 x 4. The optimizer is Adam at 3.5e-4, with 10
    /// epochs of warm-up and a tenth of the rate from epochs 40 and 70.
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
                balanced_cameras: false,
                balanced_sources: false,
                shuffled: None,
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
            layer_decay: None,
            accumulated_batches: 1,
            average_decay: None,
            swa: None,
            renewal_batches: None,
            epochs: 120,
            evaluate_every: 10,
            flip_test: false,
            evaluation: EvaluationConfig::default(),
        }
    }

    /// Adds center loss (Wen et al., ECCV 2016). Its centres are trained by plain SGD at a fixed rate. The
    /// strong baseline has the weight 5e-4 and the rate 0.5.
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
    /// Replaces the network.
    #[must_use]
    pub fn with_network<M>(self, network: M) -> Recipe<M, L> {
        self.with_both(|_, losses| (network, losses))
    }

    /// Replaces the losses, which may be of a custom type.
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
            layer_decay: self.layer_decay,
            accumulated_batches: self.accumulated_batches,
            average_decay: self.average_decay,
            swa: self.swa,
            renewal_batches: self.renewal_batches,
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
    /// Reads a recipe from a JSON file and checks its settings ([`check`](Self::check)).
    ///
    /// # Errors
    /// - [`Error::Io`] if the file cannot be read
    /// - [`Error::JsonField`] if it cannot be parsed, with line, column and field
    /// - [`Error::Recipe`] lists all invalid settings
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let recipe: Self = match json::read(path) {
            Ok(recipe) => recipe,
            // A recipe of version 0.1 is converted. If that fails, the first error is the one to report.
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
        json::write(path.as_ref(), self)
    }
}

const fn one() -> usize {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
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
    fn a_byte_order_mark_before_the_recipe_is_skipped() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("recipe.json");
        toy().save(&path).expect("written");
        let text = fs::read_to_string(&path).expect("read");
        fs::write(&path, format!("\u{feff}{text}")).expect("written");
        assert_eq!(Recipe::<Toy>::load(&path).expect("read").epochs, 120);
    }

    #[test]
    fn an_invalid_recipe_is_rejected_with_all_its_problems() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("recipe.json");
        let mut recipe = toy();
        (recipe.epochs, recipe.evaluation.max_rank) = (0, 0);
        recipe.save(&path).expect("written");
        let error = Recipe::<Toy>::load(&path)
            .expect_err("invalid settings")
            .to_string();
        assert!(
            error.contains("recipe.json: 2 problems\nepochs: ")
                && error.contains("\nevaluation.max_rank: "),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_field_is_reported_with_file_and_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("recipe.json");
        fs::write(&path, "{\n  \"nome\": 1\n}").expect("written");
        let error = Recipe::<Toy>::load(&path)
            .expect_err("an unknown field")
            .to_string();
        assert!(
            error.contains("recipe.json, line 2") && error.contains("`nome`"),
            "{error}"
        );
    }
}
