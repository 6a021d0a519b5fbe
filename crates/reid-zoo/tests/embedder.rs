//! Embedders that are opened from runs and checkpoints, on files and on images in memory.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use reid_core::{InputSize, Seed, Split, Splits};
use reid_data::{dataset::market1501, loader::LoaderConfig, open_image};
use reid_nn::{
    Block, Embed, Init, Network,
    backbone::ResNetConfig,
    grad_cam::{ClosedForm, Target},
    head::BnNeckConfig,
    heat_map::heat_maps,
    precision::Precision,
};
use reid_synthetic::SyntheticConfig;
use reid_train::{CheckpointKind, Checkpoints, Extractor, Recipe, Trainer};
use reid_zoo::{Architecture, BagOfTricksConfig, Embedder, Error};

struct Fixture {
    folder: tempfile::TempDir,
    splits: Splits,
    recipe: Recipe<BagOfTricksConfig>,
}

impl Fixture {
    /// A run of two epochs in the folder `run`.
    fn new(change: impl FnOnce(&mut Recipe<BagOfTricksConfig>)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        SyntheticConfig::new()
            .with_train_identities(4)
            .with_test_identities(2)
            .with_cameras(2)
            .write(folder.path().join("data"))
            .expect("a synthetic dataset");
        let splits = market1501::load(folder.path().join("data")).expect("a readable dataset");
        let network = BagOfTricksConfig {
            backbone: ResNetConfig::resnet18().with_width(4).with_last_stride(1),
            head: BnNeckConfig::new(),
        };
        let mut recipe = Recipe::strong_baseline("embedded", InputSize::new(32, 16), network);
        (recipe.epochs, recipe.evaluate_every) = (2, 1);
        (recipe.sampling.identities, recipe.sampling.images) = (2, 2);
        change(&mut recipe);
        let trainer = Trainer::new(&recipe, &splits, LoaderConfig::default(), &device());
        let run = Checkpoints::new(folder.path().join("run"));
        let trainer = trainer.expect("a valid recipe").with_checkpoints(run);
        trainer.run(&mut ()).expect("a run");
        Self {
            folder,
            splits,
            recipe,
        }
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn query(&self, embedder: &Embedder) -> Vec<f32> {
        let embedded = embedder.embed_samples(&self.splits.query, Split::Query);
        embedded.expect("embedded").values().to_vec()
    }
}

fn open(path: impl AsRef<Path>) -> Embedder {
    Embedder::open_on(path, &device()).expect("a run")
}

fn device() -> Device {
    Device::flex()
}

#[test]
fn a_run_is_opened_by_its_folder_and_by_its_checkpoints() {
    let fixture = Fixture::new(|_| {});
    let run = fixture.run();
    let find = |kind| {
        let found = Checkpoints::new(&run).find(kind).expect("readable");
        found.expect("a checkpoint")
    };
    let best = fixture.query(&open(find(CheckpointKind::Best)));
    assert_eq!(fixture.query(&open(&run)), best);
    assert_eq!(fixture.query(&open(run.join("best"))), best);
    let last = fixture.query(&open(find(CheckpointKind::Last)));
    assert_eq!(fixture.query(&open(run.join("last"))), last);

    let typed = Embedder::open_as::<BagOfTricksConfig>(&run, &device()).expect("its type");
    assert_eq!(fixture.query(&typed), best);
    assert_eq!(typed.input(), fixture.recipe.input);
}

#[test]
fn files_samples_and_images_in_memory_have_the_same_embeddings() {
    let fixture = Fixture::new(|_| {});
    let embedder = open(fixture.run()).with_batch_size(3);
    let (query, gallery) = embedder.embed_splits(&fixture.splits).expect("embedded");
    let files: Vec<PathBuf> = fixture
        .splits
        .query
        .iter()
        .map(|one| one.path.clone())
        .collect();
    let by_files = embedder.embed_files(&files).expect("embedded");
    assert_eq!(by_files.values(), query.values());
    assert_eq!(by_files.path(1), Some(&*files[1]));
    assert!(
        by_files
            .identities()
            .iter()
            .all(|identity| identity.is_unknown())
    );

    let images: Vec<_> = files
        .iter()
        .map(|file| open_image(file).expect("an image"))
        .collect();
    let in_memory = embedder.embed_images(&images).expect("embedded");
    for (one, other) in in_memory.values().iter().zip(query.values()) {
        assert!((one - other).abs() < 1e-5, "{one} and {other}");
    }
    let one = embedder.embed(&images[0]).expect("embedded");
    assert_eq!(one.len(), query.dimensions());

    let report = embedder.evaluate(&fixture.splits).expect("scored");
    assert_eq!(report.queries, query.len());
    assert_eq!(report.gallery, gallery.len());
}

#[test]
fn a_teacher_computes_the_embeddings_of_its_embedder() {
    let fixture = Fixture::new(|_| {});
    let queries = fixture.splits.query.iter().take(2);
    let images: Vec<_> = queries
        .map(|one| open_image(&one.path).expect("an image"))
        .collect();
    let (size, normalise) = (fixture.recipe.input, fixture.recipe.augmentation.normalise);
    let extractor = Extractor::new(size, normalise, LoaderConfig::default());
    let prepared = extractor.prepare(&images, &device());
    for precision in [Precision::Single, Precision::Float16] {
        let embedder = open(fixture.run()).with_precision(precision);
        let name = embedder.fingerprint().expect("the model of a run");
        let expected = embedder.embed_images(&images).expect("embedded");
        let teacher = embedder.into_teacher().expect("a fingerprint");
        assert_eq!(teacher.name(), name.as_str());
        let found = teacher.embed(prepared.clone(), normalise).into_data();
        for (found, expected) in found.iter::<f32>().zip(expected.values()) {
            assert!((found - expected).abs() < 1e-5, "{found} and {expected}");
        }
    }

    let model = fixture
        .recipe
        .network
        .init(size, 4, &Init::new(Seed::new(1), &device()));
    let error = Embedder::new(model, size, &device()).into_teacher();
    assert!(matches!(error, Err(Error::NoFingerprint)));
}

/// If a run averages its weights, the model with the averaged weights is opened.
#[test]
fn averaged_weights_are_opened() {
    let averaged = Fixture::new(|recipe| recipe.average_decay = Some(0.5));
    let embedder = open(averaged.run().join("last"));
    let checkpoint = Checkpoints::new(averaged.run()).find(CheckpointKind::Last);
    let checkpoint = checkpoint.expect("readable").expect("a checkpoint");
    let with = averaged.query(&embedder);
    std::fs::remove_file(checkpoint.join("average.bpk")).expect("removed");
    let error = Embedder::open_on(&checkpoint, &device()).expect_err("a file is missing");
    assert!(error.to_string().contains("average.bpk"), "{error}");
    assert!(with.iter().all(|value| value.is_finite()));
}

#[test]
fn errors_name_the_files_that_cannot_be_opened() {
    let fixture = Fixture::new(|_| {});
    let empty = fixture.folder.path().join("data");
    let error = Embedder::open_on(&empty, &device()).expect_err("no run");
    assert!(
        matches!(&error, Error::NoCheckpoint { path } if *path == empty),
        "{error}"
    );
    let expected = "expected a run, a checkpoint or a model";
    assert!(error.to_string().contains(expected), "{error}");

    let embedder = open(fixture.run());
    let bad = ["one.jpg", "two.jpg"].map(|name| fixture.folder.path().join(name));
    for path in &bad {
        std::fs::write(path, "no image").expect("written");
    }
    let files = bad.iter().chain([&fixture.splits.query[0].path]);
    let error = embedder.embed_files(files).expect_err("no images");
    let message = error.to_string();
    assert!(
        message.contains("one.jpg") && message.contains("two.jpg"),
        "{message}"
    );
    assert!(embedder.embed_images(&[]).is_err());
}

#[test]
fn an_embedder_computes_the_same_scores_as_the_run() {
    let fixture = Fixture::new(|_| {});
    let embedder = open(fixture.run().join("last"));
    let report = embedder.evaluate(&fixture.splits).expect("scored");
    let checkpoint = Checkpoints::new(fixture.run()).find(CheckpointKind::Last);
    let checkpoint = checkpoint.expect("readable").expect("a checkpoint");
    let history = Checkpoints::history(&checkpoint).expect("a history");
    let score = history
        .last()
        .and_then(|epoch| epoch.scores?.mean_average_precision)
        .expect("scores");
    assert!((report.mean_average_precision - score).abs() < 1e-12);

    let recipe: Recipe<Architecture, serde_json::Value> =
        Checkpoints::recipe(&checkpoint).expect("a network of the zoo");
    let extractor = Extractor::from_recipe(&recipe, LoaderConfig::default());
    assert_eq!(extractor.input(), fixture.recipe.input);
}

#[test]
fn heat_maps_are_the_grad_cam_of_the_model() {
    let fixture = Fixture::new(|_| {});
    let embedder = open(fixture.run());
    let images: Vec<_> = fixture.splits.query[..2]
        .iter()
        .map(|sample| open_image(&sample.path).expect("an image"))
        .collect();
    let maps = embedder.heat_maps(&images).expect("heat maps");

    let checkpoint = Checkpoints::new(fixture.run()).find(CheckpointKind::Best);
    let checkpoint = checkpoint.expect("readable").expect("a checkpoint");
    let (device, classes) = (
        device(),
        Checkpoints::classes(&checkpoint).expect("identities").len(),
    );
    let init = Init::empty(&device);
    let model = fixture
        .recipe
        .network
        .init(fixture.recipe.input, classes, &init);
    let model = Checkpoints::load_model(&checkpoint, model).expect("the weights");
    let extractor = Extractor::from_recipe(&fixture.recipe, LoaderConfig::default());
    let features = model.backbone.forward(extractor.prepare(&images, &device));
    let expected = heat_maps(model.head.grad_cam(features, Target::Highest));
    assert_eq!(maps.len(), 2);
    let mut largest = 0.0_f32;
    for (map, expected) in maps.iter().zip(&expected) {
        for (value, expected) in map.values().iter().zip(expected.values()) {
            assert!(
                (value - expected).abs() <= 1e-4 * expected.abs().max(1e-3),
                "{value} {expected}"
            );
            largest = largest.max(*value);
        }
    }
    assert!(largest > 0.0, "nothing to compare");
    let none = embedder.heat_maps(&[]).expect_err("no images").to_string();
    assert!(none.contains("no images"), "{none}");
}

#[test]
fn similarity_maps_add_up_to_the_cosine_similarities() {
    let fixture = Fixture::new(|_| {});
    let images: Vec<_> = fixture.splits.query[..2]
        .iter()
        .map(|sample| open_image(&sample.path).expect("an image"))
        .collect();
    let half = open(fixture.run()).with_precision(Precision::BFloat16);
    for (embedder, allowed) in [
        (open(fixture.run()), 1e-4),
        (open(fixture.run()).with_flip_test(), 1e-4),
        (half, 2e-2),
    ] {
        let embeddings = embedder.embed_images(&images).expect("embeddings");
        let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
        let maps = embedder.similarity_maps(&images[0], &images);
        let maps = maps.expect("similarity maps");
        assert_eq!(maps.len(), 2);
        for (index, map) in maps.iter().enumerate() {
            let (one, other) = (embeddings.row(0), embeddings.row(index));
            let product: f32 = one.iter().zip(other).map(|(one, other)| one * other).sum();
            let expected = product / (length(one) * length(other));
            let found = map.similarity();
            assert!((found - expected).abs() < allowed, "{found} {expected}");
            assert_eq!(map.first().values().len(), map.second().values().len());
        }
        assert!(!maps[0].strongest_links(3).is_empty());
    }
    let none = open(fixture.run()).similarity_maps(&images[0], &[]);
    let none = none.expect_err("no images").to_string();
    assert!(none.contains("no images"), "{none}");
}

/// A model that is no network: the mean of each channel.
struct MeanColour;

impl Embed for MeanColour {
    fn embed(&self, images: Tensor<4>) -> Tensor<2> {
        reid_nn::pool::average(images)
    }
}

#[test]
fn a_model_that_cannot_be_split_into_positions_is_reported() {
    let image = image::RgbImage::new(8, 8);
    let embedder = Embedder::new(MeanColour, InputSize::new(16, 8), &device());
    let error = embedder.similarity_maps(&image, std::slice::from_ref(&image));
    assert!(matches!(error, Err(Error::NoTerms)));
}

#[test]
fn a_fingerprint_names_the_weights_the_input_and_the_flip_test() {
    let fixture = Fixture::new(|_| {});
    let run = fixture.run();
    let print = |embedder: Embedder| embedder.fingerprint().expect("a checkpoint").to_string();
    let find = |kind| {
        let found = Checkpoints::new(&run).find(kind).expect("readable");
        found.expect("a checkpoint")
    };
    let best = print(open(&run));
    assert!(best.ends_with(" (32x16)") && best.len() == 24, "{best}");
    let moved = fixture.folder.path().join("moved");
    std::fs::rename(find(CheckpointKind::Best), &moved).expect("moved");
    assert_eq!(print(open(&moved)), best);
    let flipped = print(open(&moved).with_flip_test());
    assert_eq!(flipped, format!("{best}, flip test"));

    // The same weights with another normalisation.
    let other = Fixture::new(|recipe| recipe.augmentation.normalise.mean = [0.5; 3]);
    assert_ne!(print(open(other.run())), best);

    let model = (ResNetConfig::resnet18().with_width(4), BnNeckConfig::new());
    let model = model.init(fixture.recipe.input, 3, &Init::new(Seed::new(1), &device()));
    let embedder = Embedder::new(model, fixture.recipe.input, &device());
    assert_eq!(
        embedder
            .fingerprint()
            .expect_err("no checkpoint")
            .to_string(),
        "the fingerprint of a model that was not opened from a file is not known: name the model with \
         `Embedder::with_name`"
    );
    assert_eq!(print(embedder.with_name("untrained")), "untrained (32x16)");
}
