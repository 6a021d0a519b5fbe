//! DBSCAN on sparse neighbours, which are computed twice instead of held.

use std::ops::Range;

use rayon::prelude::*;

use super::ClusteringConfig;
use crate::rerank::{JaccardDistances, Overlaps};

/// The number of images whose neighbours are held at a time.
const BLOCK: usize = 1024;
/// The least number of images that a thread takes at a time, with memory of one value per image of the set.
const AT_A_TIME: usize = 64;

/// Finds the cluster of each image; `None` for outliers.
pub(super) fn labels(
    distances: &JaccardDistances,
    config: &ClusteringConfig,
) -> Vec<Option<usize>> {
    let cores = Cores::find(distances, config);
    let connected = cores.connected();
    cores.labels(connected)
}

/// Which images are core images, and which of these are near an image.
struct Cores<'a> {
    distances: &'a JaccardDistances,
    epsilon: f64,
    is_core: Vec<bool>,
}

impl<'a> Cores<'a> {
    fn find(distances: &'a JaccardDistances, config: &ClusteringConfig) -> Self {
        let (epsilon, least) = (config.epsilon, config.min_samples);
        let is_core = in_parallel(0..distances.len()).map_init(
            || distances.overlaps(),
            |overlaps, image| {
                let mut near = 0;
                distances.each_within(image, epsilon, overlaps, |_, _| near += 1);
                near >= least
            },
        );
        Self {
            is_core: is_core.collect(),
            distances,
            epsilon,
        }
    }

    /// The core images within ε of an image, by ascending index.
    fn near(&self, overlaps: &mut Overlaps, image: usize) -> Vec<usize> {
        let mut near = Vec::new();
        let distances = self.distances;
        distances.each_within(image, self.epsilon, overlaps, |other, _| {
            if self.is_core[other] {
                near.push(other);
            }
        });
        near
    }

    /// Connects the core images that are near each other.
    fn connected(&self) -> Connected {
        let images = self.is_core.len();
        let mut connected = Connected::new(images);
        for first in (0..images).step_by(BLOCK) {
            let block = in_parallel(first..images.min(first + BLOCK));
            let lists = block.filter(|&image| self.is_core[image]).map_init(
                || self.distances.overlaps(),
                |overlaps, image| {
                    let mut near = self.near(overlaps, image);
                    near.retain(|&other| other < image); // the other direction is the same pair
                    (image, near)
                },
            );
            for (image, near) in lists.collect::<Vec<_>>() {
                for other in near {
                    connected.join(image, other);
                }
            }
        }
        connected
    }

    /// Numbers the sets of core images, and adds the other images near them.
    fn labels(&self, mut connected: Connected) -> Vec<Option<usize>> {
        let images = self.is_core.len();
        let (mut of_root, mut labels) = (vec![None; images], vec![None; images]);
        let mut count = 0_usize;
        for image in (0..images).filter(|&image| self.is_core[image]) {
            let label = *of_root[connected.root(image)].get_or_insert(count);
            count = count.max(label + 1);
            labels[image] = Some(label);
        }
        let with_borders = in_parallel(0..images).map_init(
            || self.distances.overlaps(),
            |overlaps, image| {
                labels[image].or_else(|| {
                    let near = self.near(overlaps, image).into_iter();
                    near.filter_map(|other| labels[other]).min()
                })
            },
        );
        with_borders.collect()
    }
}

fn in_parallel(images: Range<usize>) -> impl IndexedParallelIterator<Item = usize> {
    images.into_par_iter().with_min_len(AT_A_TIME)
}

/// Sets of connected images (union-find).
struct Connected {
    /// An image of the same set with a lower index; the image itself if it is the lowest.
    parents: Vec<usize>,
}

impl Connected {
    fn new(images: usize) -> Self {
        Self {
            parents: (0..images).collect(),
        }
    }

    /// The lowest index of the set of an image.
    fn root(&mut self, mut image: usize) -> usize {
        while self.parents[image] != image {
            self.parents[image] = self.parents[self.parents[image]];
            image = self.parents[image];
        }
        image
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        self.parents[one.max(other)] = one.min(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_joined_whatever_the_order() {
        let mut connected = Connected::new(6);
        for (one, other) in [(5, 4), (4, 2), (1, 5)] {
            connected.join(one, other);
        }
        let roots = [0, 1, 2, 3, 4, 5].map(|image| connected.root(image));
        assert_eq!(roots, [0, 1, 1, 3, 1, 1]);
    }
}
