//! Merging: the training samples of several datasets as those of one dataset.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    path::{self, Path, PathBuf},
};

use crate::{Camera, Identity, Notice, Sample, Source, Splits, Track};

/// Datasets that cannot be merged.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// Two datasets have the same name, so that reports could not tell them apart.
    #[error(
        "expected datasets with different names, found `{name}` as datasets {one} and {other} (from 0)"
    )]
    SameName {
        /// The name.
        name: String,
        /// The index of the first of them.
        one: usize,
        /// The index of the second.
        other: usize,
    },
    /// Two datasets have the same training image, which would get two identities.
    #[error(
        "{}: expected a training image of one dataset, found it in `{one}` and in `{other}`",
        path.display()
    )]
    SameImage {
        /// The image.
        path: PathBuf,
        /// The name of the first dataset.
        one: String,
        /// The name of the second.
        other: String,
    },
    /// A dataset has no training images.
    #[error("expected training images in every dataset, found none in `{name}`")]
    NoTraining {
        /// The name of the dataset.
        name: String,
    },
    /// A dataset is one for classification, whose test images would show identities that no longer exist.
    #[error(
        "expected datasets for re-identification, found {test} test images of training identities in `{name}`"
    )]
    Classification {
        /// The name of the dataset.
        name: String,
        /// The number of its test images.
        test: usize,
    },
}

/// Formats the message ([`debug_error`](crate::debug_error)).
impl fmt::Debug for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::debug_error(self, f)
    }
}

impl Splits {
    /// Merges the training samples of several datasets, in order.
    ///
    /// Identities, cameras and tracks are numbered anew, so that those of different datasets never coincide:
    /// identities from 1, cameras and tracks from 0, in ascending order of the datasets and of the old
    /// numbers. Junk and unknown identities stay what they are. A distractor, identity 0, becomes an ordinary
    /// identity of its dataset, because in training it is one. Each sample has its [`Source`], and
    /// [`sources`](Self::sources) has the names of the datasets. A dataset that was merged before is one
    /// source here.
    ///
    /// Attributes stay what they are, so equal values of one attribute are one class: `colour=1` of two CSV lists
    /// must mean the same colour.
    ///
    /// The result has no queries and no gallery, because each dataset is evaluated on its own. Add those of
    /// one dataset with [`with_query`](Self::with_query) and [`with_gallery`](Self::with_gallery); they keep
    /// their numbers, which nothing compares with those of training samples.
    ///
    /// ```
    /// use reid_core::{Camera, Identity, Sample, Source, Splits};
    ///
    /// let dataset = |name: &str| {
    ///     let sample = Sample::new(format!("{name}/7.jpg"), Identity::new(7)).with_camera(Camera::new(1));
    ///     Splits::new(name).with_train(vec![sample])
    /// };
    /// let merged = Splits::merge(&[dataset("office"), dataset("street")])?;
    ///
    /// let street = &merged.train[1];
    /// assert_eq!((street.identity, street.camera), (Identity::new(2), Some(Camera::new(1))));
    /// assert_eq!(street.source, Some(Source::new(1)));
    /// assert_eq!(merged.sources, ["office", "street"]);
    /// # Ok::<(), reid_core::MergeError>(())
    /// ```
    ///
    /// # Errors
    /// - [`MergeError::SameName`] if two datasets have the same name
    /// - [`MergeError::SameImage`] if two datasets have the same file as a training image, also if their paths spell
    ///   the folder differently, or lead there by a symbolic link. Each folder is resolved once. A link to a single
    ///   image, and a copy, count as other images
    /// - [`MergeError::NoTraining`] if a dataset has no training samples
    /// - [`MergeError::Classification`] if a dataset has test samples
    pub fn merge<'a>(datasets: impl IntoIterator<Item = &'a Self>) -> Result<Self, MergeError> {
        let datasets: Vec<&Self> = datasets.into_iter().collect();
        expect_different_names(&datasets)?;
        expect_different_images(&datasets)?;
        let mut next = Next {
            identities: 1..,
            cameras: 0..,
            tracks: 0..,
        };
        let mut merged = Self::default();
        for (index, dataset) in datasets.into_iter().enumerate() {
            dataset.expect_training()?;
            let numbers = Numbers::new(&dataset.train, &mut next);
            let samples = dataset.train.iter();
            let source = Source::new(index);
            merged
                .train
                .extend(samples.map(|sample| numbers.renumbered(sample, source)));
            merged
                .notices
                .extend(dataset.notices.iter().map(|notice| Notice {
                    reason: format!("{}: {}", dataset.name, notice.reason),
                    ..notice.clone()
                }));
            merged.sources.push(dataset.name.clone());
        }
        merged.name = merged.sources.join(" + ");
        Ok(merged)
    }

    fn expect_training(&self) -> Result<(), MergeError> {
        let name = self.name.clone();
        match self.test.len() {
            0 if self.train.is_empty() => Err(MergeError::NoTraining { name }),
            0 => Ok(()),
            test => Err(MergeError::Classification { name, test }),
        }
    }
}

