//! Exact nearest-neighbour search in a gallery, without a matrix of all distances.

use std::{path::Path, sync::OnceLock};

use reid_core::{Identity, Split};
use serde::Serialize;

use crate::{
    Embeddings, Error, Metric,
    distance::{Distances, Side},
    distance_rows::map_rows,
    ranking::nearest,
    screening::Screen,
};

/// A gallery image that a search found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Neighbour<'a> {
    /// Index of the gallery image, from 0.
    pub index: usize,
    /// Its distance to the query, by the metric of the search.
    pub distance: f32,
    /// Its identity.
    pub identity: Identity,
    /// Its file, if known.
    pub path: Option<&'a Path>,
}

/// A gallery prepared for repeated exact searches.
///
/// The lengths of the gallery vectors are computed once, in [`Index::new`]. The first search of at most four
/// queries in a large gallery also computes codes of one byte per value, in about the time of one search without
/// them. Such searches then read only the codes and the few vectors that can be among the nearest. They are
/// faster by a factor of about four, and the results are bit-identical.
///
/// ```
/// use reid_eval::{Embeddings, Index, Labels, Metric};
///
/// let line = |values: &[f32]| Embeddings::from_parts(values.to_vec(), 1, Labels::unknown(values.len()));
/// let gallery = line(&[5.0, 1.0, 3.0])?;
/// let index = Index::new(&gallery, Metric::Euclidean)?;
/// for (query, nearest) in [(0.0, 1), (9.0, 0)] {
///     let found = index.search(&line(&[query])?, 1)?;
///     assert_eq!(found[0][0].index, nearest);
/// }
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Debug)]
pub struct Index<'a> {
    gallery: &'a Embeddings,
    side: Side<'a>,
    screen: OnceLock<Screen>,
}

impl<'a> Index<'a> {
    /// Creates an index of a gallery for one metric.
    ///
    /// # Errors
    /// If the gallery is empty.
    pub fn new(gallery: &'a Embeddings, metric: Metric) -> Result<Self, Error> {
        if gallery.is_empty() {
            return Err(Error::Empty {
                split: Split::Gallery,
            });
        }
        Ok(Self {
            gallery,
            side: Side::new(gallery, metric),
            screen: OnceLock::new(),
        })
    }

    /// Finds the `k` nearest gallery images of each query, nearest first, or all images if the gallery has
    /// fewer.
    ///
    /// Images at equal distances are returned in gallery order. The distances are bit-identical to those of
    /// [`evaluate`](crate::evaluate()). They are computed in blocks of queries, on all threads, and only the
    /// `k` nearest per query are kept.
    ///
    /// # Errors
    /// If query and gallery have different dimensions, or if a distance does not fit an `f32`.
    pub fn search(&self, query: &Embeddings, k: usize) -> Result<Vec<Vec<Neighbour<'a>>>, Error> {
        let distances = Distances::to_side(query, &self.side)?;
        if Screen::pays(query.len(), self.side.len(), k) {
            let screen = self.screen.get_or_init(|| Screen::new(&self.side));
            let candidates = screen.candidates(&distances.query, k, Some);
            let found = candidates.iter().enumerate().map(|(query, candidates)| {
                let distances = distances.to_some(query, candidates)?;
                let candidates = candidates.iter().copied().zip(distances);
                Ok(self.neighbours(candidates, k))
            });
            return found.collect();
        }
        map_rows(&distances, |_, row| {
            self.neighbours(row.iter().copied().enumerate(), k)
        })
    }

    fn neighbours(
        &self,
        candidates: impl Iterator<Item = (usize, f32)>,
        k: usize,
    ) -> Vec<Neighbour<'a>> {
        let found = nearest(candidates, k).into_iter();
        found
            .map(|(index, distance)| self.neighbour(index, distance))
            .collect()
    }

    fn neighbour(&self, index: usize, distance: f32) -> Neighbour<'a> {
        Neighbour {
            index,
            distance,
            identity: self.gallery.identities()[index],
            path: self.gallery.path(index),
        }
    }
}

impl Embeddings {
    /// Finds the `k` images of this gallery that are nearest to each query by cosine distance, nearest first,
    /// or all images if the gallery has fewer.
    ///
    /// Use [`Index`] for other metrics and for many searches of one gallery. No protocol is applied, so junk
    /// is found too; use [`ranked_list`](crate::ranked_list()) for a list under a protocol.
    ///
    /// # Errors
    /// If the gallery is empty, or if query and gallery have different dimensions.
    ///
    /// ```
    /// use reid_eval::{Embeddings, Labels};
    ///
    /// let gallery = Embeddings::from_parts(vec![0.0, 1.0, 1.0, 0.1], 2, Labels::unknown(2))?
    ///     .with_paths(vec!["ben.jpg".into(), "anna.jpg".into()])?;
    /// let query = Embeddings::from_parts(vec![1.0, 0.0], 2, Labels::unknown(1))?;
    /// let found = gallery.search(&query, 1)?;
    /// assert_eq!((found[0][0].index, found[0][0].path), (1, Some("anna.jpg".as_ref())));
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    pub fn search(&self, query: &Self, k: usize) -> Result<Vec<Vec<Neighbour<'_>>>, Error> {
        Index::new(self, Metric::Cosine)?.search(query, k)
    }
}
