//! Clustering without labels: DBSCAN (Ester et al., KDD 1996) on the Jaccard distances of k-reciprocal
//! neighbours.

mod dbscan;
mod quality;

use reid_core::{Identity, Problems, Validate};
use serde::{Deserialize, Serialize};

pub use self::quality::ClusterQuality;
use crate::{Embeddings, Error, Metric, distance::Side, rerank::JaccardDistances};

/// The hyper-parameters of clustering: those of the Jaccard distances, and those of DBSCAN.
///
/// ```
/// use reid_eval::ClusteringConfig;
///
/// let config = ClusteringConfig::default(); // the values of cluster contrast
/// assert_eq!((config.k1, config.k2, config.epsilon, config.min_samples), (30, 6, 0.6, 4));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ClusteringConfig {
    /// k₁, the number of nearest neighbours (the image included) that can be reciprocal; at least 1, by
    /// default 30.
    pub k1: usize,
    /// k₂, the number of nearest neighbours (the image included) whose encodings are averaged; at least 1,
    /// by default 6. With 1 there is no averaging.
    pub k2: usize,
    /// ε, the largest Jaccard distance between neighbours: at least 0 and below 1, by default 0.6. With a
    /// smaller one, clusters are smaller, and more images are outliers.
    pub epsilon: f64,
    /// The least number of images within ε of a core image, itself included; at least 1, by default 4.
    pub min_samples: usize,
}

impl Default for ClusteringConfig {
    fn default() -> Self {
        Self {
            k1: 30,
            k2: 6,
            epsilon: 0.6,
            min_samples: 4,
        }
    }
}

impl ClusteringConfig {
    /// Sets k₁ and k₂.
    #[must_use]
    pub fn with_neighbours(self, k1: usize, k2: usize) -> Self {
        Self { k1, k2, ..self }
    }

    /// Sets ε.
    #[must_use]
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }

    /// Sets the least number of images within ε of a core image, itself included.
    #[must_use]
    pub fn with_min_samples(self, min_samples: usize) -> Self {
        Self {
            min_samples,
            ..self
        }
    }

    /// Returns an error for invalid settings, which may come from a file.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut problems = Problems::new();
        self.validate(&mut problems);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Error::Clustering { problems })
        }
    }
}

impl Validate for ClusteringConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.count("k1", self.k1, 1..=usize::MAX);
        problems.count("k2", self.k2, 1..=usize::MAX);
        problems.number("epsilon", self.epsilon, 0.0..1.0);
        problems.count("min_samples", self.min_samples, 1..=usize::MAX);
    }
}

/// The cluster of each image, or none for an outlier.
///
/// ```text
/// N(i)    = { j : J(i,j) ≤ ε }, i included
/// core    = { i : |N(i)| ≥ min_samples }
/// cluster = the core images that are connected by N, and every other image in N of one of them
/// ```
///
/// Clusters are numbered from 0 in the order of their first core images. An image that is not a core image
/// but near core images of several clusters is in the first of them. These are the labels of scikit-learn's
/// `DBSCAN`. They do not depend on the number of threads.
///
/// Memory is linear in the number of images: the neighbours of at most 1024 images are held at a time, and
/// are computed twice.
///
/// ```
/// use reid_core::Identity;
/// use reid_eval::{ClusteringConfig, Clusters, Embeddings, Labels};
///
/// // Two groups of three images, and one image between them.
/// let angles = [0.0_f32, 1.0, 2.0, 88.0, 89.0, 90.0, 45.0];
/// let values = angles.iter().flat_map(|angle| [angle.to_radians().cos(), angle.to_radians().sin()]);
/// let embeddings = Embeddings::from_parts(values.collect(), 2, Labels::unknown(7))?;
///
/// let config = ClusteringConfig::default().with_neighbours(3, 1).with_min_samples(3);
/// let clusters = Clusters::find(&embeddings, &config)?;
/// assert_eq!((clusters.count(), clusters.outliers()), (2, 1));
/// assert_eq!(clusters.members(), [[0, 1, 2], [3, 4, 5]]);
///
/// let identities = [5, 5, 5, 7, 7, 7, 9].map(Identity::new);
/// let quality = clusters.quality(&identities).expect("known identities");
/// assert_eq!((quality.images, quality.purity), (6, 1.0));
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clusters {
    labels: Vec<Option<usize>>,
    count: usize,
}

impl Clusters {
    /// Clusters images by their embeddings. Labels of the embeddings are not used.
    ///
    /// # Errors
    /// [`Error::Clustering`] if a setting is out of range.
    pub fn find(embeddings: &Embeddings, config: &ClusteringConfig) -> Result<Self, Error> {
        let distances = JaccardDistances::new(embeddings, config)?;
        Ok(Self::from_labels(dbscan::labels(&distances, config)))
    }

