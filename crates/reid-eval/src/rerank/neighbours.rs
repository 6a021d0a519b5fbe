//! The nearest neighbours of each image among all images; the distance of each pair is computed once.

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

/// The number of images in a block. A tile of distances has this many rows and columns.
const BLOCK: usize = 512;

/// The nearest images of each image, itself first, and its largest distance to any image.
///
/// The index of an image counts all queries first and then all gallery images.
#[derive(Debug)]
pub(super) struct Neighbours {
    /// The number of entries per list.
    length: usize,
    lists: Vec<Candidate>,
    largest: Vec<f32>,
}

/// A block of consecutive images, all from the queries or all from the gallery.
#[derive(Clone, Debug)]
struct Images {
    is_gallery: bool,
    /// Their indices within the queries or within the gallery.
    range: Range<usize>,
    /// The index of the first one among all images.
    first: usize,
}

impl Images {
    fn side<'a>(&self, distances: &'a Distances<'a>) -> &'a Side<'a> {
        if self.is_gallery {
            &distances.gallery
        } else {
            &distances.query
        }
    }
}

/// The neighbours of a block of images found so far.
struct Nearest {
    first: usize,
    /// The number of neighbours to find, besides the image itself.
    wanted: usize,
    /// For each image, candidates that include the nearest `wanted` ones seen so far.
    candidates: Vec<Vec<Candidate>>,
    /// For each image, the largest distance that a new candidate may have.
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

    /// Adds a tile of distances. Its rows are the images of this block; its columns, the images from index
    /// `first` on.
    fn rows(&mut self, tile: &[f32], width: usize, first: usize) {
        for (image, row) in tile.chunks_exact(width).enumerate() {
            let largest = row.iter().copied().fold(0.0, f32::max);
            self.largest[image] = self.largest[image].max(largest);
            for (column, &distance) in row.iter().enumerate() {
                self.offer(image, (first + column, distance));
            }
        }
    }

    /// Adds a tile of distances. Its rows are the images from index `first` on; its columns, the images of
    /// this block.
    fn columns(&mut self, tile: &[f32], width: usize, first: usize) {
        for (index, row) in (first..).zip(tile.chunks_exact(width)) {
            for (largest, &distance) in self.largest.iter_mut().zip(row) {
                *largest = largest.max(distance);
            }
            for (image, &distance) in row.iter().enumerate() {
                self.offer(image, (index, distance));
            }
        }
    }

    /// The finished lists, each with its own image first, and the largest distances.
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
    /// Finds the nearest `length` images of each image, itself included; `length` is at least 1.
    pub(super) fn find(distances: &Distances<'_>, length: usize) -> Result<Self, Error> {
        let blocks = blocks(distances);
        let images = distances.query.len() + distances.gallery.len();
        let length = length.min(images);
        let nearest: Vec<Mutex<Nearest>> = blocks
            .iter()
            .map(|block| Mutex::new(Nearest::new(block, length - 1)))
            .collect();
        let count = blocks.len();
        // Tiles are ordered by diagonals, so that few threads wait for the same block.
        let pairs = (0..count).flat_map(|apart| (0..count - apart).map(move |it| (it, it + apart)));
        let pairs: Vec<(usize, usize)> = pairs.collect();
        let bad = pairs
            .into_par_iter()
            .filter_map(|(row, column)| tile(distances, &blocks, &nearest, row, column).err())
            // The minimum makes the reported error independent of the order of threads.
            .min_by_key(|&pair| pair);
        if let Some((one, other)) = bad {
            let in_split = |image: usize| match image.checked_sub(distances.query.len()) {
                None => (Split::Query, image),
                Some(image) => (Split::Gallery, image),
            };
            return Err(Error::Pair {
                one: in_split(one),
                other: in_split(other),
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

    /// The number of images.
    pub(super) fn len(&self) -> usize {
        self.largest.len()
    }

    /// The nearest images of an image, itself first, at most `length`.
    pub(super) fn of(&self, image: usize, length: usize) -> &[Candidate] {
        &self.lists[image * self.length..][..length.min(self.length)]
    }

    /// The largest distance from an image to any image.
    pub(super) fn largest(&self, image: usize) -> f32 {
        self.largest[image]
    }

    /// The largest distances of the first `images` images.
    pub(super) fn into_largest(mut self, images: usize) -> Vec<f32> {
        self.largest.truncate(images);
        self.largest
    }
}

/// Divides the queries and the gallery into blocks.
fn blocks(distances: &Distances<'_>) -> Vec<Images> {
    let side = |is_gallery: bool, length: usize, first: usize| {
        (0..length).step_by(BLOCK).map(move |start| Images {
            is_gallery,
            range: start..(start + BLOCK).min(length),
            first: first + start,
        })
    };
    let queries = distances.query.len();
    let gallery = side(true, distances.gallery.len(), queries);
    side(false, queries, 0).chain(gallery).collect()
}

/// Computes the tile of two blocks and passes it to both. The error is the first pair whose distance is
/// infinite or NaN.
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
        // The distance of an image to itself is exactly 0, without rounding error.
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
