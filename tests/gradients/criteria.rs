//! Criteria.

use burn::{
    module::Param,
    tensor::{Tensor, TensorData},
};
use reid::{
    core::Seed,
    nn::{
        Criterion, CriterionConfig, Init, OutputShape, ReidOutput,
        distance::Distance,
        loss::{
            AnyPairLossConfig, ArcFaceConfig, CenterLossConfig, CentroidUpdate, CircleLossConfig,
            ClusterContrastConfig, CosFaceConfig, CrossBatchMemoryConfig, DistillationConfig,
            DistillationObjective, IdentityLossConfig, Margin, MultiSimilarityConfig, Reduction,
            Smoothing, SupervisedContrastiveConfig, TripletLossConfig, TripletMining,
            WeightedConfig, WeightedRegularisedTripletConfig,
        },
    },
};

use crate::{
    LABELS, PRECISION, back_propagated, check, check_filled, check_input, check_parameters, device,
    formula::INPUT, targets, tensor,
};

/// The shape of features and of logits: 8 images, 4 dimensions or classes.
const FEATURES: [usize; 2] = [8, 4];

/// Two branches whose features and logits are four functions of one tensor.
fn two_branches(features: Tensor<2>) -> ReidOutput {
    let branch = |features: Tensor<2>, factor| {
        ReidOutput::single(features.clone(), features.flip([1]) * factor)
    };
    branch(features.clone(), 1.5).concat(branch(features.tanh(), -0.5))
}

fn shape_of_two_branches() -> OutputShape {
    let [_, width] = FEATURES;
    OutputShape::single(width, width).concat(OutputShape::single(width, width))
}

fn loss_of<C: Criterion>(criterion: &C, features: Tensor<2>) -> Tensor<1> {
    criterion.forward(&two_branches(features), &targets())
}

fn check_criterion(config: &impl CriterionConfig) {
    let criterion = config.init(&shape_of_two_branches(), &Init::new(Seed::new(1), device()));
    check(criterion, FEATURES, loss_of);
}

#[test]
fn identity_loss() {
    for form in [Smoothing::AllClasses, Smoothing::OtherClasses] {
        for smoothing in [0.0, 0.1] {
            let config = IdentityLossConfig::new().with_form(form);
            check_criterion(&config.with_smoothing(smoothing));
        }
    }
}

#[test]
fn batch_hard_triplet() {
    for margin in [Margin::Hard(0.3), Margin::Soft] {
        for distance in [Distance::Euclidean, Distance::Cosine] {
            for reduction in [Reduction::Mean, Reduction::Sum] {
                let config = TripletLossConfig::new().with_margin(margin);
                let config = config.with_distance(distance).with_reduction(reduction);
                check_criterion(&config);
            }
        }
    }
}

#[test]
fn mined_triplets() {
    for mining in [TripletMining::SemiHard, TripletMining::All] {
        for margin in [Margin::Hard(1.5), Margin::Soft] {
            for distance in [Distance::Euclidean, Distance::Cosine] {
                let config = TripletLossConfig::new().with_mining(mining);
                let config = config.with_margin(margin).with_distance(distance);
                check_criterion(&config);
                check_criterion(&config.with_reduction(Reduction::NonZeroMean));
            }
        }
    }
}

#[test]
fn supervised_contrastive() {
    for temperature in [0.1, 1.0] {
        check_criterion(&SupervisedContrastiveConfig::new().with_temperature(temperature));
    }
}

#[test]
fn weighted_regularised_triplet() {
    for distance in [Distance::Euclidean, Distance::Cosine] {
        check_criterion(&WeightedRegularisedTripletConfig::new().with_distance(distance));
    }
}

/// The weights of the pairs are constants of the gradient, so finite differences are those of a loss whose
/// weights are fixed.
#[test]
fn circle_loss() {
    let (margin, gamma) = (0.25, 4.0);
    let circle = |features: Tensor<2>, fixed: Tensor<2>| {
        let similarity = |features: Tensor<2>| {
            let length = features.clone().square().sum_dim(1).sqrt();
            let unit = features / length;
            unit.clone().matmul(unit.transpose())
        };
        let (similarity, fixed) = (similarity(features), similarity(fixed));
        let of_positive = (fixed.clone().neg() + (1.0 + margin)).clamp_min(0.0);
        let of_negative = (fixed + margin).clamp_min(0.0);
        let positive = (similarity.clone() - (1.0 - margin)) * of_positive * -gamma;
        let negative = (similarity - margin) * of_negative * gamma;
        let [positives, negatives] = [true, false].map(masks);
        let product = (positive.exp() * positives).sum_dim(1);
        let product = product * (negative.exp() * negatives).sum_dim(1);
        // The image without a positive has a product of 0, and so a loss of 0.
        (product + 1.0).log().sum() / 7.0
    };
    let config = CircleLossConfig::new().with_gamma(gamma);
    let criterion = config.init(&shape_of_two_branches(), &Init::new(Seed::new(1), device()));
    let derivatives = back_propagated(&criterion, FEATURES, &loss_of);
    let start = tensor("input", FEATURES, INPUT);
    let with_fixed_weights = |_: &_, features: Tensor<2>| {
        let second = circle(features.clone().tanh(), start.clone().tanh());
        circle(features, start.clone()) + second
    };
    check_input(&derivatives, &criterion, FEATURES, &with_fixed_weights);
}

