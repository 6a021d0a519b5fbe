//! Distances from queries in memory to a gallery in shards.

use std::{fmt, iter, ops::Range};

use rayon::prelude::*;

use super::part::PartFile;
use crate::{
    DistanceColumns, DistanceRows, Embeddings, Error, Metric, VisitPart,
    distance::Side,
    rerank::{self, ImageSource},
};

/// The number of queries whose distances to a block are computed together.
const QUERIES: usize = 128;

/// The distances from queries in memory to a gallery in shards, of which each thread holds one block at a time.
///
/// They are bit-identical to those of [`Distances`](crate::Distances), and so are the results of an evaluation.
/// [`evaluate_rows`](crate::evaluate_rows), [`Verification`](crate::Verification) and
/// [`Threshold`](crate::Threshold) read the gallery two or three times in all, [`OpenSet`](crate::OpenSet) once.
/// Everything else works too, but reads the gallery once for each block of queries.
///
/// Besides queries and labels, each thread needs memory for 4096 embeddings, twice while they are converted, and
/// for their distances to 128 queries. With 256 dimensions, that is 10 MiB. An evaluation needs another 40 bytes
/// for each pair of a query and a match, of at most 2²³ pairs at a time, or of one query. Verification and
/// thresholds need 20 bytes for each of these pairs, all at once.
pub struct ShardDistances<'a> {
    query: Side<'a>,
    files: &'a [PartFile],
    dimensions: usize,
    metric: Metric,
    blocks: Vec<Block>,
    /// The number of gallery images.
    images: usize,
    /// Whether Euclidean distances are squared.
    is_squared: bool,
}

/// Consecutive images of the gallery that are read together.
#[derive(Clone, Copy)]
struct Block {
    file: usize,
    /// The number of the block in its file.
    number: usize,
    /// The gallery index of its first image.
    first: usize,
    images: usize,
}

impl<'a> ShardDistances<'a> {
    pub(super) fn new(
        query: &'a Embeddings,
        files: &'a [PartFile],
        dimensions: usize,
        metric: Metric,
    ) -> Result<Self, Error> {
        if query.dimensions() != dimensions {
            return Err(Error::Dimensions {
                query: query.dimensions(),
                gallery: dimensions,
            });
        }
        let (mut blocks, mut images) = (Vec::new(), 0);
        for (file, part) in files.iter().enumerate() {
            for (number, rows) in part.blocks().iter().enumerate() {
                blocks.push(Block {
                    file,
                    number,
                    first: images,
                    images: rows.len(),
                });
                images += rows.len();
            }
        }
        Ok(Self {
            query: Side::new(query, metric),
            files,
            dimensions,
            metric,
            blocks,
            images,
            is_squared: false,
        })
    }

    /// The same distances, but squared if they are Euclidean.
    pub(super) fn squared(self) -> Self {
        Self {
            is_squared: true,
            ..self
        }
    }

    /// Writes the distances from a range of vectors to a range of others.
    fn tile(&self, query: &Side<'_>, to: &Side<'_>, ranges: [Range<usize>; 2], out: &mut [f32]) {
        if self.is_squared {
            query.squared_to(to, ranges, out);
        } else {
            query.fill_to(to, ranges, out);
        }
    }

