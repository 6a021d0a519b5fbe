//! The nearest neighbours of each image among all images; the distance of each pair is computed once.

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

use rayon::prelude::*;
use reid_core::Split;

use super::source::{Block, ImageSource, Panel, panels, stream};
use crate::{Error, distance::Side, ranking::nearer};

/// The number of images in a chunk. A tile of distances has this many rows and columns.
const CHUNK: usize = 512;

/// An image and the distance to it.
pub(super) type Near = (u32, f32);

/// A pair of images, the smaller index first, whose distance is infinite or NaN.
type Bad = (usize, usize);

/// The nearest images of each image, itself first, and its largest distance to any image.
///
/// The index of an image counts all queries first and then all gallery images.
#[derive(Debug)]
pub(super) struct Neighbours {
    /// The number of entries per list.
    length: usize,
    lists: Vec<Near>,
    largest: Vec<f32>,
}

/// Consecutive images of a block.
#[derive(Clone, Debug)]
struct Chunk {
    block: usize,
    /// Their indices within the block.
    range: Range<usize>,
    /// The index of the first one among all images.
    first: usize,
}

/// The neighbours of a chunk of images found so far.
struct Nearest {
    first: u32,
    /// The number of neighbours to find, besides the image itself.
    wanted: usize,
    /// The number of candidates at which a list is reduced to the nearest `wanted` ones.
    full: usize,
    /// For each image, candidates that include the nearest `wanted` ones seen so far.
    candidates: Vec<Vec<Near>>,
    /// For each image, the largest distance that a new candidate may have.
    bound: Vec<f32>,
    largest: Vec<f32>,
}

impl Nearest {
    /// `images` is the number of all images.
    fn new(chunk: &Chunk, wanted: usize, images: usize) -> Self {
        let (count, full) = (chunk.range.len(), 2 * wanted.max(16));
        // The lists grow to this length. A vector that doubles its capacity would need up to twice the memory.
        let list = |_| Vec::with_capacity(full.min(images));
        Self {
            first: index(chunk.first),
            wanted,
            full,
            candidates: (0..count).map(list).collect(),
            bound: vec![f32::INFINITY; count],
            largest: vec![0.0; count],
        }
    }

    fn offer(&mut self, image: usize, own: u32, candidate: Near) {
        if self.wanted == 0 || candidate.1 > self.bound[image] || candidate.0 == own {
            return;
        }
        let candidates = &mut self.candidates[image];
        candidates.push(candidate);
        if candidates.len() >= self.full {
            candidates.select_nth_unstable_by(self.wanted - 1, nearer);
            candidates.truncate(self.wanted);
            self.bound[image] = candidates[self.wanted - 1].1;
        }
    }

    /// Adds a tile of distances. Its rows are the images of this chunk; its columns, the images from index
    /// `first` on.
    fn rows(&mut self, tile: &[f32], width: usize, first: usize) {
        let columns = index(first);
        for ((image, own), row) in (self.first..).enumerate().zip(tile.chunks_exact(width)) {
            let largest = row.iter().copied().fold(0.0, f32::max);
            self.largest[image] = self.largest[image].max(largest);
            for (column, &distance) in (columns..).zip(row) {
                self.offer(image, own, (column, distance));
            }
        }
    }

    /// Adds a tile of distances. Its rows are the images from index `first` on; its columns, the images of
    /// this chunk.
    fn columns(&mut self, tile: &[f32], width: usize, first: usize) {
        let rows = index(first);
        for (row, distances) in (rows..).zip(tile.chunks_exact(width)) {
            for (largest, &distance) in self.largest.iter_mut().zip(distances) {
                *largest = largest.max(distance);
            }
            for ((image, own), &distance) in (self.first..).enumerate().zip(distances) {
                self.offer(image, own, (row, distance));
            }
        }
    }

