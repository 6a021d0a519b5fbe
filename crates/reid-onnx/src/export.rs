//! The export of a model or a run, and what the file says about the preparation of images.

mod segmentation;

use std::path::Path;

use burn::tensor::Device;
use prost::Message;
use reid_core::{InputSize, write_atomic};
use reid_data::transform::Normalise;
use reid_nn::{Init, Network};
use reid_train::{Checkpoints, Recipe};
use reid_zoo::{Architecture, Embedder};
pub use segmentation::{
    SegmentationExportConfig, export_segmentation, export_segmentation_run, segmentation_to_onnx,
};
use serde_json::Value as Json;

use crate::{
    error::Error,
    graph::{Graph, Scope, Value},
    model::LowerModel,
    proto,
};

/// The version of the file format: that of ONNX 1.8, which introduced the operator set.
const IR_VERSION: i64 = 7;
/// The version of the operators. It is old, so that old runtimes read the files too.
const OPERATOR_SET: i64 = 13;
/// The size of the largest protobuf message.
const MOST_BYTES: usize = (1 << 31) - 1;

/// How images are prepared and how embeddings are computed. It is written into the file; see the
/// [metadata](crate#metadata). [`export_onnx`] has an example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExportConfig {
    /// The size of the images.
    pub input: InputSize,
    /// The mean and the standard deviation by which images are normalised before the network.
    pub normalise: Normalise,
    /// Whether the network also sees the mirror image and returns the mean of both embeddings, which doubles
    /// its work; by default not.
    pub flip_test: bool,
    /// Whether embeddings are normalised to length 1, so that their dot product is the cosine similarity; by default
    /// not.
    pub unit_length: bool,
}

impl ExportConfig {
    /// The configuration for images of this size, with the normalisation of `ImageNet`, without flip test,
    /// and with embeddings as [`Embedder`] computes them.
    #[must_use]
    pub fn new(input: InputSize) -> Self {
        Self {
            input,
            normalise: Normalise::IMAGENET,
            flip_test: false,
            unit_length: false,
        }
    }

    /// The configuration of a recipe: its input size, normalisation and flip test.
    #[must_use]
    pub fn from_recipe<N, L>(recipe: &Recipe<N, L>) -> Self {
        Self {
            normalise: recipe.augmentation.normalise,
            flip_test: recipe.flip_test,
            ..Self::new(recipe.input)
        }
    }

    /// Sets the normalisation of the images.
    #[must_use]
    pub fn with_normalise(self, normalise: Normalise) -> Self {
        Self { normalise, ..self }
    }

    /// Averages the embeddings of an image and its mirror image, as [`Embedder::with_flip_test`] does.
    #[must_use]
    pub fn with_flip_test(self) -> Self {
        Self {
            flip_test: true,
            ..self
        }
    }

    /// Normalises embeddings to length 1.
    #[must_use]
    pub fn with_unit_length(self) -> Self {
        Self {
            unit_length: true,
            ..self
        }
    }

    fn metadata(&self, dimensions: usize) -> Vec<(&'static str, String)> {
        let mut texts = preparation(self.input, self.normalise);
        texts.extend([
            ("interpolation", "bilinear, antialiased".to_owned()),
            ("embedding_dimensions", dimensions.to_string()),
            ("embedding_unit_length", self.unit_length.to_string()),
            ("flip_test", self.flip_test.to_string()),
        ]);
        texts
    }
}

/// The texts that say how images are prepared, with their keys.
fn preparation(input: InputSize, normalise: Normalise) -> Vec<(&'static str, String)> {
    let InputSize { height, width } = input;
    let Normalise { mean, std } = normalise;
    vec![
        ("input_size", format!("[{height},{width}]")),
        ("colours", "RGB".to_owned()),
        ("pixel_scale", "255".to_owned()),
        ("mean", list(mean)),
        ("std", list(std)),
    ]
}

/// A list of numbers as JSON.
fn list(values: [f32; 3]) -> String {
    let texts = values.map(|value| value.to_string());
    format!("[{}]", texts.join(","))
}

