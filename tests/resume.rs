//! Resumes runs that were interrupted or killed, or whose checkpoints are damaged.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    panic,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use burn::{
    module::{Module, Param},
    tensor::{DType, Device, Tensor},
};
use reid::{
    core::Source,
    data::{dataset::market1501, sampler::EpochDefinition, transform::Normalise},
    nn::{
        Embed, Init, NamedLoss, Precision, Targets,
        backbone::{ResNet, ResNetConfig},
        batch_drop::BatchDrop,
        cut_mix::{CutMix, Patches},
        head::{
            AugmentConfig, BnNeck, BnNeckConfig, BranchConfig, BranchedHead, BranchedHeadConfig,
        },
        loss::{
            AnyPairLossConfig, ArcFaceConfig, CosFaceConfig, CrossBatchMemoryConfig,
            DistillationConfig, DistillationObjective, Margin, TripletLossConfig, WeightedConfig,
        },
        top_drop::TopDrop,
    },
    prelude::*,
    synthetic::SyntheticConfig,
    train::{
        EpochSummary, Error, Event, LossesConfig, Observer, OptimizerConfig, Outcome, ReidLearner,
        Swa, Teacher,
    },
};
use serde_json::{Value, json};

type Heads = (BnNeck, BranchedHead);
type Config = (ResNetConfig, (BnNeckConfig, BranchedHeadConfig));
type Model = ReidModel<ResNet, Heads>;
type Criterion = <LossesConfig as CriterionConfig>::Criterion;

fn loading() -> LoaderConfig {
    LoaderConfig::new().with_workers(2)
}

/// A BNNeck, and branches that draw random donors and random rectangles in every step.
fn heads() -> (BnNeckConfig, BranchedHeadConfig) {
    let patches = Patches {
        height: 1,
        width: 1,
    };
    let mix = CutMix::new().with_patches(patches).with_cut(1);
    let drop = BatchDrop::new().with_height(0.5);
    let branches = vec![BranchConfig::cut_mix(3, mix), BranchConfig::drop(3, drop)];
    let branched = BranchedHeadConfig::new().with_global(3);
    (BnNeckConfig::new(), branched.with_branches(branches))
}

/// A small dataset, a recipe that uses everything a checkpoint must hold, and a folder for runs.
struct Fixture {
    folder: tempfile::TempDir,
    splits: Splits,
    recipe: Recipe<Config>,
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
            .expect("the synthetic dataset is written");
        let splits = market1501::load(folder.path().join("data")).expect("the dataset is readable");
        let backbone = ResNetConfig::resnet18().with_width(4).with_last_stride(1);
        let network = (backbone, heads());
        let mut recipe = Recipe::strong_baseline("resume", InputSize::new(32, 16), network);
        (recipe.epochs, recipe.evaluate_every) = (3, 1);
        (recipe.sampling.identities, recipe.sampling.images) = (2, 2);
        let mut recipe = recipe.with_center_loss(5e-4, 0.5);
        recipe.clip_norm = Some(5.0);
        // Ranger has moments, and slow weights that differ from the weights except after every sixth step.
        recipe.optimizer = OptimizerConfig::ranger();
        // On this CPU backend, operations are deterministic.
        let device = device::pick_named("flex").expect("the flex backend is compiled in");
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

    fn trainer(&self, name: &str) -> Trainer<'_, ReidLearner<Model, Criterion>> {
        self.trainer_of(&self.recipe, name)
    }

    fn trainer_of<'a>(
        &'a self,
        recipe: &'a Recipe<Config>,
        name: &str,
    ) -> Trainer<'a, ReidLearner<Model, Criterion>> {
        Trainer::new(recipe, &self.splits, loading(), &self.device)
            .expect("a valid recipe")
            .with_checkpoints(Checkpoints::new(self.run_folder(name)))
    }

    fn learner(&self, recipe: &Recipe<Config>) -> ReidLearner<Model, Criterion> {
        ReidLearner::build(recipe, 6, &self.device)
    }

    fn trainer_with<'a, C: reid::nn::Criterion>(
        &'a self,
        recipe: &'a Recipe<Config>,
        learner: ReidLearner<Model, C>,
        name: &str,
    ) -> Trainer<'a, ReidLearner<Model, C>> {
        Trainer::with_learner(recipe, &self.splits, learner, loading(), &self.device)
            .expect("a valid recipe")
            .with_checkpoints(Checkpoints::new(self.run_folder(name)))
    }

    fn last(&self, name: &str) -> PathBuf {
        let found = Checkpoints::new(self.run_folder(name)).find(CheckpointKind::Last);
        found.expect("readable").expect("a checkpoint")
    }
}

/// A teacher with another number of dimensions and other images than the model of the fixture.
fn teacher(fixture: &Fixture, seed: u64) -> Teacher {
    let network = (ResNetConfig::resnet18().with_width(6), BnNeckConfig::new());
    let (size, init) = (
        InputSize::new(48, 24),
        Init::new(Seed::new(seed), &fixture.device),
    );
    let model = Network::init(&network, size, 2, &init);
    let model = Watched {
        model: reid::nn::Model::evaluation(&model),
        passes: Arc::default(),
    };
    Teacher::new(model, size, Normalise::CIFAR, format!("seed {seed}"))
}