    /// The finished lists, each with its own image first, and the largest distances.
    fn lists(self) -> impl Iterator<Item = (Vec<Near>, f32)> {
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

/// The neighbours of all images found so far.
struct Search {
    chunks: Vec<Chunk>,
    /// For each chunk, the neighbours of its images.
    nearest: Vec<Mutex<Nearest>>,
}

impl Search {
    fn new(blocks: &[Block], wanted: usize, images: usize) -> Self {
        let chunks = blocks.iter().enumerate().flat_map(|(block, of)| {
            let (first, count) = (of.images.start, of.images.len());
            (0..count).step_by(CHUNK).map(move |start| Chunk {
                block,
                range: start..count.min(start + CHUNK),
                first: first + start,
            })
        });
        let chunks: Vec<Chunk> = chunks.collect();
        let nearest = chunks
            .iter()
            .map(|chunk| Mutex::new(Nearest::new(chunk, wanted, images)))
            .collect();
        Self { chunks, nearest }
    }

    /// The indices of the chunks of these blocks.
    fn chunks_of(&self, blocks: Range<usize>) -> Range<usize> {
        let before = |end: usize| self.chunks.partition_point(|chunk| chunk.block < end);
        before(blocks.start)..before(blocks.end)
    }

    /// Compares the images of a panel with each other. Returns the first pair whose distance is infinite or NaN.
    fn within(&self, panel: &Panel<'_>) -> Option<Bad> {
        let Range { start, end } = self.chunks_of(panel.blocks());
        // Tiles are ordered by diagonals, so that few threads wait for the same chunk.
        let diagonals = 0..end - start;
        let pairs =
            diagonals.flat_map(|apart| (start..end - apart).map(move |row| [row, row + apart]));
        self.compare(pairs.collect(), |block| panel.side(block))
    }

    /// Compares the images of a panel with those of a later block, like [`within`](Self::within).
    fn between(&self, panel: &Panel<'_>, block: usize, side: &Side<'_>) -> Option<Bad> {
        let columns = self.chunks_of(block..block + 1);
        let (first, count) = (columns.start, columns.len());
        let rows = self.chunks_of(panel.blocks());
        // Each row begins with another column, so that few threads wait for the same chunk.
        let row = |row: usize| (0..count).map(move |turn| [row, first + (row + turn) % count]);
        let pairs = rows.flat_map(row).collect();
        self.compare(pairs, |of| if of == block { side } else { panel.side(of) })
    }

    /// Compares pairs of chunks on all threads. `side` returns the vectors of a block.
    fn compare<'s>(
        &self,
        pairs: Vec<[usize; 2]>,
        side: impl Sync + Fn(usize) -> &'s Side<'s>,
    ) -> Option<Bad> {
        let tile = |pair: [usize; 2]| {
            let sides = pair.map(|chunk| side(self.chunks[chunk].block));
            self.tile(pair, sides).err()
        };
        // The minimum makes the reported pair independent of the order of threads.
        pairs.into_par_iter().filter_map(tile).min()
    }

    /// Computes the tile of two chunks and passes it to both. The error is the first pair whose distance is
    /// infinite or NaN.
    fn tile(&self, [row, column]: [usize; 2], sides: [&Side<'_>; 2]) -> Result<(), Bad> {
        let (of_rows, of_columns) = (&self.chunks[row], &self.chunks[column]);
        let (height, width) = (of_rows.range.len(), of_columns.range.len());
        let mut tile = vec![0.0; height * width];
        let ranges = [of_rows.range.clone(), of_columns.range.clone()];
        sides[0].squared_to(sides[1], ranges, &mut tile);
        if row == column {
            // The distance of an image to itself is exactly 0, without rounding error.
            for at in 0..width {
                tile[at * width + at] = 0.0;
            }
        }
        if let Some(at) = tile.iter().position(|distance| !distance.is_finite()) {
            return Err((of_rows.first + at / width, of_columns.first + at % width));
        }
        let lock = |chunk: usize| {
            let nearest = self.nearest[chunk].lock();
            nearest.unwrap_or_else(PoisonError::into_inner)
        };
        lock(row).rows(&tile, width, of_columns.first);
        if row != column {
            lock(column).columns(&tile, width, of_rows.first);
        }
        Ok(())
    }
}

impl Neighbours {
    /// Finds the nearest `length` images of each image, itself included; `length` is at least 1. Panels of at most
    /// `held` bytes are in memory, and later blocks are streamed past them.
    pub(super) fn find(
        source: &dyn ImageSource,
        length: usize,
        held: usize,
    ) -> Result<Self, Error> {
        let blocks = source.blocks();
        let images = source.queries() + source.gallery();
        let length = length.min(images);
        let search = Search::new(&blocks, length.saturating_sub(1), images);
        for blocks_of in panels(&blocks, held) {
            let panel = Panel::read(source, blocks_of)?;
            let mut bad = search.within(&panel);
            stream(source, panel.blocks().end..blocks.len(), |block, side| {
                let found = search.between(&panel, block, side);
                bad = bad.into_iter().chain(found).min();
            })?;
            // The first image of each pair is in this panel, so later panels have no pair that is before it.
            if let Some(pair) = bad {
                return Err(not_finite(source.queries(), pair));
            }
        }
        let (mut lists, mut largest) = (Vec::with_capacity(images * length), Vec::new());
        for chunk in search.nearest {
            let chunk = chunk.into_inner().unwrap_or_else(PoisonError::into_inner);
            for (list, farthest) in chunk.lists() {
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
    pub(super) fn of(&self, image: usize, length: usize) -> &[Near] {
        &self.lists[image * self.length..][..length.min(self.length)]
    }

    /// The largest distance from an image to any image.
    pub(super) fn largest(&self, image: usize) -> f32 {
        self.largest[image]
    }

    /// The largest distances of the first `images` images.
    pub(super) fn into_largest(mut self, images: usize) -> Vec<f32> {
        self.largest.truncate(images);
        self.largest.shrink_to_fit();
        self.largest
    }
}

/// The index of an image in the type of the lists.
pub(super) fn index(image: usize) -> u32 {
    u32::try_from(image).expect("fewer than 2³² images")
}

/// The error for a pair of images whose distance is infinite or NaN.
fn not_finite(queries: usize, (one, other): Bad) -> Error {
    let in_split = |image: usize| match image.checked_sub(queries) {
        None => (Split::Query, image),
        Some(image) => (Split::Gallery, image),
    };
    Error::Pair {
        one: in_split(one),
        other: in_split(other),
    }
}
