//! k-reciprocal encodings as sparse rows of weights, and their inverted index.

use std::ops::Range;

use rayon::prelude::*;

use super::neighbours::Neighbours;
use crate::distance::Distances;

/// The index of an image and the weight on it.
type Weight = (u32, f32);

/// Sparse rows of weights: the non-zero entries of each row.
#[derive(Debug)]
pub(super) struct Encodings {
    /// The end of each row in `weights`.
    ends: Vec<usize>,
    weights: Vec<Weight>,
}

impl FromIterator<Vec<Weight>> for Encodings {
    fn from_iter<T: IntoIterator<Item = Vec<Weight>>>(rows: T) -> Self {
        let (mut ends, mut weights) = (Vec::new(), Vec::new());
        for row in rows {
            weights.extend(row);
            ends.push(weights.len());
        }
        Self { ends, weights }
    }
}

impl Encodings {
    /// Computes V: the weights of each image on its expanded reciprocal neighbours. `lengths` are those of a
    /// whole list and of a half list; `scale` returns the factor of the distances from an image.
    pub(super) fn of(
        distances: &Distances<'_>,
        neighbours: &Neighbours,
        lengths: (usize, usize),
        scale: impl Fn(usize) -> f64 + Sync,
    ) -> Self {
        let images = (0..neighbours.len()).into_par_iter();
        let rows = images.map(|image| {
            let expanded = expanded(neighbours, image, lengths);
            let known = neighbours.of(image, usize::MAX);
            let scale = scale(image);
            let distance = |other: u32| {
                let other = other as usize;
                let found = known.iter().find(|neighbour| neighbour.0 == other);
                let far = found.map_or_else(|| pair(distances, image, other), |found| found.1);
                f64::from(far) * scale
            };
            let weights: Vec<f64> = expanded.iter().map(|&it| (-distance(it)).exp()).collect();
            let sum: f64 = weights.iter().sum();
            #[expect(clippy::cast_possible_truncation, reason = "weights are at most 1")]
            let weight = |weight: f64| (weight / sum) as f32;
            let weights = weights.into_iter().map(weight);
            expanded.into_iter().zip(weights).collect::<Vec<Weight>>()
        });
        // The rows are collected in the order of the images before they are concatenated.
        rows.collect::<Vec<_>>().into_iter().collect()
    }

    /// The number of images.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The weights of an image.
    pub(super) fn row(&self, image: usize) -> &[Weight] {
        let start = if image == 0 { 0 } else { self.ends[image - 1] };
        &self.weights[start..self.ends[image]]
    }

    /// Replaces each row by the mean of the rows of the `k2` nearest images, its own included.
    pub(super) fn averaged(self, neighbours: &Neighbours, k2: usize) -> Self {
        if k2 == 1 {
            return self;
        }
        let images = neighbours.len();
        let scratch = || (vec![0.0_f32; images], Vec::new());
        let rows = (0..images).into_par_iter();
        let rows = rows.map_init(scratch, |(sums, touched): &mut (_, Vec<u32>), image| {
            let nearest = neighbours.of(image, k2);
            for &(near, _) in nearest {
                for &(other, weight) in self.row(near) {
                    let sum: &mut f32 = &mut sums[other as usize];
                    if *sum == 0.0 {
                        touched.push(other);
                    }
                    *sum += weight;
                }
            }
            touched.sort_unstable();
            touched.dedup(); // an image is added again while its sum is 0
            let share = nearest.len() as f32;
            let weight = |other: u32| (other, std::mem::take(&mut sums[other as usize]) / share);
            touched.drain(..).map(weight).collect::<Vec<Weight>>()
        });
        rows.collect::<Vec<_>>().into_iter().collect()
    }

    /// Keeps the rows of the first `images` images.
    pub(super) fn truncated(mut self, images: usize) -> Self {
        self.ends.truncate(images);
        self.weights
            .truncate(self.ends.last().copied().unwrap_or(0));
        self.ends.shrink_to_fit();
        self.weights.shrink_to_fit();
        self
    }
}

