//! Trains the strong baseline with several ranks: processes that `mpirun` starts on one or several machines.
//!
//! ```sh
//! cd crates/reid-mpi && cargo build --release --examples
//! RAYON_NUM_THREADS=1 mpirun -np 2 target/release/examples/train_ranks \
//!     --recipe ../../examples/recipes/small_objects.json --out run
//! RAYON_NUM_THREADS=1 mpirun -np 4 target/release/examples/train_ranks \
//!     --recipe ../../examples/recipes/small_objects.json --out run --resume
//! mpirun -np 8 --hostfile hosts target/release/examples/train_ranks --data DIR --out DIR/run
//! ```
//!
//! Without `--data`, it trains on synthetic people. Without `--recipe`, it uses the published recipe, which needs GPUs.
//! The number of ranks must divide the number of identities of a batch. With the default settings a run may resume with
//! another number of ranks. Open MPI starts more ranks than cores only with `--oversubscribe`.
//!
//! `crates/reid-mpi/run` checks that 1, 2 and 3 ranks train the same weights, also after a kill, and measures images per
//! second.

use std::{error::Error, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser;
use reid::{
    core::Communicator,
    data::dataset,
    prelude::*,
    synthetic::SyntheticConfig,
    train::{Observer, ParallelConfig},
};
use reid_mpi::Mpi;

#[derive(Parser)]
#[command(about = "Trains the strong baseline with several ranks")]
struct Arguments {
    /// The dataset, which every rank reads. Default: synthetic images of people.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The recipe, a JSON file. Default: the published recipe.
    #[arg(long)]
    recipe: Option<PathBuf>,
    /// The folder for checkpoints, on a file system that all ranks share.
    #[arg(long, default_value = "target/train_ranks")]
    out: PathBuf,
    /// Resume from the last checkpoint in `--out`.
    #[arg(long)]
    resume: bool,
    /// Normalise and mine within the share of each rank.
    #[arg(long)]
    per_rank: bool,
    /// Run for a few seconds with tiny settings, to check that the example works.
    #[arg(long)]
    smoke: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mpi = match Mpi::start(|rank, reason| eprintln!("rank {rank}: {reason}")) {
        Ok(mpi) => mpi,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = run(&arguments, &mpi) {
        mpi.fail(&error.to_string());
    }
    mpi.finish();
    ExitCode::SUCCESS
}

fn run(arguments: &Arguments, mpi: &Arc<Mpi>) -> Result<(), Box<dyn Error>> {
    let device = device::pick()?;
    let data = match &arguments.data {
        Some(data) => data.clone(),
        None => drawn(arguments, mpi)?,
    };
    let splits = dataset::load(&data)?;
    let recipe = recipe(arguments)?;
    let config = if arguments.per_rank {
        ParallelConfig::default()
    } else {
        ParallelConfig::exact()
    };
    let mut trainer = Trainer::new(&recipe, &splits, LoaderConfig::default(), &device)?
        .with_ranks(mpi.clone(), config)
        .with_checkpoints(Checkpoints::new(&arguments.out));
    if arguments.resume {
        trainer = trainer.resume()?;
    }
    let mut observer: Box<dyn Observer> = if mpi.rank() == 0 {
        Box::new(Console::stderr())
    } else {
        Box::new(())
    };
    let outcome = trainer.run(&mut observer)?;
    if let (0, Some(report)) = (mpi.rank(), &outcome.report) {
        println!("{report}");
    }
    Ok(())
}

/// Rank 0 draws synthetic people. Returns their folder when it is complete.
fn drawn(arguments: &Arguments, mpi: &Arc<Mpi>) -> Result<PathBuf, Box<dyn Error>> {
    let people = if arguments.smoke { 6 } else { 64 };
    let folder = arguments.out.with_extension("people");
    if mpi.rank() == 0 {
        SyntheticConfig::new()
            .with_train_identities(people)
            .with_test_identities(people)
            .write(&folder)?;
    }
    mpi.barrier()?;
    Ok(folder)
}

fn recipe(arguments: &Arguments) -> Result<Recipe<Architecture>, Box<dyn Error>> {
    let mut recipe = match &arguments.recipe {
        Some(file) => Recipe::load(file)?,
        None => Recipe::strong_baseline(
            "strong baseline",
            InputSize::PERSON,
            Architecture::strong_baseline(),
        ),
    };
    if arguments.smoke {
        recipe.network = "resnet18".parse()?;
        if let Architecture::Baseline(network) = &mut recipe.network {
            network.backbone = network.backbone.clone().with_width(4);
        }
        recipe.input = InputSize::new(64, 32);
        (recipe.epochs, recipe.sampling.identities) = (1, 6); // for 1, 2 or 3 ranks
    }
    recipe.check()?;
    Ok(recipe)
}
