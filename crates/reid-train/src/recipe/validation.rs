//! Validates a recipe before the first step, and reports all problems together.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use burn::tensor::Device;
use reid_core::{Camera, Identity, InputSize, Problem, Problems, Sample, Splits, Validate};
use reid_data::{segmentation::PixelSample, unopenable, unopenable_label_maps};
use reid_eval::{Error as EvalError, Labels, Protocol, Relevance, RelevanceRule};
use reid_nn::{CriterionConfig, Network};

use super::Recipe;
use crate::{error::Error, settings::Settings};

/// The most bytes of the images of a training batch in single precision: 4 GiB, 10 times the largest
/// published batch. The feature maps of a network take more.
pub(super) const MOST_BYTES: usize = 1 << 32;

/// The number of paths that a message lists.
const NAMED: usize = 3;

impl<N: Network, L: CriterionConfig> Recipe<N, L> {
    /// Lists all settings that are invalid for any data, in the order of the fields.
    #[must_use]
    pub fn problems(&self) -> Problems {
        let mut problems = Problems::new();
        if problems.nested("input", &self.input) {
            problems.at("network", |problems| {
                self.network.validate_network(self.input, problems);
            });
            problems.at("augmentation", |problems| {
                self.augmentation.validate_for(self.input, problems);
            });
            problems.at("sampling", |problems| {
                self.sampling.validate_memory(self.input, problems);
            });
        } else {
            let trials = [InputSize::PERSON_TALL, InputSize::VEHICLE];
            problems.at("network", |problems| {
                problems.nested_for_any(trials, |input, problems| {
                    self.network.validate_network(input, problems);
                });
            });
            problems.nested("augmentation", &self.augmentation);
        }
        let compares = self.losses.compares_images();
        problems.at("sampling", |problems| {
            self.sampling.validate(compares, problems);
        });
        problems.at("losses", |problems| self.losses.validate(problems));
        Settings::from(self).validate(&mut problems);
        problems.nested("evaluation", &self.evaluation);
        problems
    }

    /// Checks that no setting is invalid for any data.
    ///
    /// # Errors
    /// [`Error::Recipe`] lists all [`problems`](Self::problems).
    pub fn check(&self) -> Result<(), Error> {
        refused(None, self.problems())
    }

    /// Validates the recipe by itself, for this device and for these data. Returns warnings about what is
    /// valid but probably unintended, such as queries without a match.
    ///
    /// Reads the header of every image ([`unopenable`]), a few kilobytes each. Changes neither data nor
    /// device.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use reid_core::{InputSize, Splits};
    /// use reid_data::transform::Flip;
    /// use reid_nn::{backbone::ResNetConfig, head::BnNeckConfig};
    /// use reid_train::Recipe;
    ///
    /// let network = (ResNetConfig::resnet18().with_last_stride(3), BnNeckConfig::new());
    /// let mut recipe = Recipe::strong_baseline("toy", InputSize::PERSON, network);
    /// recipe.augmentation.flip = Some(Flip { probability: 1.5 });
    /// let error = recipe.validate(&Splits::default(), &Device::default()).expect_err("3 problems");
    /// assert_eq!(
    ///     error.to_string(),
    ///     "recipe: 3 problems
    /// network[0].last_stride: expected 1 to 2, found 3
    /// augmentation.flip.probability: expected 0 to 1, found 1.5
    /// sampling.identities: expected at most 0, the number of training identities, found 16"
    /// );
    /// ```
    ///
    /// # Errors
    /// [`Error::Recipe`] lists all invalid settings, [`Error::Images`] all images that cannot be opened.
    pub fn validate(&self, splits: &Splits, device: &Device) -> Result<Vec<Problem>, Error> {
        let warnings = self.validate_settings(splits, device)?;
        openable(&images(splits), &[], |_| {})?;
        Ok(warnings)
    }

    /// As [`validate`](Self::validate), without reading images.
    pub(crate) fn validate_settings(
        &self,
        splits: &Splits,
        device: &Device,
    ) -> Result<Vec<Problem>, Error> {
        let mut problems = self.problems();
        Settings::from(self).validate_device(device, &mut problems);
        problems.at("sampling", |problems| {
            self.sampling.validate_data(splits, problems);
        });
        let mut warnings = Problems::new();
        if !splits.query.is_empty() {
            let protocol = &self.evaluation.protocol;
            problems.at("evaluation", |problems| {
                warnings.at("evaluation", |warnings| {
                    validate_evaluation(protocol, splits, problems, warnings);
                });
            });
        }
        validate_test(splits, &mut problems);
        refused(None, problems)?;
        Ok(warnings.into_vec())
    }
}

