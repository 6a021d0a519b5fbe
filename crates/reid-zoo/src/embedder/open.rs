//! Opening runs, checkpoints and model folders.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use reid_core::InputSize;
use reid_data::{loader::LoaderConfig, transform::Normalise};
use reid_eval::gallery::ModelFingerprint;
use reid_nn::{Init, Model, Network, device};
use reid_train::{CheckpointKind, Checkpoints, Extractor, Recipe};
use serde_json::Value;

use super::{Embedder, fingerprint, folder, published::load};
use crate::{Architecture, ArchitectureModel, error::Error, weights::Weights};

/// How the model of an architecture was loaded.
pub(super) struct Loaded<'a> {
    pub(super) input: InputSize,
    pub(super) normalise: Normalise,
    pub(super) device: &'a Device,
    pub(super) source: Source,
}

/// The file or folder that weights were read from.
pub(super) enum Source {
    Checkpoint(PathBuf),
    Weights(PathBuf),
}

impl Source {
    pub(super) fn path(&self) -> &Path {
        let (Self::Checkpoint(path) | Self::Weights(path)) = self;
        path
    }
}

/// Where the model of an architecture came from.
pub(super) struct Origin {
    pub(super) network: Architecture,
    pub(super) source: Source,
    /// The fingerprint without the flip test, which [`Embedder::with_name`] does not change.
    pub(super) fingerprint: ModelFingerprint,
}

impl Origin {
    /// Reads the model again. Returns the number of classes of its classifier, if it has one.
    pub(super) fn read(
        &self,
        input: InputSize,
        device: &Device,
    ) -> Result<(ArchitectureModel, Option<usize>), Error> {
        match &self.source {
            Source::Checkpoint(checkpoint) => {
                let (_, model) = load_checkpoint::<Architecture>(checkpoint, device)?;
                let classes = Checkpoints::classes(checkpoint)?.len();
                Ok((model, Some(classes)))
            }
            Source::Weights(path) => load(&self.network, Weights::open(path)?, input, device),
        }
    }
}

impl Embedder {
    /// Opens a model folder, or a checkpoint of a run whose network is an [`Architecture`], on the device that
    /// [`device::pick`] selects.
    ///
    /// `path` is one of these:
    /// - a model folder with `reid_config.json` and `weights.safetensors`, as [`save`](Self::save) or the Python package
    ///   `reid` of Roboflow writes it,
    /// - the folder of a checkpoint,
    /// - the folder of a run, which opens its best checkpoint, or its last one before the first evaluation,
    /// - `best` or `last` in the folder of a run, such as `run/best`.
    ///
    /// In a model folder of another program, images must be stretched to the input size with bilinear interpolation.
    /// Weights are compared with the SHA-256 in the configuration, if it has one.
    ///
    /// # Errors
    /// - If there is no such model or checkpoint, if it cannot be read or is damaged, or if no device is found.
    /// - [`Error::ModelConfig`] lists everything that is wrong with the configuration of a model folder, with JSON
    ///   paths.
    /// - [`Error::Checksum`] if the weights of a model folder are not those that were saved.
    /// - If the network of a run has a custom type: see [`open_as`](Self::open_as).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_on(path, &device::pick()?)
    }

    /// Opens a model like [`open`](Self::open), on the given device.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(path: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        let path = path.as_ref();
        if folder::is_model(path)? {
            return Self::open_folder(path, device);
        }
        let checkpoint = find(path)?;
        let (recipe, model) = load_checkpoint::<Architecture>(&checkpoint, device)?;
        let loaded = Loaded {
            input: recipe.input,
            normalise: recipe.augmentation.normalise,
            device,
            source: Source::Checkpoint(checkpoint),
        };
        let embedder = Self::of_architecture(recipe.network.clone(), &model, loaded);
        Ok(embedder.with_settings_of(&recipe))
    }

    /// Opens a checkpoint like [`open_on`](Self::open_on), of a run whose network has the type `N`. Such an embedder
    /// cannot be saved as a model folder.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_as<N: Network>(path: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        let checkpoint = find(path.as_ref())?;
        let (recipe, model) = load_checkpoint::<N>(&checkpoint, device)?;
        let network = serde_json::to_value(&recipe.network).map_err(|source| {
            let path = checkpoint;
            Error::Run(reid_train::Error::Json { path, source })
        })?;
        let images = (recipe.input, recipe.augmentation.normalise);
        let fingerprint = fingerprint::of_model(&model, &network, images, |_| true);
        let mut embedder = Self::new(model.evaluation(), recipe.input, device);
        embedder.fingerprint = Some(fingerprint);
        Ok(embedder.with_settings_of(&recipe))
    }

    /// Finds the folder of the checkpoint that [`open`](Self::open) opens for the path of a run.
    ///
    /// # Errors
    /// If there is no such checkpoint, or the folder of the run is damaged.
    pub fn find_checkpoint(path: impl AsRef<Path>) -> Result<PathBuf, Error> {
        find(path.as_ref())
    }

    /// Creates an embedder of an architecture, whose model is not in evaluation mode yet.
    pub(super) fn of_architecture(
        network: Architecture,
        model: &ArchitectureModel,
        loaded: Loaded<'_>,
    ) -> Self {
        let Loaded {
            input,
            normalise,
            device,
            source,
        } = loaded;
        let counts = fingerprint::is_not_of_a_classifier;
        let images = (input, normalise);
        let fingerprint = fingerprint::of_model(model, &network.to_json(), images, counts);
        let mut embedder = Self::new(model.evaluation(), input, device);
        embedder.extractor = Extractor::new(input, normalise, LoaderConfig::default());
        embedder.fingerprint = Some(fingerprint.clone());
        embedder.origin = Some(Origin {
            network,
            source,
            fingerprint,
        });
        embedder
    }

    /// Takes the settings of extraction and evaluation from a recipe.
    fn with_settings_of<N, L>(mut self, recipe: &Recipe<N, L>) -> Self {
        self.extractor = Extractor::from_recipe(recipe, LoaderConfig::default());
        self.evaluation = recipe.evaluation.clone();
        self
    }
}

/// Reads the recipe and the model of a checkpoint.
fn load_checkpoint<N: Network>(
    checkpoint: &Path,
    device: &Device,
) -> Result<(Recipe<N, Value>, N::Model), Error> {
    let recipe: Recipe<N, Value> = Checkpoints::recipe(checkpoint)?;
    let classes = Checkpoints::classes(checkpoint)?.len();
    let init = Init::empty(device);
    let model = recipe.network.init(recipe.input, classes, &init);
    let model = Checkpoints::load_model(checkpoint, model)?;
    Ok((recipe, model))
}

/// Finds the checkpoint of a path that [`Embedder::open`] accepts.
fn find(path: &Path) -> Result<PathBuf, Error> {
    if path.join("state.json").is_file() {
        return Ok(path.to_owned());
    }
    let name = path.file_name().and_then(|name| name.to_str());
    let (run, kind) = match (name, path.parent(), path.exists()) {
        (Some("best"), Some(run), false) => (run, CheckpointKind::Best),
        (Some("last"), Some(run), false) => (run, CheckpointKind::Last),
        _ => (path, CheckpointKind::Best),
    };
    let run = Checkpoints::new(run);
    let found = match run.find(kind)? {
        Some(checkpoint) => Some(checkpoint),
        None => run.find(CheckpointKind::Last)?,
    };
    found.ok_or_else(|| Error::NoCheckpoint {
        path: path.to_owned(),
    })
}
