//! Several ranks train the weights of one process, or of a plain reference.

use std::{
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use reid::{
    nn::loss::{AnyPairLossConfig, CrossBatchMemoryConfig, TripletLossConfig, WeightedConfig},
    train::{ParallelConfig, Scope, Swa},
};

use crate::{
    fixture::{Fixture, RATE, assert_equal, difference, values},
    references::{Double, Halves},
};

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

/// Of the three batches of an epoch, two are accumulated in one step, and the last one is a step of its own. In single
/// precision, rounding sometimes changes which triplets are mined.
#[test]
fn accumulated_gradients_equal_those_of_one_process() {
    let mut fixture = Fixture::with_people(5, 18);
    fixture.recipe.schedule.base = RATE;
    let train = |fixture: &Fixture, ranks: usize| {
        let learner = || Double::new(fixture.learner());
        fixture.train(ranks, ParallelConfig::exact(), learner)
    };
    let each = train(&fixture, 1).remove(0);
    fixture.recipe.accumulated_batches = 2;
    let accumulated = train(&fixture, 1).remove(0);
    let apart = difference(&accumulated.weights, &each.weights);
    assert!(apart > 1e-7, "accumulation has no effect: {apart}");
    for ranks in [2, 3] {
        assert_equal(&train(&fixture, ranks), &accumulated, 1e-10);
    }
}

/// Exponential averages with averaged and with renewed running statistics, and means of weights (SWA) at the end of
/// epochs and between steps.
#[test]
fn averages_of_weights_equal_those_of_one_process() {
    let mut fixture = Fixture::with_people(5, 12);
    fixture.recipe.schedule.base = RATE;
    let (config, swa) = (ParallelConfig::exact(), Swa::from_epoch(2));
    for (average_decay, swa, renewal_batches) in [
        (Some(0.5), None, None),
        (Some(0.5), None, Some(1)),
        (None, Some(swa), None),
        (None, Some(swa.with_every_steps(3)), None),
    ] {
        let recipe = &mut fixture.recipe;
        (recipe.average_decay, recipe.swa) = (average_decay, swa);
        recipe.renewal_batches = renewal_batches;
        let learner = || Double::new(fixture.learner());
        let one = fixture.train(1, config, learner).remove(0);
        let average = one.average.as_ref().expect("weights are averaged");
        let apart = difference(average, &one.values);
        assert!(apart > 1e-7, "the average is the model: {apart}");
        for ranks in [2, 3] {
            let found = fixture.train(ranks, config, learner);
            assert_equal(&found, &one, 1e-10);
        }
    }
}

/// Clones share tensors. If ranks shared their graphs too, they would wait for each other forever.
#[test]
fn ranks_may_train_clones_of_one_learner() {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let fixture = Fixture::new(3);
        let config = ParallelConfig::exact();
        let learner = Mutex::new(fixture.learner());
        let clone = || learner.lock().expect("no other rank panics").clone();
        let clones = fixture.train(2, config, clone);
        let own = fixture.train(2, config, || fixture.learner());
        sender.send([clones, own]).expect("the test waits");
    });
    let trained = receiver.recv_timeout(Duration::from_mins(1));
    let [clones, own] = trained.expect("the ranks end");
    for (clone, own) in clones.iter().zip(&own) {
        assert!(clone.values == own.values, "the weights differ");
    }
}