/// Writes a model as an ONNX file, in evaluation mode, from images to embeddings.
///
/// The file appears completely or not at all. Exporting needs memory for three copies of the parameters.
///
/// ```
/// use burn::tensor::Device;
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Init, Network, backbone::OsNetConfig};
/// use reid_onnx::{ExportConfig, export_onnx};
/// use reid_zoo::OsNetReidConfig;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("osnet.onnx");
/// let (input, device) = (InputSize::new(64, 32), Device::default());
/// let network = OsNetReidConfig::from_backbone(OsNetConfig::x0_25());
/// let model = network.init(input, 751, &Init::new(Seed::new(1), &device));
/// export_onnx(&model, &ExportConfig::new(input), &path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If a part of the model cannot be exported, if the file would have more than 2 GiB, or if it cannot be
/// written.
///
/// # Panics
/// If the model was built for another input size and has weights that fit only that size.
pub fn export_onnx<M: LowerModel>(
    model: &M,
    config: &ExportConfig,
    path: impl AsRef<Path>,
) -> Result<(), Error> {
    write(path.as_ref(), to_onnx(model, config)?)
}

/// Writes the bytes of a file, completely or not at all.
fn write(path: &Path, bytes: Vec<u8>) -> Result<(), Error> {
    write_atomic(path, bytes).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

/// Writes a trained network as an ONNX file. `run` is a run or a checkpoint whose network is an
/// [`Architecture`], as for [`Embedder::open`].
///
/// The input size, the normalisation and the flip test are those of the run. Embeddings are those of
/// [`Embedder`], which are not normalised to length 1.
///
/// ```no_run
/// reid_onnx::export_run("run/best", "model.onnx")?;
/// # Ok::<(), reid_onnx::Error>(())
/// ```
///
/// # Errors
/// If the run cannot be opened, or as [`export_onnx`].
pub fn export_run(run: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<(), Error> {
    let checkpoint = Embedder::find_checkpoint(run)?;
    let device = Device::default();
    let opened = || -> Result<_, reid_train::Error> {
        let recipe: Recipe<Architecture, Json> = Checkpoints::recipe(&checkpoint)?;
        let classes = Checkpoints::classes(&checkpoint)?.len();
        let init = Init::empty(&device);
        let model = recipe.network.init(recipe.input, classes, &init);
        let model = Checkpoints::load_model(&checkpoint, model)?;
        Ok((model, ExportConfig::from_recipe(&recipe)))
    };
    let (model, config) = opened().map_err(reid_zoo::Error::Run)?;
    export_onnx(&model, &config, path)
}

/// Returns the bytes of the ONNX file that [`export_onnx`] writes.
///
/// # Errors
/// If a part of the model cannot be exported, or if the file would have more than 2 GiB.
///
/// # Panics
/// As [`export_onnx`].
pub fn to_onnx<M: LowerModel>(model: &M, config: &ExportConfig) -> Result<Vec<u8>, Error> {
    let model = model.evaluation();
    let mut graph = Graph::default();
    let images = images(config.input);
    let scope = &mut Scope::new(&mut graph);
    let mut embeddings = model.lower_model(scope, &images)?;
    if config.flip_test {
        let mirrored = scope.mirror(&images);
        let mirrored = model.lower_model(scope, &mirrored)?;
        let sum = scope.add(&embeddings, &mirrored);
        embeddings = scope.scale(&sum, 0.5);
    }
    if config.unit_length {
        embeddings = scope.unit_length(&embeddings);
    }
    let [dimensions] = embeddings.dims;
    let graph = graph.finish(&images, "embeddings", &embeddings);
    encoded(graph, config.metadata(dimensions))
}

/// Encodes a graph and the metadata as the bytes of a file.
fn encoded(graph: proto::Graph, metadata: Vec<(&str, String)>) -> Result<Vec<u8>, Error> {
    let property = |(key, value)| proto::Property {
        key: format!("reid.{key}"),
        value,
    };
    let file = proto::Model {
        ir_version: IR_VERSION,
        producer_name: "reid".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        opset_import: vec![proto::OperatorSet {
            domain: String::new(),
            version: OPERATOR_SET,
        }],
        metadata: metadata.into_iter().map(property).collect(),
    };
    let bytes = file.encoded_len();
    if bytes > MOST_BYTES {
        return Err(Error::TooLarge { bytes });
    }
    Ok(file.encode_to_vec())
}

/// The input of a graph: images of this size.
fn images(InputSize { height, width }: InputSize) -> Value<3> {
    Value {
        name: "images".to_owned(),
        dims: [3, height, width],
    }
}
