//! Training without labels: it resumes bit-identically, keeps the last and the best round, finds the people
//! of an easy dataset, and refuses what does not belong together.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use reid::{
    data::{dataset::market1501, transform::Augmentation},
    eval::ClusteringConfig,
    nn::{
        backbone::{ResNet, ResNetConfig},
        head::{BnNeck, BnNeckConfig},
        loss::ClusterContrastConfig,
    },
    prelude::*,
    synthetic::SyntheticConfig,
    train::{Error, Event, Observer, Swa, UnlabelledOutcome, UnlabelledTrainer},
};

use module_values::values;

mod module_values;

type Network = (ResNetConfig, BnNeckConfig);
type Outcome = UnlabelledOutcome<ReidModel<ResNet, BnNeck>>;

struct Fixture {
    folder: tempfile::TempDir,
    splits: Splits,
    recipe: Recipe<Network, ClusterContrastConfig>,
}

impl Fixture {
    /// Images of people whose identities are not known, and a recipe with an evaluation after each of three
    /// rounds.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        SyntheticConfig::new()
            .with_train_identities(6)
            .with_test_identities(2)
            .with_cameras(2)
            .write(&data)
            .expect("the synthetic dataset is written");
        let mut splits = market1501::load(&data).expect("the dataset is readable");
        for sample in &mut splits.train {
            sample.identity = Identity::UNKNOWN;
        }
        let backbone = ResNetConfig::resnet18().with_width(4).with_last_stride(1);
        let network = (backbone, BnNeckConfig::new());
        let recipe = Recipe::strong_baseline("unlabelled", InputSize::new(32, 16), network);
        let mut recipe = recipe.with_losses(ClusterContrastConfig::new());
        (recipe.epochs, recipe.evaluate_every) = (3, 1);
        (recipe.sampling.identities, recipe.sampling.images) = (3, 4);
        recipe.groups = vec![ParameterGroup::new(["backbone.conv1"]).with_frozen_epochs(1)];
        Self {
            folder,
            splits,
            recipe,
        }
    }

    fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn trainer(&self, name: &str) -> UnlabelledTrainer<'_, Network> {
        self.trainer_of(&self.recipe, name)
    }

    fn trainer_of(
        &self,
        recipe: &Recipe<Network, ClusterContrastConfig>,
        name: &str,
    ) -> UnlabelledTrainer<'_, Network> {
        UnlabelledTrainer::new(recipe, &self.splits, self.out(name), &device())
            .and_then(|trainer| trainer.with_clustering(clustering()))
            .expect("valid settings")
    }
}

/// Small clusters, which a network with random weights finds too.
fn clustering() -> ClusteringConfig {
    ClusteringConfig::default()
        .with_neighbours(6, 2)
        .with_epsilon(0.4)
        .with_min_samples(2)
}

/// The CPU backend, on which operations are deterministic.
fn device() -> Device {
    device::pick_named("flex").expect("the flex backend is compiled in")
}

/// Counts steps and rounds, and requests an interrupt at a step.
#[derive(Default)]
struct Counter {
    steps: usize,
    rounds: Vec<usize>,
    stop: Option<(usize, Interrupt)>,
}

impl Observer for Counter {
    fn observe(&mut self, event: &Event<'_>) {
        match event {
            Event::Clustered { summary, clusters } => {
                assert_eq!(clusters.count(), summary.clusters);
                self.rounds.push(summary.round);
            }
            Event::Step(step) => {
                assert_eq!((step.epoch, step.epochs), (self.rounds.len(), 3));
                self.steps += 1;
                if let Some((steps, interrupt)) = &self.stop
                    && *steps == self.steps
                {
                    interrupt.request();
                }
            }
            _ => {}
        }
    }
}

/// The names of the folders of rounds.
fn rounds_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.into_string().expect("Unicode"));
    let mut names: Vec<_> = names.filter(|name| name.starts_with("round-")).collect();
    names.sort();
    names
}

fn error<T>(result: Result<T, Error>) -> String {
    result.map(drop).expect_err("refused").to_string()
}

#[test]
fn a_training_that_is_stopped_at_any_step_resumes_bit_identically() {
    let fixture = Fixture::new();
    let mut counter = Counter::default();
    let whole = fixture.trainer("whole").run(&mut counter);
    let whole = whole.expect("it trains");
    assert_eq!(counter.rounds, [1, 2, 3]);
    assert_eq!(whole.history.len(), 3);
    assert!(whole.report.is_some() && !whole.interrupted);

    // The last stop is at the end of the last round, before its evaluation.
    let steps = counter.steps;
    for stop in BTreeSet::from([1, steps / 3, steps / 2, steps - 1, steps]) {
        let name = format!("stopped-{stop}");
        let interrupt = Interrupt::new();
        let mut counter = Counter {
            stop: Some((stop, interrupt.clone())),
            ..Counter::default()
        };
        let stopped = fixture
            .trainer(&name)
            .with_interrupt(interrupt)
            .run(&mut counter)
            .expect("it trains");
        assert!(stopped.interrupted && stopped.history.len() < 3);
        let resumed: Outcome = fixture
            .trainer(&name)
            .resume()
            .and_then(|trainer| trainer.run(&mut ()))
            .expect("it resumes");
        assert_eq!(values(&resumed.model), values(&whole.model), "{stop}");
        assert_eq!(resumed.history, whole.history, "{stop}");
    }
}