/// Adds a problem if test images show identities that are not trained on.
fn validate_test(splits: &Splits, problems: &mut Problems) {
    let trained: BTreeSet<Identity> = splits.train.iter().map(|one| one.identity).collect();
    let is_other =
        |sample: &&Sample| !(sample.identity.is_labelled() && trained.contains(&sample.identity));
    let others: Vec<&Sample> = splits.test.iter().filter(is_other).collect();
    let expected = "test images of training identities";
    let found = format_args!("{} of others: {}", others.len(), named(&others));
    problems.require("evaluation", others.is_empty(), expected, found);
}

/// Returns problems as an error. `path` is the file that the recipe was read from.
pub(crate) fn refused(path: Option<&Path>, problems: Problems) -> Result<(), Error> {
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::Recipe {
        path: path.map(Path::to_owned),
        problems,
    })
}

/// Checks that all images and the label maps of all samples can be opened, and reports all that cannot. Calls
/// `progress` with the number of files done.
pub(crate) fn openable(
    images: &[&Path],
    samples: &[&PixelSample],
    progress: impl Fn(usize) + Sync,
) -> Result<(), Error> {
    let mut errors = unopenable(images, &progress);
    let maps = |done| progress(images.len() + done);
    errors.extend(unopenable_label_maps(samples, maps));
    if errors.is_empty() {
        return Ok(());
    }
    Err(Error::Images {
        images: images.len() + samples.len(),
        errors,
    })
}

/// The paths of all images of a dataset.
pub(crate) fn images(splits: &Splits) -> Vec<&Path> {
    let samples = splits
        .train
        .iter()
        .chain(&splits.query)
        .chain(&splits.gallery)
        .chain(&splits.test);
    samples.map(|sample| sample.path.as_path()).collect()
}

/// Adds problems if the data cannot be evaluated by a protocol, and warnings about queries without a match.
fn validate_evaluation(
    protocol: &Protocol,
    splits: &Splits,
    problems: &mut Problems,
    warnings: &mut Problems,
) {
    let evaluated = || splits.query.iter().chain(&splits.gallery);
    if *protocol == Protocol::Market {
        let without: Vec<&Sample> = evaluated().filter(|one| one.camera.is_none()).collect();
        let cameras: BTreeSet<Camera> = evaluated().filter_map(|one| one.camera).collect();
        let found = match (without.as_slice(), cameras.len()) {
            ([], 1) => Some("market with images of 1 camera only".to_owned()),
            ([], _) => None,
            (without, _) => Some(format!(
                "market with {} of {} images without a camera: {}",
                without.len(),
                evaluated().count(),
                named(without)
            )),
        };
        if let Some(found) = found {
            problems.require("protocol", false, "no-cameras for these data", found);
            return;
        }
    }
    let unmatched = match unmatched(protocol, splits) {
        Ok(unmatched) => unmatched,
        Err(error) => {
            let expected = "a protocol that the data have the labels for";
            problems.require("protocol", false, expected, error);
            return;
        }
    };
    let expected = match protocol {
        Protocol::Market => {
            "a gallery image of the same identity from another camera for each query"
        }
        Protocol::NoCameras => "another gallery image of the same identity for each query",
        _ => "a gallery image that the protocol calls a match for each query",
    };
    if unmatched.len() == splits.query.len() {
        let found = format_args!("none for all {}: {}", unmatched.len(), named(&unmatched));
        problems.add(expected, found);
    } else if !unmatched.is_empty() {
        let (count, queries) = (unmatched.len(), splits.query.len());
        let found = format_args!("none for {count} of {queries}: {}", named(&unmatched));
        warnings.add(expected, found);
    }
}

