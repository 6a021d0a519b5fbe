//! The configuration of a model folder, `reid_config.json`.

use std::{fs, path::Path};

use reid_core::{InputSize, Problems, Validate};
use reid_data::transform::Normalise;
use reid_eval::{EvaluationConfig, Threshold};
use reid_nn::{Network, Precision};
use serde::{Deserialize, Serialize};

use crate::{Architecture, error::Error};

/// The `architecture` of a network without a name, whose configuration is `network`.
const UNNAMED: &str = "reid";

/// The resizing that this library has.
const STRETCH: &str = "stretch";
const BILINEAR: &str = "bilinear";

/// The two fields that every program writes, and further fields of this library. Other programs ignore these.
///
/// Unknown fields are ignored here, because other programs may add some, but not in `preprocessing` and `network`,
/// which change embeddings.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ModelConfig {
    /// The name of the network.
    #[serde(default)]
    pub(super) architecture: Option<String>,
    #[serde(default)]
    pub(super) preprocessing: Preprocessing,
    /// The network; by default the one with the name `architecture`.
    #[serde(default)]
    pub(super) network: Option<Architecture>,
    #[serde(default)]
    pub(super) embedding_size: Option<usize>,
    /// Whether embeddings have length 1: always false.
    #[serde(default)]
    pub(super) normalised: bool,
    /// The number of classes of the classifier; absent if the weights have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) classes: Option<usize>,
    #[serde(default)]
    pub(super) evaluation: EvaluationConfig,
    #[serde(default)]
    pub(super) precision: Precision,
    #[serde(default)]
    pub(super) flip_test: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) threshold: Option<Threshold>,
    /// The SHA-256 of the file of weights, in hexadecimal digits.
    #[serde(default)]
    pub(super) sha256: Option<String>,
}

/// How images become the input of the network. The defaults are those of other programs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Preprocessing {
    /// Height and width.
    input_size: [usize; 2],
    mean: [f32; 3],
    std: [f32; 3],
    interpolation: String,
    /// Whether the channels of BGR frames are swapped. Here the network always sees RGB images, because a
    /// [`Frame`](reid_data::Frame) names its own order.
    to_rgb: bool,
    resize_mode: String,
    /// The grey value around images that keep their aspect ratio.
    pad_value: u8,
}

impl Default for Preprocessing {
    fn default() -> Self {
        Self::new(InputSize::PERSON, Normalise::IMAGENET)
    }
}

impl Preprocessing {
    pub(super) fn new(input: InputSize, normalise: Normalise) -> Self {
        Self {
            input_size: [input.height, input.width],
            mean: normalise.mean,
            std: normalise.std,
            interpolation: BILINEAR.to_owned(),
            to_rgb: true,
            resize_mode: STRETCH.to_owned(),
            pad_value: 114,
        }
    }

    pub(super) fn normalise(&self) -> Normalise {
        let Self { mean, std, .. } = *self;
        Normalise { mean, std }
    }

    /// The input size, if it is valid.
    fn input(&self) -> Option<InputSize> {
        let [height, width] = self.input_size;
        let sides = 1..=InputSize::MAX_SIDE;
        let valid = sides.contains(&height) && sides.contains(&width);
        valid.then(|| InputSize::new(height, width))
    }
}

impl Validate for Preprocessing {
    fn validate(&self, problems: &mut Problems) {
        problems.at("input_size", |problems| {
            for (index, side) in self.input_size.into_iter().enumerate() {
                problems.count(&format!("[{index}]"), side, 1..=InputSize::MAX_SIDE);
            }
        });
        self.normalise().validate(problems);
        let only = |value: &str| format!("`{value}`, the only one of this library");
        for (field, expected, found) in [
            ("interpolation", BILINEAR, &self.interpolation),
            ("resize_mode", STRETCH, &self.resize_mode),
        ] {
            let found_text = format_args!("`{found}`");
            problems.require(field, found == expected, only(expected), found_text);
        }
    }
}

