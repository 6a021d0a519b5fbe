//! Distance rows: distances of some queries at a time to the whole gallery, wherever they come from.

use std::ops::Range;

use rayon::prelude::*;

use crate::Error;

/// Most queries in a block: enough to keep a matrix product busy.
const BLOCK_QUERIES: usize = 128;
/// Most distances in a block unless one query has more: 64 MiB per thread, so that a gallery of a million
/// is read once for sixteen queries.
const BLOCK_DISTANCES: usize = 1 << 24;

/// A source of distances, a block of queries at a time: a metric, a matrix, a file or a device.
///
/// ```
/// use std::ops::Range;
/// use reid_core::Identity;
/// use reid_eval::{DistanceRows, Error, EvaluationConfig, Labels, Protocol, evaluate_rows};
///
/// /// Each image is where its number is.
/// struct Line;
///
/// impl DistanceRows for Line {
///     fn queries(&self) -> usize {
///         2
///     }
///     fn gallery(&self) -> usize {
///         3
///     }
///     fn fill(&self, queries: Range<usize>, rows: &mut [f32]) -> Result<(), Error> {
///         for (query, row) in queries.zip(rows.chunks_exact_mut(3)) {
///             for (image, distance) in row.iter_mut().enumerate() {
///                 *distance = query.abs_diff(image) as f32;
///             }
///         }
///         Ok(())
///     }
/// }
///
/// let query = Labels::new([1, 2].map(Identity::new).to_vec());
/// let gallery = Labels::new([1, 2, 1].map(Identity::new).to_vec());
/// let config = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
/// let report = evaluate_rows(&Line, &query, &gallery, &config)?;
/// assert_eq!(report.rank(1), 1.0);
/// # Ok::<(), reid_eval::Error>(())
/// ```
pub trait DistanceRows: Sync {
    /// Number of queries.
    fn queries(&self) -> usize;

    /// Number of gallery images.
    fn gallery(&self) -> usize;

    /// Writes the distances of some queries to the whole gallery, row by row; smaller is nearer.
    ///
    /// It is called from several threads at once, with ranges of any length; `rows` has as many
    /// values as queries times gallery images, and what is not written is refused.
    ///
    /// # Errors
    /// If they cannot be had; [`Error::Source`] is for reasons from outside.
    fn fill(&self, queries: Range<usize>, rows: &mut [f32]) -> Result<(), Error>;
}

/// Queries that are asked for at once: the blocks depend on the size of the gallery alone, not on
/// threads, and so do all roundings.
pub(crate) fn block_queries(gallery: usize) -> usize {
    (BLOCK_DISTANCES / gallery.max(1)).clamp(1, BLOCK_QUERIES)
}

/// Maps each query and its distances to the gallery, in the order of the queries, on all threads. Distances
/// are asked for a block of queries at a time and never kept.
pub(crate) fn map_rows<R: Send>(
    source: &(impl DistanceRows + ?Sized),
    map: impl Fn(usize, &[f32]) -> R + Sync,
) -> Result<Vec<R>, Error> {
    let (queries, images) = (source.queries(), source.gallery());
    let step = block_queries(images);
    let results = |block: usize| {
        let block = block * step..((block + 1) * step).min(queries);
        let rows = rows(source, block.clone())?;
        let rows = block.zip(rows.chunks_exact(images));
        Ok(rows.map(|(query, row)| map(query, row)).collect::<Vec<_>>())
    };
    let blocks: Vec<Result<_, Error>> = (0..queries.div_ceil(step))
        .into_par_iter()
        .map(results)
        .collect();
    // Joined in order, so that of several errors it is always the first that is reported.
    let mut all = Vec::with_capacity(queries);
    for block in blocks {
        all.extend(block?);
    }
    Ok(all)
}

/// The distances of some queries, none of which is infinite or not a number.
pub(crate) fn rows(
    source: &(impl DistanceRows + ?Sized),
    queries: Range<usize>,
) -> Result<Vec<f32>, Error> {
    let gallery = source.gallery();
    // What a source leaves out is no distance.
    let mut rows = vec![f32::NAN; queries.len() * gallery];
    source.fill(queries.clone(), &mut rows)?;
    for (query, row) in queries.zip(rows.chunks_exact(gallery)) {
        expect_finite(query, row)?;
    }
    Ok(rows)
}

/// Refuses distances that cannot be ranked.
fn expect_finite(query: usize, distances: &[f32]) -> Result<(), Error> {
    match distances.iter().position(|distance| !distance.is_finite()) {
        None => Ok(()),
        Some(gallery) => Err(Error::Distance { query, gallery }),
    }
}
