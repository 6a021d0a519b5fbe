//! A small run, its results, and the comparison of those of several ranks.

use std::path::PathBuf;

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Tensor},
};
use reid::{
    core::Threads,
    data::{dataset::market1501, sampler::EpochDefinition},
    nn::{
        backbone::{ResNet, ResNetConfig},
        head::{BnNeck, BnNeckConfig},
    },
    prelude::*,
    synthetic::SyntheticConfig,
    train::{
        EpochSummary, Event, Learner, LearnerParts, LossesConfig, Observer, OptimizerConfig,
        Outcome, ParallelConfig, ReidLearner,
    },
};

/// The learning rate of comparisons with one process. With ten times this rate, 20 steps amplify a difference in
/// rounding by three million.
pub(crate) const RATE: f64 = 1e-4;

type Network = (ResNetConfig, BnNeckConfig);
type Losses = <LossesConfig as CriterionConfig>::Criterion;
pub(crate) type Inner = ReidLearner<ReidModel<ResNet, BnNeck>, Losses>;

pub(crate) struct Fixture {
    folder: tempfile::TempDir,
    pub(crate) splits: Splits,
    pub(crate) recipe: Recipe<Network>,
    people: usize,
}

impl Fixture {
    /// Batches of six identities with two images each, one per epoch.
    pub(crate) fn new(epochs: usize) -> Self {
        Self::with_people(epochs, 6)
    }

    /// As [`new`](Self::new), with a batch per epoch for every six people.
    pub(crate) fn with_people(epochs: usize, people: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        SyntheticConfig::new()
            .with_train_identities(people)
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
            people,
        }
    }

    pub(crate) fn learner(&self) -> Inner {
        ReidLearner::build(&self.recipe, self.people, &device())
    }

    pub(crate) fn trainer<L: Learner>(&self, learner: L) -> Trainer<'_, L> {
        let loading = LoaderConfig::default();
        let trainer =
            Trainer::with_learner(&self.recipe, &self.splits, learner, loading, &device());
        trainer.expect("a valid recipe")
    }

    /// A path in the folder of the fixture.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn checkpoints(&self, name: &str) -> Checkpoints {
        Checkpoints::new(self.path(name))
    }

    /// The results of all ranks.
    pub(crate) fn train<L: Learner>(
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
pub(crate) fn device() -> Device {
    device::pick_named("flex").expect("the flex backend is compiled in")
}

/// The values and results of a run.
pub(crate) struct Trained {
    pub(crate) values: Vec<f64>,
    /// The values that require gradients.
    pub(crate) weights: Vec<f64>,
    pub(crate) average: Option<Vec<f64>>,
    pub(crate) history: Vec<EpochSummary>,
    pub(crate) map: Option<f64>,
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
pub(crate) fn values<M: Module>(module: &M, is_wanted: fn(bool) -> bool) -> Vec<f64> {
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
pub(crate) fn difference(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let differences = found.iter().zip(expected);
    let difference = norm(&mut differences.map(|(found, expected)| found - expected));
    difference / norm(&mut expected.iter().copied())
}

/// Compares the weights and the losses of each epoch, and ranks among each other bit by bit.
pub(crate) fn assert_equal(ranks: &[Trained], expected: &Trained, allowed: f64) {
    let first = &ranks[0];
    for other in ranks {
        assert!(other.values == first.values, "ranks differ");
        assert!(other.average == first.average, "averages of ranks differ");
        assert_eq!(other.history, first.history);
        assert_eq!(other.map.map(f64::to_bits), first.map.map(f64::to_bits));
    }
    let found = difference(&first.values, &expected.values);
    assert!(found < allowed, "{} ranks differ by {found}", ranks.len());
    assert_eq!(first.average.is_some(), expected.average.is_some());
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

/// Counts saved checkpoints and requests an interrupt or panics after some steps.
#[derive(Default)]
pub(crate) struct Watch {
    pub(crate) saved: usize,
    pub(crate) steps: usize,
    pub(crate) interrupt: Option<(usize, Interrupt)>,
    pub(crate) panics_after: Option<usize>,
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
