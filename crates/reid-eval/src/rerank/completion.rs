//! The distances of expanded neighbours that are in no list of nearest images.

use rayon::prelude::*;

use super::{
    encoding::Encodings,
    neighbours::index,
    source::{Block, ImageSource, Panel, block_of, panels, stream},
};
use crate::{Error, distance::Side};

/// An entry of a row whose distance is missing, ordered by the block of the later of both images.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Missing {
    block: usize,
    /// The image of the row.
    image: u32,
    /// The image of the entry.
    other: u32,
}

impl Encodings {
    /// Replaces each NaN by the distance from the image of the row to that of the entry.
    ///
    /// Blocks are read in the order of [`Neighbours::find`](super::Neighbours::find), but only those with an image
    /// of a missing pair.
    pub(super) fn complete(&mut self, source: &dyn ImageSource, held: usize) -> Result<(), Error> {
        let blocks = source.blocks();
        for panel in panels(&blocks, held) {
            let missing = self.missing(&blocks, panel.start, panel.end);
            if missing.is_empty() {
                continue;
            }
            let panel = Panel::read(source, panel)?;
            let inside = missing.partition_point(|pair| pair.block < panel.blocks().end);
            let (inside, later) = missing.split_at(inside);
            let distances = squared(&blocks, inside, |block| panel.side(block));
            self.set(inside, distances);

            let wanted = later.chunk_by(|one, other| one.block == other.block);
            let wanted = wanted.map(|pairs| pairs[0].block);
            stream(source, wanted, |block, side| {
                let start = later.partition_point(|pair| pair.block < block);
                let end = later.partition_point(|pair| pair.block <= block);
                let pairs = &later[start..end];
                let side_of = |of: usize| if of == block { side } else { panel.side(of) };
                self.set(pairs, squared(&blocks, pairs, side_of));
            })?;
        }
        Ok(())
    }

    /// The sorted pairs without a distance whose first image is in one of the blocks from `start` to before `end`.
    fn missing(&self, blocks: &[Block], start: usize, end: usize) -> Vec<Missing> {
        let images = blocks[start].images.start..blocks[end - 1].images.end;
        // The image of a row is never before the first image of the pair.
        let rows = (images.start..self.len()).into_par_iter();
        let pairs = rows.flat_map_iter(|image| {
            let missing = self.row(image).iter().filter(|entry| entry.1.is_nan());
            missing.map(move |entry| (image, entry.0))
        });
        let pairs = pairs.filter(|&(image, other)| images.contains(&image.min(other as usize)));
        let mut pairs: Vec<Missing> = pairs
            .map(|(image, other)| Missing {
                block: block_of(blocks, image.max(other as usize)),
                image: index(image),
                other,
            })
            .collect();
        pairs.par_sort_unstable();
        pairs
    }

    /// Writes the distances of missing pairs.
    fn set(&mut self, pairs: &[Missing], distances: Vec<f32>) {
        for (pair, distance) in pairs.iter().zip(distances) {
            let row = self.row_mut(pair.image as usize);
            let at = row.partition_point(|entry| entry.0 < pair.other);
            row[at].1 = distance;
        }
    }
}

/// Computes the distances of pairs on all threads. `side` returns the vectors of a block.
fn squared<'s>(
    blocks: &[Block],
    pairs: &[Missing],
    side: impl Sync + Fn(usize) -> &'s Side<'s>,
) -> Vec<f32> {
    let vector = |image: u32| {
        let image = image as usize;
        let block = block_of(blocks, image);
        (side(block), image - blocks[block].images.start)
    };
    let distance = |pair: &Missing| {
        let ((one, row), (other, column)) = (vector(pair.image), vector(pair.other));
        one.squared_to_one(row, other, column)
    };
    pairs.par_iter().map(distance).collect()
}
