//! Open-set identification: some queries show identities that are not in the gallery.

use std::{
    collections::{BTreeSet, HashSet},
    mem,
};

use rand::seq::SliceRandom;
use reid_core::{Identity, Seed};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Labels, Relevance, RetrievalTask,
    distance_columns::fold_rows,
    ranking::{Candidate, nearer, nearest},
    relevance::QueryRule,
};

/// The settings of open-set identification. [`OpenSet::from_task`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpenSetConfig {
    /// The last rank at which a match counts; at least 1, by default 1.
    pub rank: usize,
    /// The fraction of the query identities that are removed from the gallery, from 0 to 1; by default 0.5. Use 0
    /// if some queries have no match anyway.
    pub held_out: f64,
    /// The seed of the random choice of identities; by default 1.
    pub seed: Seed,
}

impl Default for OpenSetConfig {
    /// Rank 1, with half of the query identities removed from the gallery.
    fn default() -> Self {
        Self {
            rank: 1,
            held_out: 0.5,
            seed: Seed::new(1),
        }
    }
}

impl OpenSetConfig {
    /// Sets the last rank at which a match counts.
    #[must_use]
    pub fn with_rank(self, rank: usize) -> Self {
        Self { rank, ..self }
    }

    /// Sets the fraction of query identities that are removed from the gallery.
    #[must_use]
    pub fn with_held_out(self, held_out: f64) -> Self {
        Self { held_out, ..self }
    }

    /// Sets the seed of the choice of identities.
    #[must_use]
    pub fn with_seed(self, seed: Seed) -> Self {
        Self { seed, ..self }
    }
}

/// Open-set identification: a query may show an identity that is not in the gallery, and only gallery images
/// within a distance threshold t count as an answer.
///
/// ```text
/// DIR(t)  queries in the gallery with a match at rank ≤ r and distance ≤ t / all queries in the gallery
/// FAR(t)  queries not in the gallery with any image at distance ≤ t / all queries not in the gallery
/// ```
///
/// DIR is the detection and identification rate, FAR the false alarm rate (Phillips, Grother and Micheals,
/// in Handbook of Face Recognition, 2011). A query is *in the gallery* if it has a match there. Queries of
/// unknown identity are excluded, because they may or may not be in the gallery. [`from_task`](Self::from_task) has
/// an example.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenSet {
    /// Distances of the first matches up to rank r, ascending.
    identified: Vec<f32>,
    queries: OpenSetQueries,
    /// For queries not in the gallery, the distances of the nearest images, ascending.
    alarms: Vec<f32>,
}

/// The numbers of queries in the gallery and not in the gallery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpenSetQueries {
    /// Queries with a match in the gallery.
    pub in_gallery: usize,
    /// Queries without a match in the gallery.
    pub not_in_gallery: usize,
}

/// The result of one query.
enum Outcome {
    /// In the gallery, with the distance of the first match if its rank is good enough.
    InGallery(Option<f32>),
    /// Not in the gallery, with the distance of the nearest image, if any image is ranked.
    NotInGallery(Option<f32>),
}

impl OpenSet {
    /// Evaluates open-set identification on a retrieval task, with one pass over the distances. A gallery on disk is
    /// read once.
    ///
    /// # Errors
    /// The errors of [`evaluate_rows`](crate::evaluate_rows), and if a setting is out of range, if no query
    /// has a match, or if all queries have one.
    ///
    /// ```
    /// use reid_core::Identity;
    /// use reid_eval::{Distances, Embeddings, Metric, OpenSet, OpenSetConfig, Protocol, RetrievalTask};
    ///
    /// let one = |values: &[f32], ids: &[i64]| {
    ///     Embeddings::new(values.to_vec(), 1, ids.iter().copied().map(Identity::new).collect())
    /// };
    /// // Identity 3 is not in the gallery; its nearest image is at distance 3.
    /// let (query, gallery) = (one(&[0.0, 9.0, 4.0], &[1, 2, 3])?, one(&[1.0, 7.0], &[1, 2])?);
    /// let distances = Distances::between(&query, &gallery, Metric::Euclidean)?;
    /// let task = RetrievalTask::new(&distances, query.labels(), gallery.labels())
    ///     .with_protocol(&Protocol::NoCameras);
    /// let config = OpenSetConfig::default().with_held_out(0.0);
    /// let open = OpenSet::from_task(&task, &config)?;
    /// assert_eq!(open.detection_and_identification_rate(0.0), 1.0);
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    pub fn from_task(task: &RetrievalTask<'_>, config: &OpenSetConfig) -> Result<Self, Error> {
        if config.rank == 0 {
            return Err(Error::Setting {
                setting: "the rank of open-set identification",
            });
        }
        let absent = held_out(task.query, config)?;
        let identities = task.gallery.identities();
        let seen = fold_rows(
            task,
            |_| Seen::default(),
            |rule, seen, first, part| {
                let images = (first..).zip(part.iter().copied());
                let kept = images.filter(|(image, _)| !absent.contains(&identities[*image]));
                seen.add(rule, kept, config.rank);
            },
        )?;
        let mut queries = OpenSetQueries::default();
        let (mut identified, mut alarms) = (Vec::new(), Vec::new());
        for seen in seen {
            match seen.outcome(config.rank) {
                Outcome::InGallery(distance) => {
                    queries.in_gallery += 1;
                    identified.extend(distance);
                }
                Outcome::NotInGallery(distance) => {
                    queries.not_in_gallery += 1;
                    alarms.extend(distance);
                }
            }
        }
        let OpenSetQueries {
            in_gallery,
            not_in_gallery,
        } = queries;
        if in_gallery == 0 || not_in_gallery == 0 {
            return Err(Error::OpenSet {
                in_gallery,
                not_in_gallery,
            });
        }
        identified.sort_unstable_by(f32::total_cmp);
        alarms.sort_unstable_by(f32::total_cmp);
        Ok(Self {
            identified,
            queries,
            alarms,
        })
    }

