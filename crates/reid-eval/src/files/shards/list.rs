//! The sorted list of the images that shards are ranges of.

use std::{
    cmp::Ordering,
    collections::BTreeSet,
    ops::Range,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use reid_core::{Camera, Sample, Split, Track};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Shard;
use crate::{Error, Labels, files::hexadecimal};

/// The queries and the gallery of a dataset, each sorted by path, of which every job embeds a range.
///
/// Two jobs have the same list if they have the same images with the same labels, in whatever order: it has a hash
/// over the labels and over the paths relative to their common folder. So jobs may read the dataset in different
/// folders. The images themselves are not read, so one that is replaced under the same name is not detected.
///
/// If there are queries, images are numbered ([`Labels::with_images`]): an image in both lists is recognised
/// by its path or by [`Sample::same_as`].
#[derive(Clone, Debug)]
pub struct ShardList {
    query: Images,
    gallery: Images,
    fingerprint: ListFingerprint,
}

/// The number of images of a list, and a hash of their paths and labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListFingerprint {
    pub(super) query: usize,
    pub(super) gallery: usize,
    pub(super) sha256: String,
}

impl ListFingerprint {
    /// The number of images of a split.
    pub(super) fn images(&self, split: Split) -> usize {
        match split {
            Split::Query => self.query,
            Split::Gallery => self.gallery,
            Split::Train => 0,
        }
    }
}

/// The images of one split, and which labels all of them have.
#[derive(Clone, Debug)]
struct Images {
    samples: Vec<Sample>,
    /// The image IDs; empty without queries.
    numbers: Vec<u64>,
    has_cameras: bool,
    has_tracks: bool,
    attributes: BTreeSet<String>,
}

impl ShardList {
    /// Sorts the images of a dataset. Without queries, pass an empty list of them.
    ///
    /// # Errors
    /// [`Error::MixedCameras`] if some images of a split have a camera and others do not.
    pub fn new(query: Vec<Sample>, gallery: Vec<Sample>) -> Result<Self, Error> {
        let mut lists = [Images::sorted(query)?, Images::sorted(gallery)?];
        if !lists[0].samples.is_empty() {
            number(&mut lists);
        }
        let [query, gallery] = lists;
        let fingerprint = ListFingerprint {
            query: query.samples.len(),
            gallery: gallery.samples.len(),
            sha256: hash([&query, &gallery]),
        };
        Ok(Self {
            query,
            gallery,
            fingerprint,
        })
    }

    /// The images of one shard, sorted. There are none of [`Split::Train`].
    #[must_use]
    pub fn samples(&self, split: Split, shard: Shard) -> &[Sample] {
        let images = self.images(split);
        images.map_or(&[][..], |images| {
            &images.samples[shard.range(images.samples.len())]
        })
    }

    /// The hash of the list in hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.fingerprint.sha256
    }

    pub(super) fn fingerprint(&self) -> &ListFingerprint {
        &self.fingerprint
    }

    /// The labels of the images of one shard.
    pub(super) fn labels(&self, split: Split, shard: Shard) -> Result<Labels, Error> {
        let images = self.images(split);
        images.map_or_else(
            || Ok(Labels::default()),
            |images| images.labels(shard.range(images.samples.len())),
        )
    }

    fn images(&self, split: Split) -> Option<&Images> {
        match split {
            Split::Query => Some(&self.query),
            Split::Gallery => Some(&self.gallery),
            Split::Train => None,
        }
    }
}

impl Images {
    fn sorted(mut samples: Vec<Sample>) -> Result<Self, Error> {
        samples.par_sort_by(order);
        let path = |has: bool| {
            let sample = samples.iter().find(|sample| sample.camera.is_some() == has);
            sample.map(|sample| sample.path.clone())
        };
        let has_cameras = match (path(true), path(false)) {
            (Some(with), Some(without)) => return Err(Error::MixedCameras { with, without }),
            (with, _) => with.is_some(),
        };
        let names = samples.iter().flat_map(|sample| sample.attributes.keys());
        Ok(Self {
            numbers: Vec::new(),
            has_cameras,
            has_tracks: samples.iter().all(|sample| sample.track.is_some()),
            attributes: names.cloned().collect(),
            samples,
        })
    }