/// The queries of known identity that have no match in the gallery.
fn unmatched<'a>(protocol: &Protocol, splits: &'a Splits) -> Result<Vec<&'a Sample>, EvalError> {
    let (query, gallery) = (&splits.query, &splits.gallery);
    let [query_labels, gallery_labels] = [query, gallery].map(|side| Labels::from_samples(side));
    let (query_labels, gallery_labels) = (query_labels?, gallery_labels?);
    protocol.check(&query_labels, &gallery_labels)?;
    let mut of_identity: BTreeMap<Identity, Vec<usize>> = BTreeMap::new();
    for (index, sample) in gallery.iter().enumerate() {
        if !sample.identity.is_junk() {
            of_identity.entry(sample.identity).or_default().push(index);
        }
    }
    let is_match = |one: usize, other: usize| {
        let relevance = protocol.relevance(query_labels.at(one), gallery_labels.at(other));
        // The protocol excludes the query itself by its image number, which samples do not have yet.
        let itself = *protocol == Protocol::NoCameras && query[one].path == gallery[other].path;
        relevance == Relevance::Match && !itself
    };
    let has_match = |one: usize| {
        let others = of_identity.get(&query[one].identity);
        others.is_some_and(|others| others.iter().any(|&other| is_match(one, other)))
    };
    let known = (0..query.len()).filter(|&one| query[one].identity != Identity::UNKNOWN);
    let unmatched = known.filter(|&one| !has_match(one));
    Ok(unmatched.map(|one| &query[one]).collect())
}

