//! Runs with custom parts: losses with trained weights, parameter groups, averaged weights, optimizers,
//! schedules, samplers and transforms. All of them must resume bit-identically.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use burn::{
    config::Config,
    module::{Module, Param},
    nn::Initializer,
    tensor::{Device, Tensor, TensorData},
};
use reid::{
    data::{
        Error as DataError,
        dataset::market1501,
        loader::TrainLoader,
        sampler::Sampler,
        transform::{Augmentation, Picture, Transform},
    },
    nn::{
        Init, NamedLoss, Precision, Targets,
        backbone::{ResNet, ResNetConfig},
        head::{BnNeck, BnNeckConfig},
        loss::IdentityLossConfig,
        norm::renew_batch_norm,
        parameters,
    },
    prelude::*,
    synthetic::SyntheticConfig,
    train::{Event, Observer, OptimizerConfig, Outcome, Progress, RateSchedule, ReidLearner, Swa},
};

use module_values::values;

mod module_values;

/// `ArcFace` (Deng et al., CVPR 2019): an additive angular margin. The loss owns the weights of the classes.
#[derive(Module, Debug)]
struct ArcFace {
    weight: Param<Tensor<2>>,
    scale: f64,
    margin: f64,
}

#[derive(Config, Debug)]
struct ArcFaceConfig {
    #[config(default = 16.0)]
    scale: f64,
    #[config(default = 0.3)]
    margin: f64,
}

impl CriterionConfig for ArcFaceConfig {
    type Criterion = ArcFace;

    fn init(&self, output: &OutputShape, init: &Init<'_>) -> ArcFace {
        let fan @ [classes, dimensions] = [output.classes, output.features[0]];
        let normal = Initializer::Normal {
            mean: 0.0,
            std: 0.1,
        };
        ArcFace {
            weight: init.tensor([classes, dimensions], &normal, fan),
            scale: self.scale,
            margin: self.margin,
        }
    }
}

impl Criterion for ArcFace {
    fn uses_logits(&self) -> bool {
        false
    }

    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        let labels = targets.labels.clone();
        let unit = |rows: Tensor<2>| rows.clone() / (rows.square().sum_dim(1) + 1e-12).sqrt();
        let cosines = unit(output.features[0].clone()).matmul(unit(self.weight.val()).transpose());
        let own: Tensor<2> = labels.clone().one_hot(cosines.dims()[1]).float();
        let angles = cosines.clone().clamp(-0.999, 0.999).acos() + self.margin;
        let logits = (angles.cos() * own.clone() + cosines * (-own + 1.0)) * self.scale;
        let loss = burn::nn::loss::CrossEntropyLossConfig::new()
            .init(&logits.device())
            .forward(logits, labels);
        vec![NamedLoss::new("arc face", loss)]
    }
}

type Network = (ResNetConfig, BnNeckConfig);
type Losses = (IdentityLossConfig, ArcFaceConfig);
type Model = ReidModel<ResNet, BnNeck>;
type Criteria = <Losses as CriterionConfig>::Criterion;
type Learner = ReidLearner<Model, Criteria>;

/// A sampler of batches of `batch_size` consecutive images.
#[derive(Debug)]
struct InOrder {
    batch_size: usize,
}

impl Sampler for InOrder {
    fn batches(&self, samples: &[Sample], _seed: Seed) -> Result<Vec<Vec<usize>>, DataError> {
        let indices: Vec<usize> = (0..samples.len()).collect();
        let batches = indices.chunks_exact(self.batch_size);
        Ok(batches.map(<[usize]>::to_vec).collect())
    }
}

/// A sampler that returns the same batches in every epoch.
#[derive(Debug)]
struct These(Vec<Vec<usize>>);
impl Sampler for These {
    fn batches(&self, _samples: &[Sample], _seed: Seed) -> Result<Vec<Vec<usize>>, DataError> {
        Ok(self.0.clone())
    }
}

/// A transform that halves the contrast.
#[derive(Debug)]
struct Pale;

impl Transform for Pale {
    fn apply(&self, picture: &mut Picture, _stream: &mut reid::core::Stream) {
        let values = &mut picture.values;
        for value in values {
            *value = 0.25 + 0.5 * *value;
        }
    }
}

/// A learning rate that falls after every step, also within an epoch.
#[derive(Debug)]
struct Falling {
    base: f64,
}

