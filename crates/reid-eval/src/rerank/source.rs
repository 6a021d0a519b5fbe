//! The images that re-ranking compares, in blocks that are in memory or are read from disk when they are needed.

use std::{fmt, ops::Range};

use rayon::prelude::*;

use crate::{
    DistanceRows, Error,
    column_ranks::groups,
    distance::{Distances, Side},
};

/// Consecutive images of a source: all of them queries, or all of them gallery images.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Their indices among all images: all queries first, then all gallery images.
    pub(crate) images: Range<usize>,
    /// The memory in bytes that the block needs while it is held: 0 if it is in memory anyway.
    pub(crate) bytes: usize,
}

/// Queries and a gallery in consecutive blocks, of which some may have to be read.
///
/// Its rows are cosine distances, or **squared** Euclidean distances.
pub(crate) trait ImageSource: DistanceRows + Send + fmt::Debug {
    /// The blocks in the order of their images.
    fn blocks(&self) -> Vec<Block>;

    /// Returns the vectors of a block, which are read if they are not in memory.
    fn side(&self, block: usize) -> Result<Side<'_>, Error>;
}

/// Distances in memory, squared if they are Euclidean.
#[derive(Debug)]
pub(super) struct Squared<'a>(pub(super) Distances<'a>);

impl DistanceRows for Squared<'_> {
    fn queries(&self) -> usize {
        self.0.query.len()
    }

    fn gallery(&self) -> usize {
        self.0.gallery.len()
    }

    fn fill(&self, queries: Range<usize>, rows: &mut [f32]) -> Result<(), Error> {
        let Distances { query, gallery } = &self.0;
        query.squared_to(gallery, [queries, 0..gallery.len()], rows);
        Ok(())
    }
}

impl ImageSource for Squared<'_> {
    fn blocks(&self) -> Vec<Block> {
        let queries = self.queries();
        let ranges = [0..queries, queries..queries + self.gallery()];
        ranges.map(|images| Block { images, bytes: 0 }).into()
    }

    fn side(&self, block: usize) -> Result<Side<'_>, Error> {
        let Distances { query, gallery } = &self.0;
        let side = if block == 0 { query } else { gallery };
        Ok(side.borrowed())
    }
}

/// The index of the block that has an image.
pub(super) fn block_of(blocks: &[Block], image: usize) -> usize {
    blocks.partition_point(|block| block.images.end <= image)
}

/// Divides blocks into panels: consecutive blocks that need at most `held` bytes together, or a single block.
pub(super) fn panels(blocks: &[Block], held: usize) -> Vec<Range<usize>> {
    let bytes: Vec<usize> = blocks.iter().map(|block| block.bytes).collect();
    groups(&bytes, held)
}

/// A panel: consecutive blocks in memory, past which later blocks are streamed.
pub(super) struct Panel<'a> {
    blocks: Range<usize>,
    sides: Vec<Side<'a>>,
}

impl<'a> Panel<'a> {
    /// Reads the blocks on all threads.
    pub(super) fn read(source: &'a dyn ImageSource, blocks: Range<usize>) -> Result<Self, Error> {
        let each = blocks.clone().into_par_iter();
        let sides: Vec<Result<Side<'a>, Error>> = each.map(|block| source.side(block)).collect();
        // Of several errors, the first one in the order of the images is reported.
        let sides = sides
            .into_iter()
            .collect::<Result<Vec<Side<'a>>, Error>>()?;
        Ok(Self { blocks, sides })
    }

    pub(super) fn blocks(&self) -> Range<usize> {
        self.blocks.clone()
    }

    /// The vectors of a block of the panel.
    pub(super) fn side(&self, block: usize) -> &Side<'a> {
        &self.sides[block - self.blocks.start]
    }
}

/// Passes blocks to `visit`, one after the other. The next one is read meanwhile.
pub(super) fn stream<'a>(
    source: &'a dyn ImageSource,
    blocks: impl IntoIterator<Item = usize>,
    mut visit: impl FnMut(usize, &Side<'a>) + Send,
) -> Result<(), Error> {
    let read = |block: usize| source.side(block).map(|side| (block, side));
    let mut blocks = blocks.into_iter();
    let mut next = blocks.next().map(read).transpose()?;
    while let Some((block, side)) = next {
        let following = blocks.next();
        let visit_this = || visit(block, &side);
        let read_next = || following.map(read).transpose();
        let ((), found) = rayon::join(visit_this, read_next);
        next = found?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_hold_blocks_up_to_a_size_or_one_block() {
        let blocks = |bytes: &[usize]| {
            let block = |(at, bytes): (usize, &usize)| Block {
                images: at..at + 1,
                bytes: *bytes,
            };
            bytes.iter().enumerate().map(block).collect::<Vec<Block>>()
        };
        // Blocks in memory need nothing, so they are one panel, also together with a block that is read.
        assert_eq!(panels(&blocks(&[0, 0]), 0).first(), Some(&(0..2)));
        let read = blocks(&[0, 4, 4, 4, 1]);
        assert_eq!(panels(&read, 0), [0..1, 1..2, 2..3, 3..4, 4..5]);
        assert_eq!(panels(&read, 8), [0..3, 3..5]);
        assert_eq!(panels(&read, usize::MAX).first(), Some(&(0..5)));
        assert_eq!(block_of(&read, 3), 3);
    }
}
