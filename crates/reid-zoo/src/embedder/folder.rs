//! Model folders: `reid_config.json` and `weights.safetensors`, which other programs can read too.

mod config;

use std::{fs, io, path::Path};

use burn::tensor::Device;
use reid_core::{Problems, write_atomic};
use reid_nn::Network;

use self::config::{ModelConfig, Preprocessing, name_of};
use super::{
    Embedder, fingerprint,
    open::{Loaded, Source},
    published::load,
};
use crate::{
    error::Error,
    weights::{self, Names, Weights, sha256},
};

pub(crate) const CONFIG: &str = "reid_config.json";
pub(crate) const WEIGHTS: &str = "weights.safetensors";

/// The file of new weights until it replaces the old one.
const DRAFT: &str = "weights.safetensors.new";

impl Embedder {
    /// Writes the model as a folder of two files, which [`open`](Self::open) reads. The folder is created if it does
    /// not exist; a model in it is replaced.
    ///
    /// ```text
    /// reid_config.json       the network, how images are resized and normalised, the settings of this embedder,
    ///                        and the SHA-256 of the weights
    /// weights.safetensors    the weights in PyTorch's layout, with the classifier
    /// ```
    ///
    /// The Python package `reid` of Roboflow reads the folder if the network is `osnet-x1.0`, `osnet-x0.75`,
    /// `osnet-x0.5` or `osnet-x0.25`. The weights then have the names of torchreid. It returns the same embeddings up to
    /// rounding, without the flip test. Of any other network, the weights have the names of this library.
    ///
    /// The weights are read again from where they were opened, because an embedder holds them only in the form in
    /// which it computes. The batch size, the progress callback and a name are not saved.
    ///
    /// If the process is killed during the save, the folder holds the previous model or the new one, or
    /// [`open`](Self::open) reports that the configuration is missing.
    ///
    /// ```no_run
    /// use reid_zoo::Embedder;
    ///
    /// let embedder = Embedder::published(&"osnet-x0.25".parse()?, "osnet_x0_25_msmt17.pth")?;
    /// embedder.save("model")?;
    /// let same = Embedder::open("model")?;
    /// assert_eq!(same.fingerprint()?, embedder.fingerprint()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// - [`Error::NotAnArchitecture`] if the network was not opened as an [`Architecture`](crate::Architecture): a
    ///   custom network, an ensemble, or any model in memory
    /// - [`Error::Changed`] if the weights were changed since they were opened, and the errors of opening if they are
    ///   missing
    /// - if the folder holds a run, or a file cannot be written
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), Error> {
        let folder = folder.as_ref();
        let origin = self.origin.as_ref().ok_or(Error::NotAnArchitecture)?;
        if holds_run(folder) {
            let path = folder.to_owned();
            return Err(Error::Run(reid_train::Error::HoldsRun { path }));
        }
        let (model, classes) = origin.read(self.input(), &self.device)?;
        let images = (self.input(), self.extractor.normalise());
        let counts = fingerprint::is_not_of_a_classifier;
        let network = &origin.network;
        if fingerprint::of_model(&model, &network.to_json(), images, counts) != origin.fingerprint {
            let path = origin.source.path().to_owned();
            return Err(Error::Changed { path });
        }
        let (architecture, shared) = name_of(network);
        let names = if shared { Names::Torchreid } else { Names::Own };
        let keep = |name: &str| classes.is_some() || counts(name);
        let weights =
            weights::to_safetensors(&model, names, keep).map_err(|reason| Error::Save {
                path: folder.join(WEIGHTS),
                reason,
            })?;
        let config = ModelConfig {
            architecture: Some(architecture.to_owned()),
            preprocessing: Preprocessing::new(images.0, images.1),
            network: Some(network.clone()),
            embedding_size: Some(network.output(images.0, classes.unwrap_or(1)).embedding),
            normalised: false,
            classes,
            evaluation: self.evaluation.clone(),
            precision: self.extractor.precision(),
            flip_test: self.extractor.flip_test(),
            threshold: self.threshold,
            sha256: Some(sha256(&weights)),
        };
        let config = config.to_json(&folder.join(CONFIG))?;
        write(folder, &weights, &config)
    }

    /// Opens a model folder.
    pub(super) fn open_folder(folder: &Path, device: &Device) -> Result<Self, Error> {
        let (config_path, path) = (folder.join(CONFIG), folder.join(WEIGHTS));
        let config = ModelConfig::read(&config_path)?;
        let invalid = |problems| Error::ModelConfig {
            path: config_path.clone(),
            problems,
        };
        let (network, input) = config.network().map_err(invalid)?;
        let weights = read_weights(&path, config.sha256.as_deref())?;
        let (model, classes) = load(&network, weights, input, device)?;

        let mut problems = Problems::new();
        let size = network.output(input, classes.unwrap_or(1)).embedding;
        if let Some(found) = config.embedding_size {
            problems.require("embedding_size", found == size, size, found);
        }
        if let Some(found) = config.classes {
            let expected = classes.map_or("no classifier".to_owned(), |count| count.to_string());
            let expected = format_args!("{expected}, as in {WEIGHTS}");
            problems.require("classes", classes == Some(found), expected, found);
        }
        if !problems.is_empty() {
            return Err(invalid(problems));
        }
        let loaded = Loaded {
            input,
            normalise: config.preprocessing.normalise(),
            device,
            source: Source::Weights(path),
        };
        let mut embedder = Self::of_architecture(network, &model, loaded);
        embedder.has_classifier = classes.is_some();
        embedder.evaluation = config.evaluation;
        embedder.threshold = config.threshold;
        embedder = embedder.with_precision(config.precision);
        Ok(if config.flip_test {
            embedder.with_flip_test()
        } else {
            embedder
        })
    }
}

