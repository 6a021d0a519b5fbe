//! Tracking: embeds the boxes of every frame for a tracker of the crate `trackforge`, and counts identity switches
//! with and without appearance.
//!
//! ```sh
//! cargo run --release --example track_people
//! ```
//!
//! The example trains a small model on synthetic people, and calibrates the distance up to which two images are taken
//! for the same person. Other synthetic people then walk through a video: some pairs cross, and some pairs meet and
//! turn around. Motion alone cannot tell these two apart. The detector is simulated: it misses people who are mostly
//! hidden, and its boxes are slightly off.
//!
//! An identity switch is a frame in which a person has another track than in the last frame in which it had one.
//! The example prints the number of switches of BoT-SORT with and without appearance, and writes frames to
//! `target/track_people/tracks.png`, one row for each. Each colour is a track.
//!
//! The tracker gets vectors. `trackforge` also has the trait `AppearanceExtractor`, behind a feature that compiles
//! an AV1 encoder. Its only method has an image and boxes as arguments, and can call `embeddings` below.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "prints results to the user"
)]

use std::{collections::BTreeMap, error::Error, fs, path::PathBuf};

use clap::Parser;
use rand::RngExt;
use reid::{
    core::Seed,
    data::{BoundingBox, Frame, dataset::market1501, transform::Augmentation},
    eval::{Distances, Resampling, RetrievalTask, Threshold},
    nn::{backbone::ResNetConfig, head::BnNeckConfig},
    prelude::*,
    synthetic::{SyntheticConfig, Walker},
    vis::{ContactSheet, RgbImage, save_picture},
};
use trackforge::trackers::botsort::{BotSort, BotSortParams};

/// The size of a frame.
const SIZE: [u32; 2] = [480, 200];
/// The first identity in the video; the model is trained on smaller ones.
const FIRST: i64 = 101;
const PEOPLE: i64 = 8;

#[derive(Parser)]
#[command(about = "Tracks people with and without appearance")]
struct Arguments {
    /// The number of frames.
    #[arg(long, default_value_t = 600)]
    frames: usize,
    /// The folder for the model and the sheet of frames.
    #[arg(long, default_value = "target/track_people")]
    out: PathBuf,
    /// Train for one epoch and track in 60 frames only.
    #[arg(long)]
    smoke: bool,
}

/// A box that the detector found, and whom it shows.
struct Detection {
    bounds: [f32; 4],
    person: i64,
}

/// The embeddings of boxes in a frame, one vector per box.
fn embeddings(
    embedder: &Embedder,
    image: &RgbImage,
    boxes: &[[f32; 4]],
) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let boxes: Vec<BoundingBox> = boxes.iter().copied().map(BoundingBox::from).collect();
    let embeddings = embedder.embed_boxes(&Frame::from(image), &boxes)?;
    let rows = 0..embeddings.len();
    Ok(rows.map(|row| embeddings.row(row).to_vec()).collect())
}

/// Updates a tracker, and returns the index of a detection and its track for each track that was seen.
fn update(tracker: &mut BotSort, boxes: &[[f32; 4]], embeddings: &[Vec<f32>]) -> Vec<(usize, u64)> {
    let scored = boxes.iter().map(|bounds| (*bounds, 0.9, 0)).collect();
    let tracks = tracker.update(scored, embeddings).into_iter();
    tracks
        .filter_map(|track| Some((track.det_ind?, track.track_id)))
        .collect()
}

/// The tracks of a tracker over all frames, and its identity switches.
struct Tracks {
    name: &'static str,
    /// For each frame, the index of a detection and its track.
    frames: Vec<Vec<(usize, u64)>>,
    /// The last track of each person.
    last: BTreeMap<i64, u64>,
    switches: usize,
}

