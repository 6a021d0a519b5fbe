//! Published re-identification networks for Burn, and loading and saving of weights.
//!
//! | network | what it is |
//! |---|---|
//! | [`BagOfTricks`] | the strong baseline: a `ResNet` and a `BNNeck` (Luo et al.) |
//! | [`RgaResNet50`] | a ResNet-50 with relation-aware global attention (Zhang et al.) |
//! | [`ProgressiveCutMix`] | branches with feature `CutMix` in training (Zhang et al.) |
//! | [`BatchDropBlock`] | branches that drop a rectangle of the feature map in training (Dai et al.) |
//! | [`Fnc`] | two branches with their own late stages and attention, for vehicles (Liu et al.) |
//! | [`Mgn`] | three branches that embed the whole feature map and stripes of it (Wang et al.) |
//! | [`Architecture`] | one of these networks, selected at run time |
//!
//! [`Embedder`] computes embeddings with a trained network. The module [`recipes`] has the published training
//! settings, and [`weights`] loads and saves the weights of any module: `PyTorch`, safetensors, burnpack.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use reid_core::{InputSize, Seed};
//! use reid_nn::{Network, Init};
//! use reid_zoo::{BagOfTricksConfig, weights};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("trained.safetensors");
//! let (size, device) = (InputSize::new(32, 16), Device::default());
//! let init = Init::new(Seed::new(1), &device);
//! let mut config = BagOfTricksConfig::resnet50();
//! config.backbone = config.backbone.with_width(8);
//!
//! let trained = config.init(size, 10, &init);
//! weights::save(&trained, &path)?;
//!
//! let mut model = config.init(size, 10, &init);
//! weights::load(&mut model, &path)?;
//! let image = Tensor::ones([1, 3, 32, 16], &device);
//! let difference = model.embed(image.clone()) - trained.embed(image);
//! assert_eq!(difference.abs().max().into_scalar::<f32>(), 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![doc(test(attr(deny(warnings))))]

mod architecture;
mod bag_of_tricks;
mod embedder;
mod error;
mod fnc;
mod mgn;
mod network;
mod progressive;
pub mod recipes;
pub mod rga;
pub mod weights;

pub use architecture::{Architecture, ArchitectureModel};
pub use bag_of_tricks::{BagOfTricks, BagOfTricksConfig};
pub use embedder::Embedder;
pub use error::Error;
pub use fnc::{Fnc, FncConfig};
pub use mgn::{Mgn, MgnConfig};
pub use network::NetworkConfig;
pub use progressive::{BatchDropBlock, BranchedConfig, ProgressiveCutMix};
pub use rga::{RgaConfig, RgaResNet50};
