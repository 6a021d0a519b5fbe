//! Runs resume with another number of ranks, or are refused.

use reid::{
    core::Threads,
    prelude::*,
    train::{ParallelConfig, Scope, Swa},
};

use crate::fixture::{Fixture, Trained, Watch, assert_equal};

/// A run of two ranks that rank 1 interrupts after two steps. Returns the checkpoints that each rank has saved.
fn interrupted(fixture: &Fixture, name: &str, config: ParallelConfig) -> Vec<usize> {
    Threads::run(2, |communicator| {
        let (rank, interrupt) = (communicator.rank(), Interrupt::new());
        let mut watch = Watch {
            interrupt: (rank == 1).then(|| (2, interrupt.clone())),
            ..Watch::default()
        };
        let outcome = fixture
            .trainer(fixture.learner())
            .with_ranks(communicator, config)
            .with_checkpoints(fixture.checkpoints(name))
            .with_interrupt(interrupt)
            .run(&mut watch)
            .expect("it trains");
        assert!(outcome.interrupted);
        assert_eq!(watch.steps, 2);
        watch.saved
    })
}

#[test]
fn a_run_resumes_with_any_number_of_ranks_and_only_rank_0_writes() {
    let mut fixture = Fixture::new(4);
    fixture.recipe.swa = Some(Swa::from_epoch(1));
    let (config, learner) = (ParallelConfig::exact(), || fixture.learner());
    let whole = fixture.train(1, config, learner).remove(0);
    for ranks in [1, 3] {
        let name = format!("resumed-{ranks}");
        let saved = interrupted(&fixture, &name, config);
        assert!(saved[0] > 0 && saved[1] == 0, "{saved:?}");
        let resumed = Threads::run(ranks, |communicator| {
            let trainer = fixture
                .trainer(learner())
                .with_ranks(communicator, config)
                .with_checkpoints(fixture.checkpoints(&name));
            let trainer = trainer.resume().expect("the same run");
            Trained::from(trainer.run(&mut ()).expect("it trains"))
        });
        assert_equal(&resumed, &whole, 1e-5);
    }
}

#[test]
fn settings_per_rank_resume_only_with_the_same_settings_and_number() {
    let fixture = Fixture::new(4);
    let default = ParallelConfig::default();
    interrupted(&fixture, "run", default);
    let resume = |ranks: usize, config: ParallelConfig| {
        let errors = Threads::run(ranks, |communicator| {
            let trainer = fixture
                .trainer(fixture.learner())
                .with_ranks(communicator, config)
                .with_checkpoints(fixture.checkpoints("run"));
            trainer.resume().err().map(|error| error.to_string())
        });
        errors.into_iter().next().flatten()
    };
    let was = "ranks was 2 with batch normalisation per rank and losses per rank";
    for (ranks, config, is) in [
        (
            3,
            default,
            "3 with batch normalisation per rank and losses per rank",
        ),
        (1, default, "any number over the whole batch"),
        (
            2,
            ParallelConfig::exact(),
            "any number over the whole batch",
        ),
        (
            2,
            default.with_losses(Scope::WholeBatch),
            "2 with batch normalisation per rank and losses over the whole batch",
        ),
    ] {
        let error = resume(ranks, config).expect("another run");
        assert!(error.ends_with(&format!("{was} and is {is}")), "{error}");
    }
    assert_eq!(resume(2, default), None);
}
