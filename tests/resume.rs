//! Runs that are interrupted, killed or damaged.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use burn::{module::Module, tensor::Device};
use reid::{
    data::dataset::{market1501, synthetic::SyntheticConfig},
    nn::{
        Precision,
        backbone::{ResNet, ResNetConfig},
        batch_drop::BatchDrop,
        cut_mix::{Cells, CutMix},
        head::{BnNeck, BnNeckConfig, BranchConfig, BranchedHead, BranchedHeadConfig},
        loss::CenterLossConfig,
    },
    prelude::*,
    train::{EpochSummary, Error, Event, Observer, OptimizerConfig, Outcome},
};

type Heads = (BnNeck, BranchedHead);
type Criterion = <reid::train::LossesConfig as CriterionConfig>::Criterion;

/// A neck, and branches that draw donors and rectangles in every step.
fn heads() -> (BnNeckConfig, BranchedHeadConfig) {
    let cells = Cells {
        height: 1,
        width: 1,
    };
    let mix = CutMix::new().with_cells(cells).with_cut(1);
    let drop = BatchDrop::new().with_height(0.5);
    let branches = vec![BranchConfig::cut_mix(3, mix), BranchConfig::drop(3, drop)];
    let branched = BranchedHeadConfig::new().with_global(3);
    (BnNeckConfig::new(), branched.with_branches(branches))
}

/// A small set, a recipe that uses everything a checkpoint must hold, and a folder for runs.
struct Fixture {
    folder: tempfile::TempDir,
    splits: Splits,
    recipe: Recipe<ResNetConfig>,
    device: Device,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        SyntheticConfig::new()
            .with_train_identities(6)
            .with_test_identities(3)
            .with_cameras(2)
            .write(folder.path().join("data"))
            .expect("a drawn set");
        let splits = market1501::load(folder.path().join("data")).expect("a readable set");
        let network = ResNetConfig::resnet18().with_width(4).with_last_stride(1);
        let mut recipe = Recipe::strong_baseline("resume", InputSize::new(32, 16), network);
        (recipe.epochs, recipe.evaluate_every) = (3, 1);
        (recipe.sampling.identities, recipe.sampling.images) = (2, 2);
        recipe.losses.center = Some(CenterLossConfig::new());
        recipe.clip_norm = Some(5.0);
        // Moments, and slow weights that are behind between two steps of six.
        recipe.optimizer = OptimizerConfig::ranger();
        // The CPU, where operations repeat to the bit.
        let device = device::pick_named("flex").expect("compiled in").device;
        Self {
            folder,
            splits,
            recipe,
            device,
        }
    }

    fn run_folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn trainer(&self, name: &str) -> Trainer<'_, ResNetConfig, ResNet, Heads, Criterion> {
        self.trainer_of(&self.recipe, name)
    }

    fn trainer_of<'a>(
        &'a self,
        recipe: &'a Recipe<ResNetConfig>,
        name: &str,
    ) -> Trainer<'a, ResNetConfig, ResNet, Heads, Criterion> {
        let trainee = Trainee::build(recipe, &recipe.network, &heads(), 6, &self.device);
        let loading = LoaderConfig {
            workers: 2,
            ..LoaderConfig::default()
        };
        Trainer::new(recipe, &self.splits, trainee, loading, &self.device)
            .expect("a possible recipe")
            .with_checkpoints(Checkpoints::new(self.run_folder(name)))
    }

    fn last(&self, name: &str) -> PathBuf {
        let found = Checkpoints::new(self.run_folder(name)).find(Kept::Last);
        found.expect("readable").expect("a checkpoint")
    }
}

/// Asks for a stop after a number of steps.
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

/// Every value of a trained model and criterion, running statistics among them.
fn bits<C: Module>(outcome: &Outcome<ResNet, Heads, C>) -> Vec<u32> {
    struct Bits(Vec<u32>);
    impl burn::module::ModuleVisitor for Bits {
        fn visit_float<const D: usize>(
            &mut self,
            param: &burn::module::Param<burn::tensor::Tensor<D>>,
        ) {
            let data = param.val().into_data();
            self.0.extend(data.iter::<f32>().map(f32::to_bits));
        }
    }
    let mut bits = Bits(Vec::new());
    outcome.trainee.model.visit(&mut bits);
    outcome.trainee.criterion.visit(&mut bits);
    bits.0
}

#[test]
fn an_interrupted_run_ends_in_the_same_bits() {
    ends_in_the_same_bits(&Fixture::new());
}