/// A model that counts its passes, and whose images must not have been rounded to the precision of another model.
struct Watched<M> {
    model: M,
    passes: Arc<AtomicUsize>,
}

impl<M: Embed> Embed for Watched<M> {
    fn embed(&self, images: Tensor<4>) -> Tensor<2> {
        assert_eq!(images.dtype(), DType::F32);
        self.passes.fetch_add(1, Relaxed);
        self.model.embed(images)
    }
}

fn distilled<'a>(
    fixture: &'a Fixture,
    seed: u64,
    name: &str,
) -> Trainer<'a, ReidLearner<Model, Criterion>> {
    fixture.trainer(name).with_teacher(teacher(fixture, seed))
}

/// The error of a run that is refused before anything is written.
fn refused<C: reid::nn::Criterion>(
    fixture: &Fixture,
    trainer: Trainer<'_, ReidLearner<Model, C>>,
) -> String {
    let trainer = trainer.with_checkpoints(Checkpoints::new(fixture.run_folder("refused")));
    let error = trainer.run(&mut ()).expect_err("it is refused");
    assert!(!fixture.run_folder("refused").exists());
    error.to_string()
}

fn distillation(objective: DistillationObjective) -> WeightedConfig<DistillationConfig> {
    WeightedConfig {
        weight: 10.0,
        criterion: DistillationConfig::new().with_objective(objective),
    }
}

const NO_TEACHER: &str = "recipe: losses.distillation.criterion: expected a run with a teacher \
                          (`Trainer::with_teacher`), found no teacher";

#[test]
fn a_teacher_must_fit_the_losses() {
    let mut fixture = Fixture::new();
    let unused = "recipe: losses: expected a loss that uses the teacher, such as `distillation`, \
                  found none";
    assert_eq!(refused(&fixture, distilled(&fixture, 1, "other")), unused);
    let objective = DistillationObjective::Cosine;
    fixture.recipe.losses.distillation = Some(distillation(objective));
    assert_eq!(
        refused(&fixture, distilled(&fixture, 1, "other")),
        "recipe: losses.distillation.criterion.objective: expected similarities or distances for \
         embeddings of 41 dimensions and a teacher of 48, found cosine"
    );
    assert_eq!(refused(&fixture, fixture.trainer("other")), NO_TEACHER);

    // A loss with a weight of 0 is none.
    let weight_0 = WeightedConfig {
        weight: 0.0,
        ..distillation(objective)
    };
    fixture.recipe.losses.distillation = Some(weight_0);
    fixture.recipe.epochs = 1;
    assert_eq!(refused(&fixture, distilled(&fixture, 1, "other")), unused);
    fixture.trainer("without").run(&mut ()).expect("it trains");
}

#[test]
fn a_custom_learner_can_have_a_teacher() {
    let mut fixture = Fixture::new();
    fixture.recipe.epochs = 1;
    let distances = distillation(DistillationObjective::Distances);
    fixture.recipe.losses.distillation = Some(distances);
    let recipe = &fixture.recipe;
    let trainer = || fixture.trainer_with(recipe, fixture.learner(recipe), "custom");
    assert_eq!(refused(&fixture, trainer()), NO_TEACHER);
    let trainer = trainer().with_teacher(teacher(&fixture, 1));
    let outcome = trainer.run(&mut ()).expect("it trains");
    assert!(has_distillation(&outcome.history[0]));
    // Its losses need not be those of the recipe.
    let mut other = fixture.recipe.clone();
    other.losses.distillation = None;
    let trainer = fixture.trainer_with(&other, fixture.learner(recipe), "other");
    let outcome = trainer.with_teacher(teacher(&fixture, 1)).run(&mut ());
    assert!(has_distillation(&outcome.expect("it trains").history[0]));
}

fn has_distillation(epoch: &EpochSummary) -> bool {
    let mut losses = epoch.losses.iter();
    losses.any(|(name, value)| name == "distillation" && *value > 0.0)
}

/// The images of a teacher are not rounded to the half precision of the student.
#[test]
fn a_teacher_has_its_own_precision() {
    let mut fixture = Fixture::new();
    (fixture.recipe.precision, fixture.recipe.epochs) = (Precision::Float16, 1);
    let similarities = distillation(DistillationObjective::Similarities);
    fixture.recipe.losses.distillation = Some(similarities);
    let outcome = distilled(&fixture, 1, "half").run(&mut ());
    assert!(has_distillation(&outcome.expect("it trains").history[0]));
    let half = teacher(&fixture, 1).with_precision(Precision::Float16);
    let resumed = fixture.trainer("half").with_teacher(half).resume();
    let error = resumed.expect_err("another precision").to_string();
    let expected = "teacher was seed 1 and is seed 1 in Float16";
    assert!(error.contains(expected), "{error}");
}

/// Counts training steps, and batches of renewals.
#[derive(Default)]
struct Count {
    steps: usize,
    renewed: usize,
}

impl Observer for Count {
    fn observe(&mut self, event: &Event<'_>) {
        match event {
            Event::Step(_) => self.steps += 1,
            Event::Renewing { .. } => self.renewed += 1,
            _ => {}
        }
    }
}