impl RateSchedule for Falling {
    fn rate(&self, at: &Progress) -> f64 {
        let done = (at.epoch * at.steps + at.step) as f64;
        self.base / (1.0 + done)
    }
}

struct Fixture {
    folder: tempfile::TempDir,
    splits: Splits,
    recipe: Recipe<Network, Losses>,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        SyntheticConfig::new()
            .with_train_identities(4)
            .with_test_identities(2)
            .with_cameras(2)
            .write(folder.path().join("data"))
            .expect("the synthetic dataset is written");
        let splits = market1501::load(folder.path().join("data")).expect("the dataset is readable");
        let backbone = ResNetConfig::resnet18().with_width(4).with_last_stride(1);
        let network = (backbone, BnNeckConfig::new());
        let recipe = Recipe::strong_baseline("open", InputSize::new(32, 16), network);
        let losses = (IdentityLossConfig::new(), ArcFaceConfig::new());
        let mut recipe = recipe.with_losses(losses);
        (recipe.epochs, recipe.evaluate_every) = (3, 0);
        (recipe.sampling.identities, recipe.sampling.images) = (2, 2);
        recipe.optimizer = OptimizerConfig::adam_w();
        recipe.schedule.warm_up = None;
        Self {
            folder,
            splits,
            recipe,
        }
    }

    fn trainer(&self, recipe: &Recipe<Network, Losses>) -> Trainer<'_, Learner> {
        Trainer::new(recipe, &self.splits, LoaderConfig::default(), &device())
            .expect("a valid recipe")
    }

    fn checkpoints(&self, name: &str) -> Checkpoints {
        Checkpoints::new(self.folder.path().join(name))
    }
}

/// The CPU backend, on which operations are deterministic.
fn device() -> Device {
    device::pick_named("flex").expect("the flex backend is compiled in")
}

/// Requests an interrupt after a number of steps.
struct StopAfter {
    steps: usize,
    interrupt: Interrupt,
}

impl Observer for StopAfter {
    fn observe(&mut self, event: &Event<'_>) {
        if matches!(event, Event::Step(_)) {
            self.steps -= 1;
            if self.steps == 0 {
                self.interrupt.request();
            }
        }
    }
}

/// Interrupts a run after each number of steps in `stops`, resumes it, and compares it with an uninterrupted
/// run.
fn resumes_bit_identically<'a>(
    fixture: &'a Fixture,
    trainer: impl Fn() -> Trainer<'a, Learner>,
    stops: impl IntoIterator<Item = usize>,
) -> Outcome<Learner> {
    let whole = trainer().run(&mut ()).expect("it trains");
    for steps in stops {
        let checkpoints = fixture.checkpoints(&format!("stopped-{steps}"));
        let interrupt = Interrupt::new();
        let mut stop = StopAfter {
            steps,
            interrupt: interrupt.clone(),
        };
        let stopped = trainer()
            .with_checkpoints(checkpoints.clone())
            .with_interrupt(interrupt)
            .run(&mut stop)
            .expect("it trains");
        assert!(stopped.interrupted);
        let resumed = trainer().with_checkpoints(checkpoints).resume();
        let resumed = resumed
            .expect("the same run")
            .run(&mut ())
            .expect("it trains");
        assert_eq!(values(&resumed.learner), values(&whole.learner));
        let average = |outcome: &Outcome<Learner>| outcome.average.as_ref().map(values);
        assert_eq!(average(&resumed), average(&whole));
        assert_eq!(resumed.history, whole.history);
    }
    whole
}

#[test]
fn the_recipes_optimizer_trains_the_weights_of_a_loss() {
    let fixture = Fixture::new();
    let trainer = || fixture.trainer(&fixture.recipe);
    let before = values(&trainer().learner_mut().criterion.1);
    let whole = resumes_bit_identically(&fixture, trainer, [2]);
    let after = values(&whole.learner.criterion.1);
    assert_ne!(before, after);
    // A step of Adam changes a weight by at most about the learning rate.
    let steps = 3 * whole.history.len() * 10;
    let most = 3.5e-4 * steps as f32 + 0.02;
    for (before, after) in before.iter().zip(&after) {
        assert!((before - after).abs() < most, "{before} became {after}");
    }
}

