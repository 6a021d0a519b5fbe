//! Error: what can go wrong with a file of weights, each with its path.

use std::{fmt, io, path::PathBuf};

use crate::weights::WeightReport;

/// What can go wrong with a file of weights.
///
/// ```
/// use burn::{nn::LinearConfig, tensor::Device};
/// use reid_zoo::{Error, weights};
///
/// let layer = LinearConfig::new(4, 2).init(&Device::default());
/// let error = weights::save(&layer, "layer.onnx").expect_err("not one of the formats");
/// assert!(matches!(error, Error::Extension { .. }));
/// assert_eq!(
///     error.to_string(),
///     "layer.onnx: expected a name ending in .safetensors or .bpk"
/// );
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A run cannot be opened, or images cannot be embedded.
    #[error(transparent)]
    Run(#[from] reid_train::Error),
    /// There is no device.
    #[error(transparent)]
    Device(#[from] reid_nn::device::NoDevice),
    /// A folder holds no checkpoint.
    #[error(
        "{}: expected a run or a checkpoint: a folder with `last.json` or `state.json`",
        path.display()
    )]
    NoCheckpoint {
        /// The folder.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The name of a file tells none of the formats that are written.
    #[error("{}: expected a name ending in .safetensors or .bpk", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no weights.
    #[error(
        "{}: expected weights of PyTorch, in safetensors or of Burn, found {found}",
        path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// A file cannot be read as what its content says.
    #[error("{}: not {expected}, or a damaged one: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The format that its content tells.
        expected: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A file holds several sets of weights.
    #[error("{}: expected one set of weights, found {}: {advice}", path.display(), listed(choices))]
    Ambiguous {
        /// The file.
        path: PathBuf,
        /// What they stand under.
        choices: Vec<String>,
        /// How one of them is named.
        advice: &'static str,
    },
    /// Two tensors of a file have one name, after renaming.
    #[error("{}: two tensors are called `{key}`", path.display())]
    DuplicateKey {
        /// The file.
        path: PathBuf,
        /// The name.
        key: String,
    },
    /// The weights of a file do not fit the module.
    #[error("{}: {diagnosis}\n{report}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What is probably wrong, and what helps.
        diagnosis: String,
        /// What is missing, unexpected and misshapen; nothing was applied.
        report: Box<WeightReport>,
    },
    /// The format is only read.
    #[error(
        "{}: .pth and .pt files are only read; expected a name ending in .safetensors, which \
         PyTorch reads, or .bpk",
        path.display()
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written. One that was there before is still there, whole.
    #[error("{}: cannot be saved: {reason}", path.display())]
    Save {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The message and its causes, as [`reid_core::debug_error`] writes them.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}

/// Names in quotes.
fn listed(choices: &[String]) -> String {
    let quoted = choices.iter().map(|choice| format!("`{choice}`"));
    quoted.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hundreds of keys do not fit: the diagnosis comes first, then ten keys of each kind.
    #[test]
    fn a_program_that_ends_with_a_mismatch_prints_its_diagnosis() {
        let keys = |of: &str| (0..300).map(|key| format!("{of}.{key}.weight")).collect();
        let error = Error::Mismatch {
            path: "resnet.pth".into(),
            diagnosis: "no key of the module is in the file: another architecture".into(),
            report: Box::new(WeightReport {
                missing: keys("layer"),
                unexpected: keys("block"),
                ..WeightReport::default()
            }),
        };
        let boxed: Box<dyn std::error::Error> = Box::new(error);
        let text = format!("{boxed:?}");
        assert!(
            text.starts_with(
                "resnet.pth: no key of the module is in the file: another architecture\n"
            ),
            "{text}"
        );
        assert_eq!(text.matches("  and 290 more").count(), 2, "{text}");
        assert!(text.len() < 1_000, "{} bytes", text.len());
    }
}
