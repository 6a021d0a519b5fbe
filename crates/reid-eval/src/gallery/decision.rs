//! Search in a gallery, and decisions: which enrolled identity a query shows, or none.

use std::collections::HashMap;

use rayon::prelude::*;
use reid_core::Identity;
use serde::{Deserialize, Serialize};

use super::{
    EntryCombination, Gallery, GalleryError, GalleryFilter, ModelFingerprint, SearchEngine,
    prepared::Groups,
};
use crate::{
    Embeddings, distance::Distances, distance_rows::map_rows, ranking::nearest, screening::Screen,
};

/// An enrolled identity that a search found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GalleryMatch {
    /// The identity.
    pub identity: Identity,
    /// The distance of the query to the identity.
    pub distance: f32,
    /// The index in [`Gallery::entries`] of the nearest entry of the identity.
    pub entry: usize,
}

impl GalleryMatch {
    /// Creates a result of a [`SearchEngine`].
    #[must_use]
    pub fn new(identity: Identity, distance: f32, entry: usize) -> Self {
        Self {
            identity,
            distance,
            entry,
        }
    }
}

/// The decision about who a query shows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Decision {
    /// The nearest identity is within the threshold.
    Known {
        /// The nearest identity.
        found: GalleryMatch,
        /// The false accept rate of the threshold on the split that it was calibrated on: the fraction of
        /// pairs of images of different identities that it accepts.
        false_accept_rate: f64,
    },
    /// No identity is within the threshold.
    Unknown {
        /// The nearest identity, if there is one; its distance is above the threshold.
        nearest: Option<GalleryMatch>,
    },
}

impl Decision {
    /// The identity that the query shows; `None` if it is unknown.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        match self {
            Self::Known { found, .. } => Some(found.identity),
            Self::Unknown { .. } => None,
        }
    }
}

/// The distances of a query to the entries of one identity.
#[derive(Clone, Copy)]
struct ToIdentity {
    sum: f64,
    count: u32,
    nearest: (usize, f32),
}

impl ToIdentity {
    const NONE: Self = Self {
        sum: 0.0,
        count: 0,
        nearest: (0, f32::INFINITY),
    };

    fn add(&mut self, entry: usize, distance: f32) {
        self.sum += f64::from(distance);
        self.count += 1;
        if distance < self.nearest.1 {
            self.nearest = (entry, distance);
        }
    }
}

impl Gallery {
    /// Finds the `k` nearest identities of each query, nearest first, or all if there are fewer.
    ///
    /// Only entries that the filter accepts count. Identities at equal distances are returned in ascending
    /// order.
    ///
    /// Many queries are compared with all entries in blocks, on all threads. With at most four queries and a
    /// large gallery, a search for the nearest entries reads codes of one byte per value. It then reads only
    /// the few vectors that can be among the nearest. The results are bit-identical. The first such
    /// search computes the codes.
    ///
    /// # Errors
    /// [`GalleryError::Model`] or [`GalleryError::Dimensions`] if the queries do not belong to the model of
    /// the gallery, and [`GalleryError::Evaluation`] if a distance does not fit an `f32`.
    pub fn search(
        &self,
        model: &ModelFingerprint,
        queries: &Embeddings,
        filter: &GalleryFilter,
        k: usize,
    ) -> Result<Vec<Vec<GalleryMatch>>, GalleryError> {
        self.check_model(model, queries)?;
        let Some(side) = self.side.as_ref().filter(|side| side.len() > 0) else {
            return Ok(vec![Vec::new(); queries.len()]);
        };
        let groups = self.prepared.groups(&self.entries);
        let accepted = self.accepted(filter);
        let group = |entry: usize| {
            let accepted = accepted.as_ref().is_none_or(|accepted| accepted[entry]);
            accepted.then(|| groups.of_entry[entry])
        };
        let distances = Distances::to_side(queries, side)?;
        let nearest_entry = self.config.combination == EntryCombination::Nearest;
        if nearest_entry && Screen::pays(queries.len(), side.len(), k) {
            let screen = self.prepared.screen(side);
            let candidates = screen.candidates(&distances.query, k, group);
            let found = candidates.iter().enumerate().map(|(query, candidates)| {
                let distances = distances.to_some(query, candidates)?;
                let mut to: HashMap<usize, ToIdentity> = HashMap::new();
                for (entry, distance) in candidates.iter().zip(distances) {
                    let identity = to.entry(groups.of_entry[*entry]);
                    identity.or_insert(ToIdentity::NONE).add(*entry, distance);
                }
                Ok(self.select(groups, to.into_iter(), k))
            });
            return found.collect();
        }
        let found = map_rows(&distances, |_, row| {
            let mut to = vec![ToIdentity::NONE; groups.identities.len()];
            for (entry, distance) in row.iter().enumerate() {
                if let Some(group) = group(entry) {
                    to[group].add(entry, *distance);
                }
            }
            self.select(groups, to.into_iter().enumerate(), k)
        });
        Ok(found?)
    }