fn expect_different_names(datasets: &[&Splits]) -> Result<(), MergeError> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (other, dataset) in datasets.iter().enumerate() {
        if let Some(one) = seen.insert(&dataset.name, other) {
            let name = dataset.name.clone();
            return Err(MergeError::SameName { name, one, other });
        }
    }
    Ok(())
}

fn expect_different_images(datasets: &[&Splits]) -> Result<(), MergeError> {
    let mut folders: HashMap<&Path, PathBuf> = HashMap::new();
    let mut seen: HashMap<PathBuf, usize> = HashMap::new();
    for (other, dataset) in datasets.iter().enumerate() {
        for sample in &dataset.train {
            let folder = sample.path.parent().unwrap_or_else(|| Path::new(""));
            let folder = folders.entry(folder).or_insert_with(|| resolved(folder));
            let path = folder.join(sample.path.file_name().unwrap_or_default());
            let one = *seen.entry(path).or_insert(other);
            if one != other {
                return Err(MergeError::SameImage {
                    path: sample.path.clone(),
                    one: datasets[one].name.clone(),
                    other: dataset.name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// The absolute path of a folder, without symbolic links if the folder exists.
fn resolved(folder: &Path) -> PathBuf {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let resolved = folder.canonicalize().or_else(|_| path::absolute(folder));
    resolved.unwrap_or_else(|_| folder.to_owned())
}

/// The numbers that no dataset has been given yet.
struct Next {
    identities: std::ops::RangeFrom<i64>,
    cameras: std::ops::RangeFrom<u32>,
    tracks: std::ops::RangeFrom<u64>,
}

/// The new numbers of a dataset.
struct Numbers {
    identities: BTreeMap<Identity, i64>,
    cameras: BTreeMap<Camera, u32>,
    tracks: BTreeMap<Track, u64>,
}

impl Numbers {
    fn new(samples: &[Sample], next: &mut Next) -> Self {
        let identities = samples.iter().map(|sample| sample.identity);
        let identities = identities.filter(|identity| identity.is_labelled());
        let cameras = samples.iter().filter_map(|sample| sample.camera);
        let tracks = samples.iter().filter_map(|sample| sample.track);
        Self {
            identities: numbered(identities, &mut next.identities),
            cameras: numbered(cameras, &mut next.cameras),
            tracks: numbered(tracks, &mut next.tracks),
        }
    }

    /// The sample with its new numbers and its source. Junk and unknown identities have no new number.
    fn renumbered(&self, sample: &Sample, source: Source) -> Sample {
        let identity = self.identities.get(&sample.identity).copied();
        let camera = sample.camera.and_then(|camera| self.cameras.get(&camera));
        let track = sample.track.and_then(|track| self.tracks.get(&track));
        Sample {
            identity: identity.map_or(sample.identity, Identity::new),
            camera: camera.copied().map(Camera::new),
            track: track.copied().map(Track::new),
            source: Some(source),
            ..sample.clone()
        }
    }
}

/// Gives the next numbers to the different values, in ascending order.
fn numbered<T: Ord, N>(
    values: impl Iterator<Item = T>,
    next: &mut impl Iterator<Item = N>,
) -> BTreeMap<T, N> {
    let different: BTreeSet<T> = values.collect();
    different.into_iter().zip(next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples with these identities, each from the camera and the track of its position.
    fn dataset(name: &str, identities: &[i64]) -> Splits {
        let samples = identities.iter().zip(0..).map(|(&identity, at): (_, u32)| {
            Sample::new(format!("{name}/{at}.jpg"), Identity::new(identity))
                .with_camera(Camera::new(at))
                .with_track(Track::new(at.into()))
        });
        Splits::new(name).with_train(samples.collect())
    }

    #[test]
    fn identities_cameras_and_tracks_of_different_datasets_never_coincide() {
        let (one, other) = (
            dataset("one", &[9, 0, 9]),
            dataset("other", &[-1, 0, 4, -2]),
        );
        let merged = Splits::merge([&one, &other]).expect("different names");
        let identities: Vec<i64> = merged.train.iter().map(|s| s.identity.label()).collect();
        // 0 and 9 of the first, then 0 and 4 of the second. Junk and unknown identities stay.
        assert_eq!(identities, [2, 1, 2, -1, 3, 4, -2]);
        let cameras: Vec<_> = merged.train.iter().map(|s| s.camera).collect();
        assert_eq!(
            cameras,
            [0, 1, 2, 3, 4, 5, 6].map(|at| Some(Camera::new(at)))
        );
        let tracks: Vec<_> = merged.train.iter().map(|s| s.track).collect();
        assert_eq!(tracks, [0, 1, 2, 3, 4, 5, 6].map(|at| Some(Track::new(at))));
        let sources: Vec<_> = merged.train.iter().map(|s| s.source).collect();
        assert_eq!(
            sources,
            [0, 0, 0, 1, 1, 1, 1].map(|at| Some(Source::new(at)))
        );
        assert_eq!(merged.train[4].path, other.train[1].path);
        assert_eq!(merged.name, "one + other");
    }

    #[test]
    fn missing_cameras_stay_missing_and_notices_name_their_dataset() {
        let mut one = dataset("one", &[1, 2]);
        one.train[0].camera = None;
        one.notices = vec![Notice::new("skipped", ["a.heic"])];
        let merged = Splits::merge([&one, &dataset("other", &[1])]).expect("different names");
        let cameras: Vec<_> = merged.train.iter().map(|s| s.camera).collect();
        assert_eq!(cameras, [None, Some(Camera::new(0)), Some(Camera::new(1))]);
        assert_eq!(merged.notices[0].to_string(), "one: skipped: 1 (a.heic)");
    }

    #[test]
    fn queries_and_galleries_are_not_merged() {
        let (mut one, other) = (dataset("one", &[1, 2]), dataset("other", &[1]));
        (one.query, one.gallery) = (one.train.clone(), one.train.clone());
        let merged = Splits::merge([&one, &other]).expect("different names");
        assert_eq!((merged.query.len(), merged.gallery.len()), (0, 0));
        assert_eq!(merged.with_query(one.query.clone()).query, one.query);
    }

    #[test]
    fn errors_name_both_datasets() {
        let message = |datasets: &[&Splits]| {
            let merged = Splits::merge(datasets.iter().copied());
            merged.expect_err("cannot be merged").to_string()
        };
        let (one, other) = (dataset("one", &[1, 2]), dataset("other", &[1]));
        assert_eq!(
            message(&[&one, &other, &one]),
            "expected datasets with different names, found `one` as datasets 0 and 2 (from 0)"
        );
        let mut copy = other.clone();
        copy.train[0].path = one.train[1].path.clone();
        assert_eq!(
            message(&[&one, &copy]),
            "one/1.jpg: expected a training image of one dataset, found it in `one` and in `other`"
        );
        let empty = Splits::new("empty");
        let expected = "expected training images in every dataset, found none in `empty`";
        assert_eq!(message(&[&one, &empty]), expected);
        let classes = other.clone().with_test(other.train.clone());
        assert_eq!(
            message(&[&one, &classes]),
            "expected datasets for re-identification, found 1 test images of training identities in `other`"
        );
    }

    #[test]
    fn an_image_is_found_under_other_spellings_of_its_folder() {
        let dataset = |name: &str, path: &str| {
            let sample = Sample::new(path, Identity::new(1));
            Splits::new(name).with_train(vec![sample])
        };
        let merge = |one: &str, other: &str| {
            Splits::merge(&[dataset("one", one), dataset("other", other)]).map(drop)
        };
        for (one, other) in [
            ("src/merge.rs", "./src/merge.rs"),
            ("src/merge.rs", "src/../src/merge.rs"),
            ("nowhere/1.jpg", "./nowhere/1.jpg"),
            ("1.jpg", "./1.jpg"),
        ] {
            let error = merge(one, other).expect_err("the same image");
            let expected = MergeError::SameImage {
                path: other.into(),
                one: "one".into(),
                other: "other".into(),
            };
            assert_eq!(error, expected);
        }
        assert_eq!(merge("src/merge.rs", "src/lib.rs"), Ok(()));
        assert_eq!(merge("src/1.jpg", "src/../1.jpg"), Ok(()));
    }

    #[cfg(unix)]
    #[test]
    fn an_image_is_found_in_a_linked_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::create_dir(&real).expect("created");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        let dataset = |name: &str, folder: &Path| {
            let sample = Sample::new(folder.join("1.jpg"), Identity::new(1));
            Splits::new(name).with_train(vec![sample])
        };
        let merged = Splits::merge(&[dataset("one", &real), dataset("other", &link)]);
        assert!(matches!(merged, Err(MergeError::SameImage { .. })));
    }

    #[test]
    fn an_image_that_one_dataset_has_twice_is_accepted() {
        let mut one = dataset("one", &[1, 2]);
        one.train.push(one.train[0].clone());
        let merged =
            Splits::merge([&one, &dataset("other", &[1])]).expect("no other dataset has it");
        assert_eq!(merged.train.len(), 4);
    }
}