#[test]
fn more_rounds_continue_a_finished_training() {
    let fixture = Fixture::new();
    let whole = fixture.trainer("whole").run(&mut ()).expect("it trains");
    let mut first = fixture.recipe.clone();
    first.epochs = 1;
    let first = fixture.trainer_of(&first, "continued");
    let first = first.run(&mut ()).expect("it trains");
    assert_ne!(values(&first.model), values(&whole.model));
    // Frozen in the first round, as the recipe says.
    let conv = |outcome: &Outcome| values(&outcome.model.backbone.conv1);
    let mut start = fixture.trainer("start");
    assert_eq!(conv(&first), values(&start.model_mut().backbone.conv1));
    assert_ne!(conv(&whole), conv(&first));

    let resumed = fixture.trainer("continued").resume();
    let resumed = resumed.expect("only the number of epochs differs");
    let resumed = resumed.run(&mut ()).expect("it trains");
    assert_eq!(values(&resumed.model), values(&whole.model));
    assert_eq!(resumed.history, whole.history);
}

#[test]
fn the_last_and_the_best_round_are_kept_and_can_be_opened() {
    let fixture = Fixture::new();
    let outcome: Outcome = fixture.trainer("out").run(&mut ()).expect("it trains");
    let map = |round: usize| {
        outcome.history[round]
            .training
            .scores?
            .mean_average_precision
    };
    let best = (0..3).rev().max_by(|&a, &b| {
        let [a, b] = [a, b].map(|round| map(round).expect("evaluated"));
        a.total_cmp(&b)
    });
    let best = best.expect("three rounds");
    let mut expected = vec![format!("round-{:04}", best + 1), "round-0003".to_owned()];
    expected.dedup();
    assert_eq!(rounds_in(&fixture.out("out")), expected);
    assert_eq!(outcome.best, Some(fixture.out("out").join(&expected[0])));
    let last = outcome.last.expect("three rounds");
    assert_eq!(last, fixture.out("out").join("round-0003"));

    let embedder = Embedder::open_as::<Network>(&last, &device()).expect("a run");
    let (query, gallery) = embedder.embed_splits(&fixture.splits).expect("embedded");
    let report = evaluate(&query, &gallery, &Protocol::default()).expect("matches");
    let found = report.mean_average_precision;
    assert!((found - map(2).expect("evaluated")).abs() < 1e-6);
    // The summaries print as one line, without the quality of clusters of unknown identities.
    let line = outcome.history[2].clusters.to_string();
    assert!(
        line.starts_with("round 3: ") && !line.contains("purity"),
        "{line}"
    );
}

/// With images without noise, a network that has hardly been trained distinguishes most people.
#[test]
fn the_clusters_of_an_easy_dataset_are_mostly_pure() {
    let folder = tempfile::tempdir().expect("a folder");
    SyntheticConfig::new()
        .with_train_identities(4)
        .with_test_identities(2)
        .with_difficulty(0.0)
        .with_occlusion(0.0)
        .write(folder.path())
        .expect("the synthetic dataset is written");
    let splits = market1501::load(folder.path()).expect("the dataset is readable");
    let splits = Splits::new("four people").with_train(splits.train);
    let backbone = ResNetConfig::resnet18().with_width(8).with_last_stride(1);
    let network = (backbone, BnNeckConfig::new());
    let recipe = Recipe::strong_baseline("four people", InputSize::new(64, 32), network);
    let mut recipe = recipe.with_losses(ClusterContrastConfig::new());
    recipe.augmentation = Augmentation::none();
    recipe.schedule.warm_up = None;
    recipe.epochs = 3;
    (recipe.sampling.identities, recipe.sampling.images) = (4, 4);
    let out = folder.path().join("out");
    let outcome = UnlabelledTrainer::new(&recipe, &splits, out, &device())
        .and_then(|trainer| trainer.with_clustering(clustering()))
        .and_then(|trainer| trainer.run(&mut ()))
        .expect("it trains");
    assert!(outcome.report.is_none(), "there are no queries");
    let images = splits.train.len();
    for round in &outcome.history {
        let clusters = &round.clusters;
        let quality = clusters.quality.expect("the identities are known");
        assert_eq!(clusters.images, images);
        assert_eq!(quality.images + clusters.outliers, images);
        // Four equal shares would be 0.25.
        assert!(quality.purity > 0.8, "{clusters}");
    }
}

