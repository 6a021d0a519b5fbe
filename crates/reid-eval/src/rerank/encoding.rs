//! Encodings: each image as a few weights on other images, and their inverse.

use std::ops::Range;

use rayon::prelude::*;

use super::neighbours::Neighbours;
use crate::distance::Distances;

/// An image and the weight on it.
type Weight = (u32, f32);

/// Rows of weights, the few that are not 0.
#[derive(Debug)]
pub(super) struct Encodings {
    /// Where each row ends.
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
    /// V: of each image, the weights on its expanded reciprocal neighbours. `lengths` are those of a
    /// whole list and of half of one.
    pub(super) fn of(
        distances: &Distances<'_>,
        neighbours: &Neighbours,
        lengths: (usize, usize),
    ) -> Self {
        let images = (0..neighbours.len()).into_par_iter();
        let rows = images.map(|image| {
            let expanded = expanded(neighbours, image, lengths);
            let known = neighbours.of(image, usize::MAX);
            let scale = match neighbours.largest(image) {
                0.0 => 0.0,
                largest => f64::from(largest).recip(),
            };
            let distance = |other: u32| {
                let other = other as usize;
                let found = known.iter().find(|neighbour| neighbour.0 == other);
                let far = found.map_or_else(|| pair(distances, image, other), |found| found.1);
                f64::from(far) * scale
            };
            let weights: Vec<f64> = expanded.iter().map(|&it| (-distance(it)).exp()).collect();
            let sum: f64 = weights.iter().sum();
            #[expect(clippy::cast_possible_truncation, reason = "at most 1")]
            let weight = |weight: f64| (weight / sum) as f32;
            let weights = weights.into_iter().map(weight);
            expanded.into_iter().zip(weights).collect::<Vec<Weight>>()
        });
        // Rows are collected before they are joined, so that their order is that of the images.
        rows.collect::<Vec<_>>().into_iter().collect()
    }

    /// The weights of an image.
    pub(super) fn row(&self, image: usize) -> &[Weight] {
        let start = if image == 0 { 0 } else { self.ends[image - 1] };
        &self.weights[start..self.ends[image]]
    }

    /// Each row as the mean over the `k2` nearest images' rows, its own among them.
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
            touched.dedup(); // a weight may be so small that it is 0
            let share = nearest.len() as f32;
            let weight = |other: u32| (other, std::mem::take(&mut sums[other as usize]) / share);
            touched.drain(..).map(weight).collect::<Vec<Weight>>()
        });
        rows.collect::<Vec<_>>().into_iter().collect()
    }

    /// The rows of the first images.
    pub(super) fn truncated(mut self, images: usize) -> Self {
        self.ends.truncate(images);
        self.weights
            .truncate(self.ends.last().copied().unwrap_or(0));
        self.ends.shrink_to_fit();
        self.weights.shrink_to_fit();
        self
    }
}

/// The distance of two images that are numbered among all.
fn pair(distances: &Distances<'_>, one: usize, other: usize) -> f32 {
    let queries = distances.query.len();
    let place = |image: usize| match image.checked_sub(queries) {
        None => (&distances.query, image),
        Some(image) => (&distances.gallery, image),
    };
    let ((side, image), (of_other, other)) = (place(one), place(other));
    side.squared_to_one(image, of_other, other)
}

/// R(i, k): the neighbours that have the image among theirs, in rising order.
fn reciprocal(neighbours: &Neighbours, image: usize, length: usize) -> Vec<u32> {
    let near = neighbours.of(image, length).iter();
    let mutual = near.filter(|&&(other, _)| {
        let back = neighbours.of(other, length);
        back.iter().any(|&(near, _)| near == image)
    });
    let number = |&(image, _): &(usize, f32)| u32::try_from(image).expect("fewer than 2³² images");
    let mut reciprocal: Vec<u32> = mutual.map(number).collect();
    reciprocal.sort_unstable();
    reciprocal
}

/// R*(i): the reciprocal neighbours, and theirs where most of those are shared, in rising order.
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

/// Of each image, which gallery images have a weight on it.
#[derive(Debug)]
pub(super) struct Inverted {
    /// Where the entries of each image end.
    ends: Vec<usize>,
    /// Gallery images, counted from 0, with their weights.
    entries: Vec<Weight>,
}

impl Inverted {
    /// The inverse of the rows of some images.
    pub(super) fn of(encodings: &Encodings, images: Range<usize>) -> Self {
        let all = encodings.ends.len();
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
        for (number, image) in (0..).zip(images) {
            for &(other, weight) in encodings.row(image) {
                let place = &mut next[other as usize];
                entries[*place] = (number, weight);
                *place += 1;
            }
        }
        Self {
            ends: starts.split_off(1),
            entries,
        }
    }

    /// Adds `Σⱼ min(V(q,j), V(g,j))` of a query to each gallery image.
    pub(super) fn overlap(&self, query: &[Weight], overlaps: &mut [f32]) {
        for &(other, weight) in query {
            let other = other as usize;
            let start = if other == 0 { 0 } else { self.ends[other - 1] };
            for &(image, of_image) in &self.entries[start..self.ends[other]] {
                overlaps[image as usize] += weight.min(of_image);
            }
        }
    }
}