#[test]
fn a_renewal_of_running_statistics_needs_no_teacher() {
    let mut fixture = Fixture::new();
    (fixture.recipe.swa, fixture.recipe.epochs) = (Some(Swa::from_epoch(0)), 1);
    let similarities = distillation(DistillationObjective::Similarities);
    fixture.recipe.losses.distillation = Some(similarities);
    let (recipe, passes) = (&fixture.recipe, Arc::new(AtomicUsize::new(0)));
    let network = (ResNetConfig::resnet18().with_width(4), BnNeckConfig::new());
    let init = Init::new(Seed::new(1), &fixture.device);
    let model = Watched {
        model: Network::init(&network, recipe.input, 2, &init),
        passes: passes.clone(),
    };
    let normalise = recipe.augmentation.normalise;
    let teacher = Teacher::new(model, recipe.input, normalise, "watched");
    let mut count = Count::default();
    let trainer = fixture.trainer("watched").with_teacher(teacher);
    trainer.run(&mut count).expect("it trains");
    assert!(count.renewed > 0);
    // One pass is the check before the first step.
    assert_eq!(passes.load(Relaxed), 1 + count.steps);
}

/// Renewals repeat the random choices of the heads, and their Grad-CAM.
#[test]
fn renewed_statistics_of_heads_that_mix_and_drop_resume_bit_identically() {
    let mut fixture = Fixture::new();
    (fixture.recipe.swa, fixture.recipe.renewal_batches) = (Some(Swa::from_epoch(0)), Some(3));
    let (_, (_, branched)) = &mut fixture.recipe.network;
    branched.branches.push(BranchConfig {
        dimensions: 3,
        augment: AugmentConfig::DropTop(TopDrop::new().with_height(0.5)),
    });
    resumes_bit_identically(&fixture);
    let average = |name: &str| {
        let finished = fixture.trainer(name).resume().expect("a finished run");
        let outcome = finished.run(&mut ()).expect("it is evaluated");
        model_bits(&outcome.average.expect("an average"))
    };
    assert!(
        average("whole") == average("stopped"),
        "the averages differ"
    );
}

#[test]
fn distillation_resumes_bit_identically_with_the_same_teacher_only() {
    let mut fixture = Fixture::new();
    let distances = distillation(DistillationObjective::Distances);
    fixture.recipe.losses.distillation = Some(distances);
    let trainer = |name| distilled(&fixture, 1, name);
    let whole = trainer("whole").run(&mut ()).expect("it trains");
    assert!(has_distillation(&whole.history[2]));

    let interrupt = Interrupt::new();
    let stopped = trainer("stopped").with_interrupt(interrupt.clone());
    let mut observer = StopAfter {
        steps: 4,
        interrupt,
    };
    let stopped = stopped.run(&mut observer).expect("it trains");
    assert!(stopped.interrupted);
    let other = distilled(&fixture, 2, "stopped");
    let error = other.resume().expect_err("another teacher").to_string();
    assert!(
        error.contains("teacher was seed 1 and is seed 2"),
        "{error}"
    );
    let resumed = trainer("stopped").resume().expect("the same teacher");
    let resumed = resumed.run(&mut ()).expect("it trains");
    assert_eq!(resumed.history, whole.history);
    assert!(bits(&resumed) == bits(&whole), "the weights differ");
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

/// Every parameter and running statistic of a model and a criterion, as bits.
fn bits<C: reid::nn::Criterion>(outcome: &Outcome<ReidLearner<Model, C>>) -> Vec<u32> {
    learner_bits(&outcome.learner)
}

fn learner_bits<C: Module>(learner: &ReidLearner<Model, C>) -> Vec<u32> {
    [model_bits(&learner.model), model_bits(&learner.criterion)].concat()
}

fn model_bits<M: Module>(module: &M) -> Vec<u32> {
    struct Bits(Vec<u32>);
    impl burn::module::ModuleVisitor for Bits {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.val().into_data();
            self.0.extend(data.iter::<f32>().map(f32::to_bits));
        }
    }
    let mut bits = Bits(Vec::new());
    module.visit(&mut bits);
    bits.0
}

#[test]
fn an_interrupted_run_resumes_bit_identically() {
    resumes_bit_identically(&Fixture::new());
}

/// In half precision the loss is scaled, and steps whose gradients overflow are skipped.
#[test]
fn an_interrupted_run_in_half_precision_resumes_bit_identically() {
    let mut fixture = Fixture::new();
    fixture.recipe.precision = Precision::Float16;
    let history = resumes_bit_identically(&fixture);
    let diagnostics = &history[0].diagnostics;
    let skipped = diagnostics.iter().find(|(name, _)| name == "skipped");
    assert!(
        skipped.is_some_and(|(_, share)| *share > 0.0),
        "{diagnostics:?}"
    );
}

/// Class weights and a memory belong to the criterion.
#[test]
fn losses_with_class_weights_or_a_memory_resume_bit_identically() {
    let mut fixture = Fixture::new();
    fixture.recipe.losses.arc_face = Some(WeightedConfig {
        weight: 0.5,
        criterion: ArcFaceConfig::new(),
    });
    fixture.recipe.losses.cos_face = Some(WeightedConfig {
        weight: 0.5,
        criterion: CosFaceConfig::new(),
    });
    resumes_with_a_memory(fixture);
}

