//! Synthetic vehicles: cars, vans, lorries and buses, written in the VeRi-776 layout.

mod coachwork;
mod livery;
mod load;
mod model;
mod obstruction;
mod panel;
mod picture;
mod road;
mod shape;
mod solid;
mod space;
mod streets;
mod vehicle;
mod wheel;

pub use streets::{Street, StreetsConfig};

use std::path::Path;

use image::RgbImage;
use reid_core::{Camera, Identity, Seed};
use serde::{Deserialize, Serialize};

use crate::{
    Error, folder,
    layout::{self, Counts, Layout},
    setting::Fault,
};

/// The configuration of a synthetic dataset of vehicles.
///
/// Vehicles belong to fleets of six of the same model: hatchbacks, saloons, estates, coupés, off-roaders,
/// vans, pick-ups, lorries or buses.
///
/// - The identity determines the paint, the colours of roof and trim, stripes, a logo, a sticker, the load on
///   the roof, the glass, the rims, the lamps, the plates, repaired corners and dirt. Two vehicles never
///   differ only in something that is visible from a single side.
/// - The camera determines the road, the background, the light, the viewpoint (direction, height and
///   distance), the blur, the noise and the JPEG quality.
/// - The shot determines small changes of direction and exposure, the errors of the bounding box, and
///   obstacles: other vehicles, posts, bins, bushes, barriers and passers-by.
///
/// `difficulty` affects all of these. At 0 the vehicles of a fleet share only the model, and the light is
/// nearly the same. At 0.5 they also share the paint, and each differs from its fleet in four of twelve other
/// attributes. At 1 each differs in two of them, and the light of the cameras varies more than the paint
/// does.
///
/// The dataset is a pure function of this configuration. Training identities are numbered from 1, and test
/// identities follow them.
///
/// ```text
/// root/image_train/0001_c001_00000000_0.jpg     training
/// root/image_query/0033_c001_00000000_0.jpg     query: the first shot of a camera
/// root/image_test/0033_c001_00000001_0.jpg      gallery
///
/// VVVV_cCCC_FFFFFFFF_0.jpg: vehicle V, camera C, shot F
/// ```
///
/// ```
/// use reid_synthetic::VehiclesConfig;
///
/// let folder = tempfile::tempdir()?;
/// let config = VehiclesConfig::new()
///     .with_train_identities(4)
///     .with_test_identities(2)
///     .with_cameras(2)
///     .with_images_per_camera(3);
/// config.write(folder.path())?;
///
/// let pictures = |split| std::fs::read_dir(folder.path().join(split)).map(Iterator::count);
/// assert_eq!(pictures("image_train")?, 4 * 2 * 3);
/// assert_eq!(pictures("image_query")?, 2 * 2);
/// assert!(folder.path().join("image_test/0006_c002_00000002_0.jpg").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VehiclesConfig {
    /// Number of training identities, in `2..=9998`. Default 48.
    pub train_identities: usize,
    /// Number of test identities, at least 1. Training and test identities together are at most 9999.
    /// Default 48.
    pub test_identities: usize,
    /// Number of cameras, in `2..=9`. Every camera sees every identity. Default 4.
    pub cameras: usize,
    /// Number of images of each identity by each camera, at least 2. For a test identity, the first is a
    /// query and the others are in the gallery. Default 3.
    pub images_per_camera: usize,
    /// Height of the images in pixels, in `32..=2048`. Default 64.
    pub height: usize,
    /// Width of the images in pixels, from half the height to three times the height. Default 64.
    pub width: usize,
    /// Share of the images with an obstacle in front of the vehicle, in `0..=1`. Default 0.2.
    pub occlusion: f32,
    /// Difficulty of the dataset, in `0..=1`. At 0 vehicles are easy to distinguish; at 1 only details
    /// distinguish them. Default 0.5.
    pub difficulty: f32,
    /// The seed from which everything is drawn. Default 0.
    pub seed: Seed,
}

/// Version of the drawing code. It is increased whenever the same configuration gives different images, so
/// that a dataset written by an older version is not mistaken for the current one.
const DRAWING: u32 = 1;

/// The content of `synthetic.json`.
#[derive(Serialize)]
struct Record<'a> {
    shows: &'static str,
    drawing: u32,
    #[serde(flatten)]
    config: &'a VehiclesConfig,
}

impl Default for VehiclesConfig {
    fn default() -> Self {
        Self {
            train_identities: 48,
            test_identities: 48,
            cameras: 4,
            images_per_camera: 3,
            height: 64,
            width: 64,
            occlusion: 0.2,
            difficulty: 0.5,
            seed: Seed::new(0),
        }
    }
}

impl VehiclesConfig {
    /// The default configuration: 48 training identities, 48 test identities and four cameras.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of training identities.
    #[must_use]
    pub fn with_train_identities(self, train_identities: usize) -> Self {
        Self {
            train_identities,
            ..self
        }
    }

    /// Sets the number of test identities.
    #[must_use]
    pub fn with_test_identities(self, test_identities: usize) -> Self {
        Self {
            test_identities,
            ..self
        }
    }