#[test]
fn another_recipe_other_images_and_other_clustering_are_refused() {
    let fixture = Fixture::new();
    let mut one = fixture.recipe.clone();
    one.epochs = 1;
    let trained = fixture.trainer_of(&one, "out").run(&mut ());
    trained.expect("it trains");

    let holds = error(fixture.trainer("out").run(&mut ()));
    assert!(holds.contains("out holds a run: resume it"), "{holds}");

    let mut faster = fixture.recipe.clone();
    faster.schedule.base = 1e-2;
    let other = error(fixture.trainer_of(&faster, "out").resume());
    let expected =
        "rounds.json: the run was started with another recipe: schedule.base was 0.00035";
    assert!(other.contains(expected), "{other}");

    let larger = fixture.trainer("out");
    let larger = larger.with_clustering(clustering().with_epsilon(0.5));
    let other = error(larger.and_then(UnlabelledTrainer::resume));
    assert!(
        other.contains("clustering.epsilon was 0.4 and is 0.5"),
        "{other}"
    );

    let mut fewer = fixture.splits.clone();
    let images = fewer.train.len();
    fewer.train.pop();
    let trainer = UnlabelledTrainer::new(&fixture.recipe, &fewer, fixture.out("out"), &device());
    let trainer = trainer.and_then(|trainer| trainer.with_clustering(clustering()));
    let other = error(trainer.and_then(UnlabelledTrainer::resume));
    let expected = format!(
        "started with {images} training images and the data have {}",
        images - 1
    );
    assert!(other.contains(&expected), "{other}");
}

#[test]
fn a_changed_byte_of_the_results_or_clusters_is_found() {
    let fixture = Fixture::new();
    let interrupt = Interrupt::new();
    let mut counter = Counter {
        stop: Some((1, interrupt.clone())),
        ..Counter::default()
    };
    let stopped = fixture.trainer("out").with_interrupt(interrupt);
    stopped.run(&mut counter).expect("it trains");
    let out = fixture.out("out");
    for file in ["round-0001/clusters.json", "rounds.json"] {
        let path = out.join(file);
        let text = fs::read_to_string(&path).expect("written");
        fs::write(&path, text.replacen('1', "2", 1)).expect("written");
        let resumed = fixture.trainer("out").resume();
        let resumed = resumed.and_then(|trainer| trainer.run(&mut ()));
        let message = error(resumed);
        let name = file.rsplit('/').next().expect("a name");
        assert!(message.contains(name), "{message}");
        fs::write(&path, text).expect("written");
    }
    let resumed = fixture.trainer("out").resume();
    resumed.expect("undamaged").run(&mut ()).expect("it trains");
}

#[test]
fn settings_and_data_that_cannot_be_trained_are_reported() {
    let fixture = Fixture::new();
    let lonely = clustering().with_min_samples(1_000);
    let trainer = fixture.trainer("lonely").with_clustering(lonely);
    let images = fixture.splits.train.len();
    let found = error(trainer.and_then(|trainer| trainer.run(&mut ())));
    let expected = format!(
        "round 1: expected at least 2 clusters of {images} images, found 0 and {images} outliers"
    );
    assert!(found.starts_with(&expected), "{found}");
    // Nothing was trained, so the folder takes a training with other settings.
    assert!(fixture.trainer("lonely").run(&mut ()).is_ok());

    let invalid = clustering().with_epsilon(1.0);
    assert_eq!(
        error(fixture.trainer("out").with_clustering(invalid)),
        "recipe: clustering.epsilon: expected at least 0 and below 1, found 1"
    );

    let new = |recipe: &Recipe<Network, ClusterContrastConfig>, splits: &Splits| {
        error(UnlabelledTrainer::new(recipe, splits, "out", &device()))
    };
    let mut averaged = fixture.recipe.clone();
    averaged.average_decay = Some(0.9);
    let expected = "recipe: average_decay: expected null in training without labels, found 0.9";
    assert_eq!(new(&averaged, &fixture.splits), expected);
    (averaged.average_decay, averaged.swa) = (None, Some(Swa::from_epoch(1)));
    let expected = "recipe: swa: expected null in training without labels, found first_epoch 1";
    assert_eq!(new(&averaged, &fixture.splits), expected);
    let mut balanced = fixture.recipe.clone();
    balanced.sampling.balanced_sources = true;
    let expected =
        "recipe: sampling.balanced_sources: expected false in training without labels, found true";
    assert_eq!(new(&balanced, &fixture.splits), expected);
    let mut hot = fixture.recipe.clone();
    hot.losses.temperature = 0.0;
    let expected = "recipe: losses.temperature: expected 0.001 to 1000, found 0";
    assert_eq!(new(&hot, &fixture.splits), expected);
    let empty = Splits::new("empty");
    let expected = "the train split has no images, expected at least 1";
    assert_eq!(new(&fixture.recipe, &empty), expected);
}
