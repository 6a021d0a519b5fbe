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
//! | [`LightMbn`] | an omni-scale network of three branches, in 9 million parameters (Herzog et al.) |
//! | [`OsNetReid`] | an omni-scale network, x0.25 to x1.0, IBN and AIN (Zhou et al.) |
//! | [`OsNetBranched`], [`OsNetFnc`] | the branches of `ProgressiveCutMix`, `BatchDropBlock` and `Fnc` on an `OSNet` |
//! | [`MobileNetReid`] | a `MobileNetV2`, x1.0 and x1.4 (Sandler et al.) |
//! | [`Architecture::cifar_resnet`], [`Architecture::densenet`] | classifiers of small images (He et al.; Huang et al.) |
//! | [`Architecture`] | one of these networks, selected at run time |
//! | [`segmentation`] | `PSPNet`, `DeepLabV3` and relation-aware attention for semantic segmentation |
//!
//! [`Embedder`] computes embeddings with a trained network: from a run, from a model folder, or from published
//! weights. The module [`recipes`] has the published training settings. [`weights`] loads the weights of any module
//! from `PyTorch`, safetensors and burnpack files, and saves them as safetensors or burnpack.
//!
//! Use it to embed images, and to train or to load a network of the table. For a network of other parts, compose
//! them with `reid-nn`; [`NetworkConfig`] makes a recipe of them. The crate contains no weights: they come from
//! files, or with the feature `hub` from Hugging Face.
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
mod cifar;
mod embedder;
mod error;
mod fnc;
#[cfg(feature = "hub")]
mod hub;
mod light_mbn;
mod mgn;
mod mobile_net;
mod named;
mod network;
mod osnet;
mod osnet_fnc;
mod progressive;
pub mod recipes;
pub mod rga;
pub mod segmentation;
pub mod weights;

pub use architecture::{Architecture, ArchitectureModel};
pub use bag_of_tricks::{BagOfTricks, BagOfTricksConfig};
pub use embedder::Embedder;
pub use error::Error;
pub use fnc::{Fnc, FncConfig};
#[cfg(feature = "hub")]
pub use hub::Hub;
pub use light_mbn::{LightMbn, LightMbnConfig};
pub use mgn::{Mgn, MgnConfig};
pub use mobile_net::{MobileNetReid, MobileNetReidConfig};
pub use named::UnknownNetwork;
pub use network::NetworkConfig;
pub use osnet::{OsNetBranched, OsNetBranchedConfig, OsNetReid, OsNetReidConfig};
pub use osnet_fnc::{OsNetFnc, OsNetFncBranch, OsNetFncBranchConfig, OsNetFncConfig};
pub use progressive::{BatchDropBlock, BranchedConfig, ProgressiveCutMix};
pub use rga::{RgaConfig, RgaResNet50};
