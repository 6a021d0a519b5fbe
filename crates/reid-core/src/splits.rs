//! Splits: the training, query and gallery samples of a data set.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::{Camera, Identity, Notice, Sample};

/// Which part of a data set a sample belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Images the network learns from.
    Train,
    /// Images that are searched for.
    Query,
    /// Images that are searched in.
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

/// The training, query and gallery samples of a data set.
///
/// The identities of training are usually disjoint from those of evaluation: re-identification is
/// asked about people it has never seen.
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
    /// The data set's name, for reports.
    pub name: String,
    /// Images the network learns from.
    pub train: Vec<Sample>,
    /// Images that are searched for.
    pub query: Vec<Sample>,
    /// Images that are searched in.
    pub gallery: Vec<Sample>,
    /// The layout that the data set was read as, such as `the Market-1501 layout`; empty where no loader
    /// read it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub layout: String,
    /// What the loader left out, or noticed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
}

impl Splits {
    /// A data set of this name without samples.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// The same data set with these training images.
    #[must_use]
    pub fn with_train(self, train: Vec<Sample>) -> Self {
        Self { train, ..self }
    }

    /// The same data set with these images to search for.
    #[must_use]
    pub fn with_query(self, query: Vec<Sample>) -> Self {
        Self { query, ..self }
    }

    /// The same data set with these images to search in.
    #[must_use]
    pub fn with_gallery(self, gallery: Vec<Sample>) -> Self {
        Self { gallery, ..self }
    }

    /// The same data set, read as this layout, such as `the Market-1501 layout`.
    #[must_use]
    pub fn with_layout(self, layout: impl Into<String>) -> Self {
        Self {
            layout: layout.into(),
            ..self
        }
    }

    /// The same data set with these notices.
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

    /// Number of identities, images and cameras per split, and every notice; prints as a table.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics {
            name: self.name.clone(),
            train: SplitStatistics::from_samples(&self.train),
            query: SplitStatistics::from_samples(&self.query),
            gallery: SplitStatistics::from_samples(&self.gallery),
            layout: self.layout.clone(),
            notices: self.notices.clone(),
        }
    }

    /// Whether query and gallery name cameras, as the Market-1501 protocol needs.
    ///
    /// Every loader gives all of these images a camera or none. Where samples from elsewhere are mixed,
    /// this is true: an image without a camera is then an error of the evaluation, and does not turn it
    /// into one without cameras.
    #[must_use]
    pub fn has_cameras(&self) -> bool {
        let mut evaluated = self.query.iter().chain(&self.gallery);
        evaluated.any(|sample| sample.camera.is_some())
    }
}

/// Number of identities, images and cameras in each split of a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Statistics {
    /// The data set's name.
    pub name: String,
    /// Of the training split.
    pub train: SplitStatistics,
    /// Of the query split.
    pub query: SplitStatistics,
    /// Of the gallery split.
    pub gallery: SplitStatistics,
    /// The layout that the data set was read as; empty where no loader read it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub layout: String,
    /// What the loader left out, or noticed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
}

/// Number of identities, images and cameras in one split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SplitStatistics {
    /// Different identities, distractors (`0`) and junk among them if they are present.
    pub identities: usize,
    /// Images.
    pub images: usize,
    /// Different cameras; 0 where the data set does not name them.
    pub cameras: usize,
}

impl SplitStatistics {
    /// Counts a list of samples.
    #[must_use]
    pub fn from_samples(samples: &[Sample]) -> Self {
        let identities: BTreeSet<Identity> = samples.iter().map(|s| s.identity).collect();
        let cameras: BTreeSet<Camera> = samples.iter().filter_map(|s| s.camera).collect();
        Self {
            identities: identities.len(),
            images: samples.len(),
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
        let rows = [
            (Split::Train, self.train),
            (Split::Query, self.query),
            (Split::Gallery, self.gallery),
        ];
        for (index, (split, counts)) in rows.into_iter().enumerate() {
            let SplitStatistics {
                identities,
                images,
                cameras,
            } = counts;
            write!(f, "  {split:<8} {identities:>10} {images:>8} {cameras:>8}")?;
            if index < 2 {
                writeln!(f)?;
            }
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
    fn statistics_say_the_layout_and_what_was_left_out() {
        let splits = Splits {
            name: "toy".into(),
            layout: "folders".into(),
            notices: vec![Notice::new("left out", ["a.heic"])],
            ..Splits::default()
        };
        let text = splits.statistics().to_string();
        assert!(text.starts_with("toy, read as folders\n"), "{text}");
        assert!(text.ends_with("0\n  left out: 1 (a.heic)"), "{text}");
    }

    #[test]
    fn one_missing_camera_does_not_make_a_data_set_without_cameras() {
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