impl ModelConfig {
    /// Reads a file. Errors name the file, the JSON path, what was expected and what was found.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        // Some editors write a byte-order mark.
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let failed = |field: String, source| {
            let path = path.to_owned();
            Error::Run(reid_train::Error::JsonField {
                path,
                field,
                source,
            })
        };
        let mut json = serde_json::Deserializer::from_slice(text);
        let config = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let field = error.path().to_string();
            failed(field, error.into_inner())
        })?;
        json.end()
            .map_err(|source| failed(".".to_owned(), source))?;
        Ok(config)
    }

    /// The file as text.
    pub(super) fn to_json(&self, path: &Path) -> Result<String, Error> {
        let json = serde_json::to_string_pretty(self).map_err(|source| Error::Save {
            path: path.to_owned(),
            reason: source.to_string(),
        })?;
        Ok(json + "\n")
    }

    /// The network and its input size, or all that is wrong with the configuration.
    pub(super) fn network(&self) -> Result<(Architecture, InputSize), Problems> {
        let mut problems = Problems::new();
        problems.nested("preprocessing", &self.preprocessing);
        let expected = "false: embeddings are returned unscaled";
        problems.require("normalised", !self.normalised, expected, self.normalised);
        if let Some(threshold) = &self.threshold {
            problems.at("threshold", |problems| {
                problems.number("distance", threshold.distance, ..);
            });
        }
        let network = self.named_or_whole(&mut problems);
        let input = self.preprocessing.input();
        if let (Some((field, network)), Some(input)) = (&network, input) {
            problems.at(field, |problems| network.validate_network(input, problems));
        }
        match (network, input) {
            (Some((_, network)), Some(input)) if problems.is_empty() => Ok((network, input)),
            _ => Err(problems),
        }
    }

    /// The network, and the field that it comes from.
    fn named_or_whole(&self, problems: &mut Problems) -> Option<(&'static str, Architecture)> {
        let name = self.architecture.as_deref();
        let named = name.and_then(by_name);
        match (&self.network, named) {
            (Some(network), Some(named)) if named.to_json() != network.to_json() => {
                let expected = "the name of `network`, or `reid`";
                let found = name.unwrap_or_default();
                problems.require("architecture", false, expected, format_args!("`{found}`"));
                None
            }
            (Some(network), _) => Some(("network", network.clone())),
            (None, Some(named)) => Some(("architecture", named)),
            (None, None) => {
                let found = name.map_or("nothing".to_owned(), |name| format!("`{name}`"));
                let expected = format!("one of {}", names().join(", "));
                problems.require("architecture", false, expected, found);
                None
            }
        }
    }
}

/// The networks whose folders other programs read: their name there, and in this library.
const SHARED: [(&str, &str); 4] = [
    ("osnet_x1_0", "osnet-x1.0"),
    ("osnet_x0_75", "osnet-x0.75"),
    ("osnet_x0_5", "osnet-x0.5"),
    ("osnet_x0_25", "osnet-x0.25"),
];

/// The network with a name of this library or of another program.
fn by_name(name: &str) -> Option<Architecture> {
    let shared = SHARED.iter().find(|(theirs, _)| *theirs == name);
    shared.map_or(name, |(_, ours)| ours).parse().ok()
}

/// All names of networks.
fn names() -> Vec<String> {
    let shared = SHARED.iter().map(|(theirs, _)| *theirs);
    let names = shared.chain(Architecture::names());
    names.map(|name| format!("`{name}`")).collect()
}

/// The name of a network in the configuration, and whether other programs read its folder.
pub(super) fn name_of(network: &Architecture) -> (&'static str, bool) {
    let name = network.name();
    let shared = SHARED.iter().find(|(_, ours)| Some(*ours) == name);
    match (shared, name) {
        (Some((theirs, _)), _) => (theirs, true),
        (None, name) => (name.unwrap_or(UNNAMED), false),
    }
}