impl Tracks {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            frames: Vec::new(),
            last: BTreeMap::new(),
            switches: 0,
        }
    }

    fn add(&mut self, detections: &[Detection], tracks: Vec<(usize, u64)>) {
        for (detection, track) in &tracks {
            let person = detections[*detection].person;
            let before = self.last.insert(person, *track);
            self.switches += usize::from(before.is_some_and(|before| before != *track));
        }
        self.frames.push(tracks);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let (embedder, threshold) = train(&arguments)?;
    eprintln!(
        "people whose embeddings are nearer than {threshold:.2} are taken for the same person"
    );
    let mut motion_only = BotSort::from_params(BotSortParams::default());
    let mut with_appearance = BotSort::from_params(BotSortParams {
        // Appearance may match a track at any location, up to the calibrated distance.
        proximity_thresh: 1.0,
        appearance_thresh: threshold,
        ..BotSortParams::default()
    });
    let mut all = ["motion only", "with appearance"].map(Tracks::new);
    let frames = if arguments.smoke {
        60
    } else {
        arguments.frames
    };
    let people = SyntheticConfig::new().with_difficulty(0.2);
    let mut shown = Vec::new();
    for frame in 0..frames {
        let (walkers, moment) = (walkers(frame), frame as u64);
        let image = people.draw_frame(Camera::new(1), SIZE, &walkers, moment);
        let detections = detect(&walkers, moment);
        let boxes: Vec<[f32; 4]> = detections.iter().map(|found| found.bounds).collect();
        let embeddings = embeddings(&embedder, &image, &boxes)?;
        all[0].add(&detections, update(&mut motion_only, &boxes, &[]));
        all[1].add(
            &detections,
            update(&mut with_appearance, &boxes, &embeddings),
        );
        shown.push((image, detections));
    }

    println!("{PEOPLE} people in {frames} frames");
    for tracks in &all {
        println!("{:15} {:3} identity switches", tracks.name, tracks.switches);
    }
    fs::create_dir_all(&arguments.out)?;
    let path = arguments.out.join("tracks.png");
    save_picture(&path, &sheet(&shown, &all))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

/// Where everybody is in a frame, from the back to the front.
///
/// Two people share each lane. In even lanes they cross; in odd lanes they meet, and both turn around.
fn walkers(frame: usize) -> Vec<Walker> {
    let time = frame as f32;
    let person = |person: i64| {
        let (lane, second) = (person / 2, person % 2 == 1);
        let period = 160.0 + 30.0 * lane as f32;
        // From -1 to 1 and back in a period, with the whole lane a little out of step with the others.
        let phase = (time / period + 0.13 * lane as f32).fract();
        let swing = 1.0 - (4.0 * phase - 2.0).abs();
        let turns = lane % 2 == 1;
        // Crossing: the mirror image. Meeting: each stays on its side, and they touch in the middle.
        let offset = match (turns, second) {
            (false, false) => swing,
            (false, true) => -swing,
            (true, false) => -0.5 - 0.45 * swing,
            (true, true) => 0.5 + 0.45 * swing,
        };
        let rightwards = (phase < 0.5) != second;
        Walker {
            identity: Identity::new(FIRST + person),
            x: SIZE[0] as f32 * (0.5 + 0.42 * offset),
            feet: 130.0 + 18.0 * lane as f32 + if second { 4.0 } else { 0.0 },
            height: 70.0 + 9.0 * lane as f32,
            yaw: if rightwards { 1.3 } else { -1.3 },
            stride: (0.5 * time + person as f32).sin(),
        }
    };
    (0..PEOPLE).map(person).collect()
}

/// The box of a person: left, top, width and height.
fn bounds(walker: &Walker) -> [f32; 4] {
    let width = 0.42 * walker.height;
    [
        walker.x - width / 2.0,
        walker.feet - walker.height,
        width,
        walker.height,
    ]
}

/// Simulates a detector: it misses people of whom less than 40 % is visible and 3 % of the others, and its
/// boxes are off by up to 3 % of their height.
fn detect(walkers: &[Walker], moment: u64) -> Vec<Detection> {
    let mut stream = Seed::new(1).named("detector").at(moment).stream();
    let mut found = Vec::new();
    for (index, walker) in walkers.iter().enumerate() {
        let [left, top, width, height] = bounds(walker);
        let in_front = &walkers[index + 1..];
        let covers = |other: &Walker, x: f32, y: f32| {
            let [left, top, width, height] = bounds(other);
            (left..left + width).contains(&x) && (top..top + height).contains(&y)
        };
        let points = (0..64).map(|at| ((at % 8) as f32 / 8.0, (at / 8) as f32 / 8.0));
        let visible = points.filter(|(x, y)| {
            let (x, y) = (left + (x + 0.06) * width, top + (y + 0.06) * height);
            !in_front.iter().any(|other| covers(other, x, y))
        });
        let visible = visible.count() as f32 / 64.0;
        let missed = stream.random_bool(0.03);
        let mut off = || stream.random_range(-0.03..0.03) * height;
        let bounds = [left + off(), top + off(), width + off(), height + off()];
        if visible >= 0.4 && !missed {
            let person = walker.identity.label();
            found.push(Detection { bounds, person });
        }
    }
    found
}

/// Draws four frames of each tracker, one row per tracker, with the boxes in the colours of their tracks.
fn sheet(frames: &[(RgbImage, Vec<Detection>)], all: &[Tracks]) -> RgbImage {
    const COLUMNS: usize = 4;
    let [width, height] = SIZE.map(|side| side as usize);
    let chosen: [usize; COLUMNS] =
        std::array::from_fn(|column| column * (frames.len() - 1) / (COLUMNS - 1));
    let captions = chosen.map(|frame| format!("frame {frame}"));
    let mut sheet = ContactSheet::new(captions).with_cell(InputSize::new(height, width));
    for tracks in all {
        let row = chosen.map(|frame| {
            let (image, detections) = &frames[frame];
            let mut image = image.clone();
            for (detection, track) in &tracks.frames[frame] {
                outline(&mut image, detections[*detection].bounds, colour(*track));
            }
            image
        });
        sheet = sheet.with_row(row);
    }
    sheet.draw()
}

/// A colour for a track: hues that are far apart for successive numbers.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 0 to 255"
)]
fn colour(track: u64) -> [u8; 3] {
    let hue = (track as f32 * 0.618).fract() * 6.0;
    let channel = |offset: f32| {
        let distance = ((hue + offset) % 6.0 - 3.0).abs();
        (255.0 * (distance - 1.0).clamp(0.0, 1.0)) as u8
    };
    [channel(0.0), channel(4.0), channel(2.0)]
}

