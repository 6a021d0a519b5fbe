//! Image search: embeds a folder of images, saves the embeddings, loads them and searches for a query image.
//!
//! Without options, the example trains a tiny model on synthetic images of people first:
//!
//! ```sh
//! cargo run --release --example embed_folder
//! ```
//!
//! With your own images and a trained model:
//!
//! ```sh
//! cargo run --release --example embed_folder -- --run run --gallery crops --query someone.jpg
//! ```
//!
//! `run` is the output folder of `train_baseline`, or of any other run whose network is in `reid::zoo`.
//!
//! It prints the nearest gallery images, one per line: distance and path. It writes the embeddings to
//! `target/embed_folder/gallery.safetensors` (change it with `--out`).

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "prints results to the user"
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
#[command(about = "Embeds a folder of images and searches it")]
struct Arguments {
    /// The folder of a run, or of one checkpoint.
    #[arg(long, requires = "gallery", requires = "query")]
    run: Option<PathBuf>,
    /// The folder with the images to search.
    #[arg(long)]
    gallery: Option<PathBuf>,
    /// The query image.
    #[arg(long)]
    query: Option<PathBuf>,
    /// The number of nearest images to print.
    #[arg(long, default_value_t = 5)]
    nearest: usize,
    /// The file for the embeddings: `.safetensors` or `.npz`.
    #[arg(long, default_value = "target/embed_folder/gallery.safetensors")]
    out: PathBuf,
    /// No effect; the default without `--run` already takes only seconds.
    #[arg(long)]
    smoke: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let (run, folder, query) = match (&arguments.run, &arguments.gallery, &arguments.query) {
        (Some(run), Some(gallery), Some(query)) => (run.clone(), gallery.clone(), query.clone()),
        _ => train_tiny_model()?,
    };
    let embedder = Embedder::open(run)?
        .with_progress(|done, all| eprint!("\rembedded {done} of {all} images "));
    let gallery = embedder.embed_files(images(&folder)?)?;
    eprintln!();
    if let Some(parent) = arguments.out.parent() {
        fs::create_dir_all(parent)?;
    }
    gallery.save(&arguments.out)?;

    // From here on, this could be another program: the file has everything that a search needs.
    let gallery = Embeddings::load(&arguments.out)?;
    let query = embedder.embed_files([query])?;
    for found in &gallery.search(&query, arguments.nearest)?[0] {
        let path = found.path.map_or("?".into(), Path::to_string_lossy);
        println!("{:.4}  {path}", found.distance);
    }
    Ok(())
}

/// Lists the images of a folder, sorted by name.
fn images(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let entries = fs::read_dir(folder)?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    files.retain(|file| file_kind(file) == FileKind::Readable);
    files.sort();
    Ok(files)
}

/// Trains a tiny model on synthetic images, so that the example needs no input.
///
/// Returns the folder of the run, the gallery folder and a query image.
fn train_tiny_model() -> Result<(PathBuf, PathBuf, PathBuf), Box<dyn Error>> {
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
    let mut recipe = Recipe::strong_baseline("tiny", InputSize::new(64, 32), network);
    (recipe.epochs, recipe.sampling.identities) = (1, 8);
    Trainer::new(&recipe, &splits, LoaderConfig::default(), &device::pick()?)?
        .with_checkpoints(Checkpoints::new(&run))
        .resume()?
        .run(&mut ())?;
    let query = splits.query[0].path.clone();
    Ok((run, data.join("bounding_box_test"), query))
}
