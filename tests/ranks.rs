//! Data-parallel training: several ranks train one model as one process does, or as a plain reference does, and end,
//! resume and write together.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{DType, Device, Tensor},
};
use reid::{
    core::{RankError, Threads},
    data::{
        Error as DataError,
        dataset::market1501,
        sampler::{EpochDefinition, IdentitySampler, Sampler},
    },
    nn::{
        TrainingStep,
        backbone::{ResNet, ResNetConfig},
        head::{BnNeck, BnNeckConfig},
        loss::{AnyPairLossConfig, CrossBatchMemoryConfig, TripletLossConfig, WeightedConfig},
    },
    prelude::*,
    synthetic::SyntheticConfig,
    train::{
        EpochSummary, Error, Event, Learner, LearnerParts, LossesConfig, Observer, OptimizerConfig,
        Outcome, ParallelConfig, ReidLearner, Scope, StepOutput,
    },
};

/// The learning rate of comparisons with one process. With ten times this rate, 20 steps amplify a difference in
/// rounding by three million.
const RATE: f64 = 1e-4;

type Network = (ResNetConfig, BnNeckConfig);
type Losses = <LossesConfig as CriterionConfig>::Criterion;
type Inner = ReidLearner<ReidModel<ResNet, BnNeck>, Losses>;

struct Fixture {
    folder: tempfile::TempDir,
    splits: Splits,
    recipe: Recipe<Network>,
}

impl Fixture {
    /// Batches of six identities with two images each, one per epoch.
    fn new(epochs: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        SyntheticConfig::new()
            .with_train_identities(6)
            .with_test_identities(2)
            .write(&data)
            .expect("the synthetic dataset is written");
        let splits = market1501::load(&data).expect("the dataset is readable");
        let backbone = ResNetConfig::resnet18().with_width(4).with_last_stride(1);
        let network = (backbone, BnNeckConfig::new());
        let mut recipe = Recipe::strong_baseline("ranks", InputSize::new(32, 16), network);
        (recipe.epochs, recipe.evaluate_every) = (epochs, 0);
        (recipe.sampling.identities, recipe.sampling.images) = (6, 2);
        recipe.sampling.epoch = EpochDefinition::EachIdentityOnce;
        recipe.optimizer = OptimizerConfig::sgd();
        recipe.schedule.warm_up = None;
        recipe.schedule.base = 1e-3;
        Self {
            folder,
            splits,
            recipe,
        }
    }

    fn learner(&self) -> Inner {
        ReidLearner::build(&self.recipe, 6, &device())
    }

    fn trainer<L: Learner>(&self, learner: L) -> Trainer<'_, L> {
        let loading = LoaderConfig::default();
        let trainer =
            Trainer::with_learner(&self.recipe, &self.splits, learner, loading, &device());
        trainer.expect("a valid recipe")
    }

    fn checkpoints(&self, name: &str) -> Checkpoints {
        Checkpoints::new(self.folder.path().join(name))
    }

    /// The results of all ranks.
    fn train<L: Learner>(
        &self,
        ranks: usize,
        config: ParallelConfig,
        learner: impl Fn() -> L + Sync,
    ) -> Vec<Trained> {
        Threads::run(ranks, |communicator| {
            let trainer = self.trainer(learner()).with_ranks(communicator, config);
            Trained::from(trainer.run(&mut ()).expect("it trains"))
        })
    }
}

/// The CPU backend, on which operations are deterministic.
fn device() -> Device {
    device::pick_named("flex").expect("the flex backend is compiled in")
}

/// The values and results of a run.
struct Trained {
    values: Vec<f64>,
    /// The values that require gradients.
    weights: Vec<f64>,
    average: Option<Vec<f64>>,
    history: Vec<EpochSummary>,
    map: Option<f64>,
}

impl<L: LearnerParts> From<Outcome<L>> for Trained {
    fn from(outcome: Outcome<L>) -> Self {
        let report = outcome.report.as_ref();
        Self {
            values: values(&outcome.learner, |_| true),
            weights: values(&outcome.learner, |is_trained| is_trained),
            average: outcome
                .average
                .as_ref()
                .map(|average| values(average, |_| true)),
            map: report.map(|report| report.mean_average_precision),
            history: outcome.history,
        }
    }
}