    /// The numbers of queries in the gallery and not in the gallery.
    #[must_use]
    pub fn queries(&self) -> OpenSetQueries {
        self.queries
    }

    /// DIR at FAR: the detection and identification rate, from 0 to 1, at a false alarm rate of at most `rate`,
    /// from 0 to 1.
    #[must_use]
    pub fn detection_and_identification_rate(&self, rate: f64) -> f64 {
        // The threshold is below the first alarm that exceeds the rate. Fractions are compared instead of
        // counts, because 29/100 is the `f64` 0.29, but 0.29 · 100 is less than 29.
        let share = |count: usize| count as f64 / self.queries.not_in_gallery as f64;
        let too_many = (0..self.alarms.len()).find(|&count| share(count + 1) > rate);
        let found = match too_many {
            None => self.identified.len(),
            Some(alarm) => {
                let limit = self.alarms[alarm];
                self.identified
                    .partition_point(|distance| *distance < limit)
            }
        };
        found as f64 / self.queries.in_gallery as f64
    }
}

/// What was seen of the gallery images of a query.
#[derive(Default)]
struct Seen {
    first_match: Option<Candidate>,
    /// The nearest non-matches, nearest first, as many as the last rank at which a match counts.
    non_matches: Vec<Candidate>,
}

impl Seen {
    /// Adds gallery images, for matches up to rank `rank`.
    fn add(&mut self, rule: &QueryRule<'_>, images: impl Iterator<Item = Candidate>, rank: usize) {
        let mut non_matches = mem::take(&mut self.non_matches);
        for candidate in images {
            match rule.relevance(candidate.0) {
                Relevance::Ignored | Relevance::Unknown => {}
                Relevance::Match => {
                    let first = self.first_match.get_or_insert(candidate);
                    if nearer(&candidate, first).is_lt() {
                        *first = candidate;
                    }
                }
                Relevance::NonMatch => non_matches.push(candidate),
            }
        }
        self.non_matches = nearest(non_matches.into_iter(), rank);
    }

    fn outcome(&self, rank: usize) -> Outcome {
        let Some(first_match) = self.first_match else {
            let nearest = self.non_matches.first();
            return Outcome::NotInGallery(nearest.map(|(_, distance)| *distance));
        };
        let before = self.non_matches.iter();
        let before = before.filter(|&image| nearer(image, &first_match).is_lt());
        Outcome::InGallery((before.count() < rank).then_some(first_match.1))
    }
}

/// Draws the identities to remove from the gallery.
fn held_out(query: &Labels, config: &OpenSetConfig) -> Result<HashSet<Identity>, Error> {
    if !(0.0..=1.0).contains(&config.held_out) {
        return Err(Error::Share {
            setting: "`held_out` of open-set identification",
            found: config.held_out,
        });
    }
    let identities = query.identities().iter().copied();
    let all: BTreeSet<Identity> = identities
        .filter(|identity| !identity.is_unknown())
        .collect();
    let mut all: Vec<Identity> = all.into_iter().collect();
    all.shuffle(&mut config.seed.named("held out").stream());
    all.truncate(nearest_count(config.held_out, all.len()));
    Ok(all.into_iter().collect())
}

/// The count out of `all` whose fraction is nearest to `share`; of two equally near counts, the larger one.
///
/// Fractions are compared, because a product would be rounded: 0.29 · 50 is less than 14.5.
fn nearest_count(share: f64, all: usize) -> usize {
    let half_more = |count: usize| (2 * count + 1) as f64 / (2 * all) as f64;
    (0..all)
        .take_while(|&count| half_more(count) <= share)
        .count()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "fractions of small counts are exact")]
mod tests {
    use super::*;
    use crate::{Protocol, evaluate::Matrix};