/// Reads the weights of a folder. They are parsed from the bytes that were compared, in case another process replaces
/// the file.
fn read_weights(path: &Path, expected: Option<&str>) -> Result<Weights, Error> {
    let bytes = fs::read(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })?;
    if let Some(expected) = expected {
        let found = sha256(&bytes);
        if !found.eq_ignore_ascii_case(expected) {
            return Err(Error::Checksum {
                path: path.to_owned(),
                expected: expected.to_owned(),
                found,
            });
        }
    }
    Weights::from_safetensors(path, &bytes)
}

/// Whether a folder holds a run or a checkpoint.
fn holds_run(folder: &Path) -> bool {
    let mut names = ["last.json", "state.json"].iter();
    names.any(|name| folder.join(name).exists())
}

/// Whether a path is a model folder.
///
/// # Errors
/// [`Error::NoModelConfig`] if the folder has weights but neither a configuration nor a run.
pub(super) fn is_model(path: &Path) -> Result<bool, Error> {
    if path.join(CONFIG).is_file() {
        return Ok(true);
    }
    if path.join(WEIGHTS).is_file() && !holds_run(path) {
        let path = path.join(CONFIG);
        return Err(Error::NoModelConfig { path });
    }
    Ok(false)
}

/// Writes the files of a folder. At no moment does the folder hold a configuration with the weights of another one.
fn write(folder: &Path, weights: &[u8], config: &str) -> Result<(), Error> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    };
    fs::create_dir_all(folder).map_err(at(folder))?;
    let [path, draft, config_path] = [WEIGHTS, DRAFT, CONFIG].map(|name| folder.join(name));
    // If only settings changed, the model remains readable.
    if !fs::read(&path).is_ok_and(|found| found == weights) {
        write_atomic(&draft, weights).map_err(at(&draft))?;
        match fs::remove_file(&config_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at(&config_path)(error));
            }
            _ => {}
        }
        fs::rename(&draft, &path).map_err(at(&path))?;
    }
    write_atomic(&config_path, config).map_err(at(&config_path))
}
