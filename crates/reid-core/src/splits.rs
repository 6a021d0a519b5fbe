//! Splits: the training, query and gallery samples of a dataset.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::{Camera, Identity, Notice, Sample, Source};

/// The split of a dataset that a sample belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Images for training.
    Train,
    /// Images to search for.
    Query,
    /// Images to search in.
    Gallery,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Train => "train",
            Self::Query => "query",
            Self::Gallery => "gallery",
        })
    }
}

/// The training, query and gallery samples of a dataset, or the training and test samples of a classification
/// dataset.
///
/// The training identities are usually disjoint from the query and gallery identities: re-identification is
/// evaluated on identities that were not trained on.
///
/// ```
/// use reid_core::{Camera, Identity, Sample, Splits};
///
/// let one = Sample::new("1.jpg", Identity::new(1)).with_camera(Camera::new(1));
/// let two = Sample::new("2.jpg", Identity::new(1)).with_camera(Camera::new(2));
/// let splits = Splits::new("toy").with_train(vec![one, two]);
///
/// let train = &splits.statistics().train;
/// assert_eq!((train.identities, train.images, train.cameras), (1, 2, 2));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Splits {
    /// The name of the dataset, for reports.
    pub name: String,
    /// Images for training.
    pub train: Vec<Sample>,
    /// Images to search for.
    pub query: Vec<Sample>,
    /// Images to search in.
    pub gallery: Vec<Sample>,
    /// Images of the training identities, by which a classifier is tested; empty for re-identification.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<Sample>,
    /// The names of the training identities in ascending order, such as `ship`; empty if they have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
    /// The names of the datasets that were merged ([`merge`](Self::merge)), by [`Source`]; otherwise empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// The layout that the dataset was read as, such as `the Market-1501 layout`; empty if no loader read it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub layout: String,
    /// What the loader skipped, or reports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
}

impl Splits {
    /// Creates a dataset of this name without samples.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Replaces the training samples.
    #[must_use]
    pub fn with_train(self, train: Vec<Sample>) -> Self {
        Self { train, ..self }
    }

    /// Replaces the query samples.
    #[must_use]
    pub fn with_query(self, query: Vec<Sample>) -> Self {
        Self { query, ..self }
    }

    /// Replaces the gallery samples.
    #[must_use]
    pub fn with_gallery(self, gallery: Vec<Sample>) -> Self {
        Self { gallery, ..self }
    }

    /// Replaces the test samples of a classification dataset.
    ///
    /// ```
    /// use reid_core::{Identity, Sample, Splits};
    ///
    /// let cat = |path| vec![Sample::new(path, Identity::new(1))];
    /// let splits = Splits::new("cats").with_train(cat("1.png")).with_test(cat("2.png"));
    /// assert_eq!(splits.statistics().test.images, 1);
    /// ```
    #[must_use]
    pub fn with_test(self, test: Vec<Sample>) -> Self {
        Self { test, ..self }
    }

    /// Replaces the names of the training identities.
    #[must_use]
    pub fn with_class_names(self, class_names: Vec<String>) -> Self {
        Self {
            class_names,
            ..self
        }
    }

    /// Sets the layout that the dataset was read as, such as `the Market-1501 layout`.
    #[must_use]
    pub fn with_layout(self, layout: impl Into<String>) -> Self {
        Self {
            layout: layout.into(),
            ..self
        }
    }

    /// Replaces the notices.
    #[must_use]
    pub fn with_notices(self, notices: Vec<Notice>) -> Self {
        Self { notices, ..self }
    }

    /// The samples of one split.
    #[must_use]
    pub fn samples(&self, split: Split) -> &[Sample] {
        match split {
            Split::Train => &self.train,
            Split::Query => &self.query,
            Split::Gallery => &self.gallery,
        }
    }

    /// Counts the identities, images and cameras of each split, and of each source of merged training
    /// samples. The result prints as a table, followed by the sources and the notices.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let sources = self.sources.iter().enumerate().map(|(index, name)| {
            let source = Some(Source::new(index));
            let samples = self.train.iter();
            SourceStatistics {
                name: name.clone(),
                train: SplitStatistics::count(samples.filter(|sample| sample.source == source)),
            }
        });
        Statistics {
            sources: sources.collect(),
            name: self.name.clone(),
            train: SplitStatistics::from_samples(&self.train),
            query: SplitStatistics::from_samples(&self.query),
            gallery: SplitStatistics::from_samples(&self.gallery),
            test: SplitStatistics::from_samples(&self.test),
            layout: self.layout.clone(),
            notices: self.notices.clone(),
        }
    }

    /// Whether any query or gallery sample has a camera, as the Market-1501 protocol needs.
    ///
    /// Every loader of this library gives a camera to all of these samples or to none. If other code mixes
    /// samples with and without cameras, the result is `true`. Evaluation then reports the missing cameras as
    /// an error, instead of silently using a protocol without cameras.
    #[must_use]
    pub fn has_cameras(&self) -> bool {
        let mut evaluated = self.query.iter().chain(&self.gallery);
        evaluated.any(|sample| sample.camera.is_some())
    }
}

/// The number of identities, images and cameras in each split of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Statistics {
    /// The name of the dataset.
    pub name: String,
    /// The counts of the training split.
    pub train: SplitStatistics,
    /// The counts of the query split.
    pub query: SplitStatistics,
    /// The counts of the gallery split.
    pub gallery: SplitStatistics,
    /// The counts of the test images of a classification dataset.
    #[serde(default)]
    pub test: SplitStatistics,
    /// The counts of each source of the training split; empty if no datasets were merged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceStatistics>,
    /// The layout that the dataset was read as; empty if no loader read it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub layout: String,
    /// What the loader skipped, or reports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
}

