//! People: pedestrians drawn from a seed, written in the Market-1501 layout.

mod picture;

use std::path::Path;

use image::RgbImage;
use reid_core::{Camera, Identity, Seed};
use serde::{Deserialize, Serialize};

use crate::{
    Error, folder,
    layout::{self, Counts, Layout},
    setting::Fault,
};

/// A data set of drawn people, for trying things where no real one is at hand.
///
/// Clothes, hair, bags and build make the identity: the colours of the upper and the lower garment,
/// of hair, skin and shoes; sleeves, trousers, shorts or a skirt; stripes, checks, a band or a
/// badge; a backpack, a shoulder bag or a handbag; a cap. Everything else is the camera's: each
/// looks at a place of its own, in its own light and from its own side, with more or less blur and
/// noise. From shot to shot people turn and step, the detector cuts them out imperfectly, and posts,
/// bins, bushes, barriers and passers-by get in the way.
///
/// `difficulty` moves all of it: from people who all dress differently, in nearly the same light, to
/// teams of look-alikes who each differ from their team in two of twelve attributes, in light that
/// differs by more than their clothes do.
///
/// The set is a pure function of these numbers. Identities are labelled from 1, first those of
/// training, then those of the test; `0000` are distractors, each a stranger of its own, and `-1`
/// is junk, people cut off by the detector.
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
    /// People to learn from, at least 2. Default 32.
    pub train_identities: usize,
    /// People to search for, at least 1; with those to learn from at most 9999. Default 32.
    pub test_identities: usize,
    /// Cameras, in `2..=9`: everyone is seen by all of them. Default 4.
    pub cameras: usize,
    /// Pictures each camera takes of each person, at least 2: of people to search for, the first is
    /// a query and the others are in the gallery. Default 3.
    pub images_per_camera: usize,
    /// Pictures of strangers (`0000`) added to the gallery. Default 16.
    pub distractors: usize,
    /// Junk detections (`-1`) added to the gallery. Default 8.
    pub junk: usize,
    /// Height of the pictures in pixels, in `32..=2048`. Default 64.
    pub height: usize,
    /// Width of the pictures in pixels, from 16 to the height; half the height frames a person.
    /// Default 32.
    pub width: usize,
    /// Share of the pictures, in `0..=1`, with something in front of the person. Default 0.2.
    pub occlusion: f32,
    /// From 0, where people are told apart at a glance, to 1, where details tell them apart. Default
    /// 0.5.
    pub difficulty: f32,
    /// What people, places and moments are drawn from. Default 0.
    pub seed: Seed,
}

/// Which drawings these are: raised whenever the same numbers give other pictures, so that a set
/// written before is not taken for one written now.
const DRAWING: u32 = 1;

