//! Recipes of semantic segmentation.

use std::path::Path;

use burn::tensor::Device;
use reid_core::{InputSize, Problems, Seed, Validate, strict};
use reid_data::segmentation::{CropSampling, LabelEncoding, PixelSplits, ScaleCrop};
use reid_nn::{
    Precision,
    segmentation::{PixelLoss, PixelNetwork, SlidingWindow},
};
use serde::{Deserialize, Serialize};

use super::{refused, validation::MOST_BYTES};
use crate::{
    averaging::Swa,
    error::Error,
    groups::ParameterGroup,
    json,
    optimizer::OptimizerConfig,
    schedule::{Decay, Schedule},
    settings::Settings,
};

/// The largest number of classes; the label 255 marks pixels without a class.
const MAX_CLASSES: usize = 255;

/// Sizes on which a network is validated if the size of the crops is invalid.
const TRIALS: [InputSize; 2] = [InputSize::new(769, 769), InputSize::new(713, 513)];

/// All settings of a run of semantic segmentation, as [`Recipe`](super::Recipe) for re-identification. `N` is
/// the configuration of the network (a [`PixelNetwork`]).
///
/// ```
/// use reid_train::SegmentationRecipe;
///
/// let recipe = SegmentationRecipe::ocnet("toy", "any network");
/// let json = serde_json::to_string_pretty(&recipe)?;
/// let read: SegmentationRecipe<String> = serde_json::from_str(&json)?;
/// assert_eq!((read.classes, read.crop.size.height), (19, 769));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "N: Deserialize<'de>"))]
#[non_exhaustive]
pub struct SegmentationRecipe<N> {
    /// The name of the run in reports.
    pub name: String,
    /// The seed of all random streams of the run.
    pub seed: Seed,
    /// The number of classes, 1 to 255.
    pub classes: usize,
    /// The configuration of the network.
    #[serde(deserialize_with = "strict")]
    pub network: N,
    /// The precision in which the network computes, as in [`Recipe`](super::Recipe::precision).
    #[serde(default)]
    pub precision: Precision,
    /// The random scale, crop and mirror image of training images, and the normalisation of all images.
    pub crop: ScaleCrop,
    /// The number of crops per batch and of batches per epoch.
    pub sampling: CropSampling,
    /// The loss.
    pub losses: PixelLoss,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// The learning rate. [`Decay::Polynomial`] changes it with every training step.
    pub schedule: Schedule,
    /// The largest joint norm of the gradients of all model parameters, above 0; `None` does not clip.
    pub clip_norm: Option<f64>,
    /// Parameter groups with their own learning rate, optimizer or frozen epochs; none by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ParameterGroup>,
    /// The factor by which the learning rate decays from each layer to the one before it, as in
    /// [`Recipe`](super::Recipe::layer_decay).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_decay: Option<f64>,
    /// The number of batches whose gradients are averaged in one step, 1 to 65,536, by default 1.
    #[serde(default = "super::one", skip_serializing_if = "super::is_one")]
    pub accumulated_batches: usize,
    /// The decay of an exponential average of the weights, in `[0, 1)`, as in
    /// [`Recipe`](super::Recipe::average_decay).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_decay: Option<f64>,
    /// Stochastic weight averaging, as in [`Recipe`](super::Recipe::swa).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swa: Option<Swa>,
    /// The number of training batches from which the running statistics of averaged weights are computed anew, as
    /// in [`Recipe`](super::Recipe::renewal_batches).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_batches: Option<usize>,
    /// The number of epochs, 1 to 1,000,000.
    pub epochs: usize,
    /// The number of epochs between evaluations; 0 evaluates only after the last epoch.
    pub evaluate_every: usize,
    /// The windows in which an image is evaluated; `None`, the default, computes the whole image at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<SlidingWindow>,
}