/// With a loss that is scaled, and steps that are left out.
#[test]
fn an_interrupted_run_in_half_precision_does_too() {
    let mut fixture = Fixture::new();
    fixture.recipe.precision = Precision::Float16;
    let history = ends_in_the_same_bits(&fixture);
    let remarks = &history[0].remarks;
    let left_out = remarks.iter().find(|(name, _)| name == "left out");
    assert!(
        left_out.is_some_and(|(_, share)| *share > 0.0),
        "{remarks:?}"
    );
}

fn ends_in_the_same_bits(fixture: &Fixture) -> Vec<EpochSummary> {
    let whole = fixture.trainer("whole").run(&mut ()).expect("a run");
    assert!(!whole.interrupted);

    // Once inside an epoch and once at the end of one (an epoch has nine steps or so).
    let mut stops = 0;
    for steps in [4, 3, 7] {
        let interrupt = Interrupt::new();
        let trainer = fixture.trainer("stopped").with_interrupt(interrupt.clone());
        let mut observer = StopAfter { steps, interrupt };
        let outcome = trainer
            .resume()
            .expect("resumes")
            .run(&mut observer)
            .expect("a run");
        stops += usize::from(outcome.interrupted);
    }
    assert_eq!(
        stops, 3,
        "the run was long enough to be stopped three times"
    );
    let resumed = fixture.trainer("stopped").resume().expect("resumes");
    let resumed = resumed.run(&mut ()).expect("a run");

    assert_eq!(resumed.history, whole.history);
    assert!(bits(&resumed) == bits(&whole), "the weights differ");
    whole.history
}

#[test]
fn the_same_recipe_gives_the_same_bits_and_another_seed_does_not() {
    let fixture = Fixture::new();
    let mut other = fixture.recipe.clone();
    other.seed = Seed::new(2);
    let one = fixture.trainer("one").run(&mut ()).expect("a run");
    let two = fixture.trainer("two").run(&mut ()).expect("a run");
    let three = fixture
        .trainer_of(&other, "three")
        .run(&mut ())
        .expect("a run");
    assert!(bits(&one) == bits(&two));
    assert!(bits(&one) != bits(&three));
}

#[test]
fn a_checkpoint_holds_what_was_just_evaluated() {
    let fixture = Fixture::new();
    let outcome = fixture.trainer("run").run(&mut ()).expect("a run");
    let report = outcome.report.expect("evaluated");

    let checkpoint = fixture.last("run");
    let recipe: Recipe<ResNetConfig> = Checkpoints::recipe(&checkpoint).expect("a recipe");
    let model = ReidModel::new(&recipe.network, &heads(), recipe.input, 6, &fixture.device);
    let model = Checkpoints::load_model(&checkpoint, model)
        .expect("the same network")
        .fused();
    let normalise = recipe.augmentation.normalise;
    let extractor = Extractor::new(recipe.input, normalise, LoaderConfig::default());
    let again = extractor.evaluate(&model, &fixture.splits, &recipe.evaluation, &fixture.device);
    assert_eq!(again.expect("evaluated"), report);
    assert_eq!(
        Checkpoints::history(&checkpoint).expect("a history"),
        outcome.history
    );
}

#[test]
fn a_run_does_not_begin_where_there_is_one() {
    let fixture = Fixture::new();
    let begin = |go_on| Checkpoints::begin(fixture.run_folder("run"), &fixture.recipe, go_on);
    begin(false).expect("an empty folder");
    fixture.trainer("run").run(&mut ()).expect("a run");
    let error = begin(false).expect_err("a run").to_string();
    assert!(
        error.ends_with("holds a run: resume it (--resume), or choose another folder"),
        "{error}"
    );
    begin(true).expect("the same run goes on");
}

#[test]
fn a_kill_while_saving_leaves_the_previous_checkpoint() {
    let fixture = Fixture::new();
    let mut short = fixture.recipe.clone();
    short.epochs = 2;
    fixture
        .trainer_of(&short, "killed")
        .run(&mut ())
        .expect("a run");

    // What is on disk when the process dies half way through the next checkpoint, before and after
    // the rename, and half way through the pointer.
    let folder = fixture.run_folder("killed");
    let half = |name: &str| {
        let half = folder.join(name);
        fs::create_dir_all(&half).expect("a folder");
        fs::write(half.join("model.bpk"), b"half of a mod").expect("written");
    };
    half(".draft");
    half("epoch-0003-step-00000");
    fs::write(folder.join("last.draft"), b"{\"checkp").expect("written");

    let resumed = fixture
        .trainer("killed")
        .resume()
        .expect("the previous checkpoint is whole");
    let resumed = resumed.run(&mut ()).expect("a run");
    let whole = fixture.trainer("whole").run(&mut ()).expect("a run");
    assert!(bits(&resumed) == bits(&whole), "the weights differ");
}

