//! Open-set identification: some of those who are searched for are not in the gallery.

use std::collections::{BTreeSet, HashSet};

use rand::seq::SliceRandom;
use reid_core::{Identity, Seed};
use serde::{Deserialize, Serialize};

use crate::{Error, Labels, Relevance, RetrievalTask, evaluate::each_row, ranking::nearer};

/// How open-set identification is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// Identification where a query may show somebody who is not in the gallery: a system answers only if
/// the nearest image is near enough.
///
/// ```text
/// DIR(t)  queries in the gallery whose right answer is at rank ≤ r and within t / all of them
/// FAR(t)  queries not in the gallery that have any image within t / all of them
/// ```
///
/// Detection and identification rate at a false alarm rate: Phillips, Grother and Micheals, in
/// Handbook of Face Recognition (2011).
#[derive(Clone, Debug, PartialEq)]
pub struct OpenSet {
    /// Distances of the right answers at a good rank, rising.
    identified: Vec<f32>,
    /// Queries in the gallery.
    known: usize,
    /// Distances of the nearest images to the queries that are not, rising.
    alarms: Vec<f32>,
    /// Queries that are not in the gallery: some may meet no image at all.
    unknown: usize,
}

/// What becomes of one query.
enum Fate {
    /// In the gallery; where its right answer is at a good rank, how far that is.
    Known(Option<f32>),
    /// Not in the gallery; how far the nearest image is.
    Unknown(Option<f32>),
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
    /// let task = RetrievalTask {
    ///     distances: &distances,
    ///     query: query.labels(),
    ///     gallery: gallery.labels(),
    ///     protocol: Protocol::NoCameras,
    /// };
    /// let config = OpenSetConfig { held_out: 0.0, ..OpenSetConfig::default() };
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
        let fates = each_row(task, |rule, query, row| {
            let mut right: Option<(usize, f32)> = None;
            let mut wrong: Vec<(usize, f32)> = Vec::new();
            for (image, distance) in row.iter().copied().enumerate() {
                let candidate = (image, distance);
                match rule.relevance(query, image) {
                    Relevance::Ignored => {}
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
                return Fate::Unknown(nearest.map(|(_, distance)| distance));
            };
            let before = wrong.iter().filter(|of| nearer(of, &right).is_lt()).count();
            Fate::Known((before < config.rank).then_some(right.1))
        })?;
        let (mut known, mut unknown) = (0, 0);
        let (mut identified, mut alarms) = (Vec::new(), Vec::new());
        for fate in fates {
            match fate {
                Fate::Known(distance) => {
                    known += 1;
                    identified.extend(distance);
                }
                Fate::Unknown(distance) => {
                    unknown += 1;
                    alarms.extend(distance);
                }
            }
        }
        if known == 0 || unknown == 0 {
            return Err(Error::OpenSet { known, unknown });
        }
        identified.sort_unstable_by(f32::total_cmp);
        alarms.sort_unstable_by(f32::total_cmp);
        Ok(Self {
            identified,
            known,
            alarms,
            unknown,
        })
    }

    /// Queries in the gallery, and queries that are not.
    #[must_use]
    pub fn queries(&self) -> [usize; 2] {
        [self.known, self.unknown]
    }

    /// The share of queries in the gallery that is found, when at most a share of `rate` of those that
    /// are not raises an alarm: DIR@FAR.
    #[must_use]
    pub fn detection_and_identification_rate(&self, rate: f64) -> f64 {
        // A threshold below the first alarm that is one too many. Shares are compared, not counts: 29/100 is
        // the number that is written 0.29, and 0.29 · 100 is less than 29.
        let share = |count: usize| count as f64 / self.unknown as f64;
        let too_many = (0..self.alarms.len()).find(|&count| share(count + 1) > rate);
        let found = match too_many {
            None => self.identified.len(),
            Some(alarm) => {
                let limit = self.alarms[alarm];
                self.identified
                    .partition_point(|distance| *distance < limit)
            }
        };
        found as f64 / self.known as f64
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
    let all: BTreeSet<Identity> = query.identities().iter().copied().collect();
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
        let task = RetrievalTask {
            distances: &matrix,
            query: &labels(&[1, 2, 3, 4]),
            gallery: &labels(&[1, 2]),
            protocol: Protocol::NoCameras,
        };
        OpenSet::from_task(&task, &config)
    }

    #[test]
    fn by_hand() {
        let rates = |open: &OpenSet| {
            [0.0, 0.4, 0.5, 1.0].map(|rate| open.detection_and_identification_rate(rate))
        };
        let first = open(0.0, 1).expect("both kinds");
        assert_eq!(first.queries(), [2, 2]);
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
            "expected queries with and without a match in the gallery, found 0 and 4"
        );
        let half = open(0.5, 1).expect("seed 1 leaves one of the two");
        assert_eq!(half.queries().iter().sum::<usize>(), 4);
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
            let config = OpenSetConfig {
                held_out: 0.0,
                ..OpenSetConfig::default()
            };
            let task = RetrievalTask {
                distances: &matrix,
                query: &labels(&identities),
                gallery: &labels(&[1]),
                protocol: Protocol::NoCameras,
            };
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