/// The training samples of one of several merged datasets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SourceStatistics {
    /// The name of the dataset.
    pub name: String,
    /// The counts of its training samples.
    pub train: SplitStatistics,
}

/// The number of identities, images and cameras in one split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SplitStatistics {
    /// The number of different IDs. Distractors (`0`), junk (`-1`) and unknown (`-2`) count as one each, if
    /// present.
    pub identities: usize,
    /// The number of images.
    pub images: usize,
    /// The number of different cameras; 0 if the dataset does not name cameras.
    pub cameras: usize,
}

impl SplitStatistics {
    /// Counts the identities, images and cameras of a list of samples.
    #[must_use]
    pub fn from_samples(samples: &[Sample]) -> Self {
        Self::count(samples.iter())
    }

    fn count<'a>(samples: impl Iterator<Item = &'a Sample> + Clone) -> Self {
        let identities: BTreeSet<Identity> = samples.clone().map(|s| s.identity).collect();
        let cameras: BTreeSet<Camera> = samples.clone().filter_map(|s| s.camera).collect();
        Self {
            identities: identities.len(),
            images: samples.count(),
            cameras: cameras.len(),
        }
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layout.as_str() {
            "" => writeln!(f, "{}", self.name)?,
            layout => writeln!(f, "{}, read as {layout}", self.name)?,
        }
        writeln!(f, "  split    identities   images  cameras")?;
        let mut rows = vec![(Split::Train.to_string(), self.train)];
        // A classification dataset has a test split instead of queries and a gallery.
        if self.test.images == 0 || self.query.images + self.gallery.images > 0 {
            rows.push((Split::Query.to_string(), self.query));
            rows.push((Split::Gallery.to_string(), self.gallery));
        }
        if self.test.images > 0 {
            rows.push(("test".to_owned(), self.test));
        }
        let last = rows.len() - 1;
        for (index, (split, counts)) in rows.into_iter().enumerate() {
            let SplitStatistics {
                identities,
                images,
                cameras,
            } = counts;
            write!(f, "  {split:<8} {identities:>10} {images:>8} {cameras:>8}")?;
            if index < last {
                writeln!(f)?;
            }
        }
        for SourceStatistics { name, train } in &self.sources {
            let SplitStatistics {
                identities,
                images,
                cameras,
            } = train;
            write!(
                f,
                "\n  train of {name}: {identities} identities, {images} images, {cameras} cameras"
            )?;
        }
        for notice in &self.notices {
            write!(f, "\n  {notice}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_print_as_a_table() {
        let sample = Sample::new("a.jpg", Identity::new(1)).with_camera(Camera::new(4));
        let splits = Splits {
            name: "toy".into(),
            train: vec![sample.clone(), sample.clone()],
            query: vec![sample],
            ..Splits::default()
        };
        assert_eq!(
            splits.statistics().to_string(),
            "toy\n  split    identities   images  cameras\n  \
             train             1        2        1\n  \
             query             1        1        1\n  \
             gallery           0        0        0"
        );
    }

    #[test]
    fn statistics_of_a_classification_dataset_have_a_test_split() {
        let sample = Sample::new("a.png", Identity::new(1));
        let splits = Splits::new("toy")
            .with_train(vec![sample.clone(); 3])
            .with_test(vec![sample; 2]);
        let text = splits.statistics().to_string();
        let rows: Vec<&str> = text.lines().skip(2).collect();
        let expected = [
            "  train             1        3        0",
            "  test              1        2        0",
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn statistics_print_the_layout_and_the_notices() {
        let splits = Splits {
            name: "toy".into(),
            layout: "folders".into(),
            notices: vec![Notice::new("skipped", ["a.heic"])],
            ..Splits::default()
        };
        let text = splits.statistics().to_string();
        assert!(text.starts_with("toy, read as folders\n"), "{text}");
        assert!(text.ends_with("0\n  skipped: 1 (a.heic)"), "{text}");
    }

    #[test]
    fn statistics_of_merged_datasets_have_a_line_for_each() {
        let dataset = |name: &str, images: i64| {
            let sample = |at| Sample::new(format!("{name}/{at}.jpg"), Identity::new(at / 2));
            Splits::new(name).with_train((0..images).map(sample).collect())
        };
        let merged = Splits::merge(&[dataset("one", 3), dataset("other", 5)]).expect("merged");
        let text = merged.statistics().to_string();
        assert!(text.starts_with("one + other\n"), "{text}");
        assert!(
            text.contains("  train             5        8        0\n"),
            "{text}"
        );
        let sources = "\n  train of one: 2 identities, 3 images, 0 cameras\
                       \n  train of other: 3 identities, 5 images, 0 cameras";
        assert!(text.ends_with(sources), "{text}");
    }

    #[test]
    fn a_dataset_has_cameras_even_if_one_sample_lacks_a_camera() {
        let with = Sample::new("a.jpg", Identity::new(1)).with_camera(Camera::new(4));
        let without = Sample::new("b.jpg", Identity::new(1));
        let mut splits = Splits {
            query: vec![without],
            ..Splits::default()
        };
        assert!(!splits.has_cameras());
        splits.gallery.push(with);
        assert!(splits.has_cameras());
    }
}
