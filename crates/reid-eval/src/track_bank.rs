//! Track bank: the appearance of each track, as a mean of its embeddings that follows new ones.

mod state;

use std::collections::{BTreeMap, VecDeque};

use reid_core::{Problems, Track, Validate};
use serde::{Deserialize, Serialize};

use crate::{Distances, Embeddings, Error, Labels, Metric, distance_rows::map_rows};

/// The settings of a [`TrackBank`], which has an example.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TrackBankConfig {
    /// The weight α of the mean so far when an embedding is added, from 0 to below 1. Default: 0.9, as in
    /// `StrongSORT` (Du et al. 2023, arXiv:2202.13514).
    pub momentum: f64,
    /// The number of last embeddings of each track that are kept. Default: 0.
    pub recent: usize,
    /// What a new detection is compared with. Default: the mean.
    pub distance: TrackDistance,
    /// The number t of frames after which a track without a new embedding is forgotten; at least 1. Default:
    /// 30.
    pub max_age: u64,
}

/// What of a track a new detection is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TrackDistance {
    /// The mean of the track.
    Mean,
    /// The nearest of its last embeddings, as in `DeepSORT` (Wojke et al. 2017, arXiv:1703.07402).
    Nearest,
}

impl Default for TrackBankConfig {
    fn default() -> Self {
        Self {
            momentum: 0.9,
            recent: 0,
            distance: TrackDistance::Mean,
            max_age: 30,
        }
    }
}

impl TrackBankConfig {
    /// Sets the weight of the mean so far, from 0 to below 1.
    #[must_use]
    pub fn with_momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    /// Keeps the last `recent` embeddings of each track, and compares detections with the nearest of them.
    #[must_use]
    pub fn with_nearest_of(self, recent: usize) -> Self {
        Self {
            recent,
            distance: TrackDistance::Nearest,
            ..self
        }
    }

    /// Sets the number of frames after which a track is forgotten.
    #[must_use]
    pub fn with_max_age(self, max_age: u64) -> Self {
        Self { max_age, ..self }
    }
}

impl Validate for TrackBankConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.number("momentum", self.momentum, 0.0..1.0);
        let least = usize::from(self.distance == TrackDistance::Nearest);
        problems.count("recent", self.recent, least..=usize::MAX);
        problems.require("max_age", self.max_age > 0, "at least 1", self.max_age);
    }
}

/// The appearance of each track of a tracker: an exponential mean of its embeddings, and the last of them if
/// wanted.
///
/// With `u = e / ‖e‖` for each embedding `e`, the mean of a track is
///
/// ```text
/// m₁ = u₁
/// mₙ = v / ‖v‖,   v = α · mₙ₋₁ + (1 - α) · uₙ
/// ```
///
/// and the distance of a detection with embedding `e` to the track is
///
/// ```text
/// mean      d = 1 - u · mₙ
/// nearest   d = min over the last embeddings uᵢ of 1 - u · uᵢ
/// ```
///
/// A zero vector stays zero and has distance 1 to every vector. The values depend only on the calls, not on
/// the number of threads, and a bank that is saved by `serde` goes on as if it had not been saved.
///
/// ```
/// use reid_core::Track;
/// use reid_eval::{Embeddings, Labels, TrackBank, TrackBankConfig};
///
/// let embeddings = |values: &[f32]| {
///     Embeddings::from_parts(values.to_vec(), 2, Labels::unknown(values.len() / 2))
/// };
/// let mut bank = TrackBank::new(TrackBankConfig::default().with_max_age(10))?;
/// let [anna, ben] = [Track::new(1), Track::new(2)];
/// bank.update(0, &[anna, ben], &embeddings(&[1.0, 0.0, 0.0, 1.0])?)?;
///
/// let found = bank.distances(1, &embeddings(&[0.1, 5.0])?)?;
/// assert_eq!(found.tracks, [anna, ben]);
/// assert!(found.row(0)[1] < 0.001 && found.row(0)[0] > 0.9);
///
/// // Ben is seen again. Anna is forgotten after 10 frames.
/// bank.update(5, &[ben], &embeddings(&[0.1, 5.0])?)?;
/// assert_eq!(bank.advance(11)?, [anna]);
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "state::State", into = "state::State")]
pub struct TrackBank {
    config: TrackBankConfig,
    /// The last frame.
    frame: u64,
    /// The number of dimensions, from the first update on.
    dimensions: Option<usize>,
    tracks: BTreeMap<Track, Appearance>,
}