    /// Sets the number of cameras.
    #[must_use]
    pub fn with_cameras(self, cameras: usize) -> Self {
        Self { cameras, ..self }
    }

    /// Sets the number of images of each identity by each camera.
    #[must_use]
    pub fn with_images_per_camera(self, images_per_camera: usize) -> Self {
        Self {
            images_per_camera,
            ..self
        }
    }

    /// Sets the height of the images, in pixels.
    #[must_use]
    pub fn with_height(self, height: usize) -> Self {
        Self { height, ..self }
    }

    /// Sets the width of the images, in pixels.
    #[must_use]
    pub fn with_width(self, width: usize) -> Self {
        Self { width, ..self }
    }

    /// Sets the share of images with an obstacle in front of the vehicle, from 0 to 1.
    #[must_use]
    pub fn with_occlusion(self, occlusion: f32) -> Self {
        Self { occlusion, ..self }
    }

    /// Sets the difficulty, from 0 to 1.
    #[must_use]
    pub fn with_difficulty(self, difficulty: f32) -> Self {
        Self { difficulty, ..self }
    }

    /// Sets the seed. Another seed gives other vehicles and other roads.
    #[must_use]
    pub fn with_seed(self, seed: Seed) -> Self {
        Self { seed, ..self }
    }

    /// Writes the dataset to the folder `root` in the VeRi-776 layout: JPEG files in `image_train`,
    /// `image_query` and `image_test`.
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
            shows: "vehicles",
            drawing: DRAWING,
            config: self,
        };
        let pictures = layout::pictures(self.counts());
        folder::write(root, &record, Layout::Veri776, &pictures, |picture| {
            let drawn = picture::draw(self, picture.identity, picture.camera, picture.shot);
            (drawn, picture::view(self, picture.camera).quality)
        })
    }

    /// Draws the image of an identity by a camera, before JPEG compression. `shot` counts the images of this
    /// identity by this camera, from 0.
    ///
    /// The image is a pure function of the configuration and the arguments. The arguments may lie outside
    /// the dataset: any identity, camera and shot can be drawn. An identity that is not positive gives
    /// another random vehicle in each image.
    ///
    /// # Panics
    /// If a setting is outside its range, for which [`write`](Self::write) returns an error.
    ///
    /// ```
    /// use reid_core::{Camera, Identity};
    /// use reid_synthetic::VehiclesConfig;
    ///
    /// let config = VehiclesConfig::new().with_height(128).with_width(192);
    /// let picture = config.draw(Identity::new(7), Camera::new(1), 0);
    /// assert_eq!(picture.dimensions(), (192, 128));
    /// ```
    #[must_use]
    pub fn draw(&self, identity: Identity, camera: Camera, shot: usize) -> RgbImage {
        if let Some(fault) = self.fault() {
            fault.refuse();
        }
        picture::draw(self, identity, camera, shot)
    }

    fn counts(&self) -> Counts {
        Counts {
            train_identities: self.train_identities,
            test_identities: self.test_identities,
            cameras: self.cameras,
            images_per_camera: self.images_per_camera,
            distractors: 0,
            junk: 0,
        }
    }

    /// The first setting that is outside its range.
    fn fault(&self) -> Option<Fault> {
        let widths = self.height.div_ceil(2)..=self.height.saturating_mul(3);
        self.counts()
            .fault()
            .or(Fault::check("height", self.height, 32..=2048))
            .or(Fault::check("width", self.width, widths))
            .or(Fault::check("occlusion", self.occlusion, 0.0..=1.0))
            .or(Fault::check("difficulty", self.difficulty, 0.0..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn small() -> VehiclesConfig {
        VehiclesConfig::new()
            .with_train_identities(3)
            .with_test_identities(2)
            .with_cameras(3)
            .with_images_per_camera(4)
    }

    #[test]
    fn an_image_is_a_pure_function_of_its_arguments() {
        let config = small();
        let draw = |identity, camera, shot| {
            config.draw(Identity::new(identity), Camera::new(camera), shot)
        };
        assert_eq!(draw(1, 1, 0), draw(1, 1, 0));
        assert_ne!(draw(1, 1, 0), draw(2, 1, 0));
        assert_ne!(draw(1, 1, 0), draw(1, 2, 0));
        assert_ne!(draw(1, 1, 0), draw(1, 1, 1));
        assert_eq!(draw(-1, 1, 0), draw(-1, 1, 0));
        let other = small().with_seed(Seed::new(1));
        assert_ne!(
            draw(1, 1, 0),
            other.draw(Identity::new(1), Camera::new(1), 0)
        );
    }

    #[test]
    fn every_camera_draws_at_difficulties_0_and_1() {
        for camera in (1..=9).map(Camera::new) {
            let draw = |difficulty| {
                let config = small().with_difficulty(difficulty).with_occlusion(1.0);
                config.draw(Identity::new(5), camera, 0)
            };
            let [easy, hard] = [draw(0.0), draw(1.0)];
            assert_ne!(easy, hard, "{camera}");
            // Black means unpainted: road, background or vehicle must cover every pixel.
            assert!(easy.pixels().all(|pixel| pixel.0 != [0; 3]), "{camera}");
        }
    }

    #[test]
    fn the_folders_hold_the_configured_images() {
        let root = tempfile::tempdir().unwrap();
        small().write(root.path()).unwrap();
        let names = |folder: &str| {
            let entries = fs::read_dir(root.path().join(folder)).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names("image_train").len(), 3 * 3 * 4);
        assert_eq!(names("image_test").len(), 2 * 3 * 3);
        // Test identities follow the three training identities. First shots are queries.
        let queries = [4, 5].map(|vehicle| {
            [1, 2, 3].map(|camera| format!("{vehicle:04}_c{camera:03}_00000000_0.jpg"))
        });
        assert_eq!(names("image_query"), queries.concat());
        assert_eq!(names("image_train")[0], "0001_c001_00000000_0.jpg");
        assert_eq!(names("image_test")[17], "0005_c003_00000003_0.jpg");
    }

    #[test]
    fn files_are_images_of_the_configured_size() {
        let root = tempfile::tempdir().unwrap();
        let config = small().with_height(48).with_width(80);
        config.write(root.path()).unwrap();
        let path = root.path().join("image_query/0004_c002_00000000_0.jpg");
        let written = image::open(path).unwrap().to_rgb8();
        assert_eq!(written.dimensions(), (80, 48));
        // JPEG changes colours by about 1 %, so the file shows the image that `draw` returns.
        let drawn = config.draw(Identity::new(4), Camera::new(2), 0);
        let apart = written
            .iter()
            .zip(drawn.iter())
            .map(|(&a, &b)| f32::from(a.abs_diff(b)));
        assert!(apart.sum::<f32>() / (3.0 * 80.0 * 48.0) < 8.0);
    }

    #[test]
    fn another_dataset_is_refused_and_the_same_is_kept() {
        let root = tempfile::tempdir().unwrap();
        small().write(root.path()).unwrap();
        let picture = root.path().join("image_query/0004_c002_00000000_0.jpg");
        fs::write(&picture, "touched").unwrap();
        small().write(root.path()).unwrap();
        assert_eq!(fs::read_to_string(&picture).unwrap(), "touched");

        let error = small().with_seed(Seed::new(1)).write(root.path());
        let message = error.expect_err("the folder holds seed 0").to_string();
        assert!(
            message.contains(r#""seed":1"#) && message.contains(r#""seed":0"#),
            "{message}"
        );
        let people = crate::SyntheticConfig::new().write(root.path());
        people.expect_err("the folder holds vehicles");
    }

    #[test]
    fn an_interrupted_dataset_is_written_again() {
        let root = tempfile::tempdir().unwrap();
        small().write(root.path()).unwrap();
        let at = |name: &str| root.path().join(name);
        let picture = at("image_test/0004_c002_00000001_0.jpg");
        let whole = fs::read(&picture).unwrap();
        fs::rename(at("synthetic.json"), at("synthetic.unfinished.json")).unwrap();
        fs::remove_file(&picture).unwrap();
        small().write(root.path()).unwrap();
        assert_eq!(fs::read(&picture).unwrap(), whole);
    }

    #[test]
    fn the_record_is_read_back_as_the_configuration() {
        let root = tempfile::tempdir().unwrap();
        small().write(root.path()).unwrap();
        let text = fs::read_to_string(root.path().join("synthetic.json")).unwrap();
        let config: VehiclesConfig = serde_json::from_str(&text).unwrap();
        assert_eq!(config, small());
    }

    #[test]
    fn errors_name_the_invalid_setting_and_its_range() {
        let root = tempfile::tempdir().unwrap();
        let cases = [
            (
                small().with_train_identities(1),
                "train_identities in 2..=9998, found `1`",
            ),
            (
                small().with_test_identities(9998),
                "3..=9999, found `10001`",
            ),
            (small().with_cameras(10), "cameras in 2..=9, found `10`"),
            (
                small().with_images_per_camera(1),
                "images_per_camera in 2..=1000000, found `1`",
            ),
            (small().with_height(31), "height in 32..=2048, found `31`"),
            (small().with_width(31), "width in 32..=192, found `31`"),
            (small().with_width(193), "width in 32..=192, found `193`"),
            (
                small().with_difficulty(-0.5),
                "difficulty in 0..=1, found `-0.5`",
            ),
            (
                small().with_occlusion(f32::NAN),
                "occlusion in 0..=1, found `NaN`",
            ),
        ];
        for (config, expected) in cases {
            let message = config.write(root.path()).expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    #[should_panic(expected = "invalid setting: expected difficulty in 0..=1, found `2`")]
    fn drawing_panics_with_an_invalid_setting() {
        let config = small().with_difficulty(2.0);
        let _ = config.draw(Identity::new(1), Camera::new(1), 0);
    }
}
