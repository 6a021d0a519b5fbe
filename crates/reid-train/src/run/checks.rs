//! Checks of a run: the recipe of a checkpoint, and the batches of a sampler.

use reid_core::Sample;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    error::Error,
    recipe::{Recipe, renamed},
};

/// Completes the recipe of a checkpoint with the defaults of settings that were added later. A value that
/// cannot be parsed as a recipe is returned unchanged, so that the comparison with it reports a difference.
pub(super) fn with_defaults<N, L>(saved: &Value) -> Value
where
    N: Serialize + DeserializeOwned,
    L: Serialize + DeserializeOwned,
{
    serde_json::from_value::<Recipe<N, L>>(renamed(saved.clone()))
        .and_then(serde_json::to_value)
        .unwrap_or_else(|_| saved.clone())
}

/// Rejects batches of a custom sampler that cannot be trained on.
pub(super) fn expect_batches(batches: &[Vec<usize>], samples: &[Sample]) -> Result<(), Error> {
    let beyond = batches
        .iter()
        .flatten()
        .find(|&&index| index >= samples.len());
    let reason = match beyond {
        _ if batches.is_empty() => "an epoch without batches".to_owned(),
        Some(index) => {
            let count = samples.len();
            format!("a batch with the sample index {index} of only {count} samples")
        }
        None if batches.iter().any(Vec::is_empty) => "a batch without images".to_owned(),
        None => return Ok(()),
    };
    Err(reid_data::Error::Sampling { reason }.into())
}