/// The appearance of one track.
#[derive(Clone, Debug, PartialEq)]
struct Appearance {
    last: u64,
    count: u64,
    mean: Vec<f32>,
    recent: VecDeque<Vec<f32>>,
}

/// The distances of detections to tracks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrackDistances {
    /// The tracks, in ascending order: one per column.
    pub tracks: Vec<Track>,
    /// The distances from 0 to 2, `[detections, tracks]`.
    pub values: Vec<f32>,
}

impl TrackDistances {
    /// The distances of the detection with this index, from 0, to every track: `[tracks]`.
    ///
    /// # Panics
    /// If there is no such detection. Without tracks, every row is empty.
    #[must_use]
    pub fn row(&self, detection: usize) -> &[f32] {
        let tracks = self.tracks.len();
        &self.values[detection * tracks..][..tracks]
    }
}

impl TrackBank {
    /// Creates a bank without tracks.
    ///
    /// # Errors
    /// [`Error::TrackBank`] if a setting is out of range.
    pub fn new(config: TrackBankConfig) -> Result<Self, Error> {
        let mut problems = Problems::new();
        config.validate(&mut problems);
        if !problems.is_empty() {
            return Err(Error::TrackBank { problems });
        }
        Ok(Self {
            config,
            frame: 0,
            dimensions: None,
            tracks: BTreeMap::new(),
        })
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &TrackBankConfig {
        &self.config
    }

    /// The tracks that are not forgotten, in ascending order.
    pub fn tracks(&self) -> impl Iterator<Item = Track> {
        self.tracks.keys().copied()
    }

    /// The mean of a track, `[dimensions]` of length 1, if the bank has the track.
    #[must_use]
    pub fn mean(&self, track: Track) -> Option<&[f32]> {
        Some(&self.tracks.get(&track)?.mean)
    }

    /// The number of embeddings that a track has received; 0 for a track that the bank does not have.
    #[must_use]
    pub fn updates(&self, track: Track) -> u64 {
        self.tracks.get(&track).map_or(0, |track| track.count)
    }

    /// Moves on to a frame and forgets the tracks whose last embedding is more than `max_age` frames older.
    /// Returns the forgotten tracks in ascending order.
    ///
    /// # Errors
    /// [`Error::FrameOrder`] if the frame is before that of an earlier call.
    pub fn advance(&mut self, frame: u64) -> Result<Vec<Track>, Error> {
        self.check_frame(frame)?;
        self.frame = frame;
        let max_age = self.config.max_age;
        let old = self
            .tracks
            .extract_if(.., |_, track| frame - track.last > max_age);
        Ok(old.map(|(track, _)| track).collect())
    }

    /// Adds the embeddings of the detections of a frame, `[detections, dimensions]`, to the tracks that they were
    /// assigned to: one track per row. A track that the bank does not have begins. Forgets and returns old tracks like
    /// [`advance`](Self::advance).
    ///
    /// # Errors
    /// If the numbers of tracks and embeddings differ, if the number of dimensions is not that of earlier
    /// calls, or if the frame is before that of an earlier call. The bank is then unchanged.
    pub fn update(
        &mut self,
        frame: u64,
        tracks: &[Track],
        embeddings: &Embeddings,
    ) -> Result<Vec<Track>, Error> {
        if tracks.len() != embeddings.len() {
            return Err(Error::Labels {
                labels: "tracks",
                expected: embeddings.len(),
                found: tracks.len(),
            });
        }
        self.check_dimensions(embeddings)?;
        let forgotten = self.advance(frame)?;
        if !tracks.is_empty() {
            self.dimensions = Some(embeddings.dimensions());
        }
        for (row, track) in tracks.iter().enumerate() {
            let unit = normalised(embeddings.row(row).iter().map(|value| f64::from(*value)));
            let added = self.tracks.entry(*track);
            let added = added.or_insert_with(|| Appearance::new(unit.len()));
            added.add(unit, frame, &self.config);
        }
        Ok(forgotten)
    }

    /// Computes the distances of the detections of a frame to every track that is not too old at that frame.
    ///
    /// # Errors
    /// If the number of dimensions is not that of earlier calls, or if the frame is before that of an earlier
    /// call.
    pub fn distances(&self, frame: u64, embeddings: &Embeddings) -> Result<TrackDistances, Error> {
        self.check_frame(frame)?;
        self.check_dimensions(embeddings)?;
        let (mut tracks, mut ends, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (track, appearance) in &self.tracks {
            if frame - appearance.last > self.config.max_age {
                continue;
            }
            match self.config.distance {
                TrackDistance::Mean => values.extend_from_slice(&appearance.mean),
                TrackDistance::Nearest => values.extend(appearance.recent.iter().flatten()),
            }
            tracks.push(*track);
            ends.push(values.len() / embeddings.dimensions());
        }
        let rows = ends.last().copied().unwrap_or(0);
        if rows == 0 {
            let values = Vec::new();
            return Ok(TrackDistances { tracks, values });
        }
        let known = Embeddings::from_parts(values, embeddings.dimensions(), Labels::unknown(rows))?;
        let distances = Distances::between(embeddings, &known, Metric::Cosine)?;
        let nearest = |_, row: &[f32]| {
            let mut start = 0;
            let of_track = |end: &usize| {
                let distances = &row[std::mem::replace(&mut start, *end)..*end];
                distances.iter().copied().fold(f32::INFINITY, f32::min)
            };
            ends.iter().map(of_track).collect::<Vec<f32>>()
        };
        let values = map_rows(&distances, nearest)?.concat();
        Ok(TrackDistances { tracks, values })
    }

    fn check_frame(&self, frame: u64) -> Result<(), Error> {
        if frame >= self.frame {
            return Ok(());
        }
        Err(Error::FrameOrder {
            expected: self.frame,
            found: frame,
        })
    }

    fn check_dimensions(&self, embeddings: &Embeddings) -> Result<(), Error> {
        let found = embeddings.dimensions();
        match self.dimensions {
            Some(expected) if expected != found => Err(Error::OtherDimensions {
                operation: "the track bank",
                expected,
                found,
            }),
            _ => Ok(()),
        }
    }
}

impl Appearance {
    fn new(dimensions: usize) -> Self {
        Self {
            last: 0,
            count: 0,
            mean: vec![0.0; dimensions],
            recent: VecDeque::new(),
        }
    }

    /// Adds an embedding of length 1.
    fn add(&mut self, unit: Vec<f32>, frame: u64, config: &TrackBankConfig) {
        let momentum = if self.count == 0 {
            0.0
        } else {
            config.momentum
        };
        let terms = self.mean.iter().zip(&unit);
        let sums = terms.map(|(mean, value)| {
            momentum * f64::from(*mean) + (1.0 - momentum) * f64::from(*value)
        });
        self.mean = normalised(sums);
        (self.last, self.count) = (frame, self.count + 1);
        if config.recent > 0 {
            if self.recent.len() == config.recent {
                self.recent.pop_front();
            }
            self.recent.push_back(unit);
        }
    }
}

/// Normalises a vector to length 1, in double precision; zeros stay zeros.
#[expect(clippy::cast_possible_truncation, reason = "values are at most 1")]
fn normalised(values: impl Iterator<Item = f64> + Clone) -> Vec<f32> {
    let squares: f64 = values.clone().map(|value| value * value).sum();
    let scale = if squares > 0.0 {
        1.0 / squares.sqrt()
    } else {
        0.0
    };
    values.map(|value| (value * scale) as f32).collect()
}
