//! Error: what can go wrong with a file of weights, each with its path.

use std::{io, path::PathBuf};

use crate::weights::WeightReport;

/// What can go wrong with a file of weights.
///
/// ```
/// use burn::{nn::LinearConfig, tensor::Device};
/// use reid_zoo::{Error, weights};
///
/// let mut layer = LinearConfig::new(4, 2).init(&Device::default());
/// let error = weights::load(&mut layer, "layer.onnx").expect_err("not one of the formats");
/// assert!(matches!(error, Error::Extension { .. }));
/// assert_eq!(
///     error.to_string(),
///     "layer.onnx: expected a name ending in .safetensors, .bpk, .pth or .pt"
/// );
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The name of a file tells none of the formats.
    #[error("{}: expected a name ending in .safetensors, .bpk, .pth or .pt", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// A file is not what its name says.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The format that its name tells.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A file cannot be read as what its name says.
    #[error("{}: not {expected}, or a damaged one: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The format that its name tells.
        expected: &'static str,
        /// What is wrong.
        reason: String,
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
    #[error("{}: the weights do not fit the module\n{report}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What is missing, unexpected and misshapen; nothing was applied.
        report: WeightReport,
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
