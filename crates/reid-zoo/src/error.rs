//! Error: runs that cannot be opened, images that cannot be embedded, and weights that cannot be loaded or saved.

use std::{fmt, io, path::PathBuf};

use reid_core::Problems;

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
    /// A file of embeddings cannot be written, or a folder has shards of another model or dataset.
    #[error(transparent)]
    Embeddings(#[from] reid_eval::files::FileError),
    /// A model in memory has no fingerprint.
    #[error(
        "the fingerprint of a model that was not opened from a file is not known: name the model with \
         `Embedder::with_name`"
    )]
    NoFingerprint,
    /// There is no checkpoint or model at a path.
    #[error(
        "{}: expected a run, a checkpoint or a model: a folder with `last.json`, `state.json` or `reid_config.json`",
        path.display()
    )]
    NoCheckpoint {
        /// The path.
        path: PathBuf,
    },
    /// Published weights were opened as a network whose published weights have other names, or none.
    #[error(
        "expected an OSNet, a LightMBN or a MobileNetV2, whose published weights can be opened, found `{found}`"
    )]
    NotPublished {
        /// The field of the network in JSON, such as `baseline`.
        found: String,
    },
    /// A network is invalid, or does not fit the input size.
    #[error("the network cannot be built{}", list(problems))]
    Network {
        /// All problems, each with its JSON path.
        problems: Problems,
    },
    /// A model that is not an architecture cannot be saved as a folder.
    #[error(
        "expected a model that was opened as an `Architecture`, found a custom network, an ensemble or a model in \
         memory: a model folder could not say how to build it; save its weights with `weights::save`"
    )]
    NotAnArchitecture,
    /// The weights of an embedder that is saved are not those that it was opened with.
    #[error("{}: the weights were changed since they were opened: open them again before the save", path.display())]
    Changed {
        /// The file or the folder of the checkpoint.
        path: PathBuf,
    },
    /// The configuration of a model folder is invalid, or does not fit the weights.
    #[error("{}{}", path.display(), list(problems))]
    ModelConfig {
        /// The file.
        path: PathBuf,
        /// All problems, each with its JSON path.
        problems: Problems,
    },
    /// A folder has weights but no configuration.
    #[error(
        "{}: expected this file beside `weights.safetensors`: the save of a model was interrupted, or the weights are \
         not those of a model folder and can be opened by `Embedder::published`",
        path.display()
    )]
    NoModelConfig {
        /// The missing file.
        path: PathBuf,
    },
    /// The weights of a model are not those that were saved or published.
    #[error(
        "{}: expected the SHA-256 {expected}, found {found}: the weights were changed, or are those of another model; \
         copy or download them again",
        path.display()
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The SHA-256 of the weights that were saved.
        expected: String,
        /// The SHA-256 of the file.
        found: String,
    },
    /// The name of a model on a hub has another form. Only with the feature `hub`.
    #[cfg(feature = "hub")]
    #[error(
        "expected the name of a model as `owner/name` or `owner/name@revision`, found `{found}`"
    )]
    ModelName {
        /// The name.
        found: String,
    },
    /// There is no folder for downloads. Only with the feature `hub`.
    #[cfg(feature = "hub")]
    #[error("the user has no home folder for downloads: set HF_HOME to a folder")]
    NoCache,
    /// A file of a model cannot be downloaded. Only with the feature `hub`.
    #[cfg(feature = "hub")]
    #[error(
        "`{model}`: {file} cannot be downloaded from {endpoint}, and is not in the cache {}: {reason}\n\
         Without a connection, download the model on another machine, copy its folder here and open it by \
         `Embedder::open`. If there is a connection, check the name and the revision; a private model needs a token \
         in HF_TOKEN",
        cache.display()
    )]
    Download {
        /// The model, without its revision.
        model: String,
        /// The file.
        file: String,
        /// The server.
        endpoint: String,
        /// The folder of downloaded models.
        cache: PathBuf,
        /// Why the download failed.
        reason: String,
    },
    /// A model whose weights have no classifier was asked for heat maps.
    #[error(
        "Grad-CAM: expected weights with a classifier, found none in the file; a heat map shows which positions raise the score of a class"
    )]
    NoClassifier,
    /// A model without Grad-CAM was asked for heat maps.
    #[error(
        "Grad-CAM: expected a model with a single head, found another model, such as an ensemble"
    )]
    NoGradCam,
    /// A custom model whose embeddings cannot be split into positions was asked for similarity maps.
    #[error(
        "similarity map: expected a model that implements `Embed::embedding_terms`, found one that does not"
    )]
    NoTerms,
    /// A map has infinite values or NaN.
    #[error(transparent)]
    Map(#[from] reid_core::HeatMapError),
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
    /// A nested key was given for a file whose format has none.
    #[error(
        "{}: expected a PyTorch checkpoint with the key `{nest}`, found a format without nested keys: use \
         `Weights::open`, and `Weights::renamed` for prefixes",
        path.display()
    )]
    NotNested {
        /// The file.
        path: PathBuf,
        /// The key.
        nest: String,
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
    /// Published weights are those of a network that this library does not have.
    #[error("{}: expected {expected}, found {found} (`{key}`)", path.display())]
    OtherNetwork {
        /// The file.
        path: PathBuf,
        /// A key of the file that shows it.
        key: String,
        /// The networks that can be loaded.
        expected: &'static str,
        /// The network or the layers of the file.
        found: &'static str,
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

/// One problem on the same line, or all problems on separate lines.
fn list(problems: &Problems) -> String {
    match problems.len() {
        1 => format!(": {problems}"),
        count => format!(": {count} problems\n{problems}"),
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
