//! Export of re-identification networks as ONNX files, for ONNX Runtime, OpenVINO, TensorRT and other
//! runtimes.
//!
//! [`export_run`] exports a trained network, and [`export_onnx`] a model in memory:
//!
//! ```
//! use burn::tensor::Device;
//! use reid_core::{InputSize, Seed};
//! use reid_nn::{Init, Network};
//! use reid_onnx::{ExportConfig, export_onnx};
//! use reid_zoo::Architecture;
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("model.onnx");
//! let network: Architecture = "osnet-x0.25".parse()?;
//! let (input, device) = (InputSize::new(64, 32), Device::default());
//! let model = network.init(input, 751, &Init::new(Seed::new(1), &device));
//! export_onnx(&model, &ExportConfig::new(input), &path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Use it to run a network in a program without Rust, or in a runtime for special hardware. A Rust program needs
//! no export: [`Embedder`](reid_zoo::Embedder) computes the same embeddings. ONNX files are only written; they
//! cannot be read back or trained.
//!
//! All networks of `reid-zoo` can be exported, with any attention. So can compositions of custom parts that
//! implement [`LowerBlock`] or [`LowerHead`]. Segmentation models are exported by [`export_segmentation`] and
//! [`export_segmentation_run`].
//!
//! # The file
//!
//! The network is in evaluation mode: batch normalisation uses running statistics and is folded into
//! convolutions, and classifiers of embedding networks are omitted. Operators are those of operator set 13.
//! Weights are in single precision and inside the file.
//!
//! | | name | shape |
//! |---|---|---|
//! | input | `images` | `[batch, 3, height, width]`, normalised; height and width are fixed, the batch is not |
//! | output | `embeddings` | `[batch, dimensions]` |
//! | output of a segmentation model | `logits` | `[batch, classes, height, width]`, before the softmax |
//!
//! Results equal those of [`Embedder`](reid_zoo::Embedder), or of the segmentation model, up to rounding.
//! Relation-aware attention is exported in its published form, which computes the N x N relations of N
//! positions or channels.
//!
//! # Metadata
//!
//! The file says how images have to be prepared. Each is a text; lists are JSON.
//!
//! | key | example | meaning |
//! |---|---|---|
//! | `reid.input_size` | `[256,128]` | height and width to which images are resized; the aspect ratio is not kept. In segmentation, those that images have |
//! | `reid.interpolation` | `bilinear, antialiased` | resizing, as by `BILINEAR` of Pillow; only for embeddings |
//! | `reid.colours` | `RGB` | order of the channels |
//! | `reid.pixel_scale` | `255` | the number by which pixel values are divided first |
//! | `reid.mean`, `reid.std` | `[0.485,0.456,0.406]` | then the mean is subtracted, and the difference divided by `std` |
//! | `reid.embedding_dimensions` | `2048` | length of the embedding |
//! | `reid.embedding_unit_length` | `false` | whether embeddings are normalised to length 1; if not, do so before comparing them by cosine |
//! | `reid.flip_test` | `false` | whether the mirror image is embedded too, inside the network |
//! | `reid.classes` | `19` | only in segmentation: the number of classes |
//!
//! # ONNX Runtime and OpenVINO
//!
//! ONNX Runtime, in Python:
//!
//! ```python
//! import json, numpy, onnxruntime
//! from PIL import Image
//!
//! session = onnxruntime.InferenceSession("model.onnx")
//! meta = session.get_modelmeta().custom_metadata_map
//! height, width = json.loads(meta["reid.input_size"])
//! mean, std = (numpy.float32(json.loads(meta[key])) for key in ("reid.mean", "reid.std"))
//!
//! image = Image.open("someone.jpg").convert("RGB").resize((width, height), Image.BILINEAR)
//! pixels = (numpy.asarray(image, numpy.float32) / 255 - mean) / std
//! images = pixels.transpose(2, 0, 1)[None]
//! (embeddings,) = session.run(None, {"images": images})
//! ```
//!
//! OpenVINO reads the same file, for the same `images`:
//!
//! ```python
//! import openvino
//!
//! compiled = openvino.Core().compile_model("model.onnx", "CPU")
//! embeddings = compiled({"images": images})["embeddings"]
//! ```
//!
//! TensorRT builds an engine with `trtexec --onnx=model.onnx`, with the option
//! `--optShapes=images:32x3x256x128` for batches of 32.

#![doc(test(attr(deny(warnings))))]

mod attention;
mod backbone;
mod block;
mod error;
mod export;
mod graph;
mod head;
mod model;
mod operators;
mod proto;
mod resample;
mod segmentation;
mod shapes;

pub use block::{LowerBlock, LowerGate};
pub use error::Error;
pub use export::{
    ExportConfig, SegmentationExportConfig, export_onnx, export_run, export_segmentation,
    export_segmentation_run, segmentation_to_onnx, to_onnx,
};
pub use graph::{Scope, Value};
pub use head::LowerHead;
pub use model::{LowerModel, LowerPixelModel};