/// The paths of the first 3 samples, and how many more there are.
fn named(samples: &[&Sample]) -> String {
    let paths = samples.iter().take(NAMED);
    let paths = paths.map(|sample| sample.path.display().to_string());
    let text = paths.collect::<Vec<_>>().join(", ");
    match samples.len().saturating_sub(NAMED) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use reid_data::transform::Flip;
    use reid_nn::{Precision, backbone::ResNetConfig, head::BnNeckConfig, loss::Margin};

    use super::*;
    use crate::{Decay, OptimizerConfig, ParameterGroup, Swa, WarmUp};

    type Toy = Recipe<(ResNetConfig, BnNeckConfig)>;
    type Change = fn(&mut Toy);

    fn toy() -> Toy {
        let network = (ResNetConfig::resnet18(), BnNeckConfig::new());
        Recipe::strong_baseline("toy", InputSize::PERSON, network)
    }

    /// Invalid settings, and their messages.
    const CASES: [(Change, &str); 39] = [
        (
            |r| r.input.height = 0,
            "input.height: expected 1 to 8192, found 0",
        ),
        (
            |r| r.input.height = 1 << 40,
            "input.height: expected 1 to 8192, found 1099511627776",
        ),
        (
            |r| r.network.0.width = 0,
            "network[0].width: expected 1 to 4096, found 0",
        ),
        (
            |r| r.network.0.groups = 3,
            "network[0].groups: expected 1 for basic blocks, which have no groups, found 3",
        ),
        (
            |r| r.network.0.last_stride = 3,
            "network[0].last_stride: expected 1 to 2, found 3",
        ),
        (
            |r| r.network.0.blocks[2] = 0,
            "network[0].blocks[2]: expected 1 to 256, found 0",
        ),
        (
            |r| r.network.0 = r.network.0.clone().and_after(&[5], ()),
            "network[0].after[0].stage: expected 1 to 4, found 5",
        ),
        (
            |r| r.augmentation.flip = Some(Flip { probability: 1.5 }),
            "augmentation.flip.probability: expected 0 to 1, found 1.5",
        ),
        (
            |r| r.augmentation.normalise.std[1] = 0.0,
            "augmentation.normalise.std[1]: expected 0.001 to 1000, found 0",
        ),
        (
            |r| r.augmentation.pad_crop.as_mut().expect("on").padding = 1 << 62,
            "augmentation.pad_crop.padding: expected 0 to 8192, found 4611686018427387904",
        ),
        (
            |r| r.augmentation.pad_crop.as_mut().expect("on").padding = 129,
            "augmentation.pad_crop.padding: expected 0 to 128, the shorter side of the input, found 129",
        ),
        (
            |r| r.sampling.images = 0,
            "sampling.images: expected at least 1, found 0",
        ),
        (
            |r| r.sampling.images = 1,
            "sampling.images: expected at least 2 for losses that compare images, found 1",
        ),
        (
            |r| r.sampling.images = 1 << 62,
            "sampling: expected batches whose images take at most 4294967296 bytes, \
                 found 16 x 4611686018427387904 images of 256x128",
        ),
        (
            |r| r.sampling.shuffled = Some(64),
            "sampling.shuffled: expected null for losses that compare images, found 64",
        ),
        (
            |r| (r.sampling.shuffled, r.losses.triplet) = (Some(1), None),
            "sampling.shuffled: expected at least 2, found 1",
        ),
        (
            |r| (r.sampling.shuffled, r.losses.triplet) = (Some(1 << 40), None),
            "sampling: expected batches whose images take at most 4294967296 bytes, \
                 found 1099511627776 images of 256x128",
        ),
        (
            |r| r.losses.triplet.as_mut().expect("on").criterion.margin = Margin::Hard(-1.0),
            "losses.triplet.criterion.margin.hard: expected 0 to 1000000, found -1",
        ),
        (
            |r| r.losses.identity.as_mut().expect("on").criterion.smoothing = 2.0,
            "losses.identity.criterion.smoothing: expected at least 0 and below 1, found 2",
        ),
        (
            |r| r.losses.identity.as_mut().expect("on").weight = -1.0,
            "losses.identity.weight: expected 0 to 1000000, found -1",
        ),
        (
            |r| (r.losses.identity, r.losses.triplet) = (None, None),
            "losses: expected at least one loss with a weight above 0, found none",
        ),
        (
            |r| r.groups = vec![ParameterGroup::new(["head"]).with_fixed_rate(f64::NAN)],
            "groups[0].rate.fixed: expected 0 to 1000000, found NaN",
        ),
        (
            |r| r.groups = vec![ParameterGroup::new([""; 0])],
            "groups[0].parameters: expected at least one path, found none",
        ),
        (
            |r| r.layer_decay = Some(0.0),
            "layer_decay: expected above 0 and up to 1, found 0",
        ),
        (
            |r| r.accumulated_batches = 0,
            "accumulated_batches: expected 1 to 65536, found 0",
        ),
        (
            |r| r.average_decay = Some(1.0),
            "average_decay: expected at least 0 and below 1, found 1",
        ),
        (
            |r| r.swa = Some(Swa::from_epoch(120)),
            "swa.first_epoch: expected 0 to 119, found 120",
        ),
        (
            |r| r.swa = Some(Swa::from_epoch(90).with_every_steps(0)),
            "swa.every_steps: expected 1 to 1000000000, found 0",
        ),
        (
            |r| (r.swa, r.average_decay) = (Some(Swa::from_epoch(90)), Some(0.9)),
            "swa: expected null with `average_decay`, found both",
        ),
        (
            |r| (r.renewal_batches, r.average_decay) = (Some(0), Some(0.9)),
            "renewal_batches: expected 1 to 1000000000, found 0",
        ),
        (
            |r| r.renewal_batches = Some(5),
            "renewal_batches: expected null without `average_decay` and `swa`, found 5",
        ),
        (
            |r| {
                r.optimizer = OptimizerConfig::Sgd {
                    momentum: 1.0,
                    nesterov: false,
                    weight_decay: 0.0,
                }
            },
            "optimizer.sgd.momentum: expected at least 0 and below 1, found 1",
        ),
        (
            |r| r.schedule.base = -1.0,
            "schedule.base: expected a finite number above 0, found -1",
        ),
        (
            |r| r.schedule.first_epoch = usize::MAX,
            "schedule.first_epoch: expected 0 to 1, found 18446744073709551615",
        ),
        (
            |r| {
                r.schedule.warm_up = Some(WarmUp::Staircase {
                    epochs: 5,
                    every: 0,
                });
            },
            "schedule.warm_up.staircase.every: expected 1 to 5, found 0",
        ),
        (
            |r| r.schedule.decay = Decay::Cosine { floor: 2.0 },
            "schedule.decay.cosine.floor: expected 0 to 1, found 2",
        ),
        (
            |r| r.clip_norm = Some(0.0),
            "clip_norm: expected a finite number above 0, or null, found 0",
        ),
        (|r| r.epochs = 0, "epochs: expected 1 to 1000000, found 0"),
        (
            |r| r.evaluation.max_rank = 0,
            "evaluation.max_rank: expected 1 to 1000000, found 0",
        ),
    ];

    #[test]
    fn invalid_settings_are_rejected_with_their_path() {
        assert!(toy().problems().is_empty());
        for (change, expected) in CASES {
            let mut recipe = toy();
            change(&mut recipe);
            assert_eq!(recipe.problems().to_string(), expected);
        }
    }

    #[test]
    fn all_problems_are_reported_together() {
        let mut recipe = toy();
        (recipe.epochs, recipe.clip_norm) = (0, Some(-1.0));
        recipe.precision = Precision::Float16;
        let error = recipe.validate(&people(4, &[1, 2]), &Device::default());
        let text = error.expect_err("3 problems").to_string();
        assert!(
            text.starts_with("recipe: 3 problems\nclip_norm: "),
            "{text}"
        );
        assert!(
            text.contains("\nepochs: ") && text.contains("at most 4, the number of"),
            "{text}"
        );
    }

    /// One image of each identity from each camera. Those of the first camera are also training and query
    /// images.
    fn people(identities: i64, cameras: &[u32]) -> Splits {
        let sample = |identity, camera: u32| {
            Sample::new(format!("{identity}_{camera}.jpg"), Identity::new(identity))
                .with_camera(Camera::new(camera))
        };
        let by = |camera: u32| (1..=identities).map(move |identity| sample(identity, camera));
        Splits::new("people")
            .with_train(by(cameras[0]).collect())
            .with_query(by(cameras[0]).collect())
            .with_gallery(cameras.iter().flat_map(|&camera| by(camera)).collect())
    }

    fn settings(splits: &Splits, change: Change) -> Result<Vec<Problem>, String> {
        let mut recipe = toy();
        recipe.sampling.identities = 2;
        change(&mut recipe);
        let checked = recipe.validate_settings(splits, &Device::default());
        checked.map_err(|error| error.to_string())
    }

    #[test]
    fn data_that_cannot_be_evaluated_are_rejected() {
        assert_eq!(settings(&people(3, &[1, 2]), |_| {}), Ok(Vec::new()));
        assert_eq!(
            settings(&people(3, &[1]), |_| {}),
            Err(
                "recipe: evaluation.protocol: expected no-cameras for these data, \
                 found market with images of 1 camera only"
                    .to_owned()
            )
        );
        let mut splits = people(3, &[1, 2]);
        splits.gallery[4].camera = None;
        let error = settings(&splits, |_| {}).expect_err("a camera is missing");
        assert!(
            error.ends_with("found market with 1 of 9 images without a camera: 2_2.jpg"),
            "{error}"
        );
        // A query does not match itself.
        let error = settings(&people(3, &[1]), |r| {
            r.evaluation.protocol = Protocol::NoCameras;
        });
        let error = error.expect_err("no other image");
        assert!(
            error.contains("none for all 3: 1_1.jpg, 2_1.jpg, 3_1.jpg"),
            "{error}"
        );
        assert!(
            settings(&people(1, &[1, 2]), |_| {})
                .expect_err("too few")
                .contains("at most 1")
        );
    }

    /// Shuffled batches may have more images than there are identities.
    #[test]
    fn test_images_must_show_training_identities() {
        let mut splits = people(3, &[1]);
        (splits.query, splits.gallery) = (Vec::new(), Vec::new());
        splits.test = splits.train.clone();
        let shuffled: Change = |r| (r.sampling.shuffled, r.losses.triplet) = (Some(64), None);
        assert_eq!(settings(&splits, shuffled), Ok(Vec::new()));
        splits.test[1].identity = Identity::new(9);
        splits.test[2].identity = Identity::UNKNOWN;
        let error = settings(&splits, shuffled).expect_err("others");
        let expected = "recipe: evaluation: expected test images of training identities, found 2 of others: \
            2_1.jpg, 3_1.jpg";
        assert_eq!(error, expected);
    }

    #[test]
    fn queries_without_a_match_are_a_warning() {
        let mut splits = people(5, &[1, 2]);
        splits
            .gallery
            .retain(|sample| sample.identity == Identity::new(3));
        let warnings = settings(&splits, |_| {}).expect("one has a match");
        let text = warnings[0].to_string();
        assert_eq!(
            text,
            "evaluation: expected a gallery image of the same identity from another camera for each query, \
             found none for 4 of 5: 1_1.jpg, 2_1.jpg, 4_1.jpg and 1 more"
        );
    }

    #[test]
    fn images_that_cannot_be_opened_are_all_named() {
        let error =
            openable(&images(&people(8, &[1, 2])), &[], |_| {}).expect_err("no file exists");
        let text = error.to_string();
        assert!(
            text.starts_with("32 of 32 images cannot be opened:\n1_1.jpg: "),
            "{text}"
        );
        assert!(text.ends_with("and 22 more"), "{text}");
    }
}