#[test]
fn a_frozen_group_changes_neither_weights_nor_running_statistics() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    recipe.groups = vec![
        ParameterGroup::new(["backbone"])
            .with_rate_factor(0.1)
            .with_frozen_epochs(1),
        ParameterGroup::new(["criterion.1"])
            .with_optimizer(OptimizerConfig::plain_sgd())
            .with_fixed_rate(0.01),
    ];
    recipe.layer_decay = Some(0.75);
    let trainer = || fixture.trainer(&recipe);
    let start = values(&trainer().learner_mut().model.backbone);
    let start_head = values(&trainer().learner_mut().model.head);

    let mut first = recipe.clone();
    first.epochs = 1;
    let frozen = fixture.trainer(&first).run(&mut ()).expect("it trains");
    assert_eq!(values(&frozen.learner.model.backbone), start);
    assert_ne!(values(&frozen.learner.model.head), start_head);

    let whole = resumes_bit_identically(&fixture, trainer, [1, 6]);
    assert_ne!(values(&whole.learner.model.backbone), start);
}

/// The weights of the stem, of stage 3, of the classifier and of the loss.
fn weights_of_layers(learner: &Learner) -> [Vec<f32>; 4] {
    let model = &learner.model;
    let flat = |values: Tensor<1>| -> Vec<f32> { values.into_data().iter::<f32>().collect() };
    [
        flat(model.backbone.conv1.weight.val().flatten(0, 3)),
        flat(model.backbone.layer3[0].conv1.weight.val().flatten(0, 3)),
        flat(model.head.classifier.weight.val().flatten(0, 1)),
        flat(learner.criterion.1.weight.val().flatten(0, 1)),
    ]
}

/// The changes of some weights in a run of one step.
fn changes(
    fixture: &Fixture,
    recipe: &Recipe<Network, Losses>,
    is_replaced: bool,
) -> Vec<Vec<f32>> {
    let trainer = || {
        let sampler = These(vec![vec![0, 1, 6, 7]]);
        let trainer = fixture.trainer(recipe).with_sampler(sampler);
        if is_replaced {
            replaced(trainer)
        } else {
            trainer
        }
    };
    let before = weights_of_layers(trainer().learner_mut());
    let outcome = trainer().run(&mut ()).expect("it trains");
    let layers = before.into_iter().zip(weights_of_layers(&outcome.learner));
    let change = |(before, after): (Vec<f32>, Vec<f32>)| {
        let pairs = before.into_iter().zip(after);
        let differences = pairs.map(|(before, after)| after - before);
        differences.collect::<Vec<f32>>()
    };
    layers.map(change).collect()
}

/// A step of plain SGD, and the first step of Adam, change weights in proportion to their learning rate. So they do
/// if the model was replaced before the run.
#[test]
fn layer_decay_and_groups_scale_the_step_of_each_layer() {
    let fixture = Fixture::new();
    let mut plain = fixture.recipe.clone();
    plain.epochs = 1;
    let factors = [1.0 / 32.0, 3.0 / 4.0, 0.25, 1.0];
    for (optimizer, rate, is_replaced) in [
        (OptimizerConfig::plain_sgd(), 1.0, false),
        (OptimizerConfig::plain_sgd(), 1.0, true),
        (OptimizerConfig::adam(), 0.01, true),
    ] {
        (plain.optimizer, plain.schedule.base) = (optimizer, rate);
        let mut decayed = plain.clone();
        decayed.layer_decay = Some(0.5);
        decayed.groups = vec![
            ParameterGroup::new(["backbone.layer3"]).with_rate_factor(3.0),
            ParameterGroup::new(["head"]).with_fixed_rate(0.25 * rate),
        ];
        let layers = changes(&fixture, &plain, is_replaced).into_iter();
        let layers = layers.zip(changes(&fixture, &decayed, is_replaced));
        for ((plain, decayed), factor) in layers.zip(factors) {
            let largest = plain
                .iter()
                .fold(0.0, |most: f32, change| most.max(change.abs()));
            assert!(largest > 1e-4, "{largest}");
            for (plain, decayed) in plain.iter().zip(&decayed) {
                let difference = (plain * factor - decayed).abs();
                assert!(difference < 0.01 * factor * largest, "{plain}, {decayed}");
            }
        }
    }
}

