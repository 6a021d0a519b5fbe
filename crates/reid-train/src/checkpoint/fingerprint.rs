//! Fingerprint of a list of samples: whether a run goes on with the images that it was begun with.

use std::path::{Component, Path, PathBuf};

use reid_core::Sample;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::sealed::hexadecimal;

/// Number of samples, and a hash of their order, names, identities, cameras, tracks and attributes.
///
/// A path counts from the folder that all of them have in common, so that a data set may be moved. The
/// content of images is not read: one that is replaced under its own name is not noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    pub(crate) images: usize,
    pub(crate) sha256: String,
}

impl Fingerprint {
    pub(crate) fn of_samples(samples: &[Sample]) -> Self {
        let root = common_folder(samples);
        let mut hash = Sha256::new();
        for sample in samples {
            let path = sample.path.strip_prefix(&root).unwrap_or(&sample.path);
            for part in path.components() {
                hash.update(part.as_os_str().as_encoded_bytes());
                hash.update([0]);
            }
            let Sample {
                path: _,
                identity,
                camera,
                track,
                attributes,
                ..
            } = sample;
            // A line break is in no number, so fields cannot run into each other.
            hash.update(format!("\n{identity:?} {camera:?} {track:?}\n"));
            // Nothing where there are none, so that the hashes of version 0.1 stay.
            if !attributes.is_empty() {
                hash.update(format!("{attributes:?}\n"));
            }
        }
        Self {
            images: samples.len(),
            sha256: hexadecimal(&hash.finalize()),
        }
    }
}

/// The folder that all samples are in, at any depth.
fn common_folder(samples: &[Sample]) -> PathBuf {
    let mut folders = samples.iter().map(|sample| {
        let folder = sample.path.parent().unwrap_or_else(|| Path::new(""));
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
    fn a_moved_data_set_is_the_same_and_a_renamed_folder_is_not() {
        let here = Fingerprint::of_samples(&samples("here", ["anna", "berta"]));
        let there = Fingerprint::of_samples(&samples("/some/where/else", ["anna", "berta"]));
        assert_eq!(here, there);
        let renamed = Fingerprint::of_samples(&samples("here", ["berta", "zoe"]));
        assert_ne!(here, renamed);
    }

    #[test]
    fn order_identity_camera_attributes_and_number_count() {
        let list = samples("here", ["anna", "berta"]);
        let whole = Fingerprint::of_samples(&list);
        let mut transposed = list.clone();
        transposed.reverse();
        let mut other = list.clone();
        other[1].identity = Identity::new(7);
        let mut elsewhere = list.clone();
        elsewhere[0].camera = None;
        let mut red = list.clone();
        red[0] = red[0].clone().with_attribute("colour", "red");
        for changed in [&transposed[..], &other, &elsewhere, &red, &list[..1]] {
            assert_ne!(Fingerprint::of_samples(changed), whole);
        }
    }
}