    /// The labels of a range of images. They are of the same kinds in every range.
    fn labels(&self, range: Range<usize>) -> Result<Labels, Error> {
        let samples = &self.samples[range.clone()];
        let identities = samples.iter().map(|sample| sample.identity).collect();
        let paths = samples.iter().map(|sample| sample.path.clone()).collect();
        let mut labels = Labels::new(identities).with_paths(paths)?;
        if self.has_cameras {
            let cameras: Vec<Camera> = samples.iter().filter_map(|sample| sample.camera).collect();
            labels = labels.with_cameras(cameras)?;
        }
        if !self.numbers.is_empty() {
            labels = labels.with_images(self.numbers[range].to_vec())?;
        }
        if self.has_tracks {
            let tracks: Vec<Track> = samples.iter().filter_map(|sample| sample.track).collect();
            labels = labels.with_tracks(tracks)?;
        }
        for name in &self.attributes {
            let values = samples.iter().map(|sample| sample.attributes.get(name));
            labels =
                labels.with_attribute(name, values.map(Option::<&String>::cloned).collect())?;
        }
        Ok(labels)
    }
}

/// Orders images by path; those with the same path by everything else that counts.
fn order(one: &Sample, other: &Sample) -> Ordering {
    let labels = |sample: &Sample| (sample.identity, sample.camera, sample.track);
    one.path
        .cmp(&other.path)
        .then_with(|| labels(one).cmp(&labels(other)))
        .then_with(|| one.attributes.cmp(&other.attributes))
        .then_with(|| one.same_as.cmp(&other.same_as))
}

/// Numbers the images in the order of their paths. Samples of the same image get the same number.
fn number(lists: &mut [Images; 2]) {
    let samples = lists.iter().flat_map(|images| &images.samples);
    let mut paths: Vec<&Path> = samples.map(Sample::image).collect();
    paths.par_sort_unstable();
    paths.dedup();
    let numbers = lists.each_ref().map(|images| {
        let samples = images.samples.par_iter();
        let number = |sample: &Sample| paths.partition_point(|path| *path < sample.image()) as u64;
        samples.map(number).collect::<Vec<u64>>()
    });
    for (images, numbers) in lists.iter_mut().zip(numbers) {
        images.numbers = numbers;
    }
}

/// Hashes the number of images of each list, and for each image its path relative to the common folder, its labels
/// and its image ID.
fn hash(lists: [&Images; 2]) -> String {
    let root = common_folder(lists.map(|images| images.samples.as_slice()));
    let mut hash = Sha256::new();
    for images in lists {
        hash.update(format!("{} images\n", images.samples.len()));
        for (at, sample) in images.samples.iter().enumerate() {
            for part in sample.path.strip_prefix(&root).unwrap_or(&sample.path) {
                hash.update(part.as_encoded_bytes());
                hash.update([0]);
            }
            let Sample {
                identity,
                camera,
                track,
                attributes,
                ..
            } = sample;
            let image = images.numbers.get(at);
            // The debug format of texts has no line breaks, so the fields of two images cannot be confused.
            let labels = format!("\n{identity:?} {camera:?} {track:?} {image:?} {attributes:?}\n");
            hash.update(labels);
        }
    }
    hexadecimal(&hash.finalize())
}

/// The deepest folder that contains all images. In a sorted list, the first and the last image determine it.
fn common_folder(lists: [&[Sample]; 2]) -> PathBuf {
    let ends = lists
        .into_iter()
        .flat_map(|list| [list.first(), list.last()]);
    let mut folders = ends.flatten().map(|sample| {
        let folder = sample.path.parent();
        folder.unwrap_or(Path::new(""))
    });
    let Some(first) = folders.next() else {
        return PathBuf::new();
    };
    folders.fold(first.to_owned(), |common, folder| {
        let pairs = common.components().zip(folder.components());
        let same = pairs.take_while(|(one, other)| one == other);
        same.map(|(part, _)| part).collect()
    })
}

#[cfg(test)]
mod tests {
    use reid_core::Identity;

    use super::*;

