//! `PyTorch` checkpoints: reading what `torch.save` wrote.

use std::path::Path;

use burn::store::{
    bridge,
    burn_pack::Tensor,
    pytorch_reader::{PytorchError, PytorchReader},
};

use super::format::Format;
use crate::Error;

/// The keys under which training programs put the weights beside their other state.
const NESTS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// Reads the tensors of a checkpoint; their values are read from the file when they are asked for.
///
/// Where the weights are nested under one of [`NESTS`], only that part is read.
pub(super) fn read(path: &Path) -> Result<Vec<Tensor>, Error> {
    let damaged = |error: PytorchError| Format::PyTorch.damaged(path, error.to_string());
    let whole = PytorchReader::new(path).map_err(damaged)?;
    let nested = NESTS
        .into_iter()
        .find_map(|nest| nested(path, nest, &whole));
    let tensors = nested.unwrap_or(whole).into_tensors();
    Ok(tensors.into_values().map(bridge::from_pytorch).collect())
}

/// The part of a checkpoint under a top-level key. A flat state dict may have names that begin the
/// same way: it has no such key.
fn nested(path: &Path, nest: &str, whole: &PytorchReader) -> Option<PytorchReader> {
    let begins = |key: &String| key.starts_with(&format!("{nest}."));
    if !whole.tensors().keys().any(begins) {
        return None;
    }
    PytorchReader::with_top_level_key(path, nest).ok()
}