/// The parameters and running statistics of a module, in order, that are wanted by whether they are trained.
fn values<M: Module>(module: &M, is_wanted: fn(bool) -> bool) -> Vec<f64> {
    struct Values(Vec<f64>, fn(bool) -> bool);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if (self.1)(param.is_require_grad()) {
                self.0.extend(param.val().into_data().iter::<f64>());
            }
        }
    }
    let mut values = Values(Vec::new(), is_wanted);
    module.visit(&mut values);
    values.0
}

/// ‖a - b‖ / ‖b‖
fn difference(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let differences = found.iter().zip(expected);
    let difference = norm(&mut differences.map(|(found, expected)| found - expected));
    difference / norm(&mut expected.iter().copied())
}

/// Compares the weights and the losses of each epoch, and ranks among each other bit by bit.
fn assert_equal(ranks: &[Trained], expected: &Trained, allowed: f64) {
    let first = &ranks[0];
    for other in ranks {
        assert!(other.values == first.values, "ranks differ");
        assert_eq!(other.history, first.history);
        assert_eq!(other.map.map(f64::to_bits), first.map.map(f64::to_bits));
    }
    let found = difference(&first.values, &expected.values);
    assert!(found < allowed, "{} ranks differ by {found}", ranks.len());
    if let (Some(found), Some(expected)) = (&first.average, &expected.average) {
        let found = difference(found, expected);
        assert!(found < allowed, "the averages differ by {found}");
    }
    assert_losses(first, expected, 10.0 * allowed);
}

fn assert_losses(found: &Trained, expected: &Trained, allowed: f64) {
    assert_eq!(found.history.len(), expected.history.len());
    for (found, expected) in found.history.iter().zip(&expected.history) {
        assert_eq!(found.accuracy, expected.accuracy, "epoch {}", found.epoch);
        for (one, other) in found.losses.iter().zip(&expected.losses) {
            assert_eq!(one.0, other.0);
            let difference = (one.1 - other.1).abs();
            assert!(difference < allowed * (1.0 + other.1), "{one:?}, {other:?}");
        }
    }
}

/// A learner that computes in double precision.
#[derive(Module, Debug)]
struct Double {
    learner: Inner,
}

impl Double {
    fn new(learner: Inner) -> Self {
        struct Cast;
        impl ModuleMapper for Cast {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let is_trained = param.is_require_grad();
                param.map(|value| {
                    let value = value.without_autodiff().cast(DType::F64);
                    value.autodiff().set_require_grad(is_trained)
                })
            }
        }
        Self {
            learner: learner.map(&mut Cast),
        }
    }
}

impl LearnerParts for Double {
    type Model = <Inner as LearnerParts>::Model;
    type Criterion = <Inner as LearnerParts>::Criterion;

    fn from_parts(model: Self::Model, criterion: Self::Criterion) -> Self {
        Self {
            learner: Inner::from_parts(model, criterion),
        }
    }

    fn into_parts(self) -> (Self::Model, Self::Criterion) {
        self.learner.into_parts()
    }

    fn model(&self) -> &Self::Model {
        self.learner.model()
    }

    fn criterion(&self) -> &Self::Criterion {
        self.learner.criterion()
    }
}

impl Learner for Double {
    fn training_step(&self, images: Tensor<4>, step: TrainingStep<'_>) -> StepOutput {
        self.learner.training_step(images.cast(DType::F64), step)
    }

    fn gathers(&self) -> bool {
        true
    }
}

/// A plain reference of two ranks in one process: the halves of a batch are normalised on their own, or the losses are
/// the means of those of the halves, or both.
#[derive(Module, Debug)]
struct Halves {
    learner: Double,
    #[module(skip)]
    config: ParallelConfig,
}

impl Halves {
    fn forward(&self, images: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput {
        self.learner.model().forward_train(images, step)
    }
}

impl LearnerParts for Halves {
    type Model = <Inner as LearnerParts>::Model;
    type Criterion = <Inner as LearnerParts>::Criterion;

    fn from_parts(model: Self::Model, criterion: Self::Criterion) -> Self {
        Self {
            learner: Double::from_parts(model, criterion),
            config: ParallelConfig::exact(), // a run takes a learner apart only to freeze or to load it
        }
    }

    fn into_parts(self) -> (Self::Model, Self::Criterion) {
        self.learner.into_parts()
    }

    fn model(&self) -> &Self::Model {
        self.learner.model()
    }