/// Replaces the model by one with the same values and other identifiers, as loading published weights does.
fn replaced(mut trainer: Trainer<'_, Learner>) -> Trainer<'_, Learner> {
    let model = &mut trainer.learner_mut().model;
    *model = parameters::copy(model);
    trainer
}

#[test]
fn a_model_that_was_replaced_resumes_with_the_rates_of_its_layers() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    recipe.layer_decay = Some(0.5);
    recipe.groups = vec![ParameterGroup::new(["backbone.layer3"]).with_rate_factor(3.0)];
    let trainer = || replaced(averaging(&fixture, &recipe));
    resumes_bit_identically(&fixture, trainer, [1, 4]);
}

#[test]
fn averaged_weights_and_accumulated_batches_resume() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    (recipe.average_decay, recipe.accumulated_batches) = (Some(0.9), 2);
    let whole = resumes_bit_identically(&fixture, || fixture.trainer(&recipe), [1, 3]);
    let average = whole.average.expect("an average");
    assert_ne!(values(&average), values(&whole.learner.model));
}

/// After one step with a decay of 0.75, the average is three quarters of the values before it and one of those
/// after it.
#[test]
fn an_exponential_average_follows_the_weights() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    (recipe.average_decay, recipe.epochs) = (Some(0.75), 1);
    let batches = || These(vec![vec![0, 1, 6, 7]]);
    let trainer = || fixture.trainer(&recipe).with_sampler(batches());
    let before = values(&trainer().learner_mut().model);
    let outcome = trainer().run(&mut ()).expect("it trains");
    let after = values(&outcome.learner.model);
    assert_ne!(before, after);
    let average = values(&outcome.average.expect("an average"));
    for ((before, after), average) in before.iter().zip(&after).zip(&average) {
        let expected = 0.75 * before + 0.25 * after;
        let allowed = 1e-6 * (1.0 + expected.abs());
        assert!(
            (average - expected).abs() <= allowed,
            "{average}, {expected}"
        );
    }
}

/// A step whose gradients overflow in half precision changes neither the weights nor their average.
#[test]
fn a_skipped_step_is_not_averaged() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    (recipe.precision, recipe.average_decay) = (Precision::Float16, Some(0.5));
    // Its gradients overflow, and the loss does not.
    (recipe.losses.1.scale, recipe.epochs) = (1e6, 1);
    let batches = || These(vec![vec![0, 1, 6, 7]]);
    let trainer = || fixture.trainer(&recipe).with_sampler(batches());
    let before = values(&trainer().learner_mut().model);
    let outcome = trainer().run(&mut ()).expect("it trains");
    let skipped = ("skipped".to_owned(), 1.0);
    let diagnostics = &outcome.history[0].diagnostics;
    assert!(diagnostics.contains(&skipped), "{diagnostics:?}");
    assert_eq!(values(&outcome.learner.model), before);
    assert!(outcome.average.is_some());
    assert_eq!(values(outcome.model()), before);
}

/// The batches of an epoch in the tests of averaged weights.
fn two_batches() -> Vec<Vec<usize>> {
    vec![vec![0, 1, 6, 7], vec![2, 3, 8, 9]]
}

/// A trainer with two steps per epoch.
fn averaging<'a>(fixture: &'a Fixture, recipe: &Recipe<Network, Losses>) -> Trainer<'a, Learner> {
    fixture.trainer(recipe).with_sampler(These(two_batches()))
}

/// The weights of the first convolution and of the classifier.
fn some_weights(model: &Model) -> Vec<f32> {
    let stem = model.backbone.conv1.weight.val().flatten::<1>(0, 3);
    let classifier = model.head.classifier.weight.val().flatten::<1>(0, 1);
    let both = [stem, classifier].into_iter();
    both.flat_map(|values| values.into_data().iter::<f32>().collect::<Vec<_>>())
        .collect()
}

/// The values of a model whose running statistics are computed from the first batches of an epoch, without a
/// trainer.
fn renewed(fixture: &Fixture, model: &Model, epoch: u64, batches: usize) -> Vec<f32> {
    let recipe = &fixture.recipe;
    let loader = TrainLoader::new(fixture.splits.train.clone(), recipe.input, recipe.seed);
    let loader = loader.with_augmentation(&recipe.augmentation);
    let batches = loader.epoch(epoch, two_batches()).take(batches);
    let device = device().autodiff();
    let model = renew_batch_norm(model.clone(), batches, |model, batch| {
        let batch = batch.expect("an image that can be read");
        let shape = [batch.classes.len(), 3, batch.size.height, batch.size.width];
        let images = TensorData::new(batch.images, shape);
        let _ = model.forward(Tensor::from_data(images, &device));
    });
    values(&model)
}

