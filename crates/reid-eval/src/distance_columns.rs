//! Distance columns: a source of distances that reads the gallery block by block.

use std::{
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    Error, RetrievalTask,
    distance_rows::expect_finite,
    evaluate::{each_row, expect_labels},
    relevance::{ProtocolRule, QueryRule},
};

/// What [`DistanceColumns::scan`] calls for a part of a row of distances: with the index of the query, the
/// gallery index of the first distance, and the distances to consecutive gallery images.
pub type VisitPart<'a> = dyn Fn(usize, usize, &[f32]) -> Result<(), Error> + Sync + 'a;

/// A source of distances that reads its gallery block by block, because the gallery does not fit into memory.
///
/// [`DistanceRows::columns`](crate::DistanceRows::columns) returns one. An evaluation first asks for the
/// distances of all matches ([`pairs`](Self::pairs)), and then counts the images between them in one
/// [`scan`](Self::scan). It never holds a whole row of distances. Its results are bit-identical to those of the
/// same distances in rows.
///
/// ```
/// use std::ops::Range;
/// use reid_core::Identity;
/// use reid_eval::{
///     DistanceColumns, DistanceRows, Error, EvaluationConfig, Labels, Protocol, VisitPart, evaluate_rows,
/// };
///
/// /// Images on a line, each at the position of its index, in blocks of two.
/// struct Line;
///
/// fn distance(query: usize, image: usize) -> f32 {
///     query.abs_diff(image) as f32
/// }
///
/// impl DistanceRows for Line {
///     fn queries(&self) -> usize {
///         2
///     }
///     fn gallery(&self) -> usize {
///         4
///     }
///     fn fill(&self, queries: Range<usize>, rows: &mut [f32]) -> Result<(), Error> {
///         for (query, row) in queries.zip(rows.chunks_exact_mut(4)) {
///             row.copy_from_slice(&[0, 1, 2, 3].map(|image| distance(query, image)));
///         }
///         Ok(())
///     }
///     fn columns(&self) -> Option<&dyn DistanceColumns> {
///         Some(self)
///     }
/// }
///
/// impl DistanceColumns for Line {
///     fn pairs(&self, wanted: &[(usize, Vec<usize>)]) -> Result<Vec<Vec<f32>>, Error> {
///         let of = |(query, images): &(usize, Vec<usize>)| {
///             images.iter().map(|image| distance(*query, *image)).collect::<Vec<f32>>()
///         };
///         Ok(wanted.iter().map(of).collect())
///     }
///     fn scan(&self, queries: Range<usize>, visit: &VisitPart<'_>) -> Result<(), Error> {
///         for first in [0, 2] {
///             for query in queries.clone() {
///                 visit(query, first, &[0, 1].map(|at| distance(query, first + at)))?;
///             }
///         }
///         Ok(())
///     }
/// }
///
/// let query = Labels::new([1, 2].map(Identity::new).to_vec());
/// let gallery = Labels::new([1, 2, 1, 2].map(Identity::new).to_vec());
/// let config = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
/// let report = evaluate_rows(&Line, &query, &gallery, &config)?;
/// assert_eq!(report.rank(1), 1.0);
/// # Ok::<(), reid_eval::Error>(())
/// ```
pub trait DistanceColumns: Sync {
    /// Computes the distances from some queries to some gallery images each. Every item of `wanted` is the
    /// index of a query and the ascending indices of images; the result has the distances in the same order.
    ///
    /// # Errors
    /// If the distances cannot be computed or read.
    fn pairs(&self, wanted: &[(usize, Vec<usize>)]) -> Result<Vec<Vec<f32>>, Error>;

