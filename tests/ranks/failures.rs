//! If one rank fails, all ranks end with its number; what ranks cannot share is rejected.

use std::{
    fmt,
    fs::{self, File},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use reid::{
    core::{RankError, Threads},
    data::{
        Error as DataError,
        sampler::{EpochDefinition, IdentitySampler, Sampler},
    },
    nn::loss::{AnyPairLossConfig, CrossBatchMemoryConfig, TripletLossConfig, WeightedConfig},
    prelude::*,
    train::{Error, Event, Observer, ParallelConfig, ReidLearner},
};

use crate::{
    fixture::{Fixture, RATE, Trained, Watch, assert_equal, device},
    references::{Double, Halves},
};

/// A sampler that fails in the second epoch of one rank.
struct Fails {
    is_failing: bool,
    epochs: AtomicUsize,
}

impl fmt::Debug for Fails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fails")
    }
}

impl Sampler for Fails {
    fn batches(&self, samples: &[Sample], seed: Seed) -> Result<Vec<Vec<usize>>, DataError> {
        if self.epochs.fetch_add(1, Relaxed) > 0 && self.is_failing {
            let reason = "the images are gone".to_owned();
            return Err(DataError::Sampling { reason });
        }
        IdentitySampler::new(6, 2, EpochDefinition::EachIdentityOnce).batches(samples, seed)
    }
}

/// Expects that a rank has ended the others for a reason.
fn assert_others_ended(errors: &[Option<Error>], failed: usize, expected: &str) {
    for (rank, error) in errors.iter().enumerate() {
        match error {
            _ if rank == failed => {}
            Some(Error::Ranks(RankError::Ended { rank, reason })) => {
                assert!(*rank == failed && reason.contains(expected), "{error:?}");
            }
            other => panic!("rank {rank}: {other:?}"),
        }
    }
}

#[test]
fn a_rank_that_fails_or_panics_ends_the_others_with_its_number() {
    let fixture = Fixture::new(4);
    let started = Instant::now();
    for panics in [false, true] {
        for config in [ParallelConfig::exact(), ParallelConfig::default()] {
            let errors = Threads::run(3, |communicator| {
                let is_failing = communicator.rank() == 1;
                let mut watch = Watch {
                    panics_after: (panics && is_failing).then_some(1),
                    ..Watch::default()
                };
                let sampler = Fails {
                    is_failing: is_failing && !panics,
                    epochs: AtomicUsize::new(0),
                };
                let trainer = fixture
                    .trainer(fixture.learner())
                    .with_sampler(sampler)
                    .with_ranks(communicator, config);
                let run = AssertUnwindSafe(|| trainer.run(&mut watch).err());
                catch_unwind(run).unwrap_or_default()
            });
            let expected = if panics {
                "it panicked"
            } else {
                "the images are gone"
            };
            assert_others_ended(&errors, 1, expected);
        }
    }
    assert!(
        started.elapsed() < Duration::from_secs(40),
        "10 s for each run"
    );
}

/// Puts a file where the next checkpoint is written, after the first one.
struct Block<'a>(&'a Path);

impl Observer for Block<'_> {
    fn observe(&mut self, event: &Event<'_>) {
        if matches!(event, Event::Saved(_)) {
            fs::write(self.0, "").expect("written");
        }
    }
}

#[test]
fn a_save_that_fails_ends_all_ranks_and_the_run_resumes() {
    let mut fixture = Fixture::new(3);
    fixture.recipe.schedule.base = RATE;
    let config = ParallelConfig::exact();
    let whole = fixture.train(1, config, || fixture.learner()).remove(0);
    let (started, blocked) = (Instant::now(), fixture.path("run/.draft"));
    let errors_of = |name: &str| {
        Threads::run(3, |communicator| {
            let trainer = fixture
                .trainer(fixture.learner())
                .with_ranks(communicator, config)
                .with_checkpoints(fixture.checkpoints(name));
            trainer.run(&mut Block(&blocked)).err()
        })
    };
    let assert_named = |errors: &[Option<Error>], path: &Path| {
        let named = path.display().to_string();
        let own = errors[0].as_ref().map(ToString::to_string);
        assert!(own.is_some_and(|own| own.contains(&named)), "{errors:?}");
        assert_others_ended(errors, 0, &named);
    };
    assert_named(&errors_of("run"), &blocked);
    // A file stands where the folder of another run would be.
    let file = fixture.path("file");
    fs::write(&file, "").expect("written");
    assert_named(&errors_of("file"), &file);
    assert!(started.elapsed() < Duration::from_secs(20), "10 s for each");

    fs::remove_file(&blocked).expect("it was left");
    let resumed = Threads::run(2, |communicator| {
        let trainer = fixture
            .trainer(fixture.learner())
            .with_ranks(communicator, config)
            .with_checkpoints(fixture.checkpoints("run"));
        let trainer = trainer.resume().expect("the same run");
        Trained::from(trainer.run(&mut ()).expect("it trains"))
    });
    assert_equal(&resumed, &whole, 1e-5);
}

