//! The fingerprint of an embedder's model, by which a gallery recognises its embeddings.

use std::path::Path;

use reid_core::InputSize;
use reid_eval::gallery::ModelFingerprint;
use reid_train::Checkpoints;

use super::Embedder;
use crate::error::Error;

/// The number of hexadecimal digits of the hash in a fingerprint.
const DIGITS: usize = 16;

impl Embedder {
    /// The fingerprint of the model, which changes with everything that embeddings depend on: weights,
    /// network, input size, normalisation and flip test. The precision and the device are not included.
    ///
    /// It is a text such as `3fa9c1d2e4b5a697 (256x128)`.
    ///
    /// # Errors
    /// [`Error::NoFingerprint`] if the embedder was created from a model in memory without a name.
    pub fn fingerprint(&self) -> Result<ModelFingerprint, Error> {
        let model = self.fingerprint.as_ref().ok_or(Error::NoFingerprint)?;
        if self.extractor.flip_test() {
            return Ok(ModelFingerprint::new(format!("{model}, flip test")));
        }
        Ok(model.clone())
    }

    /// Names the model, in place of a hash. For a model in memory; choose a name that changes with the model.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use reid_core::{InputSize, Seed};
    /// use reid_nn::{Init, Network, backbone::ResNetConfig, head::BnNeckConfig};
    /// use reid_zoo::{BagOfTricksConfig, Embedder};
    ///
    /// let (device, input) = (Device::default(), InputSize::new(32, 16));
    /// let backbone = ResNetConfig::resnet18().with_width(4);
    /// let network = BagOfTricksConfig { backbone, head: BnNeckConfig::new() };
    /// let model = network.init(input, 10, &Init::new(Seed::new(1), &device));
    /// let embedder = Embedder::new(model, input, &device).with_name("untrained, seed 1");
    /// assert_eq!(embedder.fingerprint()?.as_str(), "untrained, seed 1 (32x16)");
    /// # Ok::<(), reid_zoo::Error>(())
    /// ```
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        let input = self.input();
        self.fingerprint = Some(ModelFingerprint::new(format!("{name} ({input})")));
        self
    }
}

/// The fingerprint of the model of a checkpoint, without the flip test.
pub(super) fn of_checkpoint(
    checkpoint: &Path,
    input: InputSize,
) -> Result<ModelFingerprint, Error> {
    let mut hash = Checkpoints::model_hash(checkpoint)?;
    hash.truncate(DIGITS);
    Ok(ModelFingerprint::new(format!("{hash} ({input})")))
}