#[test]
fn stochastic_weight_averaging_is_the_mean_of_the_epochs_with_renewed_statistics() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    (recipe.swa, recipe.evaluate_every) = (Some(Swa::from_epoch(1)), 1);
    let run = |epochs| {
        let mut recipe = recipe.clone();
        recipe.epochs = epochs;
        let outcome = averaging(&fixture, &recipe).run(&mut ());
        outcome.expect("it trains")
    };
    let (two, three) = (run(2), run(3));
    let average = three.average.as_ref().expect("an average");
    assert_eq!(values(three.model()), values(average));
    let (two, three) = (&two.learner.model, &three.learner.model);
    let (two, three) = (some_weights(two), some_weights(three));
    assert_ne!(two, three);
    for ((two, three), average) in two.iter().zip(&three).zip(some_weights(average)) {
        assert!((average - f32::midpoint(*two, *three)).abs() < 1e-6);
    }
    assert_eq!(values(average), renewed(&fixture, average, 2, 2));

    // The checkpoint has the averaged model.
    let checkpoints = fixture.checkpoints("mean");
    let trainer = averaging(&fixture, &recipe).with_checkpoints(checkpoints.clone());
    let outcome = trainer.run(&mut ()).expect("it trains");
    let last = checkpoints.find(CheckpointKind::Last).expect("readable");
    let (device, network) = (device(), &recipe.network);
    let empty = reid::nn::Network::init(network, recipe.input, 4, &Init::empty(&device));
    let loaded = Checkpoints::load_model(&last.expect("saved"), empty).expect("the same network");
    assert_eq!(values(&loaded), values(average));

    // Before the first weights are in the mean, the trained model is evaluated.
    let mut plain = recipe.clone();
    plain.swa = None;
    let plain = averaging(&fixture, &plain).run(&mut ()).expect("it trains");
    assert_eq!(plain.history[0], outcome.history[0]);
    assert!(plain.average.is_none());
    assert_eq!(values(plain.model()), values(&plain.learner.model));
}

#[test]
fn an_exponential_average_can_have_renewed_statistics() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    (recipe.average_decay, recipe.renewal_batches) = (Some(0.5), Some(1));
    let outcome = averaging(&fixture, &recipe).run(&mut ());
    let average = outcome.expect("it trains").average.expect("an average");
    assert_eq!(values(&average), renewed(&fixture, &average, 2, 1));
    recipe.renewal_batches = None;
    let outcome = averaging(&fixture, &recipe).run(&mut ());
    let other = outcome.expect("it trains").average.expect("an average");
    assert_eq!(some_weights(&other), some_weights(&average));
    assert_ne!(values(&other), values(&average));
}

/// The last weights in the mean are those of the fourth of six steps.
#[test]
fn renewed_statistics_do_not_depend_on_the_evaluated_epochs() {
    let fixture = Fixture::new();
    let average = |every| {
        let mut recipe = fixture.recipe.clone();
        recipe.swa = Some(Swa::from_epoch(0).with_every_steps(4));
        recipe.evaluate_every = every;
        let outcome = averaging(&fixture, &recipe).run(&mut ());
        outcome.expect("it trains").average.expect("an average")
    };
    let (at_the_end, each_epoch) = (average(0), average(1));
    assert_eq!(values(&at_the_end), values(&each_epoch));
    assert_eq!(values(&at_the_end), renewed(&fixture, &at_the_end, 1, 2));
}

#[test]
fn a_mean_that_takes_no_weights_is_rejected_before_the_first_step() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    let mut run = |every| {
        recipe.swa = Some(Swa::from_epoch(1).with_every_steps(every));
        let mut observer = StopRenewal {
            batches: 100,
            interrupt: None,
            steps: 0,
        };
        let outcome = averaging(&fixture, &recipe).run(&mut observer);
        (outcome.map(drop), observer.steps)
    };
    let (outcome, steps) = run(5);
    assert_eq!(
        outcome.expect_err("no weights").to_string(),
        "recipe: swa.every_steps: expected at most 4, 2 epochs of 2 steps, found 5"
    );
    assert_eq!(steps, 0);
    assert!(run(4).0.is_ok());
}