/// Draws the outline of a box, 2 pixels wide.
fn outline(image: &mut RgbImage, [left, top, width, height]: [f32; 4], colour: [u8; 3]) {
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let (x, y) = (x as f32 - left, y as f32 - top);
        let inside = |margin: f32| {
            (margin..width - margin).contains(&x) && (margin..height - margin).contains(&y)
        };
        if inside(0.0) && !inside(2.0) {
            pixel.0 = colour;
        }
    }
}

/// Trains a small model on synthetic people, and calibrates a distance that 1 % of the pairs of different people
/// are within. None of these people is in the video.
fn train(arguments: &Arguments) -> Result<(Embedder, f32), Box<dyn Error>> {
    let data = arguments.out.join("people");
    let run = arguments
        .out
        .join(if arguments.smoke { "smoke" } else { "run" });
    SyntheticConfig::new()
        .with_train_identities(84)
        .with_test_identities(16)
        .with_difficulty(0.2)
        .with_distractors(0)
        .with_junk(0)
        .write(&data)?;
    let splits = market1501::load(&data)?;
    let network = BagOfTricksConfig {
        backbone: ResNetConfig::resnet18().with_width(8).with_last_stride(1),
        head: BnNeckConfig::new(),
    };
    let mut recipe = Recipe::strong_baseline("small", InputSize::new(64, 32), network);
    (recipe.epochs, recipe.evaluate_every) = (if arguments.smoke { 1 } else { 40 }, 0);
    (recipe.augmentation, recipe.schedule.warm_up) = (Augmentation::none(), None);
    (recipe.schedule.base, recipe.sampling.identities) = (1e-3, 8);
    Trainer::new(&recipe, &splits, LoaderConfig::default(), &device::pick()?)?
        .with_checkpoints(Checkpoints::new(&run))
        .resume()?
        .run(&mut ())?;

    let embedder = Embedder::open(&run)?;
    let (query, gallery) = embedder.embed_splits(&splits)?;
    let distances = Distances::between(&query, &gallery, Metric::Cosine)?;
    let task = RetrievalTask::new(&distances, query.labels(), gallery.labels());
    // After one epoch, no threshold may have a low rate.
    let rate = if arguments.smoke { 0.5 } else { 0.01 };
    let threshold = Threshold::calibrate(&task, rate, &Resampling::default())?;
    Ok((embedder, threshold.distance))
}
