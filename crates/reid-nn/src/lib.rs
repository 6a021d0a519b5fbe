//! Re-identification networks as composable Burn modules.
//!
//! A network consists of parts of three kinds, each with a trait:
//!
//! | trait | input → output | examples |
//! |---|---|---|
//! | [`Block`] | feature map → feature map | backbones, stages, attention |
//! | [`Head`] | feature map → embedding (and logits) | [`BnNeck`](head::BnNeck), [`PooledHead`](head::PooledHead) |
//! | [`Criterion`] | output of a head and labels → loss | [`IdentityLoss`](loss::IdentityLoss), [`TripletLoss`](loss::TripletLoss) |
//!
//! **A tuple of parts is a part**: blocks are chained, the embeddings of heads are concatenated, and criteria
//! are added. An `Option` is a part that may be absent. A `Vec` combines parts of one type in the same way.
//! Every part has a configuration, which holds its hyper-parameters. The dimensions of the part are derived
//! from its input shape when it is built.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use reid_core::{InputSize, Seed};
//! use reid_nn::{Init, ReidModel, backbone::ResNetConfig, head::BnNeckConfig};
//!
//! let device = Device::default();
//! let init = Init::new(Seed::new(1), &device);
//! let size = InputSize::new(32, 16);
//! let backbone = ResNetConfig::resnet18().with_width(8).with_last_stride(1);
//! let model = ReidModel::new(&backbone, &BnNeckConfig::new(), size, 751, &init);
//!
//! let output = model.forward(Tensor::zeros([2, 3, 32, 16], &device));
//! assert_eq!(output.embedding.dims(), [2, 64]);
//! assert_eq!(output.logits[0].dims(), [2, 751]);
//! ```
//!
//! A tensor of the wrong shape is a programming error: the part panics, and the message has the expected and
//! the actual shape. An invalid configuration panics when the part is built, before any tensor is allocated.
//!
//! Use it to compose a network, and to write a block, a head or a loss of your own. Published networks and
//! their weights are in `reid-zoo`, and `reid-train` trains both. Detection, tracking and layers for text are
//! not part of it. The features `flex`, `ndarray`, `wgpu`, `vulkan`, `metal`, `cuda` and `rocm` enable Burn's
//! backends, one of which is needed to compute anything.

#![doc(test(attr(deny(warnings))))]

pub mod activation_map;
pub mod attention;
pub mod backbone;
pub mod batch_drop;
pub mod block;
pub mod convolution;
pub mod criterion;
pub mod cut_mix;
pub mod device;
pub mod distance;
pub mod dropout;
pub mod ensemble;
pub mod grad_cam;
pub mod head;
pub mod heat_map;
mod init;
pub mod loss;
pub mod model;
pub mod norm;
pub mod parameters;
pub mod pool;
pub mod precision;
pub mod ranks;
pub mod resample;
pub mod segmentation;
pub mod similarity_map;
mod stage_paths;
mod targets;
pub mod top_drop;
pub mod traversal;

#[cfg(test)]
mod fixtures;
mod linear;

pub use block::{Block, BlockConfig};
pub use criterion::{Criterion, CriterionConfig, NamedLoss};
pub use ensemble::{Embed, Ensemble, Model};
pub use head::{Diagnostic, Head, HeadConfig, OutputShape, ReidOutput, TrainingStep};
pub use init::Init;
pub use model::{Network, ReidModel};
pub use precision::Precision;
pub use stage_paths::StagePaths;
pub use targets::{Attributes, Targets};
