//! Splits: the training, query and gallery samples of a data set.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::{Camera, Identity, Sample};

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
/// let splits = Splits { name: "toy".into(), train: vec![one, two], query: vec![], gallery: vec![] };
///
/// let train = &splits.statistics().train;
/// assert_eq!((train.identities, train.images, train.cameras), (1, 2, 2));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Splits {
    /// The data set's name, for reports.
    pub name: String,
    /// Images the network learns from.
    pub train: Vec<Sample>,
    /// Images that are searched for.
    pub query: Vec<Sample>,
    /// Images that are searched in.
    pub gallery: Vec<Sample>,
}

impl Splits {
    /// The samples of one split.
    #[must_use]
    pub fn samples(&self, split: Split) -> &[Sample] {
        match split {
            Split::Train => &self.train,
            Split::Query => &self.query,
            Split::Gallery => &self.gallery,
        }
    }

    /// Number of identities, images and cameras per split; prints as a table.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics {
            name: self.name.clone(),
            train: SplitStatistics::of(&self.train),
            query: SplitStatistics::of(&self.query),
            gallery: SplitStatistics::of(&self.gallery),
        }
    }

    /// Whether every query and gallery image has a camera, as the Market-1501 protocol needs.
    #[must_use]
    pub fn has_cameras(&self) -> bool {
        let mut evaluated = self.query.iter().chain(&self.gallery);
        evaluated.all(|sample| sample.camera.is_some())
    }
}

/// Number of identities, images and cameras in each split of a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// The data set's name.
    pub name: String,
    /// Of the training split.
    pub train: SplitStatistics,
    /// Of the query split.
    pub query: SplitStatistics,
    /// Of the gallery split.
    pub gallery: SplitStatistics,
}

/// Number of identities, images and cameras in one split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    pub fn of(samples: &[Sample]) -> Self {
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
        writeln!(f, "{}", self.name)?;
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
            gallery: vec![],
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
    fn one_missing_camera_is_a_data_set_without_cameras() {
        let with = Sample::new("a.jpg", Identity::new(1)).with_camera(Camera::new(4));
        let without = Sample::new("b.jpg", Identity::new(1));
        let mut splits = Splits {
            query: vec![with],
            ..Splits::default()
        };
        assert!(splits.has_cameras());
        splits.gallery.push(without);
        assert!(!splits.has_cameras());
    }
}