    /// Finds the `k` nearest entries of each query, nearest first, or all if there are fewer.
    ///
    /// Only entries that the filter accepts count. Entries at equal distances are returned in the order of their
    /// enrolment. The search reads codes of the vectors under the conditions of [`search`](Self::search).
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn nearest_entries(
        &self,
        model: &ModelFingerprint,
        queries: &Embeddings,
        filter: &GalleryFilter,
        k: usize,
    ) -> Result<Vec<Vec<GalleryMatch>>, GalleryError> {
        self.check_model(model, queries)?;
        let Some(side) = self.side.as_ref().filter(|side| side.len() > 0) else {
            return Ok(vec![Vec::new(); queries.len()]);
        };
        let accepted = self.accepted(filter);
        let is_accepted = |entry: usize| accepted.as_ref().is_none_or(|accepted| accepted[entry]);
        let matches = |found: Vec<(usize, f32)>| -> Vec<GalleryMatch> {
            let found = found.into_iter();
            found
                .map(|(entry, distance)| {
                    GalleryMatch::new(self.entries[entry].identity, distance, entry)
                })
                .collect()
        };
        let distances = Distances::to_side(queries, side)?;
        if Screen::pays(queries.len(), side.len(), k) {
            let screen = self.prepared.screen(side);
            let group = |entry: usize| is_accepted(entry).then_some(entry);
            let candidates = screen.candidates(&distances.query, k, group);
            let found = candidates.iter().enumerate().map(|(query, candidates)| {
                let distances = distances.to_some(query, candidates)?;
                Ok(matches(nearest(
                    candidates.iter().copied().zip(distances),
                    k,
                )))
            });
            return found.collect();
        }
        let found = map_rows(&distances, |_, row| {
            let entries = row.iter().copied().enumerate();
            matches(nearest(entries.filter(|(entry, _)| is_accepted(*entry)), k))
        });
        Ok(found?)
    }

    /// Whether the filter accepts each entry; `None` if it accepts all.
    fn accepted(&self, filter: &GalleryFilter) -> Option<Vec<bool>> {
        (!filter.accepts_all()).then(|| {
            let entries = self.entries.par_iter();
            entries.map(|entry| filter.accepts(entry)).collect()
        })
    }

    /// Returns the `k` nearest of the identities that have an entry, nearest first.
    fn select(
        &self,
        groups: &Groups,
        to: impl Iterator<Item = (usize, ToIdentity)>,
        k: usize,
    ) -> Vec<GalleryMatch> {
        let found = to.filter(|(_, to)| to.count > 0);
        let found = found.map(|(group, to)| GalleryMatch {
            identity: groups.identities[group],
            distance: self.combined(&to),
            entry: to.nearest.0,
        });
        let nearer = |one: &GalleryMatch, other: &GalleryMatch| {
            let by_distance = one.distance.total_cmp(&other.distance);
            by_distance.then(one.identity.cmp(&other.identity))
        };
        let mut found: Vec<GalleryMatch> = found.collect();
        if k < found.len() {
            found.select_nth_unstable_by(k, nearer);
            found.truncate(k);
        }
        found.sort_unstable_by(nearer);
        found
    }

    /// Decides for each query which enrolled identity it shows: the nearest one, if its distance is at most
    /// the threshold, and otherwise none.
    ///
    /// The false accept rate of a [`Threshold`](crate::Threshold) is that of one pair of images. If a query
    /// shows nobody in the gallery and `n` entries are compared, the probability that it is taken for any of
    /// them is at most `n · false_accept_rate`. Calibrate the threshold at a rate that is small enough for
    /// the size of the gallery.
    ///
    /// # Errors
    /// As [`search`](Self::search), and [`GalleryError::NoThreshold`] if the gallery has no threshold.
    pub fn decide(
        &self,
        model: &ModelFingerprint,
        queries: &Embeddings,
        filter: &GalleryFilter,
    ) -> Result<Vec<Decision>, GalleryError> {
        let threshold = self.threshold.as_ref().ok_or(GalleryError::NoThreshold)?;
        let found = self.search(model, queries, filter, 1)?;
        let decide = |found: Vec<GalleryMatch>| match found.first() {
            Some(found) if threshold.accepts(found.distance) => Decision::Known {
                found: *found,
                false_accept_rate: threshold.rates.false_accepts.value,
            },
            nearest => Decision::Unknown {
                nearest: nearest.copied(),
            },
        };
        Ok(found.into_iter().map(decide).collect())
    }

    #[expect(clippy::cast_possible_truncation, reason = "a mean of `f32` values")]
    fn combined(&self, to: &ToIdentity) -> f32 {
        match self.config.combination {
            EntryCombination::Nearest => to.nearest.1,
            EntryCombination::Mean => (to.sum / f64::from(to.count)) as f32,
        }
    }
}
