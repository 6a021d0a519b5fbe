//! Open-set identification: some of those who are searched for are not in the gallery.

use std::collections::{BTreeSet, HashSet};

use rand::seq::SliceRandom;
use reid_core::{Identity, Seed};
use serde::{Deserialize, Serialize};

use crate::{Error, Labels, Relevance, RetrievalTask, evaluate::each_row, ranking::nearer};

/// How open-set identification is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpenSetConfig {
    /// The right answer has to be among so many; at least 1.
    pub rank: usize,
    /// Share of the identities of the queries that are taken out of the gallery, from 0 to 1: 0 where
    /// some queries have no match anyway.
    pub held_out: f64,
    /// Which identities.
    pub seed: Seed,
}

impl Default for OpenSetConfig {
    /// Rank 1, with half of the identities taken out.
    fn default() -> Self {
        Self {
            rank: 1,
            held_out: 0.5,
            seed: Seed::new(1),
        }
    }
}

impl OpenSetConfig {
    /// The same with another rank up to which a right answer counts.
    #[must_use]
    pub fn with_rank(self, rank: usize) -> Self {
        Self { rank, ..self }
    }

    /// The same with another share of identities that are taken out of the gallery.
    #[must_use]
    pub fn with_held_out(self, held_out: f64) -> Self {
        Self { held_out, ..self }
    }

    /// The same with other identities that are taken out of the gallery.
    #[must_use]
    pub fn with_seed(self, seed: Seed) -> Self {
        Self { seed, ..self }
    }
}

/// Identification where a query may show somebody who is not in the gallery: a system answers only if
/// the nearest image is near enough.
///
/// ```text
/// DIR(t)  queries in the gallery whose right answer is at rank ≤ r and within t / all of them
/// FAR(t)  queries not in the gallery that have any image within t / all of them
/// ```
///
/// Detection and identification rate at a false alarm rate: Phillips, Grother and Micheals, in
/// Handbook of Face Recognition (2011). Queries of unknown identity play no part, because nobody knows
/// whether they are in the gallery.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenSet {
    /// Distances of the right answers at a good rank, rising.
    identified: Vec<f32>,
    queries: OpenSetQueries,
    /// Distances of the nearest images to the queries that are not, rising.
    alarms: Vec<f32>,
}

/// How many queries there are, by whether the gallery shows whom they show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpenSetQueries {
    /// Queries in the gallery.
    pub in_gallery: usize,
    /// Queries that are not in the gallery.
    pub not_in_gallery: usize,
}

/// The result of one query.
enum Outcome {
    /// In the gallery; where its right answer is at a good rank, how far that is.
    InGallery(Option<f32>),
    /// Not in the gallery; how far the nearest image is, unless there is no image at all.
    NotInGallery(Option<f32>),
}

