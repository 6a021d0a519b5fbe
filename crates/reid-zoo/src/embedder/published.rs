//! Embedders with published weights: a bare file and the name of its network.

use std::path::Path;

use burn::tensor::Device;
use reid_core::{InputSize, Problems};
use reid_data::transform::Normalise;
use reid_nn::{Init, Network, device};

use super::{
    Embedder,
    open::{Loaded, Source},
};
use crate::{
    Architecture, ArchitectureModel,
    error::Error,
    weights::{self, Weights},
};

impl Embedder {
    /// Opens a file of published weights, on the device that [`device::pick`] selects: a `.pth` file of torchreid,
    /// a `.pt` file of torchvision, or safetensors.
    ///
    /// Such a file does not say which network it belongs to, so `network` names it. Images are resized and
    /// normalised as the network was trained, with the mean and standard deviation of `ImageNet`:
    ///
    /// | network | weights of | input size |
    /// |---|---|---|
    /// | `OSNet`, also IBN and AIN | torchreid | 256 x 128 |
    /// | `MobileNetV2` | torchreid | 256 x 128 |
    /// | `MobileNetV2` | torchvision, for `ImageNet` | 224 x 224 |
    /// | `LightMBN` | the authors | 384 x 128 |
    ///
    /// [`weights::load_published`](crate::weights::load_published) documents the names of the weights. The classifier
    /// has the number of classes of the file. Without a classifier in the file, [`heat_maps`](Self::heat_maps) returns
    /// an error.
    ///
    /// ```no_run
    /// use reid_zoo::Embedder;
    ///
    /// let network = "osnet-x0.25".parse()?;
    /// let embedder = Embedder::published(&network, "osnet_x0_25_msmt17.pth")?;
    /// let people = embedder.embed_files(["1.jpg", "2.jpg"])?;
    /// assert_eq!(people.dimensions(), 512);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// - [`Error::NotPublished`] if the network is not one of the table
    /// - the errors of [`weights::load_published`](crate::weights::load_published)
    /// - if no device is found
    pub fn published(network: &Architecture, weights: impl AsRef<Path>) -> Result<Self, Error> {
        let input = published_input(network).ok_or_else(|| not_published(network))?;
        Self::published_on(network, weights, input, &device::pick()?)
    }

    /// Opens a file like [`published`](Self::published), for images of another size and on the given device.
    ///
    /// # Errors
    /// As [`published`](Self::published), and [`Error::Network`] if the network does not fit the input size.
    pub fn published_on(
        network: &Architecture,
        weights: impl AsRef<Path>,
        input: InputSize,
        device: &Device,
    ) -> Result<Self, Error> {
        if published_input(network).is_none() {
            return Err(not_published(network));
        }
        let mut problems = Problems::new();
        problems.nested("input", &input);
        problems.at("network", |problems| {
            network.validate_network(input, problems);
        });
        if !problems.is_empty() {
            return Err(Error::Network { problems });
        }
        let path = weights.as_ref();
        let (model, classes) = load(network, Weights::open(path)?, input, device)?;
        let loaded = Loaded {
            input,
            normalise: Normalise::IMAGENET,
            device,
            source: Source::Weights(path.to_owned()),
        };
        let mut embedder = Self::of_architecture(network.clone(), &model, loaded);
        embedder.has_classifier = classes.is_some();
        Ok(embedder)
    }
}

/// The input size with which published weights were trained.
pub(super) fn published_input(network: &Architecture) -> Option<InputSize> {
    match network {
        Architecture::OsNet(_) => Some(InputSize::PERSON),
        Architecture::MobileNetV2(config) if config.backbone.first_expansion => {
            Some(InputSize::PERSON)
        }
        Architecture::MobileNetV2(_) => Some(InputSize::new(224, 224)),
        Architecture::LightMbn(_) => Some(InputSize::new(384, 128)),
        _ => None,
    }
}

/// Builds a network on a device and loads weights, whose classifier determines the number of classes. Returns this
/// number, or `None` if published weights have no classifier.
pub(super) fn load(
    network: &Architecture,
    weights: Weights,
    input: InputSize,
    device: &Device,
) -> Result<(ArchitectureModel, Option<usize>), Error> {
    let init = Init::empty(device);
    match network {
        Architecture::OsNet(config) => {
            let (model, classes) = weights::build_published(config, weights, input, &init)?;
            Ok((ArchitectureModel::OsNet(model), classes))
        }
        Architecture::MobileNetV2(config) => {
            let (model, classes) = weights::build_published(config, weights, input, &init)?;
            Ok((ArchitectureModel::MobileNetV2(model), classes))
        }
        Architecture::LightMbn(config) => {
            let (model, classes) = weights::build_published(config, weights, input, &init)?;
            Ok((ArchitectureModel::LightMbn(model), classes))
        }
        _ => {
            let classes = weights::classes(&weights);
            // Without a classifier, the load fails and names what is missing.
            let mut model = network.init(input, classes.unwrap_or(1), &init);
            weights.load_into(&mut model)?;
            Ok((model, classes))
        }
    }
}

fn not_published(network: &Architecture) -> Error {
    Error::NotPublished {
        found: network.key(),
    }
}
