//! Layout: which pictures a set has, and their names in the Market-1501 layout.

use std::path::{Path, PathBuf};

use reid_core::{Camera, Identity, Split};

use super::SyntheticConfig;

/// One picture of a set: who, seen by which camera, for the how manieth time, and in which split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) split: Split,
    pub(super) identity: Identity,
    pub(super) camera: Camera,
    pub(super) shot: usize,
}

impl Picture {
    /// Where the picture is in the set's folder, such as `query/0033_c1s1_000000_01.jpg`.
    pub(super) fn path(&self, root: &Path) -> PathBuf {
        let label = if self.identity.is_junk() {
            "-1".to_owned()
        } else {
            format!("{:04}", self.identity.label())
        };
        let (camera, shot) = (self.camera, self.shot);
        root.join(folder(self.split))
            .join(format!("{label}_{camera}s1_{shot:06}_01.jpg"))
    }
}

/// The folder of a split.
pub(super) fn folder(split: Split) -> &'static str {
    match split {
        Split::Train => "bounding_box_train",
        Split::Query => "query",
        Split::Gallery => "bounding_box_test",
    }
}

/// All pictures of a set. The identities of the test follow those of training, starting from 1; each
/// camera's first shot of a test identity is a query.
pub(super) fn pictures(config: &SyntheticConfig) -> Vec<Picture> {
    let people = config.train_identities + config.test_identities;
    let labels = (1..).map(Identity::new).take(people);
    let known = labels.enumerate().flat_map(|(place, identity)| {
        let training = place < config.train_identities;
        cameras(config).flat_map(move |camera| {
            (0..config.images_per_camera).map(move |shot| Picture {
                split: match shot {
                    _ if training => Split::Train,
                    0 => Split::Query,
                    _ => Split::Gallery,
                },
                identity,
                camera,
                shot,
            })
        })
    });
    let strangers = [
        (Identity::new(0), config.distractors),
        (Identity::JUNK, config.junk),
    ];
    let unknown = strangers.into_iter().flat_map(|(identity, count)| {
        let shots = (0..).flat_map(|shot| cameras(config).map(move |camera| (camera, shot)));
        shots.take(count).map(move |(camera, shot)| Picture {
            split: Split::Gallery,
            identity,
            camera,
            shot,
        })
    });
    known.chain(unknown).collect()
}

/// Cameras, numbered from 1.
fn cameras(config: &SyntheticConfig) -> impl Iterator<Item = Camera> + use<> {
    (1..).map(Camera::new).take(config.cameras)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_layout() {
        let picture = |split, identity| Picture {
            split,
            identity,
            camera: Camera::new(3),
            shot: 12,
        };
        let name = |split, identity| picture(split, identity).path(Path::new("set"));
        assert_eq!(
            name(Split::Train, Identity::new(7)),
            Path::new("set/bounding_box_train/0007_c3s1_000012_01.jpg")
        );
        assert_eq!(
            name(Split::Query, Identity::new(1234)),
            Path::new("set/query/1234_c3s1_000012_01.jpg")
        );
        assert_eq!(
            name(Split::Gallery, Identity::JUNK),
            Path::new("set/bounding_box_test/-1_c3s1_000012_01.jpg")
        );
    }

    #[test]
    fn strangers_are_spread_over_the_cameras() {
        let config = SyntheticConfig::new()
            .with_cameras(3)
            .with_distractors(4)
            .with_junk(0);
        let strangers: Vec<_> = pictures(&config)
            .into_iter()
            .filter(|picture| picture.identity == Identity::new(0))
            .map(|picture| (picture.camera.number(), picture.shot))
            .collect();
        assert_eq!(strangers, [(1, 0), (2, 0), (3, 0), (1, 1)]);
    }
}
