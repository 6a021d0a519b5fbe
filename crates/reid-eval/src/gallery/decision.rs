//! Search in a gallery, and decisions: which enrolled identity a query shows, or none.

use std::collections::BTreeSet;

use reid_core::Identity;
use serde::{Deserialize, Serialize};

use super::{EntryCombination, Gallery, GalleryError, GalleryFilter, ModelFingerprint};
use crate::{Embeddings, distance::Distances, distance_rows::map_rows, ranking::nearest};

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

impl Gallery {
    /// Finds the `k` nearest identities of each query, nearest first, or all if there are fewer.
    ///
    /// Only entries that the filter accepts count. Identities at equal distances are returned in ascending
    /// order. Every distance is computed, in blocks of queries, on all threads.
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
        self.check(model, queries)?;
        let Some(side) = self.side.as_ref().filter(|side| side.len() > 0) else {
            return Ok(vec![Vec::new(); queries.len()]);
        };
        let accepted: Vec<usize> = (0..self.entries.len())
            .filter(|entry| filter.accepts(&self.entries[*entry]))
            .collect();
        let of = |entry: &usize| self.entries[*entry].identity;
        let identities: BTreeSet<Identity> = accepted.iter().map(of).collect();
        let identities: Vec<Identity> = identities.into_iter().collect();
        // The index of each accepted entry's identity.
        let columns: Vec<(usize, usize)> = accepted
            .iter()
            .map(|entry| {
                (
                    *entry,
                    identities.partition_point(|other| *other < of(entry)),
                )
            })
            .collect();
        let distances = Distances::to_side(queries, side)?;
        let found = map_rows(&distances, |_, row| {
            let to = to_identities(row, &columns, identities.len());
            let candidates = to.iter().map(|to| self.combined(to)).enumerate();
            let nearest = nearest(candidates, k).into_iter();
            let found = nearest.map(|(index, distance)| GalleryMatch {
                identity: identities[index],
                distance,
                entry: to[index].nearest.0,
            });
            found.collect()
        });
        Ok(found?)
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

/// Collects the distances of a query by identity. `columns` are accepted entries with the indices of
/// their identities, each of which occurs.
fn to_identities(row: &[f32], columns: &[(usize, usize)], identities: usize) -> Vec<ToIdentity> {
    let none = ToIdentity {
        sum: 0.0,
        count: 0,
        nearest: (0, f32::INFINITY),
    };
    let mut all = vec![none; identities];
    for (entry, identity) in columns {
        let (to, distance) = (&mut all[*identity], row[*entry]);
        to.sum += f64::from(distance);
        to.count += 1;
        if distance < to.nearest.1 {
            to.nearest = (*entry, distance);
        }
    }
    all
}