/// The memory of a run in half precision is saved and loaded.
#[test]
fn a_memory_in_half_precision_resumes_bit_identically() {
    let mut fixture = Fixture::new();
    fixture.recipe.precision = Precision::Float16;
    resumes_with_a_memory(fixture);
}

/// A memory whose capacity is not a multiple of the batch.
fn memory() -> WeightedConfig<CrossBatchMemoryConfig<AnyPairLossConfig>> {
    let triplet = TripletLossConfig::new().with_margin(Margin::Soft);
    let memory = CrossBatchMemoryConfig::new(triplet.into());
    WeightedConfig {
        weight: 0.5,
        criterion: memory.with_capacity(30).with_start(2),
    }
}

fn resumes_with_a_memory(mut fixture: Fixture) {
    fixture.recipe.losses.cross_batch_memory = Some(memory());
    let history = resumes_bit_identically(&fixture);
    let losses = history[2].losses.iter();
    let mut with_memory = losses.filter(|(name, _)| name.starts_with("triplet memory"));
    let compared = with_memory.any(|(_, value)| *value > 0.0);
    assert!(compared, "{:?}", history[2].losses);
}

/// Each batch has images of both datasets, and an identity's images are of both cameras.
#[test]
fn a_run_on_merged_datasets_resumes_bit_identically_and_only_with_its_sources() {
    let mut fixture = Fixture::new();
    let folder = fixture.run_folder("other");
    SyntheticConfig::new()
        .with_train_identities(2)
        .with_test_identities(1)
        .with_cameras(2)
        .with_seed(Seed::new(1))
        .write(&folder)
        .expect("the synthetic dataset is written");
    let other = market1501::load(&folder).expect("the dataset is readable");
    let merged = Splits::merge([&fixture.splits, &other]).expect("different names");
    let Splits { query, gallery, .. } = fixture.splits.clone();
    fixture.splits = merged.with_query(query).with_gallery(gallery);
    let sampling = &mut fixture.recipe.sampling;
    sampling.epoch = EpochDefinition::EachIdentityOnce;
    (sampling.balanced_cameras, sampling.balanced_sources) = (true, true);
    resumes_bit_identically(&fixture);

    let last = fixture.splits.train.last_mut().expect("training images");
    last.source = Some(Source::new(0));
    let error = fixture.trainer("whole").resume();
    let error = error.expect_err("another source");
    assert!(matches!(error, Error::OtherImages { .. }), "{error}");
}

fn resumes_bit_identically(fixture: &Fixture) -> Vec<EpochSummary> {
    let whole = fixture.trainer("whole").run(&mut ()).expect("it trains");
    assert!(!whole.interrupted);

    // An epoch has about nine steps: the run is interrupted within an epoch and near the end of one.
    let mut stops = 0;
    for steps in [4, 3, 7] {
        let interrupt = Interrupt::new();
        let trainer = fixture.trainer("stopped").with_interrupt(interrupt.clone());
        let mut observer = StopAfter { steps, interrupt };
        let outcome = trainer
            .resume()
            .expect("it resumes")
            .run(&mut observer)
            .expect("it trains");
        stops += usize::from(outcome.interrupted);
    }
    assert_eq!(
        stops, 3,
        "the run must be long enough to be interrupted three times"
    );
    let resumed = fixture.trainer("stopped").resume().expect("it resumes");
    let resumed = resumed.run(&mut ()).expect("it trains");

    assert_eq!(resumed.history, whole.history);
    assert!(bits(&resumed) == bits(&whole), "the weights differ");
    whole.history
}

#[test]
fn the_same_recipe_is_bit_identical_and_another_seed_is_not() {
    let fixture = Fixture::new();
    let mut other = fixture.recipe.clone();
    other.seed = Seed::new(2);
    let one = fixture.trainer("one").run(&mut ()).expect("it trains");
    let two = fixture.trainer("two").run(&mut ()).expect("it trains");
    let three = fixture
        .trainer_of(&other, "three")
        .run(&mut ())
        .expect("it trains");
    assert!(bits(&one) == bits(&two));
    assert!(bits(&one) != bits(&three));
}

#[test]
fn a_loaded_checkpoint_gives_the_report_of_its_run() {
    let fixture = Fixture::new();
    let outcome = fixture.trainer("run").run(&mut ()).expect("it trains");
    let report = outcome.report.expect("the evaluation succeeds");

    let checkpoint = fixture.last("run");
    let recipe: Recipe<Config> = Checkpoints::recipe(&checkpoint).expect("a recipe");
    let model = recipe
        .network
        .init(recipe.input, 6, &Init::empty(&fixture.device));
    let model = Checkpoints::load_model(&checkpoint, model)
        .expect("the same network")
        .fold_batch_norm();
    let normalise = recipe.augmentation.normalise;
    let extractor = Extractor::new(recipe.input, normalise, LoaderConfig::default());
    let again = extractor.evaluate(&model, &fixture.splits, &recipe.evaluation, &fixture.device);
    assert_eq!(again.expect("the evaluation succeeds"), report);
    assert_eq!(
        Checkpoints::history(&checkpoint).expect("a history"),
        outcome.history
    );
}

