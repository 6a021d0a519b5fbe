//! Distance rows: a source of distances that computes one block of query rows at a time.

use std::ops::Range;

use rayon::prelude::*;

use crate::{DistanceColumns, Error};

/// The maximum number of queries in a block, large enough for an efficient matrix product.
const BLOCK_QUERIES: usize = 128;
/// The maximum number of distances in a block of several queries: 64 MiB per thread. With a gallery of a
/// million images, a block has 16 queries.
const BLOCK_DISTANCES: usize = 1 << 24;

/// A source of distances from queries to a gallery, such as a metric, a matrix, a file or a device.
///
/// An evaluation requests one block of query rows at a time, so the full Q x G matrix is never held.
///
/// ```
/// use std::ops::Range;
/// use reid_core::Identity;
/// use reid_eval::{DistanceRows, Error, EvaluationConfig, Labels, Protocol, evaluate_rows};
///
/// /// Images on a line, each at the position of its index.
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
    /// The number of queries.
    fn queries(&self) -> usize;

    /// The number of gallery images.
    fn gallery(&self) -> usize;

    /// Writes the distances from a range of queries to the whole gallery into `rows`, row by row.
    ///
    /// `rows` is `[queries.len(), self.gallery()]`. A smaller distance means more similar. The caller
    /// treats a value that is not written as an error. `fill` is called from several threads at once, with
    /// ranges of any length.
    ///
    /// # Errors
    /// If the distances cannot be computed or read. Use [`Error::Source`] for causes outside this crate.
    fn fill(&self, queries: Range<usize>, rows: &mut [f32]) -> Result<(), Error>;

    /// The same distances by blocks of the gallery, for a source that holds the queries but not the gallery.
    /// By default `None`.
    ///
    /// Evaluation, verification, thresholds and open-set identification then read the gallery a few times in all,
    /// instead of once for each block of queries. Everything else calls [`fill`](Self::fill).
    fn columns(&self) -> Option<&dyn DistanceColumns> {
        None
    }
}

/// The number of queries in a block. It depends only on the size of the gallery, so the rounding of distances
/// does not depend on the number of threads.
pub(crate) fn block_queries(gallery: usize) -> usize {
    (BLOCK_DISTANCES / gallery.max(1)).clamp(1, BLOCK_QUERIES)
}

/// Maps each query and its row of distances, on all threads, and returns the results in the order of the
/// queries. Only one block of distances per thread is held.
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
    // The blocks are concatenated in order, so of several errors the first one is always reported.
    let mut all = Vec::with_capacity(queries);
    for block in blocks {
        all.extend(block?);
    }
    Ok(all)
}

/// Computes the rows of a range of queries and checks that all distances are finite.
pub(crate) fn rows(
    source: &(impl DistanceRows + ?Sized),
    queries: Range<usize>,
) -> Result<Vec<f32>, Error> {
    let gallery = source.gallery();
    // A distance that the source does not write stays NaN, which is rejected below.
    let mut rows = vec![f32::NAN; queries.len() * gallery];
    source.fill(queries.clone(), &mut rows)?;
    for (query, row) in queries.zip(rows.chunks_exact(gallery)) {
        expect_finite(query, 0, row)?;
    }
    Ok(rows)
}

/// Returns an error for the first distance that is infinite or NaN. `first` is the gallery index of the first
/// distance.
pub(crate) fn expect_finite(query: usize, first: usize, distances: &[f32]) -> Result<(), Error> {
    match distances.iter().position(|distance| !distance.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let gallery = first + at;
            Err(Error::Distance { query, gallery })
        }
    }
}