/// A transform that changes images to NaN once it is switched on.
#[derive(Debug)]
struct Spoil(Arc<AtomicBool>);

impl Transform for Spoil {
    fn apply(&self, picture: &mut Picture, _stream: &mut reid::core::Stream) {
        if self.0.load(Relaxed) {
            picture.values.fill(f32::NAN);
        }
    }
}

/// Switches [`Spoil`] on after the first epoch.
struct SpoilLater(Arc<AtomicBool>);

impl Observer for SpoilLater {
    fn observe(&mut self, event: &Event<'_>) {
        if matches!(event, Event::Epoch(_)) {
            self.0.store(true, Relaxed);
        }
    }
}

#[test]
fn a_renewal_whose_statistics_are_not_finite_names_its_epoch() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    (recipe.swa, recipe.epochs) = (Some(Swa::from_epoch(0)), 1);
    let spoiled = Arc::new(AtomicBool::new(false));
    let checkpoints = fixture.checkpoints("spoiled");
    let trainer = averaging(&fixture, &recipe)
        .with_transform(Spoil(spoiled.clone()))
        .with_checkpoints(checkpoints.clone());
    let error = trainer.run(&mut SpoilLater(spoiled)).expect_err("NaN");
    let error = error.to_string();
    assert!(error.contains("from the batches of epoch 1"), "{error}");
    assert!(error.contains("`average."), "{error}");
    // The epoch is not lost.
    assert!(
        checkpoints
            .find(CheckpointKind::Last)
            .expect("readable")
            .is_some()
    );
}

#[test]
fn stochastic_weight_averaging_resumes_at_any_step() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    recipe.evaluate_every = 1;
    for swa in [Swa::from_epoch(1), Swa::from_epoch(0).with_every_steps(3)] {
        recipe.swa = Some(swa);
        let whole = resumes_bit_identically(&fixture, || averaging(&fixture, &recipe), 1..=5);
        assert_ne!(
            values(&whole.average.expect("an average")),
            values(&whole.learner.model)
        );
        for steps in 1..=5 {
            let run = fixture.folder.path().join(format!("stopped-{steps}"));
            std::fs::remove_dir_all(run).expect("a finished run");
        }
    }
}

/// Requests an interrupt after a number of batches of renewals, or panics, like a process that is killed there.
/// Counts training steps.
struct StopRenewal {
    batches: usize,
    interrupt: Option<Interrupt>,
    steps: usize,
}

impl Observer for StopRenewal {
    fn observe(&mut self, event: &Event<'_>) {
        match event {
            Event::Step(_) => self.steps += 1,
            Event::Renewing { of, .. } => {
                assert_eq!(*of, 2);
                self.batches -= 1;
                if self.batches == 0 {
                    self.interrupt.as_ref().expect("killed").request();
                }
            }
            _ => {}
        }
    }
}

/// No epoch is trained again because the renewal after it was stopped.
#[test]
fn a_renewal_that_is_interrupted_or_killed_is_repeated() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    (recipe.swa, recipe.evaluate_every) = (Some(Swa::from_epoch(0)), 1);
    // A frozen layer keeps its statistics in every pass.
    recipe.groups = vec![ParameterGroup::new(["backbone.layer1"]).with_frozen_epochs(2)];
    let trainer = || averaging(&fixture, &recipe);
    let whole = trainer().run(&mut ()).expect("it trains");
    for interrupted in [true, false] {
        // The first batch of the renewal after the second epoch.
        let checkpoints = fixture.checkpoints(&format!("renewal-{interrupted}"));
        let interrupt = Interrupt::new();
        let stopped = trainer().with_checkpoints(checkpoints.clone());
        let stopped = stopped.with_interrupt(interrupt.clone());
        let mut observer = StopRenewal {
            batches: 3,
            interrupt: interrupted.then_some(interrupt),
            steps: 0,
        };
        let stopped = catch_unwind(AssertUnwindSafe(|| stopped.run(&mut observer)));
        assert_eq!((stopped.is_ok(), observer.steps), (interrupted, 4));

        let resumed = trainer().with_checkpoints(checkpoints).resume();
        let mut observer = StopRenewal {
            batches: 100,
            interrupt: None,
            steps: 0,
        };
        let resumed = resumed.expect("the same run").run(&mut observer);
        let resumed = resumed.expect("it trains");
        assert_eq!(observer.steps, 2);
        assert_eq!(resumed.history, whole.history);
        // The third epoch was trained with the optimizers of the checkpoint.
        assert_eq!(values(&resumed.learner), values(&whole.learner));
        let average = |outcome: &Outcome<Learner>| outcome.average.as_ref().map(values);
        assert_eq!(average(&resumed), average(&whole));
    }
}

