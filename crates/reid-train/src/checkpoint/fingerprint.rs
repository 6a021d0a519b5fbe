//! Fingerprints of training samples, to detect that a run resumes with other images or labels.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use reid_core::{Sample, Source};
use reid_data::segmentation::{LabelEncoding, PixelSample};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::sealed::hexadecimal;

/// The number of samples, and a hash of their order, paths and labels: identities, cameras, tracks, sources
/// and attributes, or the paths of label maps and the encoding of their values.
///
/// Paths are relative to the common parent folder of the samples of a source, so that each of several merged
/// datasets may be moved. The content of the images is not read, so an image that was replaced under the same
/// name is not detected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    pub(crate) images: usize,
    pub(crate) sha256: String,
}

impl Fingerprint {
    pub(crate) fn of_samples(samples: &[Sample]) -> Self {
        let mut files: BTreeMap<Option<Source>, Vec<&Path>> = BTreeMap::new();
        for sample in samples {
            files.entry(sample.source).or_default().push(&sample.path);
        }
        let folders = files.into_iter();
        let folders = folders.map(|(source, files)| (source, common_folder(files.into_iter())));
        let folders: BTreeMap<Option<Source>, PathBuf> = folders.collect();
        let mut hash = Sha256::new();
        for sample in samples {
            add_path(&mut hash, &sample.path, &folders[&sample.source]);
            let Sample {
                path: _,
                identity,
                camera,
                track,
                source,
                attributes,
                ..
            } = sample;
            // Numbers contain no line break, so the fields of two samples cannot be confused.
            hash.update(format!("\n{identity:?} {camera:?} {track:?}\n"));
            // Without a source or attributes nothing is added, so that the hashes of version 0.1 stay valid.
            if let Some(source) = source {
                hash.update(format!("source {}\n", source.index()));
            }
            if !attributes.is_empty() {
                hash.update(format!("{attributes:?}\n"));
            }
        }
        Self {
            images: samples.len(),
            sha256: hexadecimal(&hash.finalize()),
        }
    }

    pub(crate) fn of_pixels(samples: &[PixelSample], encoding: &LabelEncoding) -> Self {
        let files = samples
            .iter()
            .flat_map(|sample| [&sample.image, &sample.labels]);
        let root = common_folder(files.map(PathBuf::as_path));
        let mut hash = Sha256::new();
        for sample in samples {
            for path in [&sample.image, &sample.labels] {
                add_path(&mut hash, path, &root);
                hash.update("\n");
            }
        }
        let classes = (0..=u8::MAX).map(|value| encoding.class(value));
        hash.update(format!("{:?}", classes.collect::<Vec<_>>()));
        Self {
            images: samples.len(),
            sha256: hexadecimal(&hash.finalize()),
        }
    }
}

/// Adds the parts of a path, relative to `root`.
fn add_path(hash: &mut Sha256, path: &Path, root: &Path) {
    let path = path.strip_prefix(root).unwrap_or(path);
    for part in path.components() {
        hash.update(part.as_os_str().as_encoded_bytes());
        hash.update([0]);
    }
}

/// The deepest folder that contains all files.
fn common_folder<'a>(files: impl Iterator<Item = &'a Path>) -> PathBuf {
    let mut folders = files.map(|file| {
        let folder = file.parent().unwrap_or_else(|| Path::new(""));
        folder.components().collect::<Vec<Component<'_>>>()
    });
    let Some(mut common) = folders.next() else {
        return PathBuf::new();
    };
    for folder in folders {
        let same = common.iter().zip(&folder).take_while(|(a, b)| a == b);
        common.truncate(same.count());
    }
    common.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use reid_core::{Camera, Identity};

    use super::*;

    fn samples(root: &str, folders: [&str; 2]) -> Vec<Sample> {
        let sample = |(folder, identity): (&str, i64)| {
            let path = Path::new(root).join(folder).join("a.jpg");
            Sample::new(path, Identity::new(identity)).with_camera(Camera::new(1))
        };
        folders.into_iter().zip(0..).map(sample).collect()
    }

    #[test]
    fn a_moved_dataset_keeps_its_fingerprint_and_a_renamed_folder_changes_it() {
        let here = Fingerprint::of_samples(&samples("here", ["anna", "berta"]));
        let there = Fingerprint::of_samples(&samples("/some/where/else", ["anna", "berta"]));
        assert_eq!(here, there);
        let renamed = Fingerprint::of_samples(&samples("here", ["berta", "zoe"]));
        assert_ne!(here, renamed);
    }

    #[test]
    fn each_merged_dataset_may_be_moved() {
        let merged = |roots: [&str; 2], folders: [&str; 2]| {
            let of_source = |(index, root): (usize, &str)| {
                let list = samples(root, folders).into_iter();
                list.map(move |sample| sample.with_source(Source::new(index)))
            };
            let all = roots.into_iter().enumerate().flat_map(of_source);
            Fingerprint::of_samples(&all.collect::<Vec<_>>())
        };
        let here = merged(["data/market", "data/msmt"], ["anna", "berta"]);
        let moved = merged(["fast/market", "/slow/people/msmt"], ["anna", "berta"]);
        assert_eq!(here, moved);
        let renamed = merged(["data/market", "data/msmt"], ["berta", "zoe"]);
        assert_ne!(here, renamed);
    }

    #[test]
    fn order_labels_and_number_change_the_fingerprint() {
        let list = samples("here", ["anna", "berta"]);
        let whole = Fingerprint::of_samples(&list);
        let mut reversed = list.clone();
        reversed.reverse();
        let mut other = list.clone();
        other[1].identity = Identity::new(7);
        let mut elsewhere = list.clone();
        elsewhere[0].camera = None;
        let mut red = list.clone();
        red[0] = red[0].clone().with_attribute("colour", "red");
        for changed in [&reversed[..], &other, &elsewhere, &red, &list[..1]] {
            assert_ne!(Fingerprint::of_samples(changed), whole);
        }
        let of_source = |source: usize| {
            let mut merged = list.clone();
            merged[0].source = Some(Source::new(source));
            Fingerprint::of_samples(&merged)
        };
        assert!(of_source(0) != whole && of_source(0) != of_source(1));
    }

    #[test]
    fn order_label_maps_and_encoding_change_the_fingerprint_of_pixels() {
        let sample = |root: &str, name: &str| {
            PixelSample::new(
                format!("{root}/images/{name}.jpg"),
                format!("{root}/labels/{name}.png"),
            )
        };
        let samples = |root| [sample(root, "a"), sample(root, "b")];
        let encoding = LabelEncoding::classes(3);
        let whole = Fingerprint::of_pixels(&samples("here"), &encoding);
        assert_eq!(whole.images, 2);
        assert_eq!(
            Fingerprint::of_pixels(&samples("/else/where"), &encoding),
            whole
        );
        let other = encoding.clone().with_value(9, 2);
        assert_ne!(Fingerprint::of_pixels(&samples("here"), &other), whole);
        let mut reversed = samples("here");
        reversed.reverse();
        let mut relabelled = samples("here");
        relabelled[0].labels = relabelled[1].labels.clone();
        for changed in [reversed, relabelled] {
            assert_ne!(Fingerprint::of_pixels(&changed, &encoding), whole);
        }
    }
}