    fn samples(root: &str, names: &[&str]) -> Vec<Sample> {
        let sample = |(name, identity): (&&str, i64)| {
            Sample::new(Path::new(root).join(name), Identity::new(identity))
        };
        names.iter().zip(1..).map(sample).collect()
    }

    fn list(root: &str) -> [Vec<Sample>; 2] {
        let gallery = samples(root, &["b/2.jpg", "a/1.jpg", "b/10.jpg", "c.jpg"]);
        [samples(root, &["q/2.jpg", "q/1.jpg"]), gallery]
    }

    fn sha256([query, gallery]: [Vec<Sample>; 2]) -> String {
        let list = ShardList::new(query, gallery).expect("no cameras");
        list.sha256().to_owned()
    }

    #[test]
    fn the_order_and_the_folder_of_the_images_do_not_matter() {
        let here = sha256(list("here"));
        let [mut query, mut gallery] = list("/some/where/else");
        query.reverse();
        gallery.rotate_left(1);
        assert_eq!(sha256([query.clone(), gallery.clone()]), here);
        let list = ShardList::new(query, gallery).expect("no cameras");
        let whole = Shard::new(0, 1).expect("one");
        let paths = list.samples(Split::Gallery, whole).iter();
        let names: Vec<_> = paths.filter_map(|sample| sample.path.file_name()).collect();
        assert_eq!(names, ["1.jpg", "10.jpg", "2.jpg", "c.jpg"]);
        assert!(list.samples(Split::Train, whole).is_empty());
    }

    #[test]
    fn every_label_and_the_number_of_images_change_the_hash() {
        let here = sha256(list("here"));
        let changes: [fn(&mut [Vec<Sample>; 2]); 7] = [
            |lists| lists[1][0].identity = Identity::new(9),
            |lists| {
                for sample in &mut lists[0] {
                    sample.camera = Some(Camera::new(1));
                }
            },
            |lists| lists[1][2].track = Some(Track::new(1)),
            |lists| lists[1][2] = lists[1][2].clone().with_attribute("colour", "red"),
            |lists| lists[1][2].same_as = Some(lists[0][0].path.clone()),
            |lists| drop(lists[1].pop()),
            |lists| lists[1][1].path = "here/a/2.jpg".into(),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut changed = list("here");
            change(&mut changed);
            assert_ne!(sha256(changed), here, "change {number}");
        }
        let [query, gallery] = list("here");
        assert_ne!(sha256([Vec::new(), [query, gallery].concat()]), here);
    }

    #[test]
    fn labels_are_of_the_same_kinds_in_every_shard() {
        let [query, mut gallery] = list("here");
        gallery[0].track = Some(Track::new(5));
        gallery[3] = gallery[3].clone().with_attribute("colour", "red");
        gallery[1].same_as = Some(query[0].path.clone());
        let list = ShardList::new(query, gallery).expect("no cameras");
        let labels = |split, index| {
            let shard = Shard::new(index, 2).expect("two");
            list.labels(split, shard).expect("labels")
        };
        for index in 0..2 {
            let labels = labels(Split::Gallery, index);
            assert_eq!(
                (labels.len(), labels.tracks(), labels.cameras()),
                (2, None, None)
            );
            assert_eq!(labels.attribute_names().collect::<Vec<_>>(), ["colour"]);
        }
        assert_eq!(
            labels(Split::Gallery, 1).at(1).attribute("colour"),
            Some("red")
        );
        // The first gallery image is a copy of query `q/2.jpg`.
        let image = labels(Split::Gallery, 0).at(0).image();
        assert_eq!(image, labels(Split::Query, 1).at(0).image());
        assert_ne!(image, labels(Split::Query, 0).at(0).image());
    }

    #[test]
    fn a_missing_camera_is_rejected_even_in_another_shard() {
        let [query, mut gallery] = list("here");
        gallery[0].camera = Some(Camera::new(1));
        let error = ShardList::new(query, gallery).expect_err("one camera");
        assert_eq!(
            error.to_string(),
            "here/a/1.jpg has no camera, but here/b/2.jpg has: give a camera to every image or to none"
        );
    }
}
