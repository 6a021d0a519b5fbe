//! Synthetic people, written in the Market-1501 layout.

mod frame;
mod picture;

use std::path::Path;

use image::RgbImage;
use reid_core::{Camera, Identity, Seed};
use serde::{Deserialize, Serialize};

pub use frame::Walker;

use crate::{
    Error, folder,
    layout::{self, Counts, Layout},
    setting::Fault,
};

/// The configuration of a synthetic dataset of people.
///
/// - The identity determines clothes, hair, bags and build: the colours of both garments, hair, skin and
///   shoes; the sleeves; trousers, shorts or a skirt; a pattern, a bag and a cap.
/// - The camera determines the background, the light, the usual viewing direction, the blur, the noise and
///   the JPEG quality.
/// - The shot determines the step, small changes of direction and exposure, the errors of the bounding box,
///   and obstacles: posts, bins, bushes, barriers and passers-by.
///
/// `difficulty` affects all of these. At 0 people dress differently and the light is nearly the same. At 1
/// people belong to teams of six look-alikes. Each person then differs from the team in two of twelve
/// attributes, and the light of the cameras varies more than the clothes do.
///
/// The dataset is a pure function of this configuration. Training identities are numbered from 1, and test
/// identities follow them. Identity `0000` marks distractors, each image with another person. `-1` marks
/// junk: people cut off by the edge of the image.
///
/// ```
/// use reid_data::dataset::market1501;
/// use reid_synthetic::SyntheticConfig;
///
/// let folder = tempfile::tempdir()?;
/// let config = SyntheticConfig::new()
///     .with_train_identities(4)
///     .with_test_identities(2)
///     .with_cameras(2)
///     .with_images_per_camera(3);
/// config.write(folder.path())?;
///
/// let splits = market1501::load(folder.path())?;
/// assert_eq!(splits.train.len(), 4 * 2 * 3);
/// assert_eq!(splits.query.len(), 2 * 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyntheticConfig {
    /// Number of training identities, in `2..=9998`. Default 32.
    pub train_identities: usize,
    /// Number of test identities, at least 1. Training and test identities together are at most 9999.
    /// Default 32.
    pub test_identities: usize,
    /// Number of cameras, in `2..=9`. Every camera sees every identity. Default 4.
    pub cameras: usize,
    /// Number of images of each identity by each camera, at least 2. For a test identity, the first is a
    /// query and the others are in the gallery. Default 3.
    pub images_per_camera: usize,
    /// Number of distractor images (`0000`) in the gallery. Default 16.
    pub distractors: usize,
    /// Number of junk images (`-1`) in the gallery. Default 8.
    pub junk: usize,
    /// Height of the images in pixels, in `32..=2048`. Default 64.
    pub height: usize,
    /// Width of the images in pixels, from 16 to the height. Half the height fits a person. Default 32.
    pub width: usize,
    /// Share of the images with an obstacle in front of the person, in `0..=1`. Default 0.2.
    pub occlusion: f32,
    /// Difficulty of the dataset, in `0..=1`. At 0 people are easy to distinguish; at 1 only details
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
    drawing: u32,
    #[serde(flatten)]
    config: &'a SyntheticConfig,
}

impl Default for SyntheticConfig {
    fn default() -> Self {
        Self {
            train_identities: 32,
            test_identities: 32,
            cameras: 4,
            images_per_camera: 3,
            distractors: 16,
            junk: 8,
            height: 64,
            width: 32,
            occlusion: 0.2,
            difficulty: 0.5,
            seed: Seed::new(0),
        }
    }
}

impl SyntheticConfig {
    /// The default configuration: 32 training identities, 32 test identities and four cameras.
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

    /// Sets the number of distractor images in the gallery.
    #[must_use]
    pub fn with_distractors(self, distractors: usize) -> Self {
        Self {
            distractors,
            ..self
        }
    }