/// Images of one identity are all loaded by one rank, and so is one gallery image.
#[test]
fn an_image_that_cannot_be_loaded_is_named_with_its_rank() {
    for of_gallery in [false, true] {
        let fixture = Fixture::new(1);
        let Splits { train, gallery, .. } = &fixture.splits;
        let same = |sample: &&Sample| sample.identity == train[0].identity;
        let damaged: Vec<&Sample> = if of_gallery {
            gallery.iter().take(1).collect()
        } else {
            train.iter().filter(same).collect()
        };
        for Sample { path, .. } in &damaged {
            let file = File::options().write(true).open(path).expect("a file");
            let length = file.metadata().expect("a file").len();
            file.set_len(length / 2).expect("shortened");
        }
        for ranks in [2, 3] {
            let errors = Threads::run(ranks, |communicator| {
                let trainer = fixture.trainer(fixture.learner());
                let trainer = trainer.with_ranks(communicator, ParallelConfig::exact());
                trainer.run(&mut ()).err()
            });
            let mut all = errors.iter();
            let failed = all.position(|error| matches!(error, Some(Error::Data(_))));
            let failed = failed.expect("one rank loads the image");
            let text = format!("{:?}", errors[failed]);
            let paths = damaged.iter().map(|sample| sample.path.display());
            let mut paths = paths.map(|path| path.to_string());
            let path = paths.find(|path| text.contains(path));
            assert_others_ended(&errors, failed, &path.expect("the error names it"));
        }
    }
}

#[test]
fn settings_that_ranks_cannot_share_are_rejected_with_their_paths() {
    let errors_of = |fixture: &Fixture, ranks: usize, config: ParallelConfig| {
        let errors = Threads::run(ranks, |communicator| {
            let trainer = fixture.trainer(fixture.learner());
            let trainer = trainer.with_ranks(communicator, config);
            trainer.run(&mut ()).err().map(|error| error.to_string())
        });
        errors.into_iter().next().flatten().expect("an error")
    };
    let mut fixture = Fixture::new(1);
    assert_eq!(
        errors_of(&fixture, 4, ParallelConfig::exact()),
        "recipe: sampling.identities: expected a multiple of 4, the number of ranks, found 6"
    );
    let memory = CrossBatchMemoryConfig::new(AnyPairLossConfig::from(TripletLossConfig::new()));
    fixture.recipe.losses.cross_batch_memory = Some(WeightedConfig {
        weight: 1.0,
        criterion: memory.with_capacity(12),
    });
    let error = errors_of(&fixture, 2, ParallelConfig::default());
    assert!(
        error.starts_with("recipe: losses: expected losses over the whole batch")
            && error.contains("`criterion.9.criterion.features.0`"),
        "{error}"
    );
    let error = Threads::run(2, |communicator| {
        let learner = Halves {
            learner: Double::new(fixture.learner()),
            config: ParallelConfig::default(),
        };
        let trainer = fixture
            .trainer(learner)
            .with_ranks(communicator, ParallelConfig::exact());
        trainer.run(&mut ()).err().map(|error| error.to_string())
    });
    let error = error.into_iter().next().flatten().expect("an error");
    assert!(error.starts_with("recipe: learner: expected"), "{error}");
}

#[test]
fn ranks_that_start_from_other_weights_are_rejected() {
    let fixture = Fixture::new(1);
    let errors = Threads::run(2, |communicator| {
        let mut recipe = fixture.recipe.clone();
        if communicator.rank() == 1 {
            recipe.seed = Seed::new(2);
        }
        let learner = ReidLearner::build(&recipe, 6, &device());
        let trainer = fixture.trainer(learner);
        let trainer = trainer.with_ranks(communicator, ParallelConfig::exact());
        trainer.run(&mut ()).err().map(|error| error.to_string())
    });
    for error in errors {
        let error = error.expect("other weights");
        assert!(
            error.starts_with("rank 1 differs from rank 0 in its weights"),
            "{error}"
        );
    }
}
