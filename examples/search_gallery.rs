//! Decisions: enrols known people in a gallery, calibrates a threshold, and decides who each query shows, or
//! that nobody in the gallery is shown.
//!
//! Without options, the example trains a small model on synthetic people first. It enrols four people that
//! the model has not seen, and queries images of these four and of four strangers:
//!
//! ```sh
//! cargo run --release --example search_gallery
//! ```
//!
//! With a trained model and your own images:
//!
//! ```sh
//! cargo run --release --example search_gallery -- --run run --calibrate validation --enrol people \
//!     --query crops
//! ```
//!
//! - `run` is the output folder of `train_baseline`, or of any other run whose network is in `reid::zoo`.
//! - `validation` is a dataset with query and gallery images of people who are not enrolled. The threshold is
//!   the largest distance at which at most `--far` of the pairs of different people pass.
//! - `people` has a folder per person, with one or more images.
//! - `crops` is a folder of query images.
//!
//! It prints the decision for each query, one per line: the person, the distance and the file, or `unknown`.
//! It writes two files:
//!
//! - The gallery: `target/search_gallery/people.gallery`, or `--out`.
//! - A web page: beside the gallery with the extension `html`, or `--page`. It is one file that needs no server
//!   and loads no other file. It has the threshold and its rates. For each of the first 100 queries, it has the
//!   image, the decision in words, and the ten nearest people: an image, the distance, the name, and whether
//!   the threshold accepts it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "prints results to the user"
)]

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;
use reid::{
    data::{
        FileKind,
        dataset::{self, folder, market1501},
        file_kind,
        transform::Augmentation,
    },
    eval::{
        Distances, Resampling, RetrievalTask, Threshold,
        gallery::{
            Decision, Gallery, GalleryConfig, GalleryEntry, GalleryFilter, ModelFingerprint,
        },
    },
    nn::{backbone::ResNetConfig, head::BnNeckConfig},
    prelude::*,
    synthetic::SyntheticConfig,
    vis::{Page, RankedRow},
};

/// The largest number of queries on the page. An image takes about 5 kB there.
const QUERIES: usize = 100;
/// The number of people next to each query on the page.
const NEAREST: usize = 10;

#[derive(Parser)]
#[command(about = "Enrols people in a gallery and decides who the queries show")]
struct Arguments {
    /// The folder of a run, or of one checkpoint.
    #[arg(long, requires = "calibrate", requires = "enrol", requires = "query")]
    run: Option<PathBuf>,
    /// The dataset on whose query and gallery images the threshold is calibrated.
    #[arg(long)]
    calibrate: Option<PathBuf>,
    /// The folder with a folder of images per person to enrol.
    #[arg(long)]
    enrol: Option<PathBuf>,
    /// The folder with the query images.
    #[arg(long)]
    query: Option<PathBuf>,
    /// The largest false accept rate: the fraction of the pairs of different people that may pass.
    #[arg(long, default_value_t = 0.01)]
    far: f64,
    /// The file for the gallery.
    #[arg(long, default_value = "target/search_gallery/people.gallery")]
    out: PathBuf,
    /// The file for the web page; by default beside the gallery, with the extension `html`.
    #[arg(long)]
    page: Option<PathBuf>,
    /// Train for one epoch only.
    #[arg(long)]
    smoke: bool,
}

/// What the example works on.
struct Input {
    run: PathBuf,
    /// Labelled images for the threshold.
    calibration: Splits,
    /// Images of the people to enrol.
    enrolled: Vec<Sample>,
    /// The names of these people.
    names: Names,
    queries: Vec<PathBuf>,
}

type Names = BTreeMap<Identity, String>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let page = arguments.page.clone();
    let page = page.unwrap_or_else(|| arguments.out.with_extension("html"));
    if page == arguments.out {
        let file = page.display();
        return Err(
            format!("--page and --out name the same file, {file}: expected two files").into(),
        );
    }
    let input = input(&arguments)?;
    let embedder = Embedder::open(&input.run)?;
    let model = embedder.fingerprint()?;
    // After one epoch, no threshold may have a low rate.
    let far = if arguments.smoke { 0.5 } else { arguments.far };
    let threshold = calibrate(&embedder, &input.calibration, far)?;
    let rates = threshold.rates;
    eprintln!(
        "threshold {:.4}: passed by {:.2} % of the pairs of different people and {:.1} % of the same person",
        threshold.distance,
        100.0 * rates.false_accepts.value,
        100.0 * rates.true_accepts.value
    );

    let embeddings = embedder.embed_samples(&input.enrolled, Split::Gallery)?;
    let labels = embeddings.labels();
    let entries = (0..labels.len()).map(|index| GalleryEntry::from(labels.at(index)));
    let entries: Vec<GalleryEntry> = entries.collect();
    let mut gallery =
        Gallery::new(model.clone(), GalleryConfig::default()).with_threshold(threshold);
    gallery.enrol(&model, &embeddings, &entries)?;
    if let Some(parent) = arguments.out.parent() {
        fs::create_dir_all(parent)?;
    }
    gallery.save(&arguments.out)?;
    let (people, images) = (gallery.identities().len(), gallery.entries().len());
    eprintln!(
        "enrolled {people} people with {images} images in {}",
        arguments.out.display()
    );

    // From here on, this could be another program with the same model. A gallery of another model is
    // rejected.
    let gallery = Gallery::open(&arguments.out, &model)?;
    let queries = embedder.embed_files(input.queries.iter().cloned())?;
    let decisions = gallery.decide(&model, &queries, &GalleryFilter::default())?;
    for (query, decision) in input.queries.iter().zip(decisions) {
        let line = line(&gallery, &input.names, &decision);
        println!("{}  {line}", query.display());
    }
    draw(&gallery, &model, &queries, &input)?.save(&page)?;
    eprintln!("wrote {}", page.display());
    Ok(())
}

