//! Layout: which pictures a set has, and where its files are.

use std::path::{Path, PathBuf};

use reid_core::{Camera, Identity, Split};

use super::setting::Fault;

/// How a set's folders and files are named.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layout {
    /// As `query/0033_c1s1_000000_01.jpg`.
    Market1501,
    /// As `image_query/0033_c001_00000000_0.jpg`.
    Veri776,
}

/// How many pictures a set has: of people or vehicles to learn from and to search for, by each
/// camera, and of strangers and junk altogether.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) train_identities: usize,
    pub(super) test_identities: usize,
    pub(super) cameras: usize,
    pub(super) images_per_camera: usize,
    pub(super) distractors: usize,
    pub(super) junk: usize,
}

/// One picture of a set: who, seen by which camera, for the how manieth time, and in which split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) split: Split,
    pub(super) identity: Identity,
    pub(super) camera: Camera,
    pub(super) shot: usize,
}

impl Counts {
    /// The first number that is outside its range.
    pub(super) fn fault(&self) -> Option<Fault> {
        let (train, test) = (self.train_identities, self.test_identities);
        let both = train.saturating_add(test);
        Fault::of("train_identities", train, 2..=9998)
            .or(Fault::of("test_identities", test, 1..=9998))
            .or(Fault::of(
                "train_identities + test_identities",
                both,
                3..=9999,
            ))
            .or(Fault::of("cameras", self.cameras, 2..=9))
            .or(Fault::of(
                "images_per_camera",
                self.images_per_camera,
                2..=1_000_000,
            ))
    }
}

impl Layout {
    /// Where the picture is in the set's folder.
    pub(super) fn path(self, picture: &Picture, root: &Path) -> PathBuf {
        let Picture {
            identity,
            camera,
            shot,
            ..
        } = *picture;
        let label = if identity.is_junk() {
            "-1".to_owned()
        } else {
            format!("{:04}", identity.label())
        };
        let name = match self {
            Self::Market1501 => format!("{label}_{camera}s1_{shot:06}_01.jpg"),
            Self::Veri776 => format!("{label}_c{:03}_{shot:08}_0.jpg", camera.number()),
        };
        root.join(self.folder(picture.split)).join(name)
    }

    /// The folder of a split.
    pub(super) fn folder(self, split: Split) -> &'static str {
        match (self, split) {
            (Self::Market1501, Split::Train) => "bounding_box_train",
            (Self::Market1501, Split::Query) => "query",
            (Self::Market1501, Split::Gallery) => "bounding_box_test",
            (Self::Veri776, Split::Train) => "image_train",
            (Self::Veri776, Split::Query) => "image_query",
            (Self::Veri776, Split::Gallery) => "image_test",
        }
    }
}

/// All pictures of a set. The identities of the test follow those of training, starting from 1; each
/// camera's first shot of a test identity is a query.
pub(super) fn pictures(counts: Counts) -> Vec<Picture> {
    let identities = counts.train_identities + counts.test_identities;
    let labels = (1..).map(Identity::new).take(identities);
    let known = labels.enumerate().flat_map(|(place, identity)| {
        let training = place < counts.train_identities;
        cameras(counts.cameras).flat_map(move |camera| {
            (0..counts.images_per_camera).map(move |shot| Picture {
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
        (Identity::new(0), counts.distractors),
        (Identity::JUNK, counts.junk),
    ];
    let unknown = strangers.into_iter().flat_map(|(identity, count)| {
        let shots =
            (0..).flat_map(|shot| cameras(counts.cameras).map(move |camera| (camera, shot)));
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
fn cameras(count: usize) -> impl Iterator<Item = Camera> {
    (1..).map(Camera::new).take(count)
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
        let name =
            |split, identity| Layout::Market1501.path(&picture(split, identity), Path::new("set"));
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
        assert_eq!(
            Layout::Veri776.path(&picture(Split::Gallery, Identity::new(7)), Path::new("set")),
            Path::new("set/image_test/0007_c003_00000012_0.jpg")
        );
    }

    #[test]
    fn strangers_are_spread_over_the_cameras() {
        let counts = Counts {
            train_identities: 2,
            test_identities: 1,
            cameras: 3,
            images_per_camera: 2,
            distractors: 4,
            junk: 0,
        };
        let strangers: Vec<_> = pictures(counts)
            .into_iter()
            .filter(|picture| picture.identity == Identity::new(0))
            .map(|picture| (picture.camera.number(), picture.shot))
            .collect();
        assert_eq!(strangers, [(1, 0), (2, 0), (3, 0), (1, 1)]);
    }
}