    fn labels(identities: &[i64]) -> Labels {
        Labels::new(identities.iter().copied().map(Identity::new).collect())
    }

    fn open(held_out: f64, rank: usize) -> Result<OpenSet, Error> {
        // Query 1 has its match at 0.3, rank 1. Query 2 has it at 0.4, rank 2, after a non-match at 0.2.
        // Queries 3 and 4 are not in the gallery; their nearest images are at 0.25 and 0.5.
        #[rustfmt::skip]
        let values = &[
            0.30, 0.60,
            0.20, 0.40,
            0.25, 0.70,
            0.50, 0.80,
        ];
        let matrix = Matrix {
            values,
            queries: 4,
            gallery: 2,
        };
        let config = OpenSetConfig {
            rank,
            held_out,
            seed: Seed::new(1),
        };
        let (query, gallery) = (labels(&[1, 2, 3, 4]), labels(&[1, 2]));
        let task = RetrievalTask::new(&matrix, &query, &gallery);
        OpenSet::from_task(&task.with_protocol(&Protocol::NoCameras), &config)
    }

    #[test]
    fn rates_match_a_hand_computed_example() {
        let rates = |open: &OpenSet| {
            [0.0, 0.4, 0.5, 1.0].map(|rate| open.detection_and_identification_rate(rate))
        };
        let first = open(0.0, 1).expect("both kinds");
        let queries = first.queries();
        assert_eq!((queries.in_gallery, queries.not_in_gallery), (2, 2));
        // Without an alarm, distances below 0.25 count; with one alarm, distances below 0.5.
        assert_eq!(rates(&first), [0.0, 0.0, 0.5, 0.5]);
        assert_eq!(
            rates(&open(0.0, 2).expect("both kinds")),
            [0.0, 0.0, 1.0, 1.0]
        );
    }

    #[test]
    fn held_out_identities_are_not_in_the_gallery() {
        // With all four identities held out, no query is in the gallery.
        assert_eq!(
            open(1.0, 1).expect_err("no matches").to_string(),
            "open-set identification needs queries with and without a match in the gallery, found 0 and 4: \
             change `held_out`, the fraction of identities removed from the gallery"
        );
        let half = open(0.5, 1).expect("seed 1 holds out one of the two");
        let queries = half.queries();
        assert_eq!(queries.in_gallery + queries.not_in_gallery, 4);
    }

    /// 101 people, of whom only the first is in the gallery. The others are at distances of 0.15, 0.25, …
    /// from the only gallery image.
    #[test]
    fn a_rate_of_n_percent_allows_n_of_100_alarms() {
        let (people, alarms) = (101, 100_u8);
        let values: Vec<f32> = (0..people).map(|at| at as f32 / 10.0 + 0.05).collect();
        let identities: Vec<i64> = (1..=101).collect();
        let open = |known: f32| {
            let mut values = values.clone();
            values[0] = known;
            let matrix = Matrix {
                values: &values,
                queries: people,
                gallery: 1,
            };
            let config = OpenSetConfig::default().with_held_out(0.0);
            let (query, gallery) = (labels(&identities), labels(&[1]));
            let task = RetrievalTask::new(&matrix, &query, &gallery);
            let task = task.with_protocol(&Protocol::NoCameras);
            OpenSet::from_task(&task, &config).expect("both kinds")
        };
        for allowed in 0..alarms {
            let rate: f64 = format!("0.{allowed:02}").parse().expect("a number");
            // A match between the last allowed alarm and the next one.
            let open = open(values[usize::from(allowed)] + 0.05);
            let found = open.detection_and_identification_rate(rate);
            assert_eq!(found, 1.0, "{allowed} of {alarms} alarms at {rate}");
            if allowed > 0 {
                let fewer: f64 = format!("0.{:02}", allowed - 1).parse().expect("a number");
                assert_eq!(open.detection_and_identification_rate(fewer), 0.0);
            }
        }
    }

    #[test]
    fn fractions_of_a_count_are_rounded_exactly() {
        assert_eq!(nearest_count(0.29, 50), 15); // 14.5 as a product is 14.499999999999998
        assert_eq!(nearest_count(0.29, 100), 29);
        assert_eq!(
            [0.0, 0.5, 1.0].map(|share| nearest_count(share, 4)),
            [0, 2, 4]
        );
        assert_eq!([0.12, 0.13].map(|share| nearest_count(share, 4)), [0, 1]);
        assert_eq!(nearest_count(1.0, 0), 0);
    }

    #[test]
    fn invalid_settings_are_rejected() {
        assert_eq!(
            open(0.0, 0).expect_err("rank 0").to_string(),
            "the rank of open-set identification is 0, expected at least 1"
        );
        assert_eq!(
            open(-0.5, 1).expect_err("negative").to_string(),
            "`held_out` of open-set identification is -0.5, expected a fraction from 0 to 1"
        );
    }
}
