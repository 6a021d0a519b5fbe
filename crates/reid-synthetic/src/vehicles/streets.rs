//! Synthetic streets: several vehicles on a road, with the class of every pixel.

use std::{fs, path::Path};

use image::{GrayImage, Luma, RgbImage};
use rand::RngExt;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use reid_core::{Seed, Stream};
use serde::{Deserialize, Serialize};

use super::{
    super::{camera::View, canvas::Canvas, colour::Colour, folder},
    panel::Brush,
    road::Road,
    shape,
    space::{Frame, Lens, Position, Viewpoint},
    vehicle::Vehicle,
};
use crate::{Error, setting::Fault};

/// The smallest distance of a vehicle from the lens, in metres.
const NEAREST: f32 = 5.0;
/// The largest distance of a vehicle beyond the middle of the street, in metres; the scene begins behind it.
const FARTHEST: f32 = 8.0;
/// Version of the drawing code, as for vehicles.
const DRAWING: u32 = 1;

/// The configuration of a synthetic dataset of streets, for semantic segmentation. Every image shows another
/// road with up to a dozen vehicles. The label map has the class of every pixel, an index in
/// [`CLASSES`](Self::CLASSES).
///
/// The dataset is a pure function of this configuration.
///
/// ```text
/// root/images/train/0000.jpg     root/labels/train/0000.png
/// root/images/val/0000.jpg       root/labels/val/0000.png
/// ```
///
/// ```
/// use reid_synthetic::StreetsConfig;
///
/// let folder = tempfile::tempdir()?;
/// StreetsConfig::new().with_train(3).with_val(1).write(folder.path())?;
/// assert!(folder.path().join("labels/train/0002.png").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreetsConfig {
    /// Number of training images, in `1..=9999`. Default 96.
    pub train: usize,
    /// Number of validation images, in `1..=9999`. Default 32.
    pub val: usize,
    /// Height of the images in pixels, in `32..=2048`. Default 97.
    pub height: usize,
    /// Width of the images in pixels, from half the height to three times the height. Default 129.
    pub width: usize,
    /// Difficulty of the dataset, in `0..=1`: how much paint, dirt, light and noise vary. Default 0.3.
    pub difficulty: f32,
    /// The seed from which everything is drawn. Default 0.
    pub seed: Seed,
}

/// An image of a street and the class of every pixel.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Street {
    /// The image.
    pub image: RgbImage,
    /// The class of every pixel, an index in [`StreetsConfig::CLASSES`].
    pub labels: GrayImage,
}

/// The content of `synthetic.json`.
#[derive(Serialize)]
struct Record<'a> {
    shows: &'static str,
    drawing: u32,
    #[serde(flatten)]
    config: &'a StreetsConfig,
}

impl Default for StreetsConfig {
    fn default() -> Self {
        Self {
            train: 96,
            val: 32,
            height: 97,
            width: 129,
            difficulty: 0.3,
            seed: Seed::new(0),
        }
    }
}