impl<N> SegmentationRecipe<N> {
    /// The recipe of OCNet for Cityscapes (Yuan and Wang, arXiv:1809.00916), by which relation-aware
    /// attention is trained too (Zhang et al., CVPR 2020, arXiv:1904.02998, Table 6).
    ///
    /// - 40,000 training steps of 8 crops of 769 x 769 pixels. An epoch is 1,000 of them.
    /// - Images scaled by 0.5 to 2.1, and half of them mirrored.
    /// - SGD with a learning rate of 0.01, momentum 0.9 and weight decay 5e-4. The rate is multiplied by
    ///   `(1 - step/steps)^0.9`.
    /// - Cross-entropy with OCNet's class weights, and 0.4 times that of an auxiliary head.
    ///
    /// Two things differ. OCNet trains on four GPUs with synchronised batch normalisation, which is the batch
    /// normalisation of the whole batch here. It starts from weights of `ImageNet`, which the caller loads
    /// ([`Trainer::learner_mut`](crate::Trainer::learner_mut)).
    pub fn ocnet(name: impl Into<String>, network: N) -> Self {
        Self {
            name: name.into(),
            seed: Seed::new(1),
            classes: PixelLoss::CITYSCAPES_WEIGHTS.len(),
            network,
            precision: Precision::Single,
            crop: ScaleCrop::new(InputSize::new(769, 769)),
            sampling: CropSampling {
                images: 8,
                batches: 1000,
            },
            losses: PixelLoss::new().with_class_weights(PixelLoss::CITYSCAPES_WEIGHTS.to_vec()),
            optimizer: OptimizerConfig::sgd(),
            schedule: Schedule {
                decay: Decay::Polynomial { power: 0.9 },
                ..Schedule::constant(0.01)
            },
            clip_norm: None,
            groups: Vec::new(),
            layer_decay: None,
            accumulated_batches: 1,
            average_decay: None,
            swa: None,
            renewal_batches: None,
            epochs: 40,
            evaluate_every: 5,
            window: None,
        }
    }
}

impl<N: PixelNetwork> SegmentationRecipe<N> {
    /// Lists all settings that are invalid for any data, in the order of the fields.
    ///
    /// ```
    /// use reid_nn::backbone::ResNetConfig;
    /// use reid_nn::segmentation::{DecodeHeadConfig, SegmentationConfig};
    /// use reid_train::{Decay, SegmentationRecipe};
    ///
    /// let network = SegmentationConfig::new(ResNetConfig::resnet50(), DecodeHeadConfig::plain());
    /// let mut recipe = SegmentationRecipe::ocnet("toy", network);
    /// recipe.classes = 5;
    /// recipe.schedule.decay = Decay::Polynomial { power: -1.0 };
    /// assert_eq!(
    ///     recipe.problems().to_string(),
    ///     "losses.class_weights: expected 5 weights, one per class, found 19
    /// schedule.decay.polynomial.power: expected 0 to 100, found -1"
    /// );
    /// ```
    #[must_use]
    pub fn problems(&self) -> Problems {
        let mut problems = Problems::new();
        problems.count("classes", self.classes, 1..=MAX_CLASSES);
        let size = self.crop.size;
        let mut invalid = Problems::new();
        size.validate(&mut invalid);
        let builds = problems.at("network", |problems| {
            if invalid.is_empty() {
                self.network.validate_network(size, problems);
            } else {
                problems.nested_for_any(TRIALS, |size, problems| {
                    self.network.validate_network(size, problems);
                });
            }
        });
        problems.nested("crop", &self.crop);
        problems.nested("sampling", &self.sampling);
        if invalid.is_empty() {
            let bytes = self
                .sampling
                .images
                .checked_mul(size.pixels() * 3 * size_of::<f32>());
            let holds = bytes.is_some_and(|bytes| bytes <= MOST_BYTES);
            let expected = format_args!("batches whose images take at most {MOST_BYTES} bytes");
            let found = format_args!("{} images of {size}", self.sampling.images);
            problems.require("sampling", holds, expected, found);
        }
        problems.nested("losses", &self.losses);
        if let Some(weights) = &self.losses.class_weights {
            let (classes, found) = (self.classes, weights.len());
            let expected = format_args!("{classes} weights, one per class");
            problems.require("losses.class_weights", found == classes, expected, found);
        }
        Settings::from(self).validate(&mut problems);
        self.validate_window(builds, &mut problems);
        problems
    }

    /// Adds the problems of the windows. `builds` is whether the network is valid for the crops.
    fn validate_window(&self, builds: bool, problems: &mut Problems) {
        let valid = problems.nested("window", &self.window);
        let size = self.window.map(|window| window.size);
        if self.network.fits_one_size() {
            let crop = self.crop.size;
            let expected = format_args!(
                "windows of {crop}, the size of the crops, because the attention fits no other size"
            );
            let found = size.map_or_else(|| "null".to_owned(), |size| size.to_string());
            problems.require("window", size == Some(crop), expected, found);
        } else if let (true, true, Some(size)) = (valid, builds, size) {
            let mut other = Problems::new();
            self.network.validate_network(size, &mut other);
            let expected = "a size that fits the network";
            problems.require("window.size", other.is_empty(), expected, size);
        }
    }

    /// Checks that no setting is invalid for any data.
    ///
    /// # Errors
    /// [`Error::Recipe`] lists all [`problems`](Self::problems).
    pub fn check(&self) -> Result<(), Error> {
        refused(None, self.problems())
    }