    /// Reads and prepares a block. `queries` are those for which it is read.
    fn read(&self, block: &Block, queries: &Range<usize>) -> Result<Side<'static>, Error> {
        let values = self.files[block.file].read(block.number);
        let values = values.map_err(|error| Error::Source {
            first: queries.start,
            last: queries.end.saturating_sub(1),
            reason: error.to_string(),
        })?;
        Ok(Side::of_block(values, self.dimensions, self.metric))
    }

    /// Visits the distances from a range of queries to one block. `turn` is the number of the block.
    fn scan_block(
        &self,
        (turn, block): (usize, &Block),
        queries: &Range<usize>,
        visit: &VisitPart<'_>,
    ) -> Result<(), Error> {
        let images = self.read(block, queries)?;
        let chunks = queries.len().div_ceil(QUERIES);
        let mut tile = vec![f32::NAN; QUERIES.min(queries.len()) * block.images];
        for chunk in 0..chunks {
            // Threads with different blocks begin with different queries, so that they rarely visit the same query
            // at the same time.
            let start = queries.start + ((turn + chunk) % chunks) * QUERIES;
            let queries = start..queries.end.min(start + QUERIES);
            let tile = &mut tile[..queries.len() * block.images];
            let ranges = [queries.clone(), 0..block.images];
            self.tile(&self.query, &images, ranges, tile);
            for (query, distances) in queries.zip(tile.chunks_exact(block.images)) {
                visit(query, block.first, distances)?;
            }
        }
        Ok(())
    }

    /// Computes the distances of those pairs whose images are in a block: the index of each pair of a query and
    /// its images, and the distances.
    fn pairs_in_block(
        &self,
        block: &Block,
        wanted: &[(usize, Vec<usize>)],
    ) -> Result<Vec<(usize, Vec<f32>)>, Error> {
        let end = block.first + block.images;
        let inside = |(item, (query, images)): (usize, &(usize, Vec<usize>))| {
            let from = images.partition_point(|image| *image < block.first);
            let to = images.partition_point(|image| *image < end);
            let images = images[from..to].iter().map(|image| image - block.first);
            (from < to).then(|| (item, *query, images.collect::<Vec<usize>>()))
        };
        let inside: Vec<_> = wanted.iter().enumerate().filter_map(inside).collect();
        let (Some((_, first, _)), Some((_, last, _))) = (inside.first(), inside.last()) else {
            return Ok(Vec::new());
        };
        let side = self.read(block, &(*first..last + 1))?;
        let distances = inside.into_iter().map(|(item, query, images)| {
            let mut distances = vec![f32::NAN; images.len()];
            let (query, wanted) = (self.query.part(query..query + 1), side.gathered(&images));
            self.tile(&query, &wanted, [0..1, 0..images.len()], &mut distances);
            (item, distances)
        });
        Ok(distances.collect())
    }
}

impl DistanceRows for ShardDistances<'_> {
    fn queries(&self) -> usize {
        self.query.len()
    }

    fn gallery(&self) -> usize {
        self.images
    }

    fn fill(&self, queries: Range<usize>, rows: &mut [f32]) -> Result<(), Error> {
        for block in &self.blocks {
            let images = self.read(block, &queries)?;
            let mut tile = vec![f32::NAN; queries.len() * block.images];
            let ranges = [queries.clone(), 0..block.images];
            self.tile(&self.query, &images, ranges, &mut tile);
            let rows = rows.chunks_exact_mut(self.images);
            for (row, distances) in rows.zip(tile.chunks_exact(block.images)) {
                row[block.first..][..block.images].copy_from_slice(distances);
            }
        }
        Ok(())
    }

    fn columns(&self) -> Option<&dyn DistanceColumns> {
        Some(self)
    }
}

impl DistanceColumns for ShardDistances<'_> {
    fn pairs(&self, wanted: &[(usize, Vec<usize>)]) -> Result<Vec<Vec<f32>>, Error> {
        let blocks = self.blocks.par_iter();
        let blocks: Vec<Result<_, Error>> = blocks
            .map(|block| self.pairs_in_block(block, wanted))
            .collect();
        let mut all = vec![Vec::new(); wanted.len()];
        for block in blocks {
            for (item, distances) in block? {
                all[item].extend(distances);
            }
        }
        Ok(all)
    }

    fn scan(&self, queries: Range<usize>, visit: &VisitPart<'_>) -> Result<(), Error> {
        let blocks = self.blocks.par_iter().enumerate();
        let results: Vec<Result<(), Error>> = blocks
            .map(|block| self.scan_block(block, &queries, visit))
            .collect();
        // Of several errors, the first one in the order of the gallery is reported.
        results.into_iter().collect()
    }
}

/// Block 0 is the queries, which are in memory. The others are those of the gallery.
impl ImageSource for ShardDistances<'_> {
    fn blocks(&self) -> Vec<rerank::Block> {
        let queries = self.query.len();
        let all_queries = rerank::Block {
            images: 0..queries,
            bytes: 0,
        };
        let gallery = self.blocks.iter().map(|block| {
            let first = queries + block.first;
            rerank::Block {
                images: first..first + block.images,
                bytes: block.images * (self.dimensions * size_of::<f32>() + size_of::<f64>()),
            }
        });
        iter::once(all_queries).chain(gallery).collect()
    }

    fn side(&self, block: usize) -> Result<Side<'_>, Error> {
        match block.checked_sub(1) {
            None => Ok(self.query.borrowed()),
            Some(block) => self.read(&self.blocks[block], &(0..self.query.len())),
        }
    }
}

impl fmt::Debug for ShardDistances<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardDistances")
            .field("queries", &self.query.len())
            .field("gallery", &self.images)
            .field("metric", &self.metric)
            .finish_non_exhaustive()
    }
}
