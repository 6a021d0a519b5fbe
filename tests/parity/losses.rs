//! Compares losses of pairs and losses with class weights with reference values from
//! `tests/golden/make_losses.py`.

use std::collections::BTreeSet;

use burn::{
    module::Param,
    tensor::{Device, Int, Tensor},
};
use reid::{
    core::Seed,
    nn::{
        Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets,
        loss::{
            ArcFaceConfig, CircleLossConfig, CosFaceConfig, Margin, PairLoss, PairLossConfig,
            Pairs, Reduction, SupervisedContrastiveConfig, TripletLossConfig, TripletMining,
            WeightedRegularisedTripletConfig,
        },
    },
};

use crate::golden::{self, Checker, Golden};

const CHECKERS: [Checker; 2] = [("pair_losses", pair_losses), ("class_margin", class_margin)];

/// The tolerance of values and gradients, relative to the largest of a tensor. Those of long features and of
/// large scales are differences of larger numbers.
const TOLERANCE: f64 = 2e-5;

#[test]
fn every_known_golden_file_agrees() {
    golden::check_files(&CHECKERS);
}

/// The cases of a file: the first parts of its names.
fn cases(golden: &Golden) -> BTreeSet<&str> {
    let names = golden.names().filter_map(|name| name.split_once('.'));
    names.map(|(case, _)| case).collect()
}

/// Compares a tensor of a case. Gradients at equal features are zero up to rounding, which is compared with 1.
fn meets<const D: usize>(golden: &Golden, name: &str, found: Tensor<D>) {
    let expected = golden.values(name);
    let found = found.try_into_vec_as::<f64>();
    let found = found.expect("the tensor is computed");
    let largest = expected.iter().fold(0.0_f64, |max, x| max.max(x.abs()));
    let at_equal = name.starts_with("equal.") && name.contains(".grad.");
    let scale = if at_equal { largest.max(1.0) } else { largest };
    golden.compare_scaled(name, &found, expected, TOLERANCE * scale);
}

fn pair_losses(golden: &Golden) {
    for case in cases(golden) {
        pair_loss(golden, case, "circle", &CircleLossConfig::new());
        let contrastive = SupervisedContrastiveConfig::new();
        pair_loss(golden, case, "supervised_contrastive", &contrastive);
        let weighted = WeightedRegularisedTripletConfig::new();
        pair_loss(golden, case, "weighted_triplet", &weighted);
        if golden.has(&format!("{case}.memory")) {
            continue;
        }
        for (mining, word) in [
            (TripletMining::All, "all"),
            (TripletMining::SemiHard, "semi-hard"),
        ] {
            for (margin, penalty) in [(Margin::Hard(0.3), "hard"), (Margin::Soft, "soft")] {
                for (reduction, mean) in [
                    (Reduction::Mean, "mean"),
                    (Reduction::Sum, "sum"),
                    (Reduction::NonZeroMean, "non-zero"),
                ] {
                    let config = TripletLossConfig::new().with_mining(mining);
                    let config = config.with_margin(margin).with_reduction(reduction);
                    let name = format!("triplet.{word}.{penalty}.{mean}");
                    pair_loss(golden, case, &name, &config);
                }
            }
        }
    }
}

/// Compares a loss of the pairs of a batch, or of a batch and a memory, and its gradient.
fn pair_loss(golden: &Golden, case: &str, name: &str, config: &impl PairLossConfig) {
    let device = Device::default().autodiff();
    let key = |part: &str| format!("{case}.{part}");
    let features = golden.tensor::<2>(&key("features"), &device).require_grad();
    let labels = golden.integers(&key("labels"), &device);
    let shape = OutputShape::single(features.dims()[1], 1);
    let criterion = config.init(&shape, &Init::new(Seed::new(1), &device));
    let loss = if golden.has(&key("memory")) {
        let references = golden.integers(&key("references"), &device);
        let memory = golden.tensor::<2>(&key("memory"), &device);
        let pairs = Pairs::with_references(labels, references);
        criterion.pair_loss(&features, &memory, &pairs)
    } else {
        let output = ReidOutput::single(features.clone(), features.clone());
        criterion.forward(&output, &labels.into())
    };
    meets(golden, &key(&format!("{name}.loss")), loss.clone());
    let gradient = features
        .grad(&loss.backward())
        .expect("the features' gradient");
    meets(golden, &key(&format!("{name}.grad.features")), gradient);
}

fn class_margin(golden: &Golden) {
    let device = Device::default().autodiff();
    let weights = golden.tensor::<2>("weights", &device);
    let labels = golden.integers("labels", &device);
    let [classes, dimensions] = weights.dims();
    let shape = OutputShape::single(dimensions, classes);
    let init = Init::new(Seed::new(1), &device);
    for case in ["usual", "aligned", "long"] {
        let mut arc_face = ArcFaceConfig::new().init(&shape, &init);
        arc_face.weights[0] = Param::from_tensor(weights.clone());
        let trained = arc_face.weights[0].val();
        margin_loss(
            golden,
            &format!("{case}.arc_face"),
            (&arc_face, trained),
            &labels,
        );

        let mut cos_face = CosFaceConfig::new().init(&shape, &init);
        cos_face.weights[0] = Param::from_tensor(weights.clone());
        let trained = cos_face.weights[0].val();
        margin_loss(
            golden,
            &format!("{case}.cos_face"),
            (&cos_face, trained),
            &labels,
        );
    }
}

/// Compares a loss and its gradients with respect to features and class weights.
fn margin_loss(
    golden: &Golden,
    name: &str,
    (criterion, weights): (&impl Criterion, Tensor<2>),
    labels: &Tensor<1, Int>,
) {
    let (case, _) = name.split_once('.').expect("a case and a loss");
    let device = Device::default().autodiff();
    let features = golden.tensor::<2>(&format!("{case}.features"), &device);
    let features = features.require_grad();
    let output = ReidOutput::single(features.clone(), features.clone());
    let loss = criterion.forward(&output, &Targets::from(labels.clone()));
    meets(golden, &format!("{name}.loss"), loss.clone());
    let gradients = loss.backward();
    let gradient = features.grad(&gradients).expect("the features' gradient");
    meets(golden, &format!("{name}.grad.features"), gradient);
    let gradient = weights.grad(&gradients).expect("the weights' gradient");
    meets(golden, &format!("{name}.grad.weights"), gradient);
}