    /// Sets the number of junk images in the gallery.
    #[must_use]
    pub fn with_junk(self, junk: usize) -> Self {
        Self { junk, ..self }
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

    /// Sets the share of images with an obstacle in front of the person, from 0 to 1.
    #[must_use]
    pub fn with_occlusion(self, occlusion: f32) -> Self {
        Self { occlusion, ..self }
    }

    /// Sets the difficulty, from 0 to 1.
    #[must_use]
    pub fn with_difficulty(self, difficulty: f32) -> Self {
        Self { difficulty, ..self }
    }

    /// Sets the seed. Another seed gives other people and other scenes.
    #[must_use]
    pub fn with_seed(self, seed: Seed) -> Self {
        Self { seed, ..self }
    }

    /// Writes the dataset to the folder `root` in the Market-1501 layout: JPEG files in
    /// `bounding_box_train`, `query` and `bounding_box_test`.
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
            drawing: DRAWING,
            config: self,
        };
        let pictures = layout::pictures(self.counts());
        folder::write(root, &record, Layout::Market1501, &pictures, |picture| {
            let drawn = picture::draw(self, picture.identity, picture.camera, picture.shot);
            (drawn, picture::view(self, picture.camera).quality)
        })
    }

    /// Draws the image of an identity by a camera, before JPEG compression. `shot` counts the images of this
    /// identity by this camera, from 0.
    ///
    /// The image is a pure function of the configuration and the arguments. The arguments may lie outside
    /// the dataset: any identity, camera and shot can be drawn.
    ///
    /// # Panics
    /// If a setting is outside its range, for which [`write`](Self::write) returns an error.
    ///
    /// ```
    /// use reid_core::{Camera, Identity};
    /// use reid_synthetic::SyntheticConfig;
    ///
    /// let config = SyntheticConfig::new().with_height(256).with_width(128);
    /// let picture = config.draw(Identity::new(7), Camera::new(1), 0);
    /// assert_eq!(picture.dimensions(), (128, 256));
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
            distractors: self.distractors,
            junk: self.junk,
        }
    }

    /// The first setting that is outside its range.
    fn fault(&self) -> Option<Fault> {
        self.counts()
            .fault()
            .or(Fault::check("height", self.height, 32..=2048))
            .or(Fault::check("width", self.width, 16..=self.height))
            .or(Fault::check("occlusion", self.occlusion, 0.0..=1.0))
            .or(Fault::check("difficulty", self.difficulty, 0.0..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use reid_data::dataset::market1501;

    fn small() -> SyntheticConfig {
        SyntheticConfig::new()
            .with_train_identities(3)
            .with_test_identities(2)
            .with_cameras(2)
            .with_images_per_camera(4)
            .with_distractors(5)
            .with_junk(3)
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
        let other = small().with_seed(Seed::new(1));
        assert_ne!(
            draw(1, 1, 0),
            other.draw(Identity::new(1), Camera::new(1), 0)
        );
    }

    #[test]
    fn the_loader_finds_the_configured_images() {
        let root = tempfile::tempdir().unwrap();
        small().write(root.path()).unwrap();
        let statistics = market1501::load(root.path()).unwrap().statistics();
        let counts =
            |split: reid_core::SplitStatistics| (split.identities, split.images, split.cameras);
        assert_eq!(counts(statistics.train), (3, 3 * 2 * 4, 2));
        assert_eq!(counts(statistics.query), (2, 2 * 2, 2));
        // Two people and the distractors, which share an identity. The loader skips junk.
        assert_eq!(counts(statistics.gallery), (3, 2 * 2 * 3 + 5, 2));
        let files = fs::read_dir(root.path().join("bounding_box_test")).unwrap();
        assert_eq!(files.count(), 2 * 2 * 3 + 5 + 3);
    }

    #[test]
    fn files_are_images_of_the_configured_size() {
        let root = tempfile::tempdir().unwrap();
        let config = small().with_height(96).with_width(40);
        config.write(root.path()).unwrap();
        let path = root.path().join("query/0004_c2s1_000000_01.jpg");
        let written = image::open(path).unwrap().to_rgb8();
        assert_eq!(written.dimensions(), (40, 96));
        // JPEG changes colours by about 1 %, so the file shows the image that `draw` returns.
        let drawn = config.draw(Identity::new(4), Camera::new(2), 0);
        let apart = written
            .iter()
            .zip(drawn.iter())
            .map(|(&a, &b)| f32::from(a.abs_diff(b)));
        assert!(apart.sum::<f32>() / (3.0 * 40.0 * 96.0) < 8.0);
    }

    #[test]
    fn another_dataset_is_refused_and_the_same_is_kept() {
        let root = tempfile::tempdir().unwrap();
        small().write(root.path()).unwrap();
        let picture = root.path().join("query/0004_c2s1_000000_01.jpg");
        fs::write(&picture, "touched").unwrap();
        small().write(root.path()).unwrap();
        assert_eq!(fs::read_to_string(&picture).unwrap(), "touched");

        let error = small().with_seed(Seed::new(1)).write(root.path());
        let message = error.expect_err("the folder holds seed 0").to_string();
        assert!(
            message.contains(r#""seed":1"#) && message.contains(r#""seed":0"#),
            "{message}"
        );
    }

    #[test]
    fn the_record_is_read_back_as_the_configuration() {
        let root = tempfile::tempdir().unwrap();
        small().write(root.path()).unwrap();
        let text = fs::read_to_string(root.path().join("synthetic.json")).unwrap();
        let config: SyntheticConfig = serde_json::from_str(&text).unwrap();
        assert_eq!(config, small());
    }

    #[test]
    fn errors_name_the_invalid_setting_and_its_range() {
        let root = tempfile::tempdir().unwrap();
        let cases = [
            (
                small().with_train_identities(0),
                "train_identities in 2..=9998, found `0`",
            ),
            (
                small().with_test_identities(0),
                "test_identities in 1..=9998, found `0`",
            ),
            (
                small().with_test_identities(9998),
                "3..=9999, found `10001`",
            ),
            (small().with_cameras(1), "cameras in 2..=9, found `1`"),
            (
                small().with_images_per_camera(1),
                "images_per_camera in 2..=1000000, found `1`",
            ),
            (small().with_height(31), "height in 32..=2048, found `31`"),
            (small().with_width(65), "width in 16..=64, found `65`"),
            (
                small().with_difficulty(1.5),
                "difficulty in 0..=1, found `1.5`",
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