    /// Computes the distances from a range of queries to the whole gallery, and passes each of them to `visit`
    /// once. `visit` may be called from several threads at once and in any order.
    ///
    /// # Errors
    /// The errors of `visit`, and if the distances cannot be computed or read.
    fn scan(&self, queries: Range<usize>, visit: &VisitPart<'_>) -> Result<(), Error>;
}

/// Computes the distances of pairs, and checks that all are finite.
pub(crate) fn pairs(
    columns: &dyn DistanceColumns,
    wanted: &[(usize, Vec<usize>)],
) -> Result<Vec<Vec<f32>>, Error> {
    let found = columns.pairs(wanted)?;
    let mut lists = wanted.iter().zip(&found);
    let complete = lists.all(|((_, images), distances)| images.len() == distances.len());
    if found.len() != wanted.len() || !complete {
        let first = wanted.first().map_or(0, |(query, _)| *query);
        let last = wanted.last().map_or(0, |(query, _)| *query);
        let reason = "expected one distance for each pair of a query and an image".to_owned();
        return Err(Error::Source {
            first,
            last,
            reason,
        });
    }
    for ((query, images), distances) in wanted.iter().zip(&found) {
        if let Some(at) = distances.iter().position(|distance| !distance.is_finite()) {
            let (query, gallery) = (*query, images[at]);
            return Err(Error::Distance { query, gallery });
        }
    }
    Ok(found)
}

/// Scans a gallery of `gallery` images, and checks that all distances are there and finite.
pub(crate) fn scan(
    columns: &dyn DistanceColumns,
    gallery: usize,
    queries: Range<usize>,
    visit: impl Fn(usize, usize, &[f32]) + Sync,
) -> Result<(), Error> {
    let seen = AtomicUsize::new(0);
    columns.scan(queries.clone(), &|query, first, distances| {
        expect_finite(query, first, distances)?;
        seen.fetch_add(distances.len(), Ordering::Relaxed);
        visit(query, first, distances);
        Ok(())
    })?;
    let (expected, found) = (queries.len().saturating_mul(gallery), seen.into_inner());
    if expected == found {
        return Ok(());
    }
    let (first, last) = (queries.start, queries.end.saturating_sub(1));
    let reason = format!("expected {expected} distances in a scan of the gallery, found {found}");
    Err(Error::Source {
        first,
        last,
        reason,
    })
}

/// Folds the row of each query of known identity, part by part and in any order, and returns the results in
/// the order of the queries. `fold` gets the gallery index of the first distance of a part. If the source has
/// rows only, there is one part, the whole row.
pub(crate) fn fold_rows<S: Send>(
    task: &RetrievalTask<'_>,
    init: impl Fn(&QueryRule<'_>) -> S + Sync,
    fold: impl Fn(&QueryRule<'_>, &mut S, usize, &[f32]) + Sync,
) -> Result<Vec<S>, Error> {
    let Some(columns) = task.distances.columns() else {
        return each_row(task, |rule, row| {
            let mut state = init(rule);
            fold(rule, &mut state, 0, row);
            state
        });
    };
    let rule = ProtocolRule::new(task.protocol, task.query, task.gallery)?;
    expect_labels(task.distances, [task.query, task.gallery])?;
    let queries = 0..task.query.len();
    let begin = |query: usize| {
        let scored = rule.is_scored(query);
        scored.then(|| Mutex::new(init(&rule.at(query))))
    };
    let states: Vec<Option<Mutex<S>>> = queries.clone().map(begin).collect();
    scan(
        columns,
        task.gallery.len(),
        queries,
        |query, first, part| {
            if let Some(state) = &states[query] {
                fold(&rule.at(query), &mut lock(state), first, part);
            }
        },
    )?;
    Ok(states.into_iter().flatten().map(into_inner).collect())
}

/// Locks a state. A thread that panicked while it held the lock ends the whole call.
pub(crate) fn lock<S>(state: &Mutex<S>) -> MutexGuard<'_, S> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn into_inner<S>(state: Mutex<S>) -> S {
    state.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two queries and three images, whose distances are 0.5; some are lost or not finite.
    struct Halves {
        lost: usize,
        value: f32,
    }

    impl DistanceColumns for Halves {
        fn pairs(&self, wanted: &[(usize, Vec<usize>)]) -> Result<Vec<Vec<f32>>, Error> {
            let of = |(_, images): &(usize, Vec<usize>)| vec![self.value; images.len() - self.lost];
            Ok(wanted.iter().map(of).collect())
        }

        fn scan(&self, queries: Range<usize>, visit: &VisitPart<'_>) -> Result<(), Error> {
            for query in queries {
                visit(query, 0, &[0.5])?;
                visit(query, 1, &vec![self.value; 2 - self.lost])?;
            }
            Ok(())
        }
    }

    #[test]
    fn lost_and_infinite_distances_are_errors() {
        let message = |lost, value| {
            let source = Halves { lost, value };
            let pairs = pairs(&source, &[(1, vec![0, 2])]).expect_err("pairs");
            let scan = scan(&source, 3, 0..2, |_, _, _| {}).expect_err("a scan");
            [pairs, scan].map(|error| error.to_string())
        };
        let prefix = "cannot be used: expected";
        assert_eq!(
            message(1, 0.5),
            [
                format!(
                    "the distances of queries 1 to 1 (from 0) {prefix} one distance for each pair of a \
                     query and an image"
                ),
                format!(
                    "the distances of queries 0 to 1 (from 0) {prefix} 6 distances in a scan of the \
                     gallery, found 4"
                ),
            ]
        );
        let [pairs, scan] = message(0, f32::INFINITY);
        assert!(
            pairs.starts_with("the distance from query 1 to gallery image 0 "),
            "{pairs}"
        );
        assert!(
            scan.starts_with("the distance from query 0 to gallery image 1 "),
            "{scan}"
        );
    }
}