#[test]
fn a_new_run_is_refused_in_a_folder_that_holds_a_run() {
    let fixture = Fixture::new();
    let begin = || Checkpoints::begin(fixture.run_folder("run"));
    begin().expect("an empty folder");
    fixture.trainer("run").run(&mut ()).expect("it trains");
    let before = tree(&fixture.run_folder("run"));
    let begun = begin().expect_err("a run").to_string();
    // Without `Checkpoints::begin`, the run itself is refused when it starts.
    let run = fixture.trainer("run").run(&mut ());
    for error in [begun, run.expect_err("a run").to_string()] {
        assert!(
            error.ends_with("holds a run: resume it (`Trainer::resume`, `--resume` of the examples), or choose another folder"),
            "{error}"
        );
    }
    assert!(tree(&fixture.run_folder("run")) == before, "a file changed");
}

/// The files in a folder with their contents.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(tree(&path));
        } else {
            let content = fs::read(&path).expect("a file");
            files.insert(path, content);
        }
    }
    files
}

#[test]
fn a_kill_while_saving_leaves_the_previous_checkpoint() {
    let fixture = Fixture::new();
    let mut short = fixture.recipe.clone();
    short.epochs = 2;
    fixture
        .trainer_of(&short, "killed")
        .run(&mut ())
        .expect("it trains");

    // The files on disk after a kill in the middle of the next save: an incomplete checkpoint before and
    // after its rename, and an incomplete draft of `last.json`.
    let folder = fixture.run_folder("killed");
    let half = |name: &str| {
        let half = folder.join(name);
        fs::create_dir_all(&half).expect("a folder");
        fs::write(half.join("model.bpk"), b"half of a mod").expect("written");
    };
    half(".draft");
    half("epoch-0003-step-00000");
    fs::write(folder.join(".last.json.draft"), b"{\"checkp").expect("written");

    let resumed = fixture
        .trainer("killed")
        .resume()
        .expect("the previous checkpoint is complete");
    let resumed = resumed.run(&mut ()).expect("it trains");
    let whole = fixture.trainer("whole").run(&mut ()).expect("it trains");
    assert!(bits(&resumed) == bits(&whole), "the weights differ");
}