    fn criterion(&self) -> &Self::Criterion {
        self.learner.criterion()
    }
}

impl Learner for Halves {
    fn training_step(&self, images: Tensor<4>, step: TrainingStep<'_>) -> StepOutput {
        let images = images.cast(DType::F64);
        let (device, half) = (images.device(), images.dims()[0] / 2);
        let rows = |of: &Tensor<2>, part: usize| of.clone().narrow(0, part * half, half);
        let output = if self.config.batch_norm == Scope::PerRank {
            let [one, other] = [0, 1].map(|part| {
                let images = images.clone().narrow(0, part * half, half);
                let step = TrainingStep::new(&step.labels[part * half..][..half], step.seed);
                self.forward(images, step)
            });
            let cat = |one: &Tensor<2>, other: &Tensor<2>| {
                Tensor::cat(vec![one.clone(), other.clone()], 0)
            };
            ReidOutput::new(
                cat(&one.embedding, &other.embedding),
                vec![cat(&one.features[0], &other.features[0])],
                vec![cat(&one.logits[0], &other.logits[0])],
            )
        } else {
            self.forward(images, step)
        };
        let targets = |labels: &[usize]| Targets::new(labels, &device);
        if self.config.losses == Scope::WholeBatch {
            return StepOutput::new(self.criterion().losses(&output, &targets(step.labels)));
        }
        let [losses, others] = [0, 1].map(|part| {
            let output = ReidOutput::new(
                rows(&output.embedding, part),
                vec![rows(&output.features[0], part)],
                vec![rows(&output.logits[0], part)],
            );
            let labels = &step.labels[part * half..][..half];
            self.criterion().losses(&output, &targets(labels))
        });
        let pairs = losses.into_iter().zip(others);
        let means = pairs.map(|(one, other)| {
            let mean = (one.value + other.value) / 2.0;
            NamedLoss::new(one.name, mean)
        });
        StepOutput::new(means.collect())
    }
}

/// Twenty steps with center loss, a cross-batch memory, clipping and averaged weights.
#[test]
fn ranks_equal_one_process_in_single_precision() {
    let mut fixture = Fixture::new(20);
    fixture.recipe = fixture.recipe.with_center_loss(5e-4, 0.5);
    let memory = CrossBatchMemoryConfig::new(AnyPairLossConfig::from(TripletLossConfig::new()));
    fixture.recipe.losses.cross_batch_memory = Some(WeightedConfig {
        weight: 0.5,
        criterion: memory.with_capacity(30),
    });
    (fixture.recipe.clip_norm, fixture.recipe.average_decay) = (Some(5.0), Some(0.9));
    fixture.recipe.schedule.base = RATE;
    let learner = || fixture.learner();
    let before = values(&learner(), |_| true);
    let one = fixture.train(1, ParallelConfig::exact(), learner).remove(0);
    let change = difference(&one.values, &before);
    assert!(change > 1e-4, "the weights changed by {change}");
    for ranks in [2, 3] {
        let found = fixture.train(ranks, ParallelConfig::exact(), learner);
        assert_equal(&found, &one, 1e-5);
    }
}

#[test]
fn ranks_equal_one_process_in_double_precision() {
    let mut fixture = Fixture::new(20);
    fixture.recipe.schedule.base = RATE;
    let learner = || Double::new(fixture.learner());
    let before = values(&learner(), |is_trained| is_trained);
    let one = fixture.train(1, ParallelConfig::exact(), learner).remove(0);
    let change = difference(&one.weights, &before);
    assert!(change > 1e-5, "the weights changed by {change}");
    for ranks in [2, 3] {
        let found = fixture.train(ranks, ParallelConfig::exact(), learner);
        assert_equal(&found, &one, 1e-10);
    }
}

/// Every combination of settings equals a reference in one process. Running statistics are not compared: the reference
/// updates them once for each half.
#[test]
fn settings_per_rank_equal_a_plain_reference() {
    let fixture = Fixture::new(5);
    let scopes = [Scope::PerRank, Scope::WholeBatch];
    let mut all: Vec<Vec<f64>> = Vec::new();
    for batch_norm in scopes {
        for losses in scopes {
            let config = ParallelConfig::default()
                .with_batch_norm(batch_norm)
                .with_losses(losses);
            let reference = || Halves {
                learner: Double::new(fixture.learner()),
                config,
            };
            let one = fixture.train(1, config, reference).remove(0);
            let found = fixture.train(2, config, || Double::new(fixture.learner()));
            assert!(
                found[0].values == found[1].values,
                "{config:?}: ranks differ"
            );
            let apart = difference(&found[0].weights, &one.weights);
            assert!(apart < 1e-10, "{config:?}: {apart}");
            for (found, expected) in found[0].history.iter().zip(&one.history) {
                let apart = (found.loss - expected.loss).abs();
                assert!(apart < 1e-6 * expected.loss, "{config:?}: {apart}");
            }
            for other in &all {
                let apart = difference(&found[0].weights, other);
                assert!(apart > 1e-7, "{config:?} has no effect: {apart}");
            }
            all.push(found[0].weights.clone());
        }
    }
}

/// Counts saved checkpoints and requests an interrupt or panics after some steps.
#[derive(Default)]
struct Watch {
    saved: usize,
    steps: usize,
    interrupt: Option<(usize, Interrupt)>,
    panics_after: Option<usize>,
}

impl Observer for Watch {
    fn observe(&mut self, event: &Event<'_>) {
        match event {
            Event::Saved(_) => self.saved += 1,
            Event::Step(_) => {
                self.steps += 1;
                if let Some((after, interrupt)) = &self.interrupt
                    && self.steps == *after
                {
                    interrupt.request();
                }
                assert!(self.panics_after != Some(self.steps), "the observer panics");
            }
            _ => {}
        }
    }
}

/// A run of two ranks that rank 1 interrupts after two steps. Returns the checkpoints that each rank has saved.
fn interrupted(fixture: &Fixture, name: &str, config: ParallelConfig) -> Vec<usize> {
    Threads::run(2, |communicator| {
        let (rank, interrupt) = (communicator.rank(), Interrupt::new());
        let mut watch = Watch {
            interrupt: (rank == 1).then(|| (2, interrupt.clone())),
            ..Watch::default()
        };
        let outcome = fixture
            .trainer(fixture.learner())
            .with_ranks(communicator, config)
            .with_checkpoints(fixture.checkpoints(name))
            .with_interrupt(interrupt)
            .run(&mut watch)
            .expect("it trains");
        assert!(outcome.interrupted);
        assert_eq!(watch.steps, 2);
        watch.saved
    })
}

#[test]
fn a_run_resumes_with_any_number_of_ranks_and_only_rank_0_writes() {
    let fixture = Fixture::new(4);
    let (config, learner) = (ParallelConfig::exact(), || fixture.learner());
    let whole = fixture.train(1, config, learner).remove(0);
    for ranks in [1, 3] {
        let name = format!("resumed-{ranks}");
        let saved = interrupted(&fixture, &name, config);
        assert!(saved[0] > 0 && saved[1] == 0, "{saved:?}");
        let resumed = Threads::run(ranks, |communicator| {
            let trainer = fixture
                .trainer(learner())
                .with_ranks(communicator, config)
                .with_checkpoints(fixture.checkpoints(&name));
            let trainer = trainer.resume().expect("the same run");
            Trained::from(trainer.run(&mut ()).expect("it trains"))
        });
        assert_equal(&resumed, &whole, 1e-5);
    }
}

#[test]
fn settings_per_rank_resume_only_with_the_same_settings_and_number() {
    let fixture = Fixture::new(4);
    let default = ParallelConfig::default();
    interrupted(&fixture, "run", default);
    let resume = |ranks: usize, config: ParallelConfig| {
        let errors = Threads::run(ranks, |communicator| {
            let trainer = fixture
                .trainer(fixture.learner())
                .with_ranks(communicator, config)
                .with_checkpoints(fixture.checkpoints("run"));
            trainer.resume().err().map(|error| error.to_string())
        });
        errors.into_iter().next().flatten()
    };
    let was = "ranks was 2 with batch normalisation per rank and losses per rank";
    for (ranks, config, is) in [
        (
            3,
            default,
            "3 with batch normalisation per rank and losses per rank",
        ),
        (1, default, "any number over the whole batch"),
        (
            2,
            ParallelConfig::exact(),
            "any number over the whole batch",
        ),
        (
            2,
            default.with_losses(Scope::WholeBatch),
            "2 with batch normalisation per rank and losses over the whole batch",
        ),
    ] {
        let error = resume(ranks, config).expect("another run");
        assert!(error.ends_with(&format!("{was} and is {is}")), "{error}");
    }
    assert_eq!(resume(2, default), None);
}

/// A sampler that fails in the second epoch of one rank.
struct Fails {
    is_failing: bool,
    epochs: AtomicUsize,
}

impl fmt::Debug for Fails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fails")
    }
}