    /// Creates clusters from the label of each image, such as those that were read from a file. The number
    /// of clusters is the largest label plus 1.
    #[must_use]
    pub fn from_labels(labels: Vec<Option<usize>>) -> Self {
        let largest = labels.iter().flatten().max();
        let count = largest.map_or(0, |largest| largest + 1);
        Self { labels, count }
    }

    /// The cluster of each image; `None` for outliers.
    #[must_use]
    pub fn labels(&self) -> &[Option<usize>] {
        &self.labels
    }

    /// The number of clusters.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The number of images in no cluster.
    #[must_use]
    pub fn outliers(&self) -> usize {
        self.labels.iter().filter(|label| label.is_none()).count()
    }

    /// The images of each cluster, by ascending index.
    #[must_use]
    pub fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.count];
        for (image, label) in self.labels.iter().enumerate() {
            if let Some(cluster) = label {
                members[*cluster].push(image);
            }
        }
        members
    }

    /// Computes the mean of the embeddings of each cluster, after they are normalised to length 1:
    /// `[clusters, dimensions]` in rows. The means are not normalised.
    ///
    /// ```
    /// use reid_eval::{Clusters, Embeddings, Labels};
    ///
    /// let embeddings = Embeddings::from_parts(vec![3.0, 4.0, 0.0, 2.0, 5.0, 0.0], 2, Labels::unknown(3))?;
    /// let clusters = Clusters::from_labels(vec![Some(0), Some(0), None]);
    /// assert_eq!(clusters.means(&embeddings), [0.3, 0.9]);
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the number of embeddings is not that of the images.
    #[must_use]
    pub fn means(&self, embeddings: &Embeddings) -> Vec<f32> {
        let (images, found) = (self.labels.len(), embeddings.len());
        assert_eq!(
            images, found,
            "the means of clusters of {images} images need one embedding each, found {found}"
        );
        let side = Side::new(embeddings, Metric::Cosine);
        let means = self.members().into_iter().flat_map(|members| {
            let mut sum = vec![0.0_f64; embeddings.dimensions()];
            for &image in &members {
                for (sum, value) in sum.iter_mut().zip(side.direction(image)) {
                    *sum += value;
                }
            }
            let count = members.len().max(1) as f64; // a label may have no image
            #[expect(clippy::cast_possible_truncation, reason = "at most 1")]
            let mean = move |sum: f64| (sum / count) as f32;
            sum.into_iter().map(mean)
        });
        means.collect()
    }

    /// Compares the clusters with known identities: those of the images that are in a cluster and whose
    /// identity is neither junk nor unknown. Outliers do not count. `None` if there are no such images.
    ///
    /// # Panics
    /// If there is not one identity per image.
    #[must_use]
    pub fn quality(&self, identities: &[Identity]) -> Option<ClusterQuality> {
        assert_eq!(
            identities.len(),
            self.labels.len(),
            "the quality of clusters of {} images needs one identity each, found {}",
            self.labels.len(),
            identities.len()
        );
        let pairs = self.labels.iter().zip(identities);
        let known = pairs.filter(|(_, identity)| identity.is_labelled());
        ClusterQuality::of_pairs(known.filter_map(|(label, identity)| Some(((*label)?, *identity))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_settings_are_listed_with_their_paths() {
        let config = ClusteringConfig::default()
            .with_neighbours(0, 0)
            .with_epsilon(1.0)
            .with_min_samples(0);
        assert_eq!(
            config.check().expect_err("invalid").to_string(),
            "clustering: k1: expected at least 1, found 0\nk2: expected at least 1, found 0\n\
             epsilon: expected at least 0 and below 1, found 1\nmin_samples: expected at least 1, found 0"
        );
        let json = r#"{"epsilon":0.4}"#;
        let read: ClusteringConfig = serde_json::from_str(json).expect("the rest is default");
        assert_eq!(read, ClusteringConfig::default().with_epsilon(0.4));
    }

    #[test]
    fn no_images_have_no_clusters() {
        let labels = crate::Labels::unknown(0);
        let embeddings = Embeddings::from_parts(Vec::new(), 2, labels).expect("no rows");
        let clusters = Clusters::find(&embeddings, &ClusteringConfig::default());
        let clusters = clusters.expect("valid settings");
        assert_eq!((clusters.count(), clusters.outliers()), (0, 0));
        assert_eq!(clusters.quality(&[]), None);
    }
}
