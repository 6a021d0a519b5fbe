//! From a folder of pictures to the nearest ones: embeds, saves, loads again, and searches.
//!
//! ```sh
//! cargo run --release --example embed_folder -- --run run --gallery crops --query someone.jpg
//! ```
//!
//! The run is one of `train_baseline` or any other run of a network of the zoo. Without `--run` it trains for a
//! moment on drawn people first.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to its user"
)]

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;
use reid::{
    data::{FileKind, dataset::market1501, file_kind},
    nn::{backbone::ResNetConfig, head::BnNeckConfig},
    prelude::*,
    synthetic::SyntheticConfig,
};

#[derive(Parser)]
#[command(about = "Embeds a folder of pictures and searches it")]
struct Arguments {
    /// A run's folder, or a checkpoint.
    #[arg(long, requires = "gallery", requires = "query")]
    run: Option<PathBuf>,
    /// The folder that is searched.
    #[arg(long)]
    gallery: Option<PathBuf>,
    /// The picture that is searched for.
    #[arg(long)]
    query: Option<PathBuf>,
    /// How many pictures are listed.
    #[arg(long, default_value_t = 5)]
    nearest: usize,
    /// Where the embeddings go: `.safetensors` or `.npz`.
    #[arg(long, default_value = "target/embed_folder/gallery.safetensors")]
    out: PathBuf,
    /// Without effect: without `--run` the example is a smoke run.
    #[arg(long)]
    smoke: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let (run, folder, query) = match (&arguments.run, &arguments.gallery, &arguments.query) {
        (Some(run), Some(gallery), Some(query)) => (run.clone(), gallery.clone(), query.clone()),
        _ => train_for_a_moment()?,
    };
    let embedder = Embedder::open(run)?.with_progress(|done, of| eprint!("\r{done} of {of} "));
    let gallery = embedder.embed_files(pictures(&folder)?)?;
    eprintln!();
    if let Some(parent) = arguments.out.parent() {
        fs::create_dir_all(parent)?;
    }
    gallery.save(&arguments.out)?;

    // Another program, another day.
    let gallery = Embeddings::load(&arguments.out)?;
    let query = embedder.embed_files([query])?;
    for found in &gallery.search(&query, arguments.nearest)?[0] {
        let path = found.path.map_or("?".into(), Path::to_string_lossy);
        println!("{:.4}  {path}", found.distance);
    }
    Ok(())
}

/// The pictures of a folder, by name.
fn pictures(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let entries = fs::read_dir(folder)?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    files.retain(|file| file_kind(file) == FileKind::Readable);
    files.sort();
    Ok(files)
}

/// A tiny run on drawn people, so that the example runs alone.
fn train_for_a_moment() -> Result<(PathBuf, PathBuf, PathBuf), Box<dyn Error>> {
    let out = PathBuf::from("target/embed_folder");
    let (data, run) = (out.join("people"), out.join("run"));
    SyntheticConfig::new()
        .with_train_identities(8)
        .with_test_identities(8)
        .write(&data)?;
    let splits = market1501::load(&data)?;
    let backbone = ResNetConfig::resnet18().with_width(4).with_last_stride(1);
    let network = BagOfTricksConfig {
        backbone,
        head: BnNeckConfig::new(),
    };
    let mut recipe = Recipe::strong_baseline("a moment", InputSize::new(64, 32), network);
    (recipe.epochs, recipe.sampling.identities) = (1, 8);
    Trainer::new(&recipe, &splits, LoaderConfig::default(), &device::pick()?)?
        .with_checkpoints(Checkpoints::new(&run))
        .resume()?
        .run(&mut ())?;
    let query = splits.query[0].path.clone();
    Ok((run, data.join("bounding_box_test"), query))
}