impl StreetsConfig {
    /// The names of the classes.
    pub const CLASSES: [&'static str; 4] = ["background", "pavement", "road", "vehicle"];

    /// The default configuration: 96 training images and 32 validation images.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of training images.
    #[must_use]
    pub fn with_train(self, train: usize) -> Self {
        Self { train, ..self }
    }

    /// Sets the number of validation images.
    #[must_use]
    pub fn with_val(self, val: usize) -> Self {
        Self { val, ..self }
    }

    /// Sets the height and the width of the images, in pixels.
    #[must_use]
    pub fn with_size(self, height: usize, width: usize) -> Self {
        Self {
            height,
            width,
            ..self
        }
    }

    /// Sets the difficulty, from 0 to 1.
    #[must_use]
    pub fn with_difficulty(self, difficulty: f32) -> Self {
        Self { difficulty, ..self }
    }

    /// Sets the seed. Another seed gives other streets.
    #[must_use]
    pub fn with_seed(self, seed: Seed) -> Self {
        Self { seed, ..self }
    }

    /// Writes the dataset to the folder `root`: images as JPEG files, and label maps as PNG files of 8-bit
    /// grey values.
    ///
    /// The last file is `synthetic.json`, which records the configuration. If `root` already holds this
    /// dataset, nothing is written. An interrupted dataset is written again.
    ///
    /// # Errors
    /// If a setting is outside its range ([`Error::Setting`]); if `root` holds another dataset
    /// ([`Error::OtherSet`]) or other files ([`Error::OtherFiles`]); or if a file cannot be written
    /// ([`Error::Io`], [`Error::Image`]).
    pub fn write(&self, root: impl AsRef<Path>) -> Result<(), Error> {
        let root = root.as_ref();
        if let Some(fault) = self.fault() {
            return Err(fault.into());
        }
        let record = Record {
            shows: "streets",
            drawing: DRAWING,
            config: self,
        };
        let record = serde_json::to_string(&record)
            .map_err(|error| folder::at(&root.join(folder::WHOLE), error.into()))?;
        folder::ensure(root, &record, || {
            self.write_split(root, "train", 0..self.train)?;
            self.write_split(root, "val", self.train..self.train + self.val)
        })
    }

    fn write_split(
        &self,
        root: &Path,
        split: &str,
        streets: std::ops::Range<usize>,
    ) -> Result<(), Error> {
        let [images, labels] = ["images", "labels"].map(|folder| root.join(folder).join(split));
        for folder in [&images, &labels] {
            fs::create_dir_all(folder).map_err(|source| folder::at(folder, source))?;
        }
        let first = streets.start;
        streets.into_par_iter().try_for_each(|number| {
            let street = draw(self, number);
            let name = format!("{:04}", number - first);
            folder::save(&images.join(format!("{name}.jpg")), &street.image, 92)?;
            let path = labels.join(format!("{name}.png"));
            street
                .labels
                .save(&path)
                .map_err(|source| Error::Image { path, source })
        })
    }

    /// Draws a street, before JPEG compression. The training images are the first ones, and those for
    /// validation follow them. The result is a pure function of the configuration and the number.
    ///
    /// # Panics
    /// If a setting is outside its range, for which [`write`](Self::write) returns an error.
    ///
    /// ```
    /// use reid_synthetic::StreetsConfig;
    ///
    /// let street = StreetsConfig::new().with_size(64, 96).draw(7);
    /// assert_eq!(street.image.dimensions(), (96, 64));
    /// assert!(street.labels.pixels().all(|label| label.0[0] < 4));
    /// ```
    #[must_use]
    pub fn draw(&self, number: usize) -> Street {
        if let Some(fault) = self.fault() {
            fault.refuse();
        }
        draw(self, number)
    }

    fn fault(&self) -> Option<Fault> {
        let widths = self.height.div_ceil(2)..=self.height.saturating_mul(3);
        Fault::check("train", self.train, 1..=9999)
            .or(Fault::check("val", self.val, 1..=9999))
            .or(Fault::check("height", self.height, 32..=2048))
            .or(Fault::check("width", self.width, widths))
            .or(Fault::check("difficulty", self.difficulty, 0.0..=1.0))
    }
}

/// A street before it is painted.
struct Scene {
    road: Road,
    lens: Lens,
    sun: Position,
    aspect: f32,
    size: [u32; 2],
    /// The vehicles and their positions, the farthest first.
    vehicles: Vec<(Position, Vehicle)>,
}

fn draw(config: &StreetsConfig, number: usize) -> Street {
    let seed = config.seed.named("streets").at(number as u64);
    let mut stream = seed.named("moment").stream();
    let scene = Scene::new(config, seed, &mut stream);
    let pan = stream.random_range(-30.0..30.0);
    let image = scene.painted(|scene, brush| {
        scene.road.paint(brush, scene.aspect, pan);
        scene.paint_vehicles(brush);
    });
    let view = View::from_seed(seed.named("view"), config.difficulty);
    let exposure = (stream.random_range(-0.1..0.1_f32) * config.difficulty).exp();
    Street {
        image: view.take(&image, exposure, &mut stream),
        labels: scene.labels(),
    }
}

impl Scene {
    fn new(config: &StreetsConfig, seed: Seed, stream: &mut Stream) -> Self {
        let road = Road::of_camera(stream.random_range(0..1000_u32), seed.named("road"));
        let viewpoint = Viewpoint {
            azimuth: stream.random_range(0.0..std::f32::consts::TAU),
            elevation: stream.random_range(0.18..0.45),
            distance: stream.random_range(15.0..22.0),
        };
        let frame = Frame {
            aspect: config.width as f32 / config.height as f32,
            zoom: stream.random_range(0.9..1.3),
            aside: [0.0, 0.1],
        };
        // The middle of the street and the height of a lorry above it.
        let middle = [
            [-7.0, 0.0, 0.0],
            [7.0, 0.0, 0.0],
            [0.0, -3.0, 0.0],
            [0.0, 3.0, 3.0],
        ];
        let lens = Lens::new(viewpoint, [0.0, 0.0, 0.8]).framing(&middle, frame);
        let azimuth = stream.random_range(0.0..std::f32::consts::TAU);
        let side = |side: usize| {
            u32::try_from(side).unwrap_or_else(|_| panic!("a side of {side} pixels is too long"))
        };
        Self {
            vehicles: vehicles(&road, &lens, viewpoint.distance, (seed, config.difficulty)),
            road,
            lens,
            sun: [0.7 * azimuth.cos(), 0.7 * azimuth.sin(), 0.7],
            aspect: frame.aspect,
            size: [side(config.width), side(config.height)],
        }
    }