impl OpenSet {
    /// Asks for the distances of all queries.
    ///
    /// # Errors
    /// As [`evaluate_rows`](crate::evaluate_rows), and if no query has a match or all have one.
    ///
    /// ```
    /// use reid_core::Identity;
    /// use reid_eval::{Distances, Embeddings, Metric, OpenSet, OpenSetConfig, Protocol, RetrievalTask};
    ///
    /// let one = |values: &[f32], ids: &[i64]| {
    ///     Embeddings::new(values.to_vec(), 1, ids.iter().copied().map(Identity::new).collect())
    /// };
    /// // Identity 3 is not in the gallery; its nearest image is 3 away.
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
        let outcomes = each_row(task, |rule, row| {
            let mut right: Option<(usize, f32)> = None;
            let mut wrong: Vec<(usize, f32)> = Vec::new();
            for (image, distance) in row.iter().copied().enumerate() {
                let candidate = (image, distance);
                match rule.relevance(image) {
                    Relevance::Ignored | Relevance::Unknown => {}
                    _ if absent.contains(&task.gallery.identities()[image]) => {}
                    Relevance::Match => {
                        let nearest = right.is_none_or(|best| nearer(&candidate, &best).is_lt());
                        right = if nearest { Some(candidate) } else { right };
                    }
                    Relevance::NonMatch => wrong.push(candidate),
                }
            }
            let Some(right) = right else {
                let nearest = wrong.into_iter().min_by(nearer);
                return Outcome::NotInGallery(nearest.map(|(_, distance)| distance));
            };
            let before = wrong
                .iter()
                .filter(|image| nearer(image, &right).is_lt())
                .count();
            Outcome::InGallery((before < config.rank).then_some(right.1))
        })?;
        let mut queries = OpenSetQueries::default();
        let (mut identified, mut alarms) = (Vec::new(), Vec::new());
        for outcome in outcomes {
            match outcome {
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

    /// How many queries there are, in the gallery and not.
    #[must_use]
    pub fn queries(&self) -> OpenSetQueries {
        self.queries
    }

    /// The share of queries in the gallery that is found, when at most a share of `rate` of those that
    /// are not raises an alarm: DIR@FAR.
    #[must_use]
    pub fn detection_and_identification_rate(&self, rate: f64) -> f64 {
        // A threshold below the first alarm that is one too many. Shares are compared, not counts: 29/100 is
        // the number that is written 0.29, and 0.29 · 100 is less than 29.
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

/// The identities that are taken out of the gallery.
fn held_out(query: &Labels, config: &OpenSetConfig) -> Result<HashSet<Identity>, Error> {
    if !(0.0..=1.0).contains(&config.held_out) {
        return Err(Error::Share {
            setting: "the share of identities that are held out",
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

/// The number of `all` things whose share is nearest to this one, the larger of two. Shares are compared,
/// because a product is rounded: 0.29 · 50 is less than 14.5.
fn nearest_count(share: f64, all: usize) -> usize {
    let half_more = |count: usize| (2 * count + 1) as f64 / (2 * all) as f64;
    (0..all)
        .take_while(|&count| half_more(count) <= share)
        .count()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "shares of small counts are exact")]
mod tests {
    use super::*;
    use crate::{Protocol, evaluate::Matrix};

    fn labels(identities: &[i64]) -> Labels {
        Labels::new(identities.iter().copied().map(Identity::new).collect())
    }

    fn open(held_out: f64, rank: usize) -> Result<OpenSet, Error> {
        // 1 finds itself at 0.3, 2 behind a wrong image at 0.4 and 0.2; 3 and 4 are not there, and
        // are 0.25 and 0.5 from the nearest.
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
    fn by_hand() {
        let rates = |open: &OpenSet| {
            [0.0, 0.4, 0.5, 1.0].map(|rate| open.detection_and_identification_rate(rate))
        };
        let first = open(0.0, 1).expect("both kinds");
        let queries = first.queries();
        assert_eq!((queries.in_gallery, queries.not_in_gallery), (2, 2));
        // Without an alarm nothing below 0.25; with one everything below 0.5.
        assert_eq!(rates(&first), [0.0, 0.0, 0.5, 0.5]);
        assert_eq!(
            rates(&open(0.0, 2).expect("both kinds")),
            [0.0, 0.0, 1.0, 1.0]
        );
    }

    #[test]
    fn those_who_are_held_out_are_unknown() {
        // All four: nobody is left to be found.
        assert_eq!(
            open(1.0, 1).expect_err("nobody").to_string(),
            "open-set identification needs queries with and without a match in the gallery, found 0 and 4: \
             change the share of identities that are held out"
        );
        let half = open(0.5, 1).expect("seed 1 leaves one of the two");
        let queries = half.queries();
        assert_eq!(queries.in_gallery + queries.not_in_gallery, 4);
    }

    /// A hundred people of whom only the first is in the gallery, at 0.05; the others raise alarms at 0.1,
    /// 0.2, ….
    #[test]
    fn a_rate_allows_as_many_alarms_as_it_says() {
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
            // Between the last alarm that is allowed and the next.
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
    fn shares_of_a_count_are_those_that_are_written() {
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
    fn settings_that_mean_nothing_are_refused() {
        assert_eq!(
            open(0.0, 0).expect_err("no rank").to_string(),
            "the rank of open-set identification is 0, expected at least 1"
        );
        assert_eq!(
            open(-0.5, 1).expect_err("no share").to_string(),
            "the share of identities that are held out is -0.5, expected a share from 0 to 1"
        );
    }
}