#[test]
fn old_checkpoints_are_removed_and_the_best_is_kept() {
    let fixture = Fixture::new();
    let outcome = fixture.trainer("run").run(&mut ()).expect("it trains");
    let map = |epoch: &EpochSummary| {
        epoch
            .scores
            .and_then(|scores| scores.mean_average_precision)
            .expect("every epoch is evaluated")
    };
    let maps: Vec<f64> = outcome.history.iter().map(map).collect();
    let highest = maps.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let best_epoch = maps
        .iter()
        .position(|map| map.total_cmp(&highest).is_eq())
        .expect("the maximum is one of them")
        + 1;

    let best = Checkpoints::new(fixture.run_folder("run")).find(CheckpointKind::Best);
    let best = best.expect("readable").expect("a best checkpoint");
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

/// Runs one epoch and returns the folder of its checkpoint.
fn one_epoch(fixture: &Fixture, name: &str) -> PathBuf {
    let mut short = fixture.recipe.clone();
    short.epochs = 1;
    fixture
        .trainer_of(&short, name)
        .run(&mut ())
        .expect("it trains");
    fixture.last(name)
}

#[test]
fn a_damaged_checkpoint_is_named_and_not_used() {
    let fixture = Fixture::new();
    let checkpoint = one_epoch(&fixture, "run");
    let refused = |path: &Path| {
        let error = fixture.trainer("run").resume();
        let error = error.expect_err("damaged").to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    };
    let mut files: Vec<PathBuf> = tree(&checkpoint).into_keys().collect();
    assert_eq!(files.len(), 6, "{files:?}");
    files.push(fixture.run_folder("run").join("last.json"));
    for path in &files {
        let whole = fs::read(path).expect("a file");
        truncate(path);
        refused(path);
        // Flips one bit in about 40 bytes of the file, or in every byte of a small file.
        let stride = (whole.len() / 40).max(1);
        for byte in (0..whole.len()).step_by(stride) {
            let mut changed = whole.clone();
            changed[byte] ^= 1 << (byte % 8);
            fs::write(path, &changed).expect("written");
            refused(path);
        }
        if !path.ends_with("last.json") {
            fs::remove_file(path).expect("removed");
            refused(path);
        }
        fs::write(path, &whole).expect("written");
    }
    fixture
        .trainer("run")
        .resume()
        .expect("the restored checkpoint is valid");
}

#[test]
fn a_resume_with_another_recipe_or_other_identities_is_refused() {
    let mut fixture = Fixture::new();
    one_epoch(&fixture, "run");
    let before = tree(&fixture.run_folder("run"));

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

    let stranger = Sample::new("stranger.png", Identity::new(99));
    fixture.splits.train.push(stranger);
    let error = fixture
        .trainer("run")
        .resume()
        .expect_err("another identity")
        .to_string();
    assert!(error.contains("started with 6, the data have 7"), "{error}");
    let after = tree(&fixture.run_folder("run"));
    assert!(after == before, "a refused resume wrote something");
}

#[test]
fn a_resume_with_other_training_images_is_refused() {
    let mut fixture = Fixture::new();
    one_epoch(&fixture, "run");
    let refused = |fixture: &Fixture| {
        let error = fixture.trainer("run").resume();
        error.expect_err("other images").to_string()
    };
    let images = fixture.splits.train.len();

    let image = fixture.splits.train.pop().expect("an image");
    let error = refused(&fixture);
    let counts = format!(
        "started with {images} training images and the data have {}",
        images - 1
    );
    assert!(error.contains(&counts), "{error}");

    let renamed = image.path.with_file_name("another.png");
    let mut other = image.clone();
    other.path = renamed;
    fixture.splits.train.push(other);
    let error = refused(&fixture);
    assert!(error.contains("but not the same ones"), "{error}");

    // The dataset may be moved to another folder, and the query and gallery images may change.
    fixture.splits.train.pop();
    fixture.splits.train.push(image);
    let data = fixture.folder.path().join("data");
    let moved = fixture.folder.path().join("moved");
    fs::rename(&data, &moved).expect("moved");
    for sample in &mut fixture.splits.train {
        let inside = sample.path.strip_prefix(&data).expect("inside");
        sample.path = moved.join(inside);
    }
    fixture.splits.query.clear();
    fixture.trainer("run").resume().expect("the same images");
}

/// Version 0.1 wrote `last.json` and `best.json`, no manifest, and the lengths of files in the state. Its
/// recipe has old field names and lacks later fields.
#[test]
fn a_checkpoint_of_version_0_1_is_resumed() {
    let fixture = Fixture::new();
    let whole = fixture.trainer("whole").run(&mut ()).expect("it trains");

    let checkpoint = one_epoch(&fixture, "old");
    let folder = fixture.run_folder("old");
    let history = Checkpoints::history(&checkpoint).expect("a history");
    let path = checkpoint.join("state.json");
    let state = fs::read(&path).expect("a state");
    let mut state: Value = serde_json::from_slice(&state).expect("JSON");
    state["history"] = serde_json::to_value(history).expect("plain data");
    let recipe = state["recipe"].as_object_mut().expect("a recipe");
    for added in ["precision", "flip_test"] {
        assert!(recipe.remove(added).is_some());
    }
    assert!(recipe.remove("groups").is_some());
    recipe["losses"]["center_learning_rate"] = json!(0.5);
    let head = &mut recipe["network"][1][0];
    let head = head.as_object_mut().expect("a neck");
    let renamed = head.remove("embedding").expect("an embedding");
    head.insert("descriptor".to_owned(), renamed);
    let fields = state.as_object_mut().expect("a state");
    assert!(fields.remove("images").is_some() && fields.remove("loss_scale").is_some());
    let group = checkpoint.join("optimizer-1.bpk");
    fs::rename(group, checkpoint.join("criterion-optimizer.bpk")).expect("renamed");
    let names = [
        "model.bpk",
        "criterion.bpk",
        "optimizer.bpk",
        "criterion-optimizer.bpk",
    ];
    let length = |name: &str| {
        let length = fs::metadata(checkpoint.join(name)).expect("a file").len();
        json!([name, length])
    };
    fields.insert("lengths".to_owned(), names.map(length).into());
    fs::write(&path, state.to_string()).expect("written");
    fs::remove_file(checkpoint.join("manifest.json")).expect("removed");
    for name in ["last.json", "best.json"] {
        let pointer = json!({ "checkpoint": checkpoint.file_name().unwrap().to_str() });
        fs::write(folder.join(name), pointer.to_string()).expect("written");
    }
    let find = |kind| {
        let found = Checkpoints::new(&folder).find(kind);
        found.expect("readable").expect("a checkpoint")
    };
    assert_eq!(find(CheckpointKind::Best), checkpoint);

    let model = checkpoint.join("model.bpk");
    let content = fs::read(&model).expect("a file");
    truncate(&model);
    let error = fixture.trainer("old").resume().expect_err("damaged");
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    fs::write(&model, content).expect("written");

    let resumed = fixture.trainer("old").resume().expect("an old checkpoint");
    let resumed = resumed.run(&mut ()).expect("it trains");
    assert_eq!(resumed.history, whole.history);
    assert!(bits(&resumed) == bits(&whole), "the weights differ");
    assert!(!folder.join("best.json").exists());
    assert!(find(CheckpointKind::Best).exists());
}

/// Panics at an event, like a process that is killed there.
struct DieAt {
    event: fn(&Event<'_>) -> bool,
    left: usize,
}

impl Observer for DieAt {
    fn observe(&mut self, event: &Event<'_>) {
        if (self.event)(event) {
            self.left -= 1;
            assert!(self.left > 0, "killed");
        }
    }
}

/// Truncates an image as soon as an epoch is saved.
struct Break<'a>(&'a Path);
impl Observer for Break<'_> {
    fn observe(&mut self, event: &Event<'_>) {
        if matches!(event, Event::Saved(_)) {
            truncate(self.0);
        }
    }
}