#[test]
fn old_checkpoints_are_removed_and_the_best_is_kept() {
    let fixture = Fixture::new();
    let outcome = fixture.trainer("run").run(&mut ()).expect("a run");
    let map = |epoch: &EpochSummary| {
        epoch
            .scores
            .expect("every epoch is evaluated")
            .mean_average_precision
    };
    let maps: Vec<f64> = outcome.history.iter().map(map).collect();
    let highest = maps.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let best_epoch = maps
        .iter()
        .position(|map| map.total_cmp(&highest).is_eq())
        .expect("one of them")
        + 1;

    let best = Checkpoints::new(fixture.run_folder("run")).find(Kept::Best);
    let best = best.expect("readable").expect("a best one");
    let expected = format!("epoch-{best_epoch:04}-step-00000");
    assert_eq!(
        best.file_name().and_then(|name| name.to_str()),
        Some(expected.as_str())
    );
    let kept = fs::read_dir(fixture.run_folder("run"))
        .expect("readable")
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_dir()));
    assert_eq!(kept.count(), if best_epoch == 3 { 1 } else { 2 });
}

fn truncate(path: &Path) {
    let length = fs::metadata(path).expect("a file").len();
    let file = File::options().write(true).open(path).expect("a file");
    file.set_len(length / 2).expect("shortened");
}

#[test]
fn a_damaged_checkpoint_is_named_and_not_used() {
    let fixture = Fixture::new();
    let mut short = fixture.recipe.clone();
    short.epochs = 1;
    for file in ["model.bpk", "optimizer.bpk", "criterion.bpk", "state.json"] {
        let name = format!("damaged-{file}");
        fixture
            .trainer_of(&short, &name)
            .run(&mut ())
            .expect("a run");
        let path = fixture.last(&name).join(file);
        truncate(&path);
        let error = fixture
            .trainer(&name)
            .resume()
            .expect_err("damaged")
            .to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
    // The right length, another content.
    fixture
        .trainer_of(&short, "scrambled")
        .run(&mut ())
        .expect("a run");
    let path = fixture.last("scrambled").join("model.bpk");
    let length = fs::metadata(&path).expect("a file").len();
    fs::write(&path, vec![7; usize::try_from(length).expect("small")]).expect("written");
    let error = fixture
        .trainer("scrambled")
        .resume()
        .expect_err("damaged")
        .to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
}

#[test]
fn a_run_does_not_go_on_with_another_recipe_or_other_people() {
    let fixture = Fixture::new();
    let mut short = fixture.recipe.clone();
    short.epochs = 1;
    fixture
        .trainer_of(&short, "run")
        .run(&mut ())
        .expect("a run");

    let mut other = fixture.recipe.clone();
    other.schedule.base = 0.1;
    let error = fixture
        .trainer_of(&other, "run")
        .resume()
        .expect_err("another recipe");
    let message = error.to_string();
    assert!(
        message.contains("schedule.base was 0.00035 and is 0.1"),
        "{message}"
    );

    let mut fixture = fixture;
    let stranger = Sample::new("stranger.png", Identity::new(99));
    fixture.splits.train.push(stranger);
    let error = fixture
        .trainer("run")
        .resume()
        .expect_err("another identity")
        .to_string();
    assert!(
        error.contains("begun with 6 identities, the data have 7"),
        "{error}"
    );
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_names_the_batch() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    recipe.schedule.base = 1e30;
    (recipe.schedule.warm_up, recipe.clip_norm) = (None, None);
    let error = fixture
        .trainer_of(&recipe, "run")
        .run(&mut ())
        .expect_err("not finite");
    let Error::NotFinite { step, images, .. } = &error else {
        panic!("another error: {error}");
    };
    assert!(*step > 1, "the first loss is still finite");
    assert_eq!(images.len(), 4);
    assert!(error.to_string().contains("bounding_box_train"), "{error}");
}

#[test]
fn fewer_people_than_a_batch_needs_is_an_error() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    recipe.sampling.identities = 7;
    let error = fixture
        .trainer_of(&recipe, "run")
        .run(&mut ())
        .expect_err("too few");
    let message = error.to_string();
    assert!(message.contains('7') && message.contains('6'), "{message}");
}

#[test]
fn an_unreadable_training_image_stops_the_run_with_its_name() {
    let fixture = Fixture::new();
    let broken = &fixture.splits.train[5].path;
    truncate(broken);
    let error = fixture
        .trainer("run")
        .run(&mut ())
        .expect_err("a broken image")
        .to_string();
    assert!(error.contains(&broken.display().to_string()), "{error}");
}
