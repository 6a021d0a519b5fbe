//! Trains a tiny network to distinguish four people. In one run of seconds, this covers losses, gradients,
//! optimizer, sampling and evaluation together.

use reid::{
    data::{dataset::market1501, transform::Augmentation},
    nn::{Precision, backbone::ResNetConfig, head::BnNeckConfig},
    prelude::*,
    synthetic::SyntheticConfig,
};

use skipped::skipped;

mod skipped;

#[test]
fn four_people_are_distinguished() {
    learns(Precision::Single);
}

/// Weights are in single precision, features in half precision.
#[test]
fn four_people_are_distinguished_in_bfloat16() {
    learns_where_supported(Precision::BFloat16);
}

/// As in bfloat16, with loss scaling.
#[test]
fn four_people_are_distinguished_in_float16() {
    learns_where_supported(Precision::Float16);
}

fn learns_where_supported(precision: Precision) {
    let device = device::pick().expect("a device");
    if precision.is_supported(&device) {
        learns(precision);
    } else {
        skipped(
            "four people are distinguished",
            &format!("{precision:?}"),
            &device,
        );
    }
}

fn learns(precision: Precision) {
    let folder = tempfile::tempdir().expect("a folder");
    SyntheticConfig::new()
        .with_train_identities(4)
        .with_test_identities(4)
        .with_difficulty(0.0)
        .with_occlusion(0.0)
        .write(folder.path())
        .expect("the synthetic dataset is written");
    let mut splits = market1501::load(folder.path()).expect("the dataset is readable");
    // The training images are query and gallery: each image has matches in the other cameras.
    splits.query.clone_from(&splits.train);
    splits.gallery.clone_from(&splits.train);

    let backbone = ResNetConfig::resnet18().with_width(8).with_last_stride(1);
    let network = (backbone, BnNeckConfig::new());
    let mut recipe = Recipe::strong_baseline("four people", InputSize::new(64, 32), network);
    recipe.augmentation = Augmentation::none();
    recipe.precision = precision;
    (recipe.epochs, recipe.evaluate_every) = (15, 0);
    recipe.sampling.identities = 4;
    recipe.schedule.warm_up = None;
    recipe.schedule.base = 1e-3;

    let device = device::pick().expect("a device");
    let trainer = Trainer::new(&recipe, &splits, LoaderConfig::default(), &device);
    let outcome = trainer
        .expect("a valid recipe")
        .run(&mut ())
        .expect("it trains");

    let report = outcome.report.expect("an evaluation after the last epoch");
    assert_eq!(report.matched_queries, splits.query.len());
    assert!((report.rank(1) - 1.0).abs() < 1e-12, "{report}");
    let last = outcome.history.last().expect("fifteen epochs");
    assert!(
        last.loss < 0.5 * outcome.history[0].loss,
        "{:?}",
        outcome.history
    );
}
