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
//! `run` is the output folder of `train_baseline`, or of any other run whose network is in `reid::zoo`, or a
//! model folder with `reid_config.json` and `weights.safetensors`.
//!
//! It prints the nearest gallery images, one per line: distance and path. It writes the embeddings to
//! `target/embed_folder/gallery.safetensors` (change it with `--out`).
//!
//! Instead of `--run`, published weights can be used, with the name of their network. Instead of a folder, a
//! dataset can be embedded: a Market-1501 folder, a CSV list, or any other layout that `reid::data::dataset` loads.
//! The file then has its queries and its gallery, and `rank_embeddings` evaluates it:
//!
//! ```sh
//! cargo run --release --example embed_folder -- --architecture osnet-x0.25 --weights osnet_x0_25_msmt17.pth \
//!     --data Market-1501-v15.09.15 --out embeddings.npz
//! cargo run --release --example rank_embeddings -- --file embeddings.npz
//! ```
//!
//! Several jobs embed a large dataset, or a large folder, in shards. `--shard K/N` embeds shard K of N, with K from
//! 0, and writes it to the folder `--out` that all jobs share: as Parquet if this is built with the feature
//! `parquet`, otherwise as safetensors. A job that is killed is simply run again; a finished shard is kept.
//! `rank_embeddings` evaluates the folder:
//!
//! ```sh
//! cargo run --release --example embed_folder -- --run run --data DIR --shard 0/2 --out shards
//! cargo run --release --example embed_folder -- --run run --data DIR --shard 1/2 --out shards
//! cargo run --release --example rank_embeddings -- --file shards
//! ```
//!
//! With `--json`, the results are printed as JSON.

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
    data::{
        FileKind,
        dataset::{self, market1501},
        file_kind,
    },
    eval::{
        files::{
            QueryAndGallery,
            shards::{Shard, ShardFormat, ShardList, ShardOptions, ShardStatus},
        },
        gallery::GalleryStorage,
    },
    nn::{backbone::ResNetConfig, head::BnNeckConfig},
    prelude::*,
    synthetic::SyntheticConfig,
};
use serde_json::json;

#[derive(Parser)]
#[command(about = "Embeds a folder of images and searches it")]
#[expect(clippy::struct_excessive_bools, reason = "each is a command-line flag")]
struct Arguments {
    /// The folder of a run, of one checkpoint, or of a model.
    #[arg(long, conflicts_with = "architecture")]
    run: Option<PathBuf>,
    /// The name of a network, such as `osnet-x0.25`.
    #[arg(long, requires = "weights")]
    architecture: Option<Architecture>,
    /// Published weights of the network: `.pth`, `.pt` or safetensors.
    #[arg(long, requires = "architecture")]
    weights: Option<PathBuf>,
    /// The folder with the images to search.
    #[arg(long)]
    gallery: Option<PathBuf>,
    /// The query image.
    #[arg(long, requires = "gallery")]
    query: Option<PathBuf>,
    /// The dataset whose queries and gallery are embedded.
    #[arg(long, conflicts_with = "gallery")]
    data: Option<PathBuf>,
    /// The number of nearest images to print.
    #[arg(long, default_value_t = 5)]
    nearest: usize,
    /// Embed only shard K of N, with K from 0, of `--data` or `--gallery`, and write it to the folder `--out`.
    #[arg(long, value_name = "K/N")]
    shard: Option<Shard>,
    /// Store the embeddings of the shard in half precision.
    #[arg(long, requires = "shard")]
    half: bool,
    /// The format of the shard: safetensors, or parquet with the Cargo feature of that name.
    #[arg(long, requires = "shard")]
    format: Option<ShardFormat>,
    /// The file for the embeddings, `.safetensors` or `.npz`, or with `--shard` the folder for them. Default:
    /// `gallery.safetensors` or `shards` in `target/embed_folder`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print the results as JSON.
    #[arg(long)]
    json: bool,
    /// No effect; the default without `--run` already takes only seconds.
    #[arg(long)]
    smoke: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let needs_images = "expected --gallery DIR --query FILE, or --data DIR";
    if arguments.gallery.is_some() && arguments.query.is_none() && arguments.shard.is_none() {
        return Err(needs_images.into());
    }
    let (embedder, images) = match (&arguments.run, &arguments.architecture, &arguments.weights) {
        (Some(run), ..) => (Embedder::open(run)?, None),
        (None, Some(network), Some(weights)) => (Embedder::published(network, weights)?, None),
        _ => {
            let (run, gallery, query) = train_tiny_model()?;
            (Embedder::open(run)?, Some((gallery, query)))
        }
    };
    let embedder =
        embedder.with_progress(|done, all| eprint!("\rembedded {done} of {all} images "));
    if let Some(shard) = arguments.shard {
        let folder = arguments.gallery.as_ref();
        let folder = folder.or(images.as_ref().map(|(gallery, _)| gallery));
        return embed_shard(&embedder, shard, folder.map(PathBuf::as_path), &arguments);
    }
    let out = PathBuf::from("target/embed_folder/gallery.safetensors");
    let out = arguments.out.clone().unwrap_or(out);
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent)?;
    }
    if let Some(data) = &arguments.data {
        return embed_dataset(&embedder, data, &out, arguments.json);
    }
    let given = arguments.gallery.clone().zip(arguments.query.clone());
    let (folder, query) = given.or(images).ok_or(needs_images)?;
    let gallery = embedder.embed_files(images_of(&folder)?)?;
    eprintln!();
    gallery.save(&out)?;

    // From here on, this could be another program: the file has everything that a search needs.
    let gallery = Embeddings::load(&out)?;
    let query = embedder.embed_files([query])?;
    let found = &gallery.search(&query, arguments.nearest)?[0];
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(found)?);
        return Ok(());
    }
    for found in found {
        let path = found.path.map_or("?".into(), Path::to_string_lossy);
        println!("{:.4}  {path}", found.distance);
    }
    Ok(())
}

