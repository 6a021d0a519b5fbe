//! k-reciprocal encodings as sparse rows of weights, and their inverted index.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    neighbours::{Near, Neighbours, index},
    source::ImageSource,
};
use crate::Error;

/// The number of rows that are computed together before they are appended to all others.
const ROWS: usize = 1 << 16;

/// The index of an image and the weight on it.
pub(super) type Weight = (u32, f32);

/// Sparse rows of weights: the non-zero entries of each row, by ascending image.
#[derive(Debug, Default)]
pub(super) struct Encodings {
    /// The end of each row in `weights`.
    ends: Vec<usize>,
    weights: Vec<Weight>,
}

impl Encodings {
    /// Computes V: the weights of each image on its expanded reciprocal neighbours. `lengths` are those of a
    /// whole list and of a half list; `scale` returns the factor of the distances from an image. Panels of at most
    /// `held` bytes are in memory.
    pub(super) fn of(
        source: &dyn ImageSource,
        neighbours: &Neighbours,
        lengths: (usize, usize),
        held: usize,
        scale: impl Fn(usize) -> f64 + Sync,
    ) -> Result<Self, Error> {
        // First the distances, and NaN for those that the lists do not have.
        let known = |(): &mut (), image: usize| {
            let list = neighbours.of(image, usize::MAX);
            let distance = |other: u32| {
                let found = list.iter().find(|near| near.0 == other);
                (other, found.map_or(f32::NAN, |near| near.1))
            };
            let expanded = expanded(neighbours, image, lengths).into_iter();
            expanded.map(distance).collect::<Vec<Weight>>()
        };
        let mut encodings = Self::from_rows(neighbours.len(), || (), known);
        encodings.complete(source, held)?;
        encodings.change_rows(|image, row| {
            let scale = scale(image);
            let weight = |entry: &Weight| (-(f64::from(entry.1) * scale)).exp();
            let weights: Vec<f64> = row.iter().map(weight).collect();
            let sum: f64 = weights.iter().sum();
            for (entry, weight) in row.iter_mut().zip(weights) {
                #[expect(clippy::cast_possible_truncation, reason = "weights are at most 1")]
                let share = (weight / sum) as f32;
                entry.1 = share;
            }
        });
        Ok(encodings)
    }

    /// Computes rows on all threads, some at a time. `scratch` makes memory that a thread uses again for its next
    /// row.
    fn from_rows<S>(
        images: usize,
        scratch: impl Fn() -> S + Sync,
        row: impl Fn(&mut S, usize) -> Vec<Weight> + Sync,
    ) -> Self {
        let mut encodings = Self::default();
        for first in (0..images).step_by(ROWS) {
            let chunk = (first..images.min(first + ROWS)).into_par_iter();
            let rows: Vec<Vec<Weight>> = chunk.map_init(&scratch, &row).collect();
            // The rows are concatenated in the order of the images.
            for row in rows {
                encodings.weights.extend(row);
                encodings.ends.push(encodings.weights.len());
            }
        }
        encodings
    }

    /// Changes the values of each row on all threads.
    fn change_rows(&mut self, change: impl Fn(usize, &mut [Weight]) + Sync) {
        let (mut rest, mut start) = (self.weights.as_mut_slice(), 0);
        for (chunk, ends) in self.ends.chunks(ROWS).enumerate() {
            let mut rows = Vec::with_capacity(ends.len());
            for &end in ends {
                let (row, after) = rest.split_at_mut(end - start);
                rows.push(row);
                (rest, start) = (after, end);
            }
            let rows = rows.into_par_iter().enumerate();
            rows.for_each(|(at, row)| change(chunk * ROWS + at, row));
        }
    }

    /// The number of images.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The weights of an image.
    pub(super) fn row(&self, image: usize) -> &[Weight] {
        &self.weights[self.range(image)]
    }

    /// The weights of an image, to be changed.
    pub(super) fn row_mut(&mut self, image: usize) -> &mut [Weight] {
        let range = self.range(image);
        &mut self.weights[range]
    }

    fn range(&self, image: usize) -> Range<usize> {
        let start = if image == 0 { 0 } else { self.ends[image - 1] };
        start..self.ends[image]
    }

    /// Replaces each row by the mean of the rows of the `k2` nearest images, its own included.
    pub(super) fn averaged(self, neighbours: &Neighbours, k2: usize) -> Self {
        if k2 == 1 {
            return self;
        }
        let images = neighbours.len();
        let scratch = || (vec![0.0_f32; images], Vec::new());
        Self::from_rows(
            images,
            scratch,
            |(sums, touched): &mut (Vec<f32>, Vec<u32>), image| {
                let nearest = neighbours.of(image, k2);
                for &(near, _) in nearest {
                    for &(other, weight) in self.row(near as usize) {
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
                let weight =
                    |other: u32| (other, std::mem::take(&mut sums[other as usize]) / share);
                touched.drain(..).map(weight).collect::<Vec<Weight>>()
            },
        )
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

/// R(i, k): the neighbours of the image that have the image among their own neighbours, by ascending index.
fn reciprocal(neighbours: &Neighbours, image: usize, length: usize) -> Vec<u32> {
    let own = index(image);
    let near = neighbours.of(image, length).iter();
    let mutual = near.filter(|&&(other, _)| {
        let back = neighbours.of(other as usize, length);
        back.iter().any(|&(near, _)| near == own)
    });
    let mut reciprocal: Vec<u32> = mutual.map(|&(image, _): &Near| image).collect();
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

    /// Adds `Σⱼ min(V(q,j), V(g,j))` to the overlap of each gallery image g from index `first` on, for the weights
    /// of a query q.
    pub(super) fn overlap(&self, query: &[Weight], first: usize, overlaps: &mut [f32]) {
        for &(other, weight) in query {
            let images = self.images_on(other);
            let start = images.partition_point(|entry| (entry.0 as usize) < first);
            for &(image, of_image) in &images[start..] {
                let Some(overlap) = overlaps.get_mut(image as usize - first) else {
                    break;
                };
                *overlap += weight.min(of_image);
            }
        }
    }

    /// Computes the overlaps of some gallery images, whose indices ascend. They are bit-identical to those of
    /// [`overlap`](Self::overlap).
    pub(super) fn overlap_with(&self, query: &[Weight], images: &[usize]) -> Vec<f32> {
        let mut overlaps = vec![0.0; images.len()];
        for &(other, weight) in query {
            for &(image, of_image) in self.images_on(other) {
                if let Ok(at) = images.binary_search(&(image as usize)) {
                    overlaps[at] += weight.min(of_image);
                }
            }
        }
        overlaps
    }

    /// As [`overlap`](Self::overlap) from index 0 on, and adds the images whose overlap was 0 to `touched`. The sums are
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
