//! Trains classifiers on a dataset in CIFAR's binary version: they learn, report their error, and resume
//! bit-identically, also with dropout.

use std::{fs, path::Path};

use burn::tensor::Device;
use reid::{
    data::dataset,
    eval::Classification,
    prelude::*,
    train::{Event, Observer},
    zoo::recipes,
};

use module_values::values;

mod module_values;

/// The number of classes of CIFAR-10.
const CLASSES: u8 = 10;

/// The colours of the classes; two classes have the same.
const COLOURS: [[u8; 3]; 5] = [[0; 3], [80, 0, 0], [0, 80, 0], [0, 0, 80], [80, 80, 0]];

/// Writes a dataset whose classes differ in colour and in the side of a bright half: 4 training images per
/// class and file, and 2 test images per class.
fn write(folder: &Path) {
    let record = |class: u8, shade: u8| {
        let mut record = vec![class];
        for tint in COLOURS[usize::from(class / 2)] {
            for position in 0..32 * 32 {
                let left = position % 32 < 16;
                let bright = left == class.is_multiple_of(2);
                record.push(shade + tint + 90 * u8::from(bright));
            }
        }
        record
    };
    let file = |name: &str, images: u8| {
        let shades =
            (0..images).flat_map(|image| (0..CLASSES).map(move |class| (class, 10 * image)));
        let records: Vec<u8> = shades
            .flat_map(|(class, shade)| record(class, shade))
            .collect();
        fs::write(folder.join(name), records).expect("written");
    };
    for number in 1..=5 {
        file(&format!("data_batch_{number}.bin"), 4);
    }
    file("test_batch.bin", 2);
}

fn splits() -> (tempfile::TempDir, Splits) {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path());
    let splits = dataset::load(folder.path()).expect("the dataset is readable");
    assert_eq!((splits.train.len(), splits.test.len()), (200, 20));
    (folder, splits)
}

/// A small network by its name, with a recipe for few steps.
fn recipe(name: &str) -> Recipe<Architecture> {
    let mut network: Architecture = name.parse().expect("a name");
    match &mut network {
        Architecture::ResNet(network) => {
            (network.backbone.width, network.backbone.blocks) = (4, [1, 1, 1, 0]);
        }
        Architecture::DenseNet(network) => {
            (network.backbone.growth, network.backbone.blocks) = (4, [1, 1, 1, 0]);
            (network.backbone.stem_channels, network.backbone.dropout) = (8, 0.2);
        }
        _ => panic!("{name} is no classifier"),
    }
    let mut recipe = recipes::cifar_resnet("toy", network);
    recipe.sampling.shuffled = Some(48);
    recipe
}

/// The CPU backend, on which operations are deterministic.
fn device() -> Device {
    device::pick_named("flex").expect("the flex backend is compiled in")
}

/// Collects the classifications of a run.
#[derive(Default)]
struct Reports(Vec<(usize, f64, bool)>);

impl Observer for Reports {
    fn observe(&mut self, event: &Event<'_>) {
        if let Event::Classified {
            epoch,
            report,
            best,
        } = event
        {
            self.0.push((*epoch, report.error(), *best));
        }
    }
}

#[test]
fn a_classifier_learns_and_reports_its_error() {
    let (_folder, splits) = splits();
    let mut recipe = recipe("cifar-resnet20");
    recipe.augmentation.flip = None; // the classes differ in a side
    (recipe.epochs, recipe.evaluate_every) = (24, 8);
    recipe.schedule.base = 0.05;
    let trainer = Trainer::new(&recipe, &splits, LoaderConfig::default(), &device());
    let mut reports = Reports::default();
    let outcome = trainer
        .expect("valid")
        .run(&mut reports)
        .expect("it trains");

    let results = outcome
        .classification
        .expect("an evaluation after the last epoch");
    assert_eq!((results.images(), results.classes()), (20, 10));
    // By chance the errors are 0.9 and 0.5.
    assert!(
        results.error() <= 0.5 && results.top_k_error(5) <= 0.1,
        "{results}"
    );
    assert!(outcome.report.is_none(), "there are no queries");
    let epochs: Vec<usize> = reports.0.iter().map(|(epoch, ..)| *epoch).collect();
    assert_eq!(epochs, [8, 16, 24]);
    let mut best = f64::INFINITY;
    for (epoch, error, is_best) in &reports.0 {
        assert_eq!(*is_best, *error < best, "epoch {epoch}");
        best = best.min(*error);
        let scores = outcome.history[epoch - 1].scores.expect("evaluated");
        assert_eq!(scores.accuracy, Some(1.0 - error));
        assert_eq!(scores.mean_average_precision, None);
    }
    // 200 images in batches of 48 are 4 full batches and one of 8.
    assert_eq!(recipe.sampling.batch_size(), 48);
    let extractor = Extractor::from_recipe(&recipe, LoaderConfig::default());
    let classes = reid::data::loader::Classes::from_identities(
        splits.train.iter().map(|sample| sample.identity),
    );
    let model = outcome.learner.model.evaluation();
    let again = extractor.classify(&model, &splits.test, &classes, &device());
    assert_eq!(again.expect("classified"), results);
}

/// Requests an interrupt after a number of steps.
struct StopAfter(usize, Interrupt);

impl Observer for StopAfter {
    fn observe(&mut self, event: &Event<'_>) {
        if matches!(event, Event::Step(_)) {
            self.0 -= 1;
            if self.0 == 0 {
                self.1.request();
            }
        }
    }
}

/// Dropout, shuffled batches and the errors of earlier epochs are the same after a resume.
#[test]
fn a_classifier_with_dropout_resumes_bit_identically() {
    let (folder, splits) = splits();
    let mut recipe = recipe("cifar-densenet-100-bc");
    (recipe.epochs, recipe.evaluate_every) = (2, 1);
    let trainer = || {
        let trainer = Trainer::new(&recipe, &splits, LoaderConfig::default(), &device());
        trainer.expect("a valid recipe")
    };
    let whole = trainer().run(&mut ()).expect("it trains");
    // An epoch has 5 steps: within the first epoch, and within the second.
    for steps in [3, 7] {
        let checkpoints = Checkpoints::new(folder.path().join(format!("stopped-{steps}")));
        let interrupt = Interrupt::new();
        let stopped = trainer()
            .with_checkpoints(checkpoints.clone())
            .with_interrupt(interrupt.clone())
            .run(&mut StopAfter(steps, interrupt));
        assert!(stopped.expect("it trains").interrupted);
        let resumed = trainer().with_checkpoints(checkpoints.clone()).resume();
        let resumed = resumed
            .expect("the same run")
            .run(&mut ())
            .expect("it trains");
        assert!(values(&resumed.learner) == values(&whole.learner));
        assert_eq!(resumed.history, whole.history);
        let error = |results: &Option<Classification>| results.as_ref().map(Classification::error);
        assert_eq!(error(&resumed.classification), error(&whole.classification));

        let best = checkpoints.find(CheckpointKind::Best).expect("readable");
        let scores = Checkpoints::history(&best.expect("a best checkpoint")).expect("a history");
        assert!(
            scores
                .last()
                .and_then(|epoch| epoch.scores?.accuracy)
                .is_some()
        );
        // A run that has ended is tested again.
        let again = trainer()
            .with_checkpoints(checkpoints)
            .resume()
            .expect("the same run");
        let again = again.run(&mut ()).expect("tested");
        assert_eq!(error(&again.classification), error(&whole.classification));
    }
}