/// Embeds the queries and the gallery of a dataset, and writes both to one file.
fn embed_dataset(
    embedder: &Embedder,
    data: &Path,
    out: &Path,
    json: bool,
) -> Result<(), Box<dyn Error>> {
    let splits = dataset::load(data)?;
    let (query, gallery) = embedder.embed_splits(&splits)?;
    eprintln!();
    let embeddings = QueryAndGallery { query, gallery };
    embeddings.save(out)?;
    let (queries, images) = (embeddings.query.len(), embeddings.gallery.len());
    let dimensions = embeddings.query.dimensions();
    if json {
        let summary = json!({
            "file": out,
            "queries": queries,
            "gallery": images,
            "dimensions": dimensions,
        });
        println!("{summary:#}");
    } else {
        let file = out.display();
        println!(
            "{queries} queries and {images} gallery images of {dimensions} dimensions in {file}"
        );
    }
    Ok(())
}

/// Embeds one shard of a dataset, or of the images of a folder, and writes it to a folder.
fn embed_shard(
    embedder: &Embedder,
    shard: Shard,
    folder: Option<&Path>,
    arguments: &Arguments,
) -> Result<(), Box<dyn Error>> {
    let list = match (&arguments.data, folder) {
        (Some(data), _) => {
            let splits = dataset::load(data)?;
            ShardList::new(splits.query, splits.gallery)?
        }
        (None, Some(folder)) => {
            let images = images_of(folder)?.into_iter();
            let samples = images.map(|path| Sample::new(path, Identity::UNKNOWN));
            ShardList::new(Vec::new(), samples.collect())?
        }
        (None, None) => return Err("expected --data DIR or --gallery DIR with --shard".into()),
    };
    let storage = if arguments.half {
        GalleryStorage::Half
    } else {
        GalleryStorage::Single
    };
    let options = ShardOptions::new(embedder.fingerprint()?)
        .with_storage(storage)
        .with_format(arguments.format.unwrap_or_default());
    let out = PathBuf::from("target/embed_folder/shards");
    let out = arguments.out.clone().unwrap_or(out);
    let status = embedder.write_shard(&out, &list, shard, &options)?;
    if status == ShardStatus::Written {
        eprintln!();
    }
    let [queries, images] =
        [Split::Query, Split::Gallery].map(|split| list.samples(split, shard).len());
    let found = status == ShardStatus::Found;
    if arguments.json {
        let summary = json!({
            "folder": out,
            "shard": shard.index(),
            "of": shard.count(),
            "queries": queries,
            "gallery": images,
            "was_finished": found,
        });
        println!("{summary:#}");
    } else {
        let done = if found { "was finished" } else { "is written" };
        let out = out.display();
        println!("shard {shard} {done}: {queries} queries and {images} gallery images in {out}");
    }
    Ok(())
}

/// Lists the images of a folder, sorted by name.
fn images_of(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    files.retain(|file| file_kind(file) == FileKind::Readable);
    if files.is_empty() {
        let folder = folder.display();
        return Err(format!("{folder}: expected images in this folder, found none").into());
    }
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
