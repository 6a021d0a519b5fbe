//! Error: runs that cannot be opened, images that cannot be embedded, and weights that cannot be loaded or saved.

use std::{fmt, io, path::PathBuf};

use crate::weights::WeightReport;

/// An error of opening a run, of embedding images, or of loading or saving weights.
///
/// Messages about a file start with its path.
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
    /// No device was found.
    #[error(transparent)]
    Device(#[from] reid_nn::device::NoDevice),
    /// A model in memory has no fingerprint.
    #[error(
        "the fingerprint of a model that was not opened from a checkpoint is not known: name the model with \
         `Embedder::with_name`"
    )]
    NoFingerprint,
    /// There is no checkpoint at a path.
    #[error(
        "{}: expected a run or a checkpoint: a folder with `last.json` or `state.json`",
        path.display()
    )]
    NoCheckpoint {
        /// The path.
        path: PathBuf,
    },
    /// A model without Grad-CAM was asked for heat maps.
    #[error(
        "Grad-CAM: expected a model with a single head, found another model, such as an ensemble"
    )]
    NoGradCam,
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The extension of a file names no format that can be written.
    #[error("{}: expected a name ending in .safetensors or .bpk", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// A file does not contain weights.
    #[error(
        "{}: expected a PyTorch checkpoint, a safetensors file or a burnpack file, found {found}",
        path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What the file contains, as far as its first bytes show.
        found: String,
    },
    /// A file cannot be parsed as the format that its content or its extension names.
    #[error("{}: damaged, or not {expected}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The format, with its article.
        expected: &'static str,
        /// The error of the parser.
        reason: String,
    },
    /// A file contains several sets of weights.
    #[error("{}: expected one set of weights, found {}: {advice}", path.display(), listed(choices))]
    Ambiguous {
        /// The file.
        path: PathBuf,
        /// The keys or prefixes of the sets.
        choices: Vec<String>,
        /// How to choose one of them.
        advice: &'static str,
    },
    /// Two tensors of a file have the same key after renaming.
    #[error("{}: two tensors have the key `{key}` after renaming", path.display())]
    DuplicateKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// The weights of a file do not fit the module.
    #[error("{}: {diagnosis}\n{report}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The probable cause, and what to do.
        diagnosis: String,
        /// The keys that are missing, unexpected or misshapen. No weights were loaded.
        report: Box<WeightReport>,
    },
    /// The format can be read but not written.
    #[error(
        "{}: .pth and .pt files can be read but not written; expected a name ending in \
         .safetensors, which PyTorch programs can read, or .bpk",
        path.display()
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written. An existing file at the path is unchanged.
    #[error("{}: cannot be saved: {reason}", path.display())]
    Save {
        /// The file.
        path: PathBuf,
        /// Why it cannot be written.
        reason: String,
    },
}

/// Writes the message and its causes, with [`reid_core::debug_error`].
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}

/// The choices in backticks, separated by commas.
fn listed(choices: &[String]) -> String {
    let quoted = choices.iter().map(|choice| format!("`{choice}`"));
    quoted.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If hundreds of keys do not fit, the diagnosis is printed first, then ten keys of each kind.
    #[test]
    fn a_program_that_ends_with_a_mismatch_prints_its_diagnosis() {
        let keys = |name: &str| (0..300).map(|key| format!("{name}.{key}.weight")).collect();
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