/// 1 for the positive or for the negative pairs of [`LABELS`], and 0 for the others.
fn masks(positive: bool) -> Tensor<2> {
    let images = LABELS.iter().enumerate();
    let pairs = images.flat_map(|(i, one)| {
        let others = LABELS.iter().enumerate();
        others.map(move |(j, other)| (one == other) == positive && i != j)
    });
    let values: Vec<f64> = pairs.map(|pair| f64::from(u8::from(pair))).collect();
    let data = TensorData::new(values, [LABELS.len(); 2]);
    Tensor::from_data(data, (device(), PRECISION.dtype))
}

#[test]
fn class_margins() {
    // A small scale keeps all classes relevant; the angle of some images is beyond π - 1.5.
    let (shape, init) = (shape_of_two_branches(), Init::new(Seed::new(1), device()));
    let by_formula = |weights: &mut Vec<Param<Tensor<2>>>| {
        for (branch, weights) in weights.iter_mut().enumerate() {
            let values = tensor(&format!("weights.{branch}"), weights.dims(), INPUT);
            *weights = Param::from_tensor(values);
        }
    };
    for margin in [0.0, 0.5, 1.5] {
        let config = ArcFaceConfig::new().with_scale(4.0).with_margin(margin);
        let mut criterion = config.init(&shape, &init);
        by_formula(&mut criterion.weights);
        check_filled(&criterion, FEATURES, &loss_of);
    }
    let mut criterion = CosFaceConfig::new().with_scale(4.0).init(&shape, &init);
    by_formula(&mut criterion.weights);
    check_filled(&criterion, FEATURES, &loss_of);
}

/// The gradient of a loss of the pairs of a batch and a memory. Each pass changes the memory of a copy.
#[test]
fn cross_batch_memory() {
    let losses: [AnyPairLossConfig; 4] = [
        TripletLossConfig::new().with_margin(Margin::Soft).into(),
        MultiSimilarityConfig::new().with_margin(3.0).into(),
        SupervisedContrastiveConfig::new().into(),
        WeightedRegularisedTripletConfig::new().into(),
    ];
    for criterion in losses {
        let config = CrossBatchMemoryConfig::new(criterion);
        let config = config.with_capacity(10).with_start(0);
        let init = Init::new(Seed::new(1), device());
        let criterion = config.init(&shape_of_two_branches(), &init);
        let _ = loss_of(&criterion, tensor("memory", FEATURES, INPUT));
        check(criterion, FEATURES, |criterion, features| {
            loss_of(&criterion.clone(), features)
        });
    }
}

/// The embeddings of the teacher are constants of the gradient.
#[test]
fn distillation() {
    for objective in [
        DistillationObjective::Similarities,
        DistillationObjective::Distances,
        DistillationObjective::Cosine,
        DistillationObjective::SquaredError,
    ] {
        let config = DistillationConfig::new().with_objective(objective);
        let criterion = config.init(&shape_of_two_branches(), &Init::new(Seed::new(1), device()));
        let targets = targets().with_teacher(tensor("teacher", [8, 8], INPUT));
        check(criterion, FEATURES, |criterion, features| {
            criterion.forward(&two_branches(features), &targets)
        });
    }
}

#[test]
fn multi_similarity() {
    for (margin, negative_scale) in [(0.1, 50.0), (0.7, 40.0), (3.0, 2.0)] {
        let config = MultiSimilarityConfig::new().with_margin(margin);
        check_criterion(&config.with_negative_scale(negative_scale));
    }
}

#[test]
fn center_loss() {
    // The gradient of the features includes the weight of the loss; the gradient of the centres does not.
    let shape = shape_of_two_branches();
    let with_weight = |weight| {
        let config = CenterLossConfig::new().with_weight(weight);
        let mut criterion = config.init(&shape, &Init::new(Seed::new(1), device()));
        for (branch, centers) in criterion.centers.iter_mut().enumerate() {
            let values = tensor(&format!("centers.{branch}"), centers.dims(), INPUT);
            *centers = Param::from_tensor(values);
        }
        criterion
    };
    let loss = |criterion: &_, features: Tensor<2>| {
        Criterion::forward(criterion, &two_branches(features), &targets())
    };
    let light = with_weight(0.25);
    let derivatives = back_propagated(&light, FEATURES, &loss);
    check_input(&derivatives, &light, FEATURES, &loss);
    check_parameters(&derivatives, &with_weight(1.0), FEATURES, &loss);
}

#[test]
fn cluster_contrast() {
    for update in [CentroidUpdate::EachImage, CentroidUpdate::HardestImage] {
        let config = ClusterContrastConfig::new().with_temperature(0.3);
        let config = config.with_update(update);
        let criterion = config.init(&shape_of_two_branches(), &Init::new(Seed::new(1), device()));
        // The loss moves the centroids of the copy only, so that every loss has the same centroids.
        check(criterion, FEATURES, |criterion, features| {
            loss_of(&criterion.clone(), features)
        });
    }
}

#[test]
fn sums_of_criteria() {
    let (identity, triplet) = (IdentityLossConfig::new(), TripletLossConfig::new());
    check_criterion(&WeightedConfig {
        weight: 2.5,
        criterion: identity.clone(),
    });
    check_criterion(&(identity.clone(), triplet.clone()));
    check_criterion(&(Some(triplet.clone()), None::<IdentityLossConfig>));
    check_criterion(&vec![triplet.clone().with_margin(Margin::Soft), triplet]);
}
