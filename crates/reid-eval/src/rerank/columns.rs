//! Re-ranked distances by blocks of a gallery that is not in memory.

use std::ops::Range;

use rayon::prelude::*;

use super::Reranked;
use crate::{DistanceColumns, DistanceRows, Error, VisitPart};

/// Reads a gallery in shards block by block. If nothing has to be read, because the gallery is in memory or λ is 0,
/// the distances are computed in rows.
impl DistanceColumns for Reranked<'_> {
    fn pairs(&self, wanted: &[(usize, Vec<usize>)]) -> Result<Vec<Vec<f32>>, Error> {
        let Some(columns) = self.original_columns() else {
            let distances = |(query, images): &(usize, Vec<usize>)| -> Result<Vec<f32>, Error> {
                let row = self.row(*query)?;
                Ok(images.iter().map(|image| row[*image]).collect())
            };
            return wanted.iter().map(distances).collect();
        };
        let mut found = columns.pairs(wanted)?;
        let items = found.par_iter_mut().zip(wanted);
        items.for_each(|(distances, (query, images))| {
            let encoding = self.encodings.row(*query);
            let overlaps = self.inverse.overlap_with(encoding, images);
            self.combine(*query, &overlaps, distances);
        });
        Ok(found)
    }

    fn scan(&self, queries: Range<usize>, visit: &VisitPart<'_>) -> Result<(), Error> {
        let Some(columns) = self.original_columns() else {
            for query in queries {
                visit(query, 0, &self.row(query)?)?;
            }
            return Ok(());
        };
        columns.scan(queries, &|query, first, original| {
            let mut overlaps = vec![0.0; original.len()];
            let encoding = self.encodings.row(query);
            self.inverse.overlap(encoding, first, &mut overlaps);
            let mut distances = original.to_vec();
            self.combine(query, &overlaps, &mut distances);
            visit(query, first, &distances)
        })
    }
}

impl Reranked<'_> {
    /// The original distances by blocks, if they are needed and their images are not in memory.
    pub(super) fn original_columns(&self) -> Option<&dyn DistanceColumns> {
        if self.config.lambda > 0.0 {
            self.source.columns()
        } else {
            None
        }
    }

    fn row(&self, query: usize) -> Result<Vec<f32>, Error> {
        let mut row = vec![f32::NAN; self.gallery()];
        self.fill(query..query + 1, &mut row)?;
        Ok(row)
    }
}
