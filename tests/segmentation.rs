//! Trains segmentation on synthetic streets: it learns and reports its mIoU, and a run that is interrupted or
//! killed at any step resumes bit-identically.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Tensor},
};
use reid::{
    data::segmentation::{IGNORED, LabelEncoding, PixelBatch, PixelSplits, pairs},
    nn::{
        backbone::{Dilation, FirstDilation, MaxPool, ResNetConfig, Stem},
        segmentation::{
            DecodeHeadConfig, LabelMaps, PixelLoss, SegmentationConfig, SegmentationModel,
            SlidingWindow,
        },
    },
    prelude::*,
    synthetic::StreetsConfig,
    train::{
        Error, Event, Observer, OptimizerConfig, PixelTask, SegmentationLearner,
        SegmentationRecipe, Segmenter,
    },
    zoo::recipes,
};
use serde_json::{Value, json};

type Config = SegmentationConfig;
type Learner = SegmentationLearner<SegmentationModel>;

/// The number of steps of the runs that are interrupted: two epochs of three.
const STEPS: usize = 6;

/// A few streets, a recipe that uses everything a checkpoint must hold, and a folder for runs.
struct Fixture {
    folder: tempfile::TempDir,
    splits: PixelSplits,
    encoding: LabelEncoding,
    recipe: SegmentationRecipe<Config>,
    device: Device,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let streets = StreetsConfig::new().with_train(7).with_val(2);
        let streets = streets.with_size(40, 56);
        streets
            .write(&data)
            .expect("the synthetic streets are written");
        let backbone = ResNetConfig::resnet18().with_width(2);
        // Both heads drop random channels in training.
        let network = SegmentationConfig::new(backbone, DecodeHeadConfig::plain().with_channels(4))
            .with_auxiliary(DecodeHeadConfig::auxiliary().with_channels(4));
        let mut recipe = recipes::streets("resume", network);
        recipe.losses = PixelLoss::new().with_class_weights(vec![1.0, 0.5, 1.0, 2.0]);
        recipe.crop.size = InputSize::new(33, 33);
        // 3 batches of 2 crops: the 7 samples are shuffled again in the middle of a batch.
        (recipe.sampling.images, recipe.sampling.batches) = (2, 3);
        (recipe.epochs, recipe.evaluate_every) = (2, 1);
        (recipe.average_decay, recipe.renewal_batches) = (Some(0.5), Some(2));
        recipe.window = Some(SlidingWindow {
            size: InputSize::new(33, 33),
            stride: 20,
        });
        Self {
            splits: pairs::load(data).expect("the streets are readable"),
            folder,
            encoding: LabelEncoding::classes(StreetsConfig::CLASSES.len()),
            recipe,
            // On this CPU backend, operations are deterministic.
            device: device::pick_named("flex").expect("the flex backend is compiled in"),
        }
    }

    fn run_folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn new_trainer(&self) -> Result<Trainer<'_, Learner, PixelTask<'_>>, Error> {
        let loading = LoaderConfig::new().with_workers(2);
        let (splits, encoding) = (&self.splits, &self.encoding);
        Trainer::segmentation(&self.recipe, splits, encoding, loading, &self.device)
    }

    fn trainer(&self, name: &str) -> Trainer<'_, Learner, PixelTask<'_>> {
        let trainer = self.new_trainer().expect("a valid recipe");
        trainer.with_checkpoints(Checkpoints::new(self.run_folder(name)))
    }

    fn last(&self, name: &str) -> PathBuf {
        let found = Checkpoints::new(self.run_folder(name)).find(CheckpointKind::Last);
        found.expect("readable").expect("a checkpoint")
    }
}

/// Every parameter and running statistic of a module, as bits.
fn bits<M: Module>(module: &M) -> Vec<u32> {
    struct Bits(Vec<u32>);
    impl ModuleVisitor for Bits {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.val().into_data();
            self.0.extend(data.iter::<f32>().map(f32::to_bits));
        }
    }
    let mut bits = Bits(Vec::new());
    module.visit(&mut bits);
    bits.0
}

/// Requests an interrupt after a number of steps, or panics, like a process that is killed there.
struct StopAfter {
    steps: usize,
    interrupt: Option<Interrupt>,
}

impl Observer for StopAfter {
    fn observe(&mut self, event: &Event<'_>) {
        if matches!(event, Event::Step(_)) {
            self.steps -= 1;
            if self.steps == 0 {
                self.interrupt.as_ref().expect("killed").request();
            }
        }
    }
}