/// A step of plain SGD over two batches must equal the mean of the steps over each of them.
#[test]
fn accumulated_gradients_are_the_mean_over_the_batches() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    recipe.augmentation = Augmentation::none();
    recipe.optimizer = OptimizerConfig::plain_sgd();
    (recipe.epochs, recipe.schedule.base) = (1, 0.05);
    let parts = [vec![0, 1, 6, 7], vec![2, 3, 8, 9]];
    let step =
        |batches: Vec<Vec<usize>>| recipe_step(&fixture, &recipe, batches.len(), These(batches));
    let [one, other] = parts.clone().map(|part| step(vec![part]));
    let both = step(parts.to_vec());
    for ((one, other), both) in one.iter().zip(&other).zip(&both) {
        assert!((f32::midpoint(*one, *other) - both).abs() < 1e-5);
    }
}

/// Trains with these batches and returns the weights of the stem and the classifier.
fn recipe_step(
    fixture: &Fixture,
    recipe: &Recipe<Network, Losses>,
    batches: usize,
    sampler: impl Sampler + 'static,
) -> Vec<f32> {
    let mut recipe = recipe.clone();
    recipe.accumulated_batches = batches;
    let outcome = fixture.trainer(&recipe).with_sampler(sampler).run(&mut ());
    let learner = outcome.expect("it trains").learner;
    let head = &learner.model.head.classifier.weight;
    let stem = &learner.model.backbone.conv1.weight;
    let all = [head.val().flatten::<1>(0, 1), stem.val().flatten::<1>(0, 3)];
    all.into_iter()
        .flat_map(|values| values.into_data().iter::<f32>().collect::<Vec<_>>())
        .collect()
}

#[test]
fn custom_parts_are_used_and_must_be_the_same_when_the_run_resumes() {
    let fixture = Fixture::new();
    let trainer = || {
        fixture
            .trainer(&fixture.recipe)
            .with_sampler(InOrder { batch_size: 4 })
            .with_transform(Pale)
            .with_schedule(Falling { base: 1e-3 })
            .with_optimizer(Plain)
    };
    let whole = resumes_bit_identically(&fixture, trainer, [3]);
    let plain = fixture.trainer(&fixture.recipe).run(&mut ());
    assert_ne!(
        values(&plain.expect("it trains").learner),
        values(&whole.learner)
    );
    let rates: Vec<f64> = whole
        .history
        .iter()
        .map(|epoch| epoch.learning_rate)
        .collect();
    assert!(rates.is_sorted_by(|one, next| one > next), "{rates:?}");

    let run = fixture.checkpoints("stopped-3");
    let with = |trainer: Trainer<'_, Learner>| {
        let refused = trainer.with_checkpoints(run.clone()).resume();
        refused.expect_err("other parts").to_string()
    };
    let message = with(trainer().with_sampler(InOrder { batch_size: 3 }));
    let expected = "sampler was InOrder { batch_size: 4 } and is InOrder { batch_size: 3 }";
    assert!(message.contains(expected), "{message}");
    let message = with(trainer().with_transform(Pale));
    assert!(
        message.contains("transforms was Pale and is Pale, Pale"),
        "{message}"
    );
    let message = with(trainer().with_schedule(Falling { base: 2e-3 }));
    assert!(
        message.contains("schedule was Falling { base: 0.001 }"),
        "{message}"
    );
    let message = with(fixture.trainer(&fixture.recipe));
    assert!(message.contains("and is the recipe's"), "{message}");

    let mut other = fixture.recipe.clone();
    other.losses.1.margin = 0.5;
    let message = with(fixture.trainer(&other));
    assert!(message.contains("losses"), "{message}");
}

