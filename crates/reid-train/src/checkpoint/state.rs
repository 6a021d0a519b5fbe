//! The state of a run without its tensors.

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

/// The state of a run without its tensors. All random streams are functions of the seed, `epoch` and
/// `step`, so no state of a random number generator is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// The recipe, as JSON.
    pub(crate) recipe: Value,
    /// The label of each training identity.
    pub(crate) classes: Classes,
    /// The current epoch, counted from 0.
    pub(crate) epoch: usize,
    /// The next step of the epoch, counted from 0.
    pub(crate) step: usize,
    /// The sums over the steps of the epoch so far.
    pub(crate) sums: Sums,
    /// The scale of the losses in half precision.
    #[serde(default)]
    pub(crate) loss_scale: LossScale,
    /// The summaries of the finished epochs. An epoch is saved before its evaluation, so the scores of the
    /// last one are in `last.json` and not here.
    pub(crate) history: Vec<EpochSummary>,
    /// The `Debug` output of custom parts, which are not in the recipe.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) own_parts: BTreeMap<String, String>,
    /// The fingerprint of the training images; `None` in checkpoints of version 0.1.
    #[serde(default)]
    pub(crate) images: Option<Fingerprint>,
    /// The length of each file in checkpoints of version 0.1, which have no manifest.
    #[serde(default, skip_serializing)]
    pub(crate) lengths: Vec<(String, u64)>,
}

impl State {
    /// The state of a new run.
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
    /// Verifies the lengths of the files of a checkpoint of version 0.1.
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