impl Sampler for Fails {
    fn batches(&self, samples: &[Sample], seed: Seed) -> Result<Vec<Vec<usize>>, DataError> {
        if self.epochs.fetch_add(1, Relaxed) > 0 && self.is_failing {
            let reason = "the images are gone".to_owned();
            return Err(DataError::Sampling { reason });
        }
        IdentitySampler::new(6, 2, EpochDefinition::EachIdentityOnce).batches(samples, seed)
    }
}

#[test]
fn a_rank_that_fails_or_panics_ends_the_others_with_its_number() {
    let fixture = Fixture::new(4);
    let started = Instant::now();
    for panics in [false, true] {
        for config in [ParallelConfig::exact(), ParallelConfig::default()] {
            let errors = Threads::run(3, |communicator| {
                let is_failing = communicator.rank() == 1;
                let mut watch = Watch {
                    panics_after: (panics && is_failing).then_some(1),
                    ..Watch::default()
                };
                let sampler = Fails {
                    is_failing: is_failing && !panics,
                    epochs: AtomicUsize::new(0),
                };
                let trainer = fixture
                    .trainer(fixture.learner())
                    .with_sampler(sampler)
                    .with_ranks(communicator, config);
                let run = AssertUnwindSafe(|| trainer.run(&mut watch).err());
                catch_unwind(run).unwrap_or_default()
            });
            let expected = if panics {
                "it panicked"
            } else {
                "the images are gone"
            };
            for rank in [0, 2] {
                match &errors[rank] {
                    Some(Error::Ranks(RankError::Ended { rank: 1, reason })) => {
                        assert!(reason.contains(expected), "{reason}");
                    }
                    other => panic!("rank {rank}: {other:?}"),
                }
            }
        }
    }
    assert!(
        started.elapsed() < Duration::from_secs(40),
        "10 s for each run"
    );
}