#[test]
fn a_group_without_parameters_is_rejected() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    recipe.groups = vec![ParameterGroup::new(["backbone", "bakbone.layer1"])];
    let trainer = Trainer::new(&recipe, &fixture.splits, LoaderConfig::default(), &device());
    assert_eq!(
        trainer.expect_err("no such parameters").to_string(),
        "recipe: groups[0].parameters[1]: expected the path of a parameter or of a module with \
         parameters, such as `backbone.layer1`, found `bakbone.layer1`"
    );
}

/// Parts that are set after `resume` are compared too, and a folder that was not resumed is refused.
#[test]
fn the_order_of_calls_loses_no_run() {
    let fixture = Fixture::new();
    let sampler = || InOrder { batch_size: 4 };
    let trainer = || fixture.trainer(&fixture.recipe);
    let run = fixture.checkpoints("run");
    let first = trainer()
        .with_sampler(sampler())
        .with_checkpoints(run.clone());
    first.run(&mut ()).expect("it trains");
    let last = || run.find(CheckpointKind::Last).expect("readable");
    let before = last();

    let error = trainer().resume().expect_err("no checkpoints").to_string();
    assert!(
        error.contains("call `Trainer::with_checkpoints` before"),
        "{error}"
    );
    let elsewhere = fixture.checkpoints("elsewhere");
    let other = trainer()
        .with_checkpoints(elsewhere)
        .resume()
        .expect("a new run");
    let error = other.with_checkpoints(run.clone()).run(&mut ());
    let error = error.expect_err("the folder holds a run").to_string();
    assert!(error.contains("holds a run"), "{error}");

    let resumed = trainer()
        .with_sampler(sampler())
        .with_checkpoints(run.clone());
    let resumed = resumed.resume().expect("the same run");
    let changed = resumed.with_sampler(InOrder { batch_size: 8 }).run(&mut ());
    let error = changed.expect_err("another sampler").to_string();
    assert!(
        error.contains("and is InOrder { batch_size: 8 }"),
        "{error}"
    );
    assert_eq!(last(), before);
}

#[test]
fn batches_that_cannot_be_trained_on_are_errors() {
    let fixture = Fixture::new();
    for (batches, expected) in [
        (vec![], "an epoch without batches"),
        (vec![vec![0], vec![]], "a batch without images"),
        (
            vec![vec![9999]],
            "a batch with the sample index 9999 of only ",
        ),
    ] {
        let trainer = fixture
            .trainer(&fixture.recipe)
            .with_sampler(These(batches));
        let error = trainer.run(&mut ()).expect_err("no batches").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_recipe_whose_parameters_are_all_frozen_in_the_first_epoch_is_rejected() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    recipe.groups = vec![
        ParameterGroup::new(["backbone", "head", "criterion"]).with_frozen_epochs(1),
        ParameterGroup::new(["head.classifier"]).with_frozen_epochs(2),
    ];
    let trainer = Trainer::new(&recipe, &fixture.splits, LoaderConfig::default(), &device());
    assert_eq!(
        trainer.expect_err("all frozen").to_string(),
        "recipe: groups: expected a parameter that is trained in the first epoch, found all of them frozen"
    );
}

#[test]
fn a_learner_without_autodiff_is_rejected() {
    let fixture = Fixture::new();
    let learner = ReidLearner::build(&fixture.recipe, 4, &device());
    let plain: Learner = Learner {
        model: learner.model.valid(),
        criterion: learner.criterion.valid(),
    };
    let (recipe, splits) = (&fixture.recipe, &fixture.splits);
    let trainer = Trainer::with_learner(recipe, splits, plain, LoaderConfig::default(), &device());
    assert_eq!(
        trainer.expect_err("no gradients").to_string(),
        "recipe: expected a learner on an autodiff device with at least one trained parameter, found \
         no parameter that requires a gradient"
    );
}

/// Plain stochastic gradient descent, without momentum or weight decay.
#[derive(Clone, Debug)]
struct Plain;

impl burn::optim::Optimizer for Plain {
    type State<const D: usize> = burn::optim::SgdState<D>;

    fn step<const D: usize>(
        &self,
        rate: f64,
        weights: Tensor<D>,
        gradient: Tensor<D>,
        _state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        (weights - gradient * rate, None)
    }

    fn to_device<const D: usize>(state: Self::State<D>, _device: &Device) -> Self::State<D> {
        state
    }
}
