//! Writes embeddings as Parquet, and the ten nearest of some queries by the exact search, for other programs to
//! compare with.
//!
//! ```sh
//! cd crates/reid-engines && cargo build --release --example write_parquet --features parquet
//! target/release/examples/write_parquet --out target/parquet
//! python3 duckdb_neighbours.py target/parquet
//! ```
//!
//! The folder gets `gallery.parquet`, `query.parquet` and `nearest.json`, with the rows of the nearest gallery images
//! of each query, nearest first.

use std::{error::Error, fs, path::PathBuf};

use clap::Parser;
use rand::RngExt;
use reid_core::{Camera, Identity, Seed};
use reid_eval::Embeddings;

#[derive(Parser)]
#[command(about = "Writes embeddings as Parquet, and their nearest neighbours")]
struct Arguments {
    /// The folder, which is created if it does not exist.
    #[arg(long, default_value = "target/parquet")]
    out: PathBuf,
    /// Number of gallery images, four per identity.
    #[arg(long, default_value_t = 20_000)]
    gallery: usize,
    /// Number of query images.
    #[arg(long, default_value_t = 50)]
    queries: usize,
    /// Number of dimensions of an embedding.
    #[arg(long, default_value_t = 256)]
    dimensions: usize,
    /// Run for a second with tiny settings, to check that the example works.
    #[arg(long)]
    smoke: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        (arguments.gallery, arguments.queries, arguments.dimensions) = (500, 10, 16);
    }
    fs::create_dir_all(&arguments.out)?;
    let gallery = draw("gallery", arguments.gallery, 4, arguments.dimensions)?;
    let query = draw("query", arguments.queries, 1, arguments.dimensions)?;
    gallery.save(arguments.out.join("gallery.parquet"))?;
    query.save(arguments.out.join("query.parquet"))?;
    let found = gallery.search(&query, 10)?;
    let rows = |found: &Vec<reid_eval::Neighbour<'_>>| found.iter().map(|one| one.index).collect();
    let rows: Vec<Vec<usize>> = found.iter().map(rows).collect();
    fs::write(
        arguments.out.join("nearest.json"),
        serde_json::to_vec(&rows)?,
    )?;
    println!(
        "{} gallery and {} query images in {}",
        gallery.len(),
        query.len(),
        arguments.out.display()
    );
    Ok(())
}

/// Draws embeddings: the centre of an identity plus noise.
fn draw(
    side: &str,
    images: usize,
    of_each: usize,
    dimensions: usize,
) -> Result<Embeddings, Box<dyn Error>> {
    let seed = Seed::new(1);
    let identity = |image: usize| image / of_each;
    let values = (0..images).flat_map(|image| {
        let mut centre = seed.named("identity").at(identity(image) as u64).stream();
        let mut noise = seed.named(side).at(image as u64).stream();
        let mut value = move || {
            let centre: f32 = centre.random_range(-1.0..1.0);
            let noise: f32 = noise.random_range(-1.0..1.0);
            centre + noise
        };
        (0..dimensions).map(move |_| value())
    });
    let values: Vec<f32> = values.collect();
    let label = |image| Identity::new(1 + i64::try_from(identity(image)).expect("small"));
    let camera = |image| Camera::new(u32::try_from(image % 6).expect("small"));
    let embeddings = Embeddings::new(values, dimensions, (0..images).map(label).collect())?;
    Ok(embeddings.with_cameras((0..images).map(camera).collect())?)
}
