//! `PyTorch` checkpoints: reads files that `torch.save` wrote.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use burn::store::{
    bridge,
    burn_pack::Tensor,
    pytorch_reader::{PickleValue, PytorchError, PytorchReader},
};

use super::format::Format;
use crate::Error;

/// The keys under which training programs store the weights, beside other state.
const NESTS: [&str; 12] = [
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "params_ema",
    "ema",
    "ema_state_dict",
    "student",
    "teacher",
];

/// The prefixes of keys that hold other state than weights.
const OTHERS: [&str; 5] = ["optim", "sched", "lr_sched", "scaler", "amp"];

/// The number of bytes at the end of an archive in which the names of its files are searched.
const DIRECTORY: u64 = 1 << 20;

/// Reads the tensors of a checkpoint. Their values are read from the file only when they are used.
///
/// If the weights are nested under a key, beside other state, only the tensors under this key are read: `nest` if it
/// is given, otherwise the only key that can hold the weights.
pub(super) fn read(path: &Path, nest: Option<&str>) -> Result<Vec<Tensor>, Error> {
    let refused = |error| refusal(path, error);
    let reader = if let Some(nest) = nest {
        PytorchReader::with_top_level_key(path, nest).map_err(refused)?
    } else {
        let whole = PytorchReader::new(path).map_err(refused)?;
        let content = PytorchReader::read_pickle_data(path, None).map_err(refused)?;
        match nested(path, &content, &whole)? {
            Some(nest) => PytorchReader::with_top_level_key(path, nest).map_err(refused)?,
            None => whole,
        }
    };
    if reader.is_empty() {
        return Err(other(path, "a checkpoint without tensors"));
    }
    let tensors: BTreeMap<_, _> = reader.into_tensors().into_iter().collect();
    Ok(tensors.into_values().map(bridge::from_pytorch).collect())
}

/// The top-level key that holds the weights; `None` if the file is a flat state dict.
fn nested<'a>(
    path: &Path,
    content: &'a PickleValue,
    whole: &PytorchReader,
) -> Result<Option<&'a str>, Error> {
    let PickleValue::Dict(content) = content else {
        return Ok(None);
    };
    let mut candidates = BTreeSet::new();
    for (key, value) in content {
        let holds_tensors = || {
            let prefix = format!("{key}.");
            whole.tensors().keys().any(|name| name.starts_with(&prefix))
        };
        if let PickleValue::Dict(value) = value
            && !is_optimizer(value)
            && !OTHERS.iter().any(|other| key.starts_with(other))
            && holds_tensors()
        {
            candidates.insert(key.as_str());
        }
    }
    if is_optimizer(content) {
        return Err(other(
            path,
            "the state of an optimizer: the weights are in another file",
        ));
    }
    let known: Vec<&str> = NESTS
        .into_iter()
        .filter(|nest| candidates.contains(nest))
        .collect();
    let (first, mut names) = (candidates.first().copied(), whole.tensors().keys());
    match (known.as_slice(), first) {
        ([nest], _) => Ok(candidates.get(nest).copied()),
        // One unknown key holds the weights if there is other state. Otherwise it is a prefix like any other.
        ([], Some(only)) if candidates.len() == 1 && !has_tensors(content, whole) => {
            let all = names.all(|name| name.starts_with(&format!("{only}.")));
            Ok((!all).then_some(only))
        }
        ([], _) => Ok(None),
        _ => Err(Error::Ambiguous {
            path: path.to_owned(),
            choices: candidates.into_iter().map(str::to_owned).collect(),
            advice: "choose one with `Weights::open_nested`",
        }),
    }
}

/// Whether the top level of a checkpoint has tensors.
fn has_tensors(content: &HashMap<String, PickleValue>, whole: &PytorchReader) -> bool {
    content.keys().any(|key| whole.tensors().contains_key(key))
}

/// Whether this is the result of `optimizer.state_dict()`.
fn is_optimizer(content: &HashMap<String, PickleValue>) -> bool {
    content.contains_key("state") && content.contains_key("param_groups")
}

fn other(path: &Path, found: &str) -> Error {
    Error::Content {
        path: path.to_owned(),
        found: found.to_owned(),
    }
}

/// The error for a file that cannot be read, which says what the file contains if that can be found out.
fn refusal(path: &Path, error: PytorchError) -> Error {
    if is_torch_script(path) {
        let found = "a TorchScript archive: save the `state_dict()` of the loaded module instead";
        return other(path, found);
    }
    // The pickle may be valid but contain something other than a dictionary of tensors.
    match PytorchReader::read_pickle_data(path, None) {
        Ok(PickleValue::Unsupported(class)) => {
            let found = format!(
                "an object of class `{class}`: save its `state_dict()`, a dictionary of tensors, instead"
            );
            return other(path, &found);
        }
        Ok(PickleValue::List(_)) => {
            return other(path, "a list instead of a dictionary of tensors");
        }
        Ok(PickleValue::Dict(_)) | Err(_) => {}
        Ok(_) => return other(path, "a single value instead of a dictionary of tensors"),
    }
    let reason = match error {
        PytorchError::Zip(error) => {
            format!(
                "the end of the file, with the list of its parts, is missing or damaged ({error}): \
                 copy or download it again"
            )
        }
        error => error.to_string(),
    };
    Format::PyTorch.damaged(path, reason)
}

/// Whether a file is a `TorchScript` archive, which has the file `constants.pkl`.
fn is_torch_script(path: &Path) -> bool {
    let end = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(DIRECTORY)))?;
        let mut end = Vec::new();
        file.take(DIRECTORY).read_to_end(&mut end)?;
        Ok(end)
    };
    let name = b"/constants.pkl";
    end().is_ok_and(|end| end.windows(name.len()).any(|bytes| bytes == name))
}