#[test]
fn a_run_that_is_interrupted_or_killed_at_any_step_resumes_bit_identically() {
    let fixture = Fixture::new();
    let whole = fixture.trainer("whole").run(&mut ()).expect("it trains");
    assert!(!whole.interrupted && whole.report.is_none() && whole.classification.is_none());
    let expected = whole.segmentation.as_ref().expect("validation images");
    for steps in 1..=STEPS {
        for interrupted in [true, false] {
            let name = format!("stopped-{steps}-{interrupted}");
            let interrupt = Interrupt::new();
            let trainer = fixture.trainer(&name).with_interrupt(interrupt.clone());
            let interrupt = interrupted.then_some(interrupt);
            let mut observer = StopAfter { steps, interrupt };
            let stopped = catch_unwind(AssertUnwindSafe(|| trainer.run(&mut observer)));
            assert_eq!(stopped.is_ok(), interrupted);
            if let Ok(stopped) = stopped {
                assert!(stopped.expect("it trains").interrupted);
            }

            let resumed = fixture.trainer(&name).resume().expect("it resumes");
            let resumed = resumed.run(&mut ()).expect("it trains");
            assert!(bits(&resumed.learner) == bits(&whole.learner), "{name}");
            let average =
                |outcome: &reid::train::Outcome<Learner>| outcome.average.as_ref().map(bits);
            assert!(average(&resumed) == average(&whole), "{name}");
            assert_eq!(resumed.history, whole.history);
            assert_eq!(resumed.segmentation.as_ref(), Some(expected));
        }
    }
}

#[test]
fn a_checkpoint_has_the_recipe_the_scores_and_the_model_that_was_evaluated() {
    let fixture = Fixture::new();
    let outcome = fixture.trainer("run").run(&mut ()).expect("it trains");
    let report = outcome.segmentation.expect("validation images");
    let scores = outcome.history[1].scores.expect("evaluated");
    assert_eq!(
        scores.mean_intersection_over_union,
        Some(report.mean_intersection_over_union)
    );
    assert_eq!(
        (scores.mean_average_precision, scores.accuracy),
        (None, None)
    );
    let names: Vec<&str> = outcome.history[1]
        .losses
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["pixel", "auxiliary"]);

    let last = fixture.last("run");
    assert_eq!(
        Checkpoints::history(&last).expect("readable"),
        outcome.history
    );
    assert!(Checkpoints::classes(&last).expect("readable").is_empty());
    let recipe: SegmentationRecipe<Config> =
        Checkpoints::segmentation_recipe(&last).expect("readable");
    assert_eq!(recipe.crop, fixture.recipe.crop);
    let init = Init::empty(&fixture.device);
    let (size, classes) = (recipe.crop.size, recipe.classes);
    let model = recipe.network.init(size, classes, &init);
    let model = Checkpoints::load_model(&last, model).expect("the same network");
    let segmenter = Segmenter::from_recipe(&recipe);
    let (samples, encoding) = (&fixture.splits.val, &fixture.encoding);
    let again = segmenter.evaluate(&model.evaluation(), samples, encoding, &fixture.device);
    assert_eq!(again.expect("readable images"), report);

    let best = Checkpoints::new(fixture.run_folder("run")).find(CheckpointKind::Best);
    let best = best.expect("readable").expect("a best checkpoint");
    let history = Checkpoints::history(&best).expect("readable");
    let miou = |epoch: &reid::train::EpochSummary| epoch.scores?.mean_intersection_over_union;
    let largest = outcome.history.iter().filter_map(miou).fold(0.0, f64::max);
    assert_eq!(history.last().and_then(miou), Some(largest));
}

#[test]
fn a_run_does_not_resume_with_another_recipe_or_other_labels() {
    let mut fixture = Fixture::new();
    fixture.recipe.epochs = 1;
    fixture.trainer("run").run(&mut ()).expect("it trains");
    let refused = |fixture: &Fixture| fixture.trainer("run").resume().expect_err("another run");

    fixture.recipe.crop.mirror = 0.25;
    let error = refused(&fixture).to_string();
    assert!(
        error.ends_with("crop.mirror was 0.5 and is 0.25"),
        "{error}"
    );
    fixture.recipe.crop.mirror = 0.5;
    let encoding = fixture.encoding.clone();
    fixture.encoding = encoding.clone().with_value(0, IGNORED);
    assert!(matches!(refused(&fixture), Error::OtherImages { .. }));
    fixture.encoding = encoding;
    fixture.splits.train.swap(0, 1);
    assert!(matches!(refused(&fixture), Error::OtherImages { .. }));
    fixture.splits.train.swap(0, 1);
    fixture.recipe.epochs = 2;
    let longer = fixture.trainer("run").resume().expect("more epochs");
    assert_eq!(longer.run(&mut ()).expect("it trains").history.len(), 2);
}

