//! The nearest neighbours of all images among all images, each pair computed once.

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

use rayon::prelude::*;
use reid_core::Split;

use crate::{
    Error,
    distance::{Distances, Side},
    ranking::{Candidate, nearer},
};

/// Images in a block: tiles of distances have this many rows and columns.
const BLOCK: usize = 512;

/// The nearest images of each image, itself first, and how far the farthest is.
///
/// Images are queries and then gallery images, counted through.
#[derive(Debug)]
pub(super) struct Neighbours {
    /// Entries per list.
    length: usize,
    lists: Vec<Candidate>,
    largest: Vec<f32>,
}

/// Images of one side that follow each other.
#[derive(Clone, Debug)]
struct Images {
    expand_gallery: bool,
    /// Their places in their side.
    range: Range<usize>,
    /// The number of the first among all images.
    first: usize,
}

impl Images {
    fn side<'a>(&self, distances: &'a Distances<'a>) -> &'a Side<'a> {
        if self.expand_gallery {
            &distances.gallery
        } else {
            &distances.query
        }
    }
}

/// What is known of the neighbours of a block of images so far.
struct Nearest {
    first: usize,
    /// Neighbours besides the image itself.
    wanted: usize,
    /// Per image, candidates that include the nearest `wanted` seen.
    candidates: Vec<Vec<Candidate>>,
    /// Per image, a distance that candidates must not exceed.
    bound: Vec<f32>,
    largest: Vec<f32>,
}

impl Nearest {
    fn new(images: &Images, wanted: usize) -> Self {
        let count = images.range.len();
        Self {
            first: images.first,
            wanted,
            candidates: vec![Vec::new(); count],
            bound: vec![f32::INFINITY; count],
            largest: vec![0.0; count],
        }
    }

    fn offer(&mut self, image: usize, candidate: Candidate) {
        if self.wanted == 0 || candidate.1 > self.bound[image] || candidate.0 == self.first + image
        {
            return;
        }
        let candidates = &mut self.candidates[image];
        candidates.push(candidate);
        if candidates.len() >= 2 * self.wanted.max(16) {
            candidates.select_nth_unstable_by(self.wanted - 1, nearer);
            candidates.truncate(self.wanted);
            self.bound[image] = candidates[self.wanted - 1].1;
        }
    }

    /// Distances of each of these images to some that begin at number `first`.
    fn rows(&mut self, tile: &[f32], width: usize, first: usize) {
        for (image, row) in tile.chunks_exact(width).enumerate() {
            let largest = row.iter().copied().fold(0.0, f32::max);
            self.largest[image] = self.largest[image].max(largest);
            for (column, &distance) in row.iter().enumerate() {
                self.offer(image, (first + column, distance));
            }
        }
    }

    /// Distances of some images that begin at number `first` to each of these.
    fn columns(&mut self, tile: &[f32], width: usize, first: usize) {
        for (number, row) in (first..).zip(tile.chunks_exact(width)) {
            for (largest, &distance) in self.largest.iter_mut().zip(row) {
                *largest = largest.max(distance);
            }
            for (image, &distance) in row.iter().enumerate() {
                self.offer(image, (number, distance));
            }
        }
    }

    /// The lists, each image first in its own.
    fn lists(self) -> impl Iterator<Item = (Vec<Candidate>, f32)> {
        let Self { first, wanted, .. } = self;
        let lists = (first..).zip(self.candidates).map(move |(own, mut list)| {
            list.sort_unstable_by(nearer);
            list.truncate(wanted);
            list.insert(0, (own, 0.0));
            list
        });
        lists.zip(self.largest)
    }
}

impl Neighbours {
    /// Lists of up to `length` images, at least 1.
    pub(super) fn find(distances: &Distances<'_>, length: usize) -> Result<Self, Error> {
        let blocks = blocks(distances);
        let images = distances.query.len() + distances.gallery.len();
        let length = length.min(images);
        let nearest: Vec<Mutex<Nearest>> = blocks
            .iter()
            .map(|block| Mutex::new(Nearest::new(block, length - 1)))
            .collect();
        let count = blocks.len();
        // Tiles far from each other follow each other, so that few wait for the same block.
        let pairs = (0..count).flat_map(|apart| (0..count - apart).map(move |it| (it, it + apart)));
        let pairs: Vec<(usize, usize)> = pairs.collect();
        let bad = pairs
            .into_par_iter()
            .filter_map(|(row, column)| tile(distances, &blocks, &nearest, row, column).err())
            // Of several errors always the same one is reported.
            .min_by_key(|&pair| pair);
        if let Some((one, other)) = bad {
            let place = |image: usize| match image.checked_sub(distances.query.len()) {
                None => (Split::Query, image),
                Some(image) => (Split::Gallery, image),
            };
            return Err(Error::Pair {
                one: place(one),
                other: place(other),
            });
        }
        let (mut lists, mut largest) = (Vec::with_capacity(images * length), Vec::new());
        for block in nearest {
            let block = block.into_inner().unwrap_or_else(PoisonError::into_inner);
            for (list, farthest) in block.lists() {
                lists.extend(list);
                largest.push(farthest);
            }
        }
        Ok(Self {
            length,
            lists,
            largest,
        })
    }

    /// Number of images.
    pub(super) fn len(&self) -> usize {
        self.largest.len()
    }

    /// The nearest images of one, up to so many, itself among them.
    pub(super) fn of(&self, image: usize, length: usize) -> &[Candidate] {
        &self.lists[image * self.length..][..length.min(self.length)]
    }

    /// The largest distance of an image.
    pub(super) fn largest(&self, image: usize) -> f32 {
        self.largest[image]
    }

    /// The largest distances of the first images.
    pub(super) fn into_largest(mut self, images: usize) -> Vec<f32> {
        self.largest.truncate(images);
        self.largest
    }
}

fn blocks(distances: &Distances<'_>) -> Vec<Images> {
    let side = |expand_gallery: bool, length: usize, first: usize| {
        (0..length).step_by(BLOCK).map(move |start| Images {
            expand_gallery,
            range: start..(start + BLOCK).min(length),
            first: first + start,
        })
    };
    let queries = distances.query.len();
    let gallery = side(true, distances.gallery.len(), queries);
    side(false, queries, 0).chain(gallery).collect()
}

/// Tells both blocks of a tile what it holds, or which of its pairs is at no distance.
fn tile(
    distances: &Distances<'_>,
    blocks: &[Images],
    nearest: &[Mutex<Nearest>],
    row: usize,
    column: usize,
) -> Result<(), (usize, usize)> {
    let (of_rows, of_columns) = (&blocks[row], &blocks[column]);
    let (height, width) = (of_rows.range.len(), of_columns.range.len());
    let mut tile = vec![0.0; height * width];
    of_rows.side(distances).squared_to(
        of_columns.side(distances),
        [of_rows.range.clone(), of_columns.range.clone()],
        &mut tile,
    );
    if row == column {
        // An image is at no distance from itself, whatever rounding says.
        for at in 0..width {
            tile[at * width + at] = 0.0;
        }
    }
    if let Some(at) = tile.iter().position(|distance| !distance.is_finite()) {
        return Err((of_rows.first + at / width, of_columns.first + at % width));
    }
    let lock = |block: usize| {
        nearest[block]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    lock(row).rows(&tile, width, of_columns.first);
    if row != column {
        lock(column).columns(&tile, width, of_rows.first);
    }
    Ok(())
}
