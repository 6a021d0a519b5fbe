//! Completes the recipe of a checkpoint, so that it can be compared with the recipe of the run.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::recipe::renamed;

/// Completes the recipe of a checkpoint with the defaults of settings that were added later. A value that
/// cannot be parsed as a recipe of type `R` is returned unchanged, so that the comparison with it reports a
/// difference.
pub(crate) fn with_defaults<R: Serialize + DeserializeOwned>(saved: &Value) -> Value {
    serde_json::from_value::<R>(renamed(saved.clone()))
        .and_then(serde_json::to_value)
        .unwrap_or_else(|_| saved.clone())
}