/// Records the events of a run.
#[derive(Default)]
struct Seen(Vec<&'static str>);
impl Observer for Seen {
    fn observe(&mut self, event: &Event<'_>) {
        match event {
            Event::Step(_) if self.0.last() != Some(&"step") => self.0.push("step"),
            Event::Evaluated { .. } => self.0.push("evaluated"),
            Event::Saved(_) => self.0.push("saved"),
            _ => {}
        }
    }
}

#[test]
fn an_epoch_is_saved_before_it_is_evaluated() {
    let fixture = Fixture::new();
    let whole = fixture.trainer("whole").run(&mut ()).expect("it trains");

    // The first epoch is saved. Its evaluation fails, because a gallery image is damaged.
    let broken = fixture.splits.gallery[0].path.clone();
    let content = fs::read(&broken).expect("an image");
    let failed = fixture.trainer("run").run(&mut Break(&broken));
    let error = failed.map(|_| ()).expect_err("a damaged image").to_string();
    assert!(error.contains(&broken.display().to_string()), "{error}");
    let name = fixture.last("run");
    assert!(name.ends_with("epoch-0001-step-00000"), "{name:?}");

    // With the image restored, the run resumes with the evaluation and does not repeat the epoch.
    fs::write(&broken, content).expect("written");
    let mut seen = Seen::default();
    let resumed = fixture.trainer("run").resume().expect("it resumes");
    let resumed = resumed.run(&mut seen).expect("it trains");
    let rest = ["step", "saved", "evaluated"];
    assert_eq!(seen.0, [&["evaluated"][..], &rest, &rest].concat());
    assert_eq!(resumed.history, whole.history);
    assert!(bits(&resumed) == bits(&whole), "the weights differ");
}

#[test]
fn a_run_killed_before_its_report_is_written_reports_when_resumed() {
    let fixture = Fixture::new();
    let whole = fixture.trainer("whole").run(&mut ()).expect("it trains");
    let killed = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let event = |event: &Event<'_>| matches!(event, Event::Evaluated { epoch: 3, .. });
        drop(fixture.trainer("run").run(&mut DieAt { event, left: 1 }));
    }));
    assert!(killed.is_err());
    let before = fixture.last("run");
    let resumed = fixture.trainer("run").resume().expect("it resumes");
    let resumed = resumed.run(&mut ()).expect("it trains");
    assert_eq!(resumed.report, whole.report);
    assert_eq!(resumed.history, whole.history);
    assert_eq!(fixture.last("run"), before);
}

/// Tries to start a second run in the same folder after each save of the first.
struct Second<'a>(&'a Fixture, usize);
impl Observer for Second<'_> {
    fn observe(&mut self, event: &Event<'_>) {
        if matches!(event, Event::Saved(_)) {
            let second = self.0.trainer("run").resume().expect("readable");
            let error = second.run(&mut ()).expect_err("in use").to_string();
            assert!(
                error.contains("another process is training in this folder"),
                "{error}"
            );
            self.1 += 1;
        }
    }
}

#[test]
fn two_runs_in_one_folder_are_refused() {
    let fixture = Fixture::new();
    let mut second = Second(&fixture, 0);
    fixture.trainer("run").run(&mut second).expect("it trains");
    assert_eq!(second.1, 3);
}

/// A criterion whose value is finite, and whose gradient is infinite after some steps: that of √x at 0.
#[derive(Module, Debug)]
struct InfiniteSlope {
    scale: Param<Tensor<1>>,
    #[module(skip)]
    finite_steps: Arc<AtomicUsize>,
}

impl reid::nn::Criterion for InfiniteSlope {
    fn losses(&self, output: &ReidOutput, _targets: &Targets) -> Vec<NamedLoss> {
        let loss = output.logits[0].clone().square().mean();
        let decrement = |left: usize| left.checked_sub(1);
        let value = match self.finite_steps.fetch_update(Relaxed, Relaxed, decrement) {
            Ok(_) => loss + self.scale.val().square(),
            Err(_) => loss + (self.scale.val() * 0.0).sqrt(),
        };
        vec![NamedLoss::new("loss", value)]
    }
}

#[test]
fn weights_after_a_gradient_that_is_not_finite_are_not_saved() {
    let fixture = Fixture::new();
    let steps = {
        struct Steps(usize);
        impl Observer for Steps {
            fn observe(&mut self, event: &Event<'_>) {
                if let Event::Step(report) = event {
                    self.0 = report.steps;
                }
            }
        }
        let mut steps = Steps(0);
        let mut short = fixture.recipe.clone();
        short.epochs = 1;
        fixture
            .trainer_of(&short, "counted")
            .run(&mut steps)
            .expect("it trains");
        steps.0
    };
    // The last step of the second epoch fails. The recipe's groups name its own criterion, not this one.
    let mut recipe = fixture.recipe.clone();
    recipe.groups.clear();
    let trainer = |finite_steps| {
        let ReidLearner { model, .. } = fixture.learner(&fixture.recipe);
        let scale = Tensor::ones([1], &fixture.device.clone().autodiff());
        let criterion = InfiniteSlope {
            scale: Param::from_tensor(scale),
            finite_steps: Arc::new(AtomicUsize::new(finite_steps)),
        };
        let learner = ReidLearner { model, criterion };
        fixture.trainer_with(&recipe, learner, "run")
    };
    let error = trainer(2 * steps - 1).run(&mut ()).expect_err("not finite");
    let Error::NotFinite {
        epoch,
        step,
        name,
        images,
        ..
    } = &error
    else {
        panic!("expected `Error::NotFinite`, found: {error}");
    };
    assert_eq!((*epoch, *step), (2, steps));
    assert_eq!(name, "gradient of `criterion.scale`");
    assert_eq!(images.len(), 4);
    assert!(fixture.last("run").ends_with("epoch-0001-step-00000"));
    let resumed = trainer(usize::MAX).resume().expect("the last checkpoint");
    resumed.run(&mut ()).expect("it trains");
}