#[test]
fn settings_that_ranks_cannot_share_are_rejected_with_their_paths() {
    let errors_of = |fixture: &Fixture, ranks: usize, config: ParallelConfig| {
        let errors = Threads::run(ranks, |communicator| {
            let trainer = fixture.trainer(fixture.learner());
            let trainer = trainer.with_ranks(communicator, config);
            trainer.run(&mut ()).err().map(|error| error.to_string())
        });
        errors.into_iter().next().flatten().expect("an error")
    };
    let mut fixture = Fixture::new(1);
    assert_eq!(
        errors_of(&fixture, 4, ParallelConfig::exact()),
        "recipe: sampling.identities: expected a multiple of 4, the number of ranks, found 6"
    );
    let memory = CrossBatchMemoryConfig::new(AnyPairLossConfig::from(TripletLossConfig::new()));
    fixture.recipe.losses.cross_batch_memory = Some(WeightedConfig {
        weight: 1.0,
        criterion: memory.with_capacity(12),
    });
    let error = errors_of(&fixture, 2, ParallelConfig::default());
    assert!(
        error.starts_with("recipe: losses: expected losses over the whole batch")
            && error.contains("`criterion.9.criterion.features.0`"),
        "{error}"
    );
    let error = Threads::run(2, |communicator| {
        let learner = Halves {
            learner: Double::new(fixture.learner()),
            config: ParallelConfig::default(),
        };
        let trainer = fixture
            .trainer(learner)
            .with_ranks(communicator, ParallelConfig::exact());
        trainer.run(&mut ()).err().map(|error| error.to_string())
    });
    let error = error.into_iter().next().flatten().expect("an error");
    assert!(error.starts_with("recipe: learner: expected"), "{error}");
}

#[test]
fn ranks_that_start_from_other_weights_are_rejected() {
    let fixture = Fixture::new(1);
    let errors = Threads::run(2, |communicator| {
        let mut recipe = fixture.recipe.clone();
        if communicator.rank() == 1 {
            recipe.seed = Seed::new(2);
        }
        let learner = ReidLearner::build(&recipe, 6, &device());
        let trainer = fixture.trainer(learner);
        let trainer = trainer.with_ranks(communicator, ParallelConfig::exact());
        trainer.run(&mut ()).err().map(|error| error.to_string())
    });
    for error in errors {
        let error = error.expect("other weights");
        assert!(
            error.starts_with("rank 1 differs from rank 0 in its weights"),
            "{error}"
        );
    }
}