    fn painted(&self, paint: impl FnOnce(&Self, &mut Brush<'_>)) -> RgbImage {
        let [_, height] = self.size;
        let mut canvas = Canvas::new(self.size, height as f32, [0.0, 0.0]);
        let mut brush = Brush {
            canvas: &mut canvas,
            lens: self.lens,
            sun: self.sun,
        };
        paint(self, &mut brush);
        canvas.into_image()
    }

    fn paint_vehicles(&self, brush: &mut Brush<'_>) {
        for (position, vehicle) in &self.vehicles {
            brush.lens = self.lens.relative_to(*position);
            shape::paint(vehicle, brush);
        }
        brush.lens = self.lens;
    }

    /// The class of every pixel. A pixel shows a vehicle if less than half of a background is seen through
    /// what is painted, so shadows and antialiased edges count by their opacity.
    fn labels(&self) -> GrayImage {
        let ground = self.painted(|scene, brush| {
            let colours = [Colour::hex(0x80_8080), Colour::WHITE];
            scene.road.paint_ground(brush, scene.aspect, colours);
        });
        let [black, white] = [Colour::BLACK, Colour::WHITE].map(|colour| {
            self.painted(|scene, brush| {
                brush.canvas.rectangle([-9.0, -9.0], [9.0, 9.0], colour);
                scene.paint_vehicles(brush);
            })
        });
        let [width, height] = self.size;
        GrayImage::from_fn(width, height, |x, y| {
            let green = |image: &RgbImage| image.get_pixel(x, y).0[1];
            let seen_through = green(&white).saturating_sub(green(&black));
            Luma([match green(&ground) {
                _ if seen_through < 128 => 3,
                192.. => 2,
                64.. => 1,
                _ => 0,
            }])
        })
    }
}

/// Draws the vehicles of a street, the farthest first. They stand in the lanes, some of whose slots are
/// empty.
fn vehicles(
    road: &Road,
    lens: &Lens,
    distance: f32,
    (seed, difficulty): (Seed, f32),
) -> Vec<(Position, Vehicle)> {
    let mut vehicles = Vec::new();
    for (lane, aside) in road.lanes().into_iter().enumerate() {
        for slot in 0..4_u8 {
            let seed = seed.named("slot").at(lane as u64).at(slot.into());
            let mut stream = seed.named("where").stream();
            let along = -15.0 + 10.0 * f32::from(slot) + stream.random_range(-1.0..1.0);
            let position = [along, aside + stream.random_range(-0.3..0.3), 0.0];
            let depth = lens.depth(position);
            let visible = depth > NEAREST && depth < distance + FARTHEST;
            if stream.random_bool(0.45) && visible {
                let vehicle = Vehicle::stranger(seed.named("vehicle"), difficulty);
                vehicles.push((position, vehicle));
            }
        }
    }
    vehicles.sort_by(|(one, _), (other, _)| lens.depth(*other).total_cmp(&lens.depth(*one)));
    vehicles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_street_is_a_pure_function_of_its_number() {
        let config = StreetsConfig::new();
        assert_eq!(config.draw(3), config.draw(3));
        assert_ne!(config.draw(3), config.draw(4));
        let other = config.clone().with_seed(Seed::new(1));
        assert_ne!(config.draw(3), other.draw(3));
    }

    /// All classes are common, and the pixels of a class are similar: those of vehicles differ from the road.
    #[test]
    fn every_class_covers_a_part_of_the_images() {
        let config = StreetsConfig::new();
        let mut counts = [0_usize; 4];
        for number in 0..24 {
            for label in config.draw(number).labels.pixels() {
                counts[usize::from(label.0[0])] += 1;
            }
        }
        let total: usize = counts.iter().sum();
        for (name, count) in StreetsConfig::CLASSES.iter().zip(counts) {
            let share = count as f32 / total as f32;
            assert!((0.04..0.7).contains(&share), "{name}: {share}");
        }
    }

    #[test]
    fn labels_follow_what_is_painted() {
        // Without vehicles, a label map has no vehicle; with them, pixels of the image differ exactly there
        // and in shadows.
        let config = StreetsConfig::new().with_difficulty(0.0);
        let seed = config.seed.named("streets").at(1);
        let mut scene = Scene::new(&config, seed, &mut seed.named("moment").stream());
        let paint = |scene: &Scene, brush: &mut Brush<'_>| {
            scene.road.paint(brush, scene.aspect, 0.0);
            scene.paint_vehicles(brush);
        };
        let (with, labels) = (scene.painted(paint), scene.labels());
        scene.vehicles.clear();
        let without = scene.painted(paint);
        assert!(scene.labels().pixels().all(|label| label.0[0] < 3));
        let mut vehicles = 0;
        for ((label, one), other) in labels.pixels().zip(with.pixels()).zip(without.pixels()) {
            if label.0[0] == 3 {
                vehicles += usize::from(one != other);
            }
        }
        let expected = labels.pixels().filter(|label| label.0[0] == 3).count();
        assert!(expected > 100, "{expected}");
        assert!(vehicles * 100 > expected * 95, "{vehicles} of {expected}");
    }

    #[test]
    fn the_folder_is_read_by_the_loader_of_pairs() {
        use reid_data::segmentation::{LabelEncoding, pairs};
        let folder = tempfile::tempdir().expect("a folder");
        let config = StreetsConfig::new().with_train(2).with_val(1);
        config.write(folder.path()).expect("written");
        let splits = pairs::load(folder.path()).expect("pairs");
        assert_eq!((splits.train.len(), splits.val.len()), (2, 1));
        let encoding = LabelEncoding::classes(StreetsConfig::CLASSES.len());
        let opened = splits.val[0].open(&encoding).expect("a sample");
        assert_eq!(opened.labels, config.draw(2).labels.into_raw());
        assert_eq!(opened.image.dimensions(), (129, 97));
    }

    #[test]
    fn settings_out_of_range_are_rejected() {
        let error = StreetsConfig::new().with_val(0).write("unused");
        let error = error.expect_err("no validation images").to_string();
        assert_eq!(
            error,
            "invalid setting: expected val in 1..=9999, found `0`"
        );
    }
}
