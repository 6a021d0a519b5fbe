//! The state of a run without its tensors.

use std::{collections::BTreeMap, fs, path::Path};

use reid_data::loader::{AttributeClasses, Classes};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{fingerprint::Fingerprint, generations::MANIFEST};
use crate::{
    averaging::Averaged,
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
    /// The label of each training identity; empty in segmentation.
    pub(crate) classes: Classes,
    /// The classes of each attribute.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) attribute_classes: BTreeMap<String, AttributeClasses>,
    /// The current epoch, counted from 0.
    pub(crate) epoch: usize,
    /// The next step of the epoch, counted from 0.
    pub(crate) step: usize,
    /// The sums over the steps of the epoch so far.
    pub(crate) sums: Sums,
    /// The scale of the losses in half precision.
    #[serde(default)]
    pub(crate) loss_scale: LossScale,
    /// What is known about averaged weights, besides the average.
    #[serde(default)]
    pub(crate) averaged: Averaged,
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
    pub(crate) fn new(recipe: Value, images: Fingerprint) -> Self {
        Self {
            recipe,
            classes: Classes::default(),
            attribute_classes: BTreeMap::new(),
            epoch: 0,
            step: 0,
            sums: Sums::default(),
            loss_scale: LossScale::default(),
            averaged: Averaged::default(),
            history: Vec::new(),
            own_parts: BTreeMap::new(),
            images: Some(images),
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

#[cfg(test)]
mod tests {
    use reid_core::{Identity, Sample};

    use super::*;

    #[test]
    fn the_classes_of_attributes_are_saved() {
        let mut sample = Sample::new("1.jpg", Identity::new(1));
        sample.attributes.insert("colour".into(), "red".into());
        let samples = [sample];
        let mut state = State::new(Value::Null, Fingerprint::of_samples(&samples));
        state.attribute_classes = AttributeClasses::from_samples(&samples);
        let mut json = serde_json::to_value(&state).expect("plain data");
        assert_eq!(
            json["attribute_classes"],
            serde_json::json!({ "colour": ["red"] })
        );
        let read: State = serde_json::from_value(json.clone()).expect("its own JSON");
        assert_eq!(read.attribute_classes, state.attribute_classes);
        // A checkpoint from before they were saved.
        json.as_object_mut()
            .expect("an object")
            .remove("attribute_classes");
        let read: State = serde_json::from_value(json).expect("without attributes");
        assert!(read.attribute_classes.is_empty());
    }
}
