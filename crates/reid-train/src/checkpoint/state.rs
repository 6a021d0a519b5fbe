//! The state of a run but for its tensors.

use std::{collections::BTreeMap, fs, path::Path};

use reid_core::Sample;
use reid_data::loader::Classes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{fingerprint::Fingerprint, generations::MANIFEST};
use crate::{
    error::{Error, at},
    history::{EpochSummary, Sums},
    scaling::LossScale,
};

/// Everything of a run but tensors. The data order and every random draw are functions of the
/// recipe's seed and of `epoch` and `step`, so no generator is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// The recipe, as JSON.
    pub(crate) recipe: Value,
    /// The class number of each training identity.
    pub(crate) classes: Classes,
    /// The epoch under way, counted from 0.
    pub(crate) epoch: usize,
    /// Its next step, counted from 0.
    pub(crate) step: usize,
    /// Its sums so far.
    pub(crate) sums: Sums,
    /// What losses are scaled by in half precision.
    #[serde(default)]
    pub(crate) loss_scale: LossScale,
    /// What the epochs so far came to. An epoch is saved before it is evaluated, so the scores of the last
    /// one are not here but in `last.json`.
    pub(crate) history: Vec<EpochSummary>,
    /// Parts of one's own that the recipe does not name, as their `Debug` describes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) own_parts: BTreeMap<String, String>,
    /// The training images; none in checkpoints of version 0.1.
    #[serde(default)]
    pub(crate) images: Option<Fingerprint>,
    /// The length of each file in checkpoints of version 0.1, which have no manifest.
    #[serde(default, skip_serializing)]
    pub(crate) lengths: Vec<(String, u64)>,
}

impl State {
    /// A run at its beginning.
    pub(crate) fn new(recipe: Value, classes: Classes, samples: &[Sample]) -> Self {
        Self {
            recipe,
            classes,
            epoch: 0,
            step: 0,
            sums: Sums::default(),
            loss_scale: LossScale::default(),
            history: Vec::new(),
            own_parts: BTreeMap::new(),
            images: Some(Fingerprint::of_samples(samples)),
            lengths: Vec::new(),
        }
    }
}

impl State {
    /// Compares the files of a checkpoint of version 0.1 with the lengths that it notes.
    pub(super) fn verify_lengths(&self, checkpoint: &Path) -> Result<(), Error> {
        if self.lengths.is_empty() {
            return Err(Error::Damaged {
                path: checkpoint.join(MANIFEST),
            });
        }
        for (name, expected) in &self.lengths {
            let path = checkpoint.join(name);
            let found = fs::metadata(&path).map_err(at(&path))?.len();
            if found != *expected {
                return Err(Error::Truncated {
                    path,
                    expected: *expected,
                    found,
                });
            }
        }
        Ok(())
    }
}
