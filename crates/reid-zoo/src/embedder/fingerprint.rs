//! The fingerprint of an embedder's model, by which a gallery recognises its embeddings.

use burn::module::Module;
use reid_core::InputSize;
use reid_data::transform::Normalise;
use reid_eval::gallery::ModelFingerprint;
use serde_json::Value;

use super::Embedder;
use crate::{
    error::Error,
    weights::{hash, sha256},
};

/// The number of hexadecimal digits of the hash in a fingerprint.
const DIGITS: usize = 16;

impl Embedder {
    /// The fingerprint of the model, which changes with everything that embeddings depend on: weights,
    /// network, input size, normalisation and flip test. The precision and the device are not included,
    /// because embeddings depend on them only up to rounding.
    ///
    /// The weights count by their values. So an [`Architecture`](crate::Architecture) has the same fingerprint
    /// however it was opened: from a run, from a model folder, from the hub or from published weights. The
    /// classifier does not count, because no embedding depends on it and published files may lack it.
    ///
    /// Two networks are the same if their configurations are. A network that is opened by
    /// [`open_as`](Self::open_as) therefore has another fingerprint than as an `Architecture`, and all its weights
    /// count.
    ///
    /// The fingerprint is a text such as `3fa9c1d2e4b5a697 (256x128)`.
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

/// The fingerprint of a model in training mode, without the flip test. `network` is its configuration as JSON;
/// `counts` accepts the tensors that embeddings depend on.
pub(super) fn of_model<M: Module>(
    model: &M,
    network: &Value,
    (input, normalise): (InputSize, Normalise),
    counts: fn(&str) -> bool,
) -> ModelFingerprint {
    // A number is written as the shortest text that is read back as the same value.
    let mut text = format!("{}\n{input}\n{normalise:?}\n", hash(model, counts));
    write_sorted(network, &mut text);
    let mut hash = sha256(text.as_bytes());
    hash.truncate(DIGITS);
    ModelFingerprint::new(format!("{hash} ({input})"))
}

/// Whether a tensor of an architecture belongs to the embedding network. All heads of this crate name their
/// classifiers `classifier`.
pub(super) fn is_not_of_a_classifier(name: &str) -> bool {
    name.split('.').all(|part| part != "classifier")
}

/// Appends a value as compact JSON with sorted fields. The order of the fields in memory depends on a Cargo
/// feature of `serde_json`.
fn write_sorted(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|field| field.0);
            text.push('{');
            for (name, value) in fields {
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write_sorted(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for value in values {
                write_sorted(value, text);
                text.push(',');
            }
            text.push(']');
        }
        value => text.push_str(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_sorted_and_values_keep_their_order() {
        let mut text = String::new();
        write_sorted(
            &json!({ "b": [2, 1, { "d": null, "c": "x\"" }], "a": 0.5 }),
            &mut text,
        );
        assert_eq!(text, r#"{"a":0.5,"b":[2,1,{"c":"x\"","d":null,},],}"#);
    }

    #[test]
    fn only_whole_parts_of_a_name_are_classifiers() {
        assert!(!is_not_of_a_classifier("head.classifier.weight"));
        assert!(!is_not_of_a_classifier("head.branches.1.classifier.bias"));
        assert!(is_not_of_a_classifier("head.classifiers.weight"));
    }
}