/// Draws the first queries, each with the nearest people and the decision.
fn draw(
    gallery: &Gallery,
    model: &ModelFingerprint,
    queries: &Embeddings,
    input: &Input,
) -> Result<Page, Box<dyn Error>> {
    let found = gallery.search(model, queries, &GalleryFilter::default(), NEAREST)?;
    let (count, shown) = (found.len(), found.len().min(QUERIES));
    let mut page = Page::new("Search in a gallery")
        .with_search_legend(gallery)
        .with_heading(&format!("{shown} of {count} queries"));
    for (query, found) in input.queries.iter().zip(&found).take(QUERIES) {
        let name = |identity| format!("person {}", name(&input.names, identity));
        page = page.with_ranked_row(&RankedRow::open_search(gallery, query, found, name)?)?;
    }
    Ok(page)
}

/// The name of an enrolled person.
fn name(names: &Names, identity: Identity) -> String {
    let name = names.get(&identity).cloned();
    name.unwrap_or_else(|| identity.to_string())
}

/// Formats a decision.
fn line(gallery: &Gallery, names: &Names, decision: &Decision) -> String {
    match decision {
        Decision::Known { found, .. } => {
            let path = gallery.entries()[found.entry].path.as_deref();
            let path = path.map_or("?".into(), Path::to_string_lossy);
            let name = name(names, found.identity);
            format!("person {name}  {:.4}  {path}", found.distance)
        }
        Decision::Unknown {
            nearest: Some(nearest),
        } => {
            let name = name(names, nearest.identity);
            format!("unknown  {:.4} to person {name}", nearest.distance)
        }
        _ => "unknown".to_owned(),
    }
}

/// Calibrates the threshold on labelled query and gallery images.
fn calibrate(embedder: &Embedder, splits: &Splits, far: f64) -> Result<Threshold, Box<dyn Error>> {
    let (query, gallery) = embedder.embed_splits(splits)?;
    let protocol = match query.cameras() {
        Some(_) => Protocol::Market,
        None => Protocol::NoCameras,
    };
    let distances = Distances::between(&query, &gallery, Metric::Cosine)?;
    let task =
        RetrievalTask::new(&distances, query.labels(), gallery.labels()).with_protocol(&protocol);
    Ok(Threshold::calibrate(&task, far, &Resampling::default())?)
}

fn input(arguments: &Arguments) -> Result<Input, Box<dyn Error>> {
    let (Some(run), Some(calibrate), Some(enrol), Some(query)) = (
        &arguments.run,
        &arguments.calibrate,
        &arguments.enrol,
        &arguments.query,
    ) else {
        return synthetic(arguments.smoke);
    };
    let enrolled = folder::load_split(enrol)?;
    // The folder of a person has the name of the person.
    let names = enrolled.iter().filter_map(|sample| {
        let folder = sample.path.parent()?.file_name()?;
        Some((sample.identity, folder.to_string_lossy().into_owned()))
    });
    Ok(Input {
        run: run.clone(),
        calibration: dataset::load(calibrate)?,
        names: names.collect(),
        enrolled,
        queries: images(query)?,
    })
}

/// Lists the images of a folder, sorted by name.
fn images(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
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

/// Trains a small model on synthetic people. Of 16 test people, 8 are for the threshold, 4 are enrolled, and
/// 4 are strangers.
fn synthetic(smoke: bool) -> Result<Input, Box<dyn Error>> {
    let out = PathBuf::from("target/search_gallery");
    let (data, run) = (
        out.join("people"),
        out.join(if smoke { "smoke" } else { "run" }),
    );
    SyntheticConfig::new()
        .with_train_identities(16)
        .with_test_identities(16)
        .with_difficulty(0.0)
        .with_occlusion(0.0)
        .with_distractors(0)
        .with_junk(0)
        .write(&data)?;
    let splits = market1501::load(&data)?;
    let network = BagOfTricksConfig {
        backbone: ResNetConfig::resnet18().with_width(8).with_last_stride(1),
        head: BnNeckConfig::new(),
    };
    let mut recipe = Recipe::strong_baseline("small", InputSize::new(64, 32), network);
    (recipe.epochs, recipe.evaluate_every) = (if smoke { 1 } else { 20 }, 0);
    (recipe.augmentation, recipe.schedule.warm_up) = (Augmentation::none(), None);
    (recipe.schedule.base, recipe.sampling.identities) = (1e-3, 8);
    Trainer::new(&recipe, &splits, LoaderConfig::default(), &device::pick()?)?
        .with_checkpoints(Checkpoints::new(&run))
        .resume()?
        .run(&mut ())?;

    let mut people: Vec<Identity> = splits.query.iter().map(|sample| sample.identity).collect();
    people.sort();
    people.dedup();
    let select = |samples: &[Sample], people: &[Identity]| -> Vec<Sample> {
        let samples = samples
            .iter()
            .filter(|sample| people.contains(&sample.identity));
        samples.cloned().collect()
    };
    let (validation, others) = people.split_at(8);
    let queries = select(&splits.query, others);
    Ok(Input {
        run,
        calibration: Splits::new("validation")
            .with_query(select(&splits.query, validation))
            .with_gallery(select(&splits.gallery, validation)),
        enrolled: select(&splits.gallery, &others[..4]),
        names: Names::new(),
        queries: queries.into_iter().map(|sample| sample.path).collect(),
    })
}
