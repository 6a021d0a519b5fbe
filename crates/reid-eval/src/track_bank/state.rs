//! The state of a track bank in a file, which is validated when it is read.

use std::collections::{BTreeMap, VecDeque};

use reid_core::Track;
use serde::{Deserialize, Serialize};

use super::{Appearance, TrackBank, TrackBankConfig};

/// A track bank as it is serialised.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    config: TrackBankConfig,
    frame: u64,
    dimensions: Option<usize>,
    tracks: Vec<StoredTrack>,
}

/// One track as it is serialised.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredTrack {
    track: Track,
    last: u64,
    count: u64,
    mean: Vec<f32>,
    #[serde(default)]
    recent: VecDeque<Vec<f32>>,
}

impl From<TrackBank> for State {
    fn from(bank: TrackBank) -> Self {
        let tracks = bank.tracks.into_iter();
        let tracks = tracks.map(|(track, appearance)| StoredTrack {
            track,
            last: appearance.last,
            count: appearance.count,
            mean: appearance.mean,
            recent: appearance.recent,
        });
        Self {
            config: bank.config,
            frame: bank.frame,
            dimensions: bank.dimensions,
            tracks: tracks.collect(),
        }
    }
}

impl TryFrom<State> for TrackBank {
    type Error = String;

    fn try_from(state: State) -> Result<Self, String> {
        let bank = Self::new(state.config).map_err(|error| error.to_string())?;
        let mut tracks = BTreeMap::new();
        for stored in state.tracks {
            let track = stored.track;
            stored.check(&state.config, state.frame, state.dimensions)?;
            let appearance = Appearance {
                last: stored.last,
                count: stored.count,
                mean: stored.mean,
                recent: stored.recent,
            };
            if tracks.insert(track, appearance).is_some() {
                return Err(format!("expected each track once, found {track} twice"));
            }
        }
        Ok(Self {
            frame: state.frame,
            dimensions: state.dimensions,
            tracks,
            ..bank
        })
    }
}

impl StoredTrack {
    /// Checks what the bank relies on.
    fn check(
        &self,
        config: &TrackBankConfig,
        frame: u64,
        dimensions: Option<usize>,
    ) -> Result<(), String> {
        let Self { track, last, .. } = self;
        if *last > frame {
            return Err(format!(
                "track {track}: expected a last frame of at most {frame}, found {last}"
            ));
        }
        let expected =
            usize::try_from(self.count).map_or(config.recent, |count| count.min(config.recent));
        if self.count == 0 || self.recent.len() != expected {
            return Err(format!(
                "track {track}: expected at least 1 update and {expected} last embeddings, found {} and {}",
                self.count,
                self.recent.len()
            ));
        }
        for vector in self.recent.iter().chain([&self.mean]) {
            let squares: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
            let unit = squares == 0.0 || (squares - 1.0).abs() < 1e-3;
            if Some(vector.len()) != dimensions || !unit {
                return Err(format!(
                    "track {track}: expected vectors of length 1 with {} values, found one of length {} with \
                     {} values",
                    dimensions.unwrap_or(0),
                    squares.sqrt(),
                    vector.len()
                ));
            }
        }
        Ok(())
    }
}