/// What `synthetic.json` says.
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
    /// The default set: 32 people to learn from and 32 to search for, in four cameras.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With this many people to learn from.
    #[must_use]
    pub fn with_train_identities(self, train_identities: usize) -> Self {
        Self {
            train_identities,
            ..self
        }
    }

    /// With this many people to search for.
    #[must_use]
    pub fn with_test_identities(self, test_identities: usize) -> Self {
        Self {
            test_identities,
            ..self
        }
    }

    /// With this many cameras.
    #[must_use]
    pub fn with_cameras(self, cameras: usize) -> Self {
        Self { cameras, ..self }
    }

    /// With this many pictures of each person by each camera.
    #[must_use]
    pub fn with_images_per_camera(self, images_per_camera: usize) -> Self {
        Self {
            images_per_camera,
            ..self
        }
    }

    /// With this many pictures of strangers in the gallery.
    #[must_use]
    pub fn with_distractors(self, distractors: usize) -> Self {
        Self {
            distractors,
            ..self
        }
    }

    /// With this many junk detections in the gallery.
    #[must_use]
    pub fn with_junk(self, junk: usize) -> Self {
        Self { junk, ..self }
    }

    /// With pictures of this height, in pixels.
    #[must_use]
    pub fn with_height(self, height: usize) -> Self {
        Self { height, ..self }
    }

    /// With pictures of this width, in pixels.
    #[must_use]
    pub fn with_width(self, width: usize) -> Self {
        Self { width, ..self }
    }

    /// With something in front of the person in this share of the pictures.
    #[must_use]
    pub fn with_occlusion(self, occlusion: f32) -> Self {
        Self { occlusion, ..self }
    }

    /// With this difficulty, from 0 to 1.
    #[must_use]
    pub fn with_difficulty(self, difficulty: f32) -> Self {
        Self { difficulty, ..self }
    }

    /// With another seed: other people in other places.
    #[must_use]
    pub fn with_seed(self, seed: Seed) -> Self {
        Self { seed, ..self }
    }

    /// Makes sure that the folder `root` holds this set, in the Market-1501 layout: JPEG files in
    /// `bounding_box_train`, `query` and `bounding_box_test`.
    ///
    /// `synthetic.json`, written last, says which set it is. Where it already says this one, nothing
    /// is done; a set that was interrupted is written again.
    ///
    /// # Errors
    /// If a setting is outside its range; if `root` holds another set or files that are none; or if
    /// a file cannot be written.
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

    /// The picture that `camera` takes of `identity` for the `shot`-th time, before it is compressed:
    /// a pure function of these and of the settings, whether or not the set has such a picture.
    ///
    /// # Panics
    /// If a setting is outside its range, as [`write`](Self::write) refuses it.
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
            .or(Fault::of("height", self.height, 32..=2048))
            .or(Fault::of("width", self.width, 16..=self.height))
            .or(Fault::of("occlusion", self.occlusion, 0.0..=1.0))
            .or(Fault::of("difficulty", self.difficulty, 0.0..=1.0))
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
    fn a_picture_is_a_pure_function_of_its_arguments() {
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
    fn the_loader_finds_what_was_asked_for() {
        let root = tempfile::tempdir().unwrap();
        small().write(root.path()).unwrap();
        let statistics = market1501::load(root.path()).unwrap().statistics();
        let counts =
            |split: reid_core::SplitStatistics| (split.identities, split.images, split.cameras);
        assert_eq!(counts(statistics.train), (3, 3 * 2 * 4, 2));
        assert_eq!(counts(statistics.query), (2, 2 * 2, 2));
        // Two people and the distractors, which share a label; the loader leaves out junk.
        assert_eq!(counts(statistics.gallery), (3, 2 * 2 * 3 + 5, 2));
        let files = fs::read_dir(root.path().join("bounding_box_test")).unwrap();
        assert_eq!(files.count(), 2 * 2 * 3 + 5 + 3);
    }

    #[test]
    fn files_are_pictures_of_the_size_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let config = small().with_height(96).with_width(40);
        config.write(root.path()).unwrap();
        let path = root.path().join("query/0004_c2s1_000000_01.jpg");
        let written = image::open(path).unwrap().to_rgb8();
        assert_eq!(written.dimensions(), (40, 96));
        // JPEG keeps colours to about a hundredth: the file shows what `draw` draws.
        let drawn = config.draw(Identity::new(4), Camera::new(2), 0);
        let apart = written
            .iter()
            .zip(drawn.iter())
            .map(|(&a, &b)| f32::from(a.abs_diff(b)));
        assert!(apart.sum::<f32>() / (3.0 * 40.0 * 96.0) < 8.0);
    }

    #[test]
    fn another_set_is_refused_and_the_same_is_kept() {
        let root = tempfile::tempdir().unwrap();
        small().write(root.path()).unwrap();
        let picture = root.path().join("query/0004_c2s1_000000_01.jpg");
        fs::write(&picture, "touched").unwrap();
        small().write(root.path()).unwrap();
        assert_eq!(fs::read_to_string(&picture).unwrap(), "touched");

        let error = small().with_seed(Seed::new(1)).write(root.path());
        let message = error.expect_err("seed 0 is there").to_string();
        assert!(
            message.contains(r#""seed":1"#) && message.contains(r#""seed":0"#),
            "{message}"
        );
    }

    #[test]
    fn the_record_reads_back_as_the_settings() {
        let root = tempfile::tempdir().unwrap();
        small().write(root.path()).unwrap();
        let text = fs::read_to_string(root.path().join("synthetic.json")).unwrap();
        let config: SyntheticConfig = serde_json::from_str(&text).unwrap();
        assert_eq!(config, small());
    }

    #[test]
    fn bad_settings_are_refused_with_numbers() {
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
    #[should_panic(expected = "cannot draw: expected difficulty in 0..=1, found `2`")]
    fn a_bad_setting_is_not_drawn() {
        let config = small().with_difficulty(2.0);
        let _ = config.draw(Identity::new(1), Camera::new(1), 0);
    }
}
