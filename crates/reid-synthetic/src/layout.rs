//! Layout: the images of a dataset and the paths of their files.

use std::path::{Path, PathBuf};

use reid_core::{Camera, Identity, Split};

use super::setting::Fault;

/// The naming scheme of the folders and files of a dataset.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layout {
    /// For example `query/0033_c1s1_000000_01.jpg`.
    Market1501,
    /// For example `image_query/0033_c001_00000000_0.jpg`.
    Veri776,
}

/// The size of a dataset: the numbers of identities, cameras, images of each identity by each camera, and
/// the total numbers of distractor and junk images.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) train_identities: usize,
    pub(super) test_identities: usize,
    pub(super) cameras: usize,
    pub(super) images_per_camera: usize,
    pub(super) distractors: usize,
    pub(super) junk: usize,
}

/// One image of a dataset. `shot` is its index among the images of this identity by this camera, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) split: Split,
    pub(super) identity: Identity,
    pub(super) camera: Camera,
    pub(super) shot: usize,
}

impl Counts {
    /// The first count that is outside its range.
    pub(super) fn fault(&self) -> Option<Fault> {
        let (train, test) = (self.train_identities, self.test_identities);
        let both = train.saturating_add(test);
        Fault::check("train_identities", train, 2..=9998)
            .or(Fault::check("test_identities", test, 1..=9998))
            .or(Fault::check(
                "train_identities + test_identities",
                both,
                3..=9999,
            ))
            .or(Fault::check("cameras", self.cameras, 2..=9))
            .or(Fault::check(
                "images_per_camera",
                self.images_per_camera,
                2..=1_000_000,
            ))
    }
}

impl Layout {
    /// The path of an image in the dataset folder `root`.
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

/// All images of a dataset. Training identities are numbered from 1, and test identities follow them. The
/// first shot of a test identity by each camera is a query.
pub(super) fn pictures(counts: Counts) -> Vec<Picture> {
    let identities = counts.train_identities + counts.test_identities;
    let labels = (1..).map(Identity::new).take(identities);
    let known = labels.enumerate().flat_map(|(index, identity)| {
        let training = index < counts.train_identities;
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
    fn file_names_follow_the_layout() {
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
    fn distractors_are_distributed_over_the_cameras() {
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