    /// Validates the recipe by itself, for these data and for this device. Reads no files.
    ///
    /// # Errors
    /// [`Error::Recipe`] lists all invalid settings.
    pub fn validate(
        &self,
        splits: &PixelSplits,
        encoding: &LabelEncoding,
        device: &Device,
    ) -> Result<(), Error> {
        let mut problems = self.problems();
        Settings::from(self).validate_device(device, &mut problems);
        let (classes, count) = (self.classes, encoding.count());
        let expected = format_args!("{count}, the number of classes of the labels");
        problems.require("classes", classes == count, expected, classes);
        let holds = !splits.train.is_empty();
        problems.require("sampling", holds, "at least 1 training image", "none");
        refused(None, problems)
    }

    /// Reads a recipe from a JSON file and checks its settings ([`check`](Self::check)).
    ///
    /// # Errors
    /// - [`Error::Io`] if the file cannot be read
    /// - [`Error::JsonField`] if it cannot be parsed, with line, column and field
    /// - [`Error::Recipe`] lists all invalid settings
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let recipe: Self = json::read(path)?;
        refused(Some(path), recipe.problems())?;
        Ok(recipe)
    }

    /// Writes the recipe as a JSON file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        json::write(path.as_ref(), self)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use reid_nn::{
        attention::{ResizedConfig, RgaSpatialConfig},
        backbone::ResNetConfig,
        segmentation::{DecodeHeadConfig, SegmentationConfig},
    };

    use super::*;
    use crate::{Progress, RateSchedule};

    type Toy = SegmentationRecipe<SegmentationConfig>;

    fn toy() -> Toy {
        let network = SegmentationConfig::new(ResNetConfig::resnet50(), DecodeHeadConfig::plain());
        SegmentationRecipe::ocnet("toy", network)
    }

    type Change = fn(&mut Toy);

    /// Invalid settings, and their messages.
    const CASES: [(Change, &str); 20] = [
        (
            |r| (r.classes, r.losses.class_weights) = (0, None),
            "classes: expected 1 to 255, found 0",
        ),
        (
            |r| r.network.head.channels = 0,
            "network.head.channels: expected 1 to 65536, found 0",
        ),
        (
            |r| r.network.backbone.width = 0,
            "network.backbone.width: expected 1 to 4096, found 0",
        ),
        (
            |r| r.crop.size.height = 0,
            "crop.size.height: expected 1 to 8192, found 0",
        ),
        (
            |r| r.crop.scales[0] = 0.0,
            "crop.scales[0]: expected 0.05 to 20, found 0",
        ),
        (
            |r| r.crop.mirror = 2.0,
            "crop.mirror: expected 0 to 1, found 2",
        ),
        (
            |r| r.crop.normalise.std[1] = 0.0,
            "crop.normalise.std[1]: expected 0.001 to 1000, found 0",
        ),
        (
            |r| r.sampling.images = 1,
            "sampling.images: expected at least 2, found 1",
        ),
        (
            |r| r.sampling.images = 1 << 40,
            "sampling: expected batches whose images take at most 4294967296 bytes, \
             found 1099511627776 images of 769x769",
        ),
        (
            |r| r.sampling.batches = 0,
            "sampling.batches: expected 1 to 1000000, found 0",
        ),
        (
            |r| r.classes = 20,
            "losses.class_weights: expected 20 weights, one per class, found 19",
        ),
        (
            |r| r.losses.class_weights.as_mut().expect("weights")[3] = -1.0,
            "losses.class_weights[3]: expected 0 to 1000000, found -1",
        ),
        (
            |r| r.losses.auxiliary_weight = f64::NAN,
            "losses.auxiliary_weight: expected 0 to 1000000, found NaN",
        ),
        (
            |r| r.schedule.base = 0.0,
            "schedule.base: expected a finite number above 0, found 0",
        ),
        (
            |r| r.schedule.decay = Decay::Polynomial { power: 101.0 },
            "schedule.decay.polynomial.power: expected 0 to 100, found 101",
        ),
        (
            |r| r.clip_norm = Some(0.0),
            "clip_norm: expected a finite number above 0, or null, found 0",
        ),
        (
            |r| r.groups = vec![ParameterGroup::new([""; 0])],
            "groups[0].parameters: expected at least one path, found none",
        ),
        (
            |r| r.average_decay = Some(1.0),
            "average_decay: expected at least 0 and below 1, found 1",
        ),
        (|r| r.epochs = 0, "epochs: expected 1 to 1000000, found 0"),
        (
            |r| {
                let size = InputSize::new(9, 6);
                r.window = Some(SlidingWindow { size, stride: 7 });
            },
            "window.stride: expected 1 to 6, found 7",
        ),
    ];

    #[test]
    fn invalid_settings_are_rejected_with_their_path() {
        assert!(toy().problems().is_empty(), "{}", toy().problems());
        for (change, expected) in CASES {
            let mut recipe = toy();
            change(&mut recipe);
            assert_eq!(recipe.problems().to_string(), expected);
        }
    }

    #[test]
    fn a_window_must_fit_the_network() {
        let backbone = ResNetConfig::se_resnext50(); // its stem pools without padding
        let network = SegmentationConfig::new(backbone, DecodeHeadConfig::plain());
        let mut recipe = SegmentationRecipe::ocnet("toy", network);
        let size = InputSize::new(2, 64);
        recipe.window = Some(SlidingWindow { size, stride: 1 });
        let expected = "window.size: expected a size that fits the network, found 2x64";
        assert_eq!(recipe.problems().to_string(), expected);
    }

    #[test]
    fn attention_of_one_size_needs_windows_of_the_crops() {
        let head = DecodeHeadConfig::plain().with_attention(RgaSpatialConfig::new());
        let network = SegmentationConfig::new(ResNetConfig::resnet18(), head);
        let mut recipe = SegmentationRecipe::ocnet("toy", network);
        let size = InputSize::new(193, 193);
        recipe.crop.size = size;
        let expected = "window: expected windows of 193x193, the size of the crops, because the attention fits \
                        no other size, found null";
        assert_eq!(recipe.problems().to_string(), expected);
        recipe.window = Some(SlidingWindow { size, stride: 97 });
        assert!(recipe.problems().is_empty(), "{}", recipe.problems());

        let gate = ResizedConfig::new([7, 7], RgaSpatialConfig::new());
        let head = DecodeHeadConfig::plain().with_attention(gate);
        let network = SegmentationConfig::new(ResNetConfig::resnet18(), head);
        let mut recipe = SegmentationRecipe::ocnet("toy", network);
        recipe.crop.size = size;
        assert!(recipe.problems().is_empty(), "{}", recipe.problems());
    }

    #[test]
    fn a_file_holds_the_whole_recipe_and_errors_name_file_and_field() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("recipe.json");
        let mut recipe = toy();
        let size = InputSize::new(9, 6);
        recipe.window = Some(SlidingWindow { size, stride: 4 });
        (recipe.accumulated_batches, recipe.average_decay) = (2, Some(0.9));
        recipe.save(&path).expect("written");
        let read = Toy::load(&path).expect("read");
        let json = |recipe: &Toy| serde_json::to_value(recipe).expect("plain data");
        assert_eq!(json(&read), json(&recipe));

        recipe.classes = 3;
        recipe.save(&path).expect("written");
        let error = Toy::load(&path).expect_err("19 weights").to_string();
        assert!(
            error.contains("recipe.json: losses.class_weights: expected 3"),
            "{error}"
        );
        let text = fs::read_to_string(&path).expect("read");
        fs::write(&path, text.replace("\"mirror\"", "\"colour\"")).expect("written");
        let error = Toy::load(&path).expect_err("an unknown field").to_string();
        assert!(
            error.contains("recipe.json, line ") && error.contains("`colour`"),
            "{error}"
        );
    }

    #[test]
    fn data_and_device_must_fit_the_recipe() {
        let mut recipe = toy();
        recipe.precision = Precision::BFloat16;
        let samples = vec![reid_data::segmentation::PixelSample::new("1.jpg", "1.png")];
        let splits = PixelSplits::new(samples, Vec::new());
        let device = Device::default();
        let ids = LabelEncoding::CITYSCAPES_IDS;
        let found = recipe.validate(&splits, &ids, &device);
        assert_eq!(found.is_ok(), Precision::BFloat16.is_supported(&device));
        recipe.precision = Precision::Single;
        recipe.validate(&splits, &ids, &device).expect("valid");
        let empty = PixelSplits::new(Vec::new(), Vec::new());
        let error = recipe.validate(&empty, &LabelEncoding::classes(4), &device);
        assert_eq!(
            error.expect_err("2 problems").to_string(),
            "recipe: 2 problems\n\
             classes: expected 4, the number of classes of the labels, found 19\n\
             sampling: expected at least 1 training image, found none"
        );
    }

    /// Rates of OCNet at iterations 0, 10,000 and 39,999 of 40,000.
    #[test]
    fn the_rate_falls_with_every_training_step() {
        let recipe = toy();
        for (iteration, expected) in [
            (0, 0.01),
            (10_000, 0.01 * 0.75_f64.powf(0.9)),
            (39_999, 0.01 * (1.0 / 40_000.0_f64).powf(0.9)),
        ] {
            let steps = recipe.sampling.batches;
            let at = Progress {
                epoch: iteration / steps,
                epochs: recipe.epochs,
                step: iteration % steps,
                steps,
            };
            let rate = RateSchedule::rate(&recipe.schedule, &at);
            assert!((rate / expected - 1.0).abs() < 1e-9, "{rate}, {expected}");
        }
    }
}