#[test]
fn files_that_cannot_be_opened_and_unknown_labels_are_named() {
    let mut fixture = Fixture::new();
    fixture.encoding = LabelEncoding::classes(3);
    let error = fixture.new_trainer().expect_err("4 classes").to_string();
    assert_eq!(
        error,
        "recipe: classes: expected 3, the number of classes of the labels, found 4"
    );
    // Some pixels are of class 3, which this recipe and encoding do not have.
    (fixture.recipe.classes, fixture.recipe.losses) = (3, PixelLoss::new());
    let error = fixture.trainer("run").run(&mut ()).expect_err("class 3");
    let error = error.to_string();
    assert!(
        error.contains("labels") && error.contains("expected a class of the dataset or 255"),
        "{error}"
    );
    let map = &fixture.splits.val[1].labels;
    fs::write(map, "no image").expect("writable");
    let error = fixture.trainer("other").run(&mut ()).expect_err("no image");
    let error = error.to_string();
    assert!(
        error.starts_with("1 of 18 images cannot be opened")
            && error.contains(&map.display().to_string()),
        "{error}"
    );
    assert!(!fixture.run_folder("other").exists());
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_names_the_batch() {
    let mut fixture = Fixture::new();
    fixture.recipe.schedule.base = 1e30;
    let error = fixture.trainer("run").run(&mut ()).expect_err("not finite");
    let Error::NotFinite { images, .. } = &error else {
        panic!("expected `Error::NotFinite`, found: {error}");
    };
    assert_eq!(images.len(), 2);
    assert!(error.to_string().contains(".jpg"), "{error}");
}

/// A constant prediction has an mIoU of at most 1/4, because three of the four classes are never predicted.
#[test]
fn a_network_learns_the_classes_of_pixels() {
    let mut fixture = Fixture::new();
    let mut backbone = ResNetConfig::resnet50()
        .with_width(8)
        .with_stem(Stem::Small);
    backbone.blocks = [1, 1, 1, 1];
    let backbone = backbone.with_dilation(Dilation::Stride8(FirstDilation::Previous));
    let network = SegmentationConfig::new(backbone, DecodeHeadConfig::plain().with_channels(16));
    let mut recipe = recipes::streets("learns", network);
    recipe.crop.size = InputSize::new(33, 41);
    (recipe.sampling.images, recipe.sampling.batches) = (4, 15);
    (recipe.epochs, recipe.evaluate_every) = (4, 0);
    fixture.recipe = recipe;
    let outcome = fixture.trainer("run").run(&mut ()).expect("it trains");
    let (first, last) = (outcome.history[0].loss, outcome.history[3].loss);
    assert!(last < 0.8 * first, "{first} to {last}");
    let report = outcome.segmentation.expect("validation images");
    assert!(report.mean_intersection_over_union > 0.25, "{report}");
    assert_eq!(report.pixels, 2 * 40 * 56);
}

/// A recipe that is as small as possible and has every optional field.
fn tiny() -> Value {
    let backbone = ResNetConfig::resnet18().with_width(2);
    let backbone = backbone.with_stem(Stem::DeepHalf(MaxPool::Padded)); // needs an even width
    let network = SegmentationConfig::new(backbone, DecodeHeadConfig::plain().with_channels(4))
        .with_auxiliary(DecodeHeadConfig::auxiliary().with_channels(4));
    let mut recipe = recipes::streets("tiny", network);
    recipe.losses = PixelLoss::new().with_class_weights(vec![1.0, 0.5, 1.0, 2.0]);
    recipe.crop.size = InputSize::new(17, 19);
    (recipe.sampling.images, recipe.sampling.batches) = (2, 3);
    (recipe.average_decay, recipe.renewal_batches) = (Some(0.5), Some(2));
    recipe.accumulated_batches = 2;
    recipe.window = Some(SlidingWindow {
        size: InputSize::new(9, 11),
        stride: 4,
    });
    recipe.groups = vec![ParameterGroup::new(["head"]).with_optimizer(OptimizerConfig::adam())];
    recipe.layer_decay = Some(0.75);
    serde_json::to_value(recipe).expect("plain data")
}

/// Collects the JSON pointers of the values below `value` that hold no others.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                leaves(value, &format!("{path}/{key}"), found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                leaves(value, &format!("{path}/{index}"), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

/// Rejects a recipe, or computes the losses, gradients and predictions of two crops, and trains for an epoch if
/// `trains`.
fn try_recipe(json: &Value, fixture: &Fixture, trains: bool) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let recipe: SegmentationRecipe<Config> =
        serde_json::from_value(json.clone()).map_err(|error| text(&error))?;
    recipe.check().map_err(|error| text(&error))?;
    let samples = &fixture.splits.train[..2];
    let batch: PixelBatch = recipe
        .crop
        .batch(samples, &fixture.encoding, recipe.seed)
        .map_err(|error| text(&error))?;
    let device = fixture.device.clone().autodiff();
    let learner = SegmentationLearner::build(&recipe, &fixture.device);
    let [count, height, width] = batch.shape;
    let data = burn::tensor::TensorData::new(batch.images, [count, 3, height, width]);
    let (model, plain) = (learner.model.evaluation(), &fixture.device);
    let images = Tensor::from_data(data.clone(), plain);
    let _ = match &recipe.window {
        Some(window) => window.probabilities(&images, |images| model.forward(images)),
        None => model.forward(images),
    };
    // The labels of a recipe of fewer classes are other ones.
    let most = u8::try_from(recipe.classes - 1).expect("at most 255 classes");
    let known = |label: u8| {
        if label == IGNORED {
            label
        } else {
            label.min(most)
        }
    };
    let labels = batch.labels.into_iter().map(known).collect();
    let labels = LabelMaps::new(labels, batch.shape, &device);
    let images = Tensor::from_data(data, &device);
    let losses = learner.training_step(images, &labels, recipe.seed).losses;
    let loss = losses.into_iter().map(|loss| loss.value);
    let _ = loss.reduce(Tensor::add).expect("a loss").backward();
    let _ = recipe.schedule.rate(recipe.epochs - 1, recipe.epochs);
    let _ = recipe.sampling.draw(3, recipe.seed, 1, 0);
    if trains {
        let (splits, encoding) = (&fixture.splits, &fixture.encoding);
        let mut one = recipe;
        one.epochs = 1;
        let loading = LoaderConfig::default();
        let trainer = Trainer::segmentation(&one, splits, encoding, loading, plain);
        let outcome = trainer.and_then(|trainer| trainer.run(&mut ()));
        outcome.map_err(|error| text(&error))?;
    }
    Ok(())
}