#[test]
fn weights_that_are_not_finite_are_not_saved() {
    let fixture = Fixture::new();
    one_epoch(&fixture, "run");
    // One classifier weight is infinite, and the interrupt makes the run save at once.
    let mut learner = fixture.learner(&fixture.recipe);
    learner.model.head.0.classifier.weight = learner.model.head.0.classifier.weight.map(|weight| {
        let infinite = weight.clone().slice([0..1, 0..1]) / 0.0;
        weight
            .slice_assign([0..1, 0..1], infinite)
            .detach()
            .require_grad()
    });
    let interrupt = Interrupt::new();
    interrupt.request();
    let error = fixture
        .trainer_with(&fixture.recipe, learner, "other")
        .with_interrupt(interrupt)
        .run(&mut ())
        .expect_err("not finite");
    assert!(
        matches!(&error, Error::WeightsNotFinite { name, .. } if name.contains("classifier.weight")),
        "{error}"
    );
    assert!(!fixture.run_folder("other").join("last.json").exists());
}

/// A step that half precision skips changes no weight, no running statistic and no memory.
#[test]
fn a_skipped_step_changes_nothing() {
    struct Skipped(Option<usize>);
    impl Observer for Skipped {
        fn observe(&mut self, event: &Event<'_>) {
            if let (Event::Step(report), None) = (event, self.0) {
                let skipped = report
                    .diagnostics
                    .iter()
                    .find(|(name, _)| name == "skipped");
                if skipped.is_some_and(|(_, share)| *share < 1.0) {
                    self.0 = Some(report.step - 1);
                }
            }
        }
    }
    let mut fixture = Fixture::new();
    fixture.recipe.precision = Precision::Float16;
    fixture.recipe.losses.cross_batch_memory = Some(memory());
    fixture.recipe.epochs = 1;
    let mut first = Skipped(None);
    fixture.trainer("run").run(&mut first).expect("it trains");
    let skipped = first.0.expect("a step that was not skipped");
    assert!(skipped > 0, "the first steps must overflow");

    // The run stops after the skipped steps, so the learner must equal the initial one.
    let interrupt = Interrupt::new();
    let mut stop = StopAfter {
        steps: skipped,
        interrupt: interrupt.clone(),
    };
    let start = fixture.learner(&fixture.recipe);
    let expected = learner_bits(&start);
    let stopped = fixture
        .trainer_with(&fixture.recipe, start, "stopped")
        .with_interrupt(interrupt)
        .run(&mut stop)
        .expect("it trains");
    assert!(
        bits(&stopped) == expected,
        "a skipped step changed the learner"
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
        panic!("expected `Error::NotFinite`, found: {error}");
    };
    assert!(*step > 1, "the first loss must still be finite");
    assert_eq!(images.len(), 4);
    assert!(error.to_string().contains("bounding_box_train"), "{error}");
}

#[test]
fn fewer_identities_than_a_batch_needs_are_an_error() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe.clone();
    recipe.sampling.identities = 7;
    let error = Trainer::new(&recipe, &fixture.splits, loading(), &fixture.device)
        .expect_err("too few")
        .to_string();
    assert_eq!(
        error,
        "recipe: sampling.identities: expected at most 6, the number of training identities, found 7"
    );
}

/// Records the events of the image check before a run.
#[derive(Default)]
struct Checked {
    images: usize,
    of: usize,
    begun: bool,
}

impl Observer for Checked {
    fn observe(&mut self, event: &Event<'_>) {
        match event {
            Event::Checking { images, of } => (self.images, self.of) = (*images, *of),
            Event::Started { .. } => self.begun = true,
            _ => {}
        }
    }
}

#[test]
fn images_that_cannot_be_opened_stop_the_run_before_it_begins() {
    let fixture = Fixture::new();
    let (train, gallery) = (
        &fixture.splits.train[5].path,
        &fixture.splits.gallery[1].path,
    );
    fs::write(train, "no image").expect("writable");
    fs::write(gallery, "").expect("writable");
    let mut checked = Checked::default();
    let error = fixture
        .trainer("run")
        .run(&mut checked)
        .expect_err("two bad images")
        .to_string();
    let named = |path: &Path| error.contains(&path.display().to_string());
    assert!(
        error.starts_with("2 of ") && named(train) && named(gallery),
        "{error}"
    );
    assert!(checked.images == checked.of && checked.of > 0 && !checked.begun);
    assert!(
        !fixture.run_folder("run").exists(),
        "nothing must be written"
    );
}

#[test]
fn an_unreadable_training_image_stops_the_run_with_its_name() {
    let fixture = Fixture::new();
    let broken = &fixture.splits.train[5].path;
    truncate(broken);
    let error = fixture
        .trainer("run")
        .run(&mut ())
        .expect_err("a damaged image")
        .to_string();
    assert!(error.contains(&broken.display().to_string()), "{error}");
}
