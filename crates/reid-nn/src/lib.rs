//! Re-identification networks as composable Burn modules.
//!
//! Three traits, one per kind of arrow:
//!
//! | trait | arrow | examples |
//! |---|---|---|
//! | [`Block`] | feature map → feature map | backbones, stages, attention |
//! | [`Head`] | feature map → descriptor (and logits) | [`BnNeck`](head::BnNeck), [`PooledHead`](head::PooledHead) |
//! | [`Criterion`] | output and identities → loss | [`IdentityLoss`](loss::IdentityLoss), [`BatchHardTriplet`](loss::BatchHardTriplet) |
//!
//! **A tuple of parts is a part**: blocks chain, heads stand side by side, criteria add.
//! `Option` is a part that may be absent and `Vec` a stage. Every part has a configuration that
//! holds numbers only; the place where it is built gives the dimensions.
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
//! A wrong shape is the programmer's mistake: it panics with numbers. Impossible configurations are
//! refused when the part is built, before any tensor is made.

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
mod targets;

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
pub use targets::{Attributes, Targets};