#[test]
fn no_value_of_a_recipe_panics() {
    let (fixture, recipe) = (Fixture::new(), tiny());
    try_recipe(&recipe, &fixture, true).expect("the unchanged recipe is valid");
    let mut found = Vec::new();
    leaves(&recipe, "", &mut found);
    let values = [
        json!(-1),
        json!(0),
        json!(1),
        json!(3),
        json!(1.5),
        json!(1e-30),
        json!(1e30),
        json!(1_u64 << 40),
        json!("text"),
        json!(null),
        json!([1, 2, 3]),
    ];
    let (mut refused, mut computed) = (0, 0);
    for leaf in &found {
        for value in &values {
            let mut changed = recipe.clone();
            *changed.pointer_mut(leaf).expect("a leaf") = value.clone();
            let decides = [
                "/optimizer",
                "/groups",
                "/layer",
                "/clip",
                "/average",
                "/renewal",
                "/accumulated",
            ];
            let trains = decides.iter().any(|part| leaf.starts_with(part));
            match catch_unwind(AssertUnwindSafe(|| try_recipe(&changed, &fixture, trains))) {
                Ok(Ok(())) => computed += 1,
                Ok(Err(text)) => {
                    refused += 1;
                    assert!(!text.is_empty());
                }
                Err(panic) => panic!("{leaf} = {value} was accepted, then panicked: {panic:?}"),
            }
        }
    }
    assert!(
        refused > 4 * found.len() && computed > 0,
        "expected many values to be rejected and some to be used: {refused} rejected, {computed} used"
    );
}