/// The distance between two images, given by their indices among all images.
fn pair(distances: &Distances<'_>, one: usize, other: usize) -> f32 {
    let queries = distances.query.len();
    let side = |image: usize| match image.checked_sub(queries) {
        None => (&distances.query, image),
        Some(image) => (&distances.gallery, image),
    };
    let ((of_one, one), (of_other, other)) = (side(one), side(other));
    of_one.squared_to_one(one, of_other, other)
}

/// R(i, k): the neighbours of the image that have the image among their own neighbours, by ascending index.
fn reciprocal(neighbours: &Neighbours, image: usize, length: usize) -> Vec<u32> {
    let near = neighbours.of(image, length).iter();
    let mutual = near.filter(|&&(other, _)| {
        let back = neighbours.of(other, length);
        back.iter().any(|&(near, _)| near == image)
    });
    let index = |&(image, _): &(usize, f32)| u32::try_from(image).expect("fewer than 2³² images");
    let mut reciprocal: Vec<u32> = mutual.map(index).collect();
    reciprocal.sort_unstable();
    reciprocal
}

/// R*(i): the reciprocal neighbours, extended by R½(c) of each neighbour c if more than ⅔ of R½(c) are in
/// R(i); by ascending index.
fn expanded(neighbours: &Neighbours, image: usize, (whole, half): (usize, usize)) -> Vec<u32> {
    let own = reciprocal(neighbours, image, whole);
    let mut expanded = own.clone();
    for &candidate in &own {
        let theirs = reciprocal(neighbours, candidate as usize, half);
        let shared = theirs
            .iter()
            .filter(|other| own.binary_search(other).is_ok());
        if 3 * shared.count() > 2 * theirs.len() {
            expanded.extend(theirs);
        }
    }
    expanded.sort_unstable();
    expanded.dedup();
    expanded
}

/// An inverted index of encodings: for each image, the gallery images with a weight on it.
#[derive(Debug)]
pub(super) struct Inverted {
    /// The end of the entries of each image in `entries`.
    ends: Vec<usize>,
    /// Gallery images, by index in the gallery, with their weights.
    entries: Vec<Weight>,
}

impl Inverted {
    /// Inverts the rows of a range of images. Indices in the entries start at 0 for the first of them.
    pub(super) fn of(encodings: &Encodings, images: Range<usize>) -> Self {
        let all = encodings.len();
        let mut starts = vec![0; all + 1];
        for image in images.clone() {
            for &(other, _) in encodings.row(image) {
                starts[other as usize + 1] += 1;
            }
        }
        for at in 0..all {
            starts[at + 1] += starts[at];
        }
        let mut entries = vec![(0, 0.0); starts[all]];
        let mut next = starts.clone();
        for (index, image) in (0..).zip(images) {
            for &(other, weight) in encodings.row(image) {
                let slot = &mut next[other as usize];
                entries[*slot] = (index, weight);
                *slot += 1;
            }
        }
        Self {
            ends: starts.split_off(1),
            entries,
        }
    }

    /// Adds `Σⱼ min(V(q,j), V(g,j))` to the overlap of each gallery image g, for the weights of a query q.
    pub(super) fn overlap(&self, query: &[Weight], overlaps: &mut [f32]) {
        for &(other, weight) in query {
            for &(image, of_image) in self.images_on(other) {
                overlaps[image as usize] += weight.min(of_image);
            }
        }
    }

    /// As [`overlap`](Self::overlap), and adds the images whose overlap was 0 to `touched`. The sums are
    /// added in the order of the weights, so the overlap of two images is bit-identical in both directions.
    pub(super) fn overlap_sparse(
        &self,
        weights: &[Weight],
        overlaps: &mut [f32],
        touched: &mut Vec<u32>,
    ) {
        for &(other, weight) in weights {
            for &(image, of_image) in self.images_on(other) {
                let overlap = &mut overlaps[image as usize];
                if *overlap == 0.0 {
                    touched.push(image);
                }
                *overlap += weight.min(of_image);
            }
        }
    }

    /// The images with a weight on an image, by ascending index.
    fn images_on(&self, other: u32) -> &[Weight] {
        let other = other as usize;
        let start = if other == 0 { 0 } else { self.ends[other - 1] };
        &self.entries[start..self.ends[other]]
    }
}
