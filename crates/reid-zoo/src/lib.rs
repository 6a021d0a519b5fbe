//! Named re-identification networks and their weights, on Burn.
//!
//! | part | what it is |
//! |---|---|
//! | [`BagOfTricks`] | the strong baseline of Luo et al.: a `ResNet` and a `BNNeck` |
//! | [`RgaResNet50`] | relation-aware global attention of Zhang et al. in a ResNet-50 |
//! | [`ProgressiveCutMix`], [`BatchDropBlock`] | branches disturbed in training, of Zhang et al. and Dai et al. |
//! | [`Fnc`] | two branches with late stages and attention of their own, for vehicles, of Liu et al. |
//! | [`Mgn`] | three branches that look at a map as a whole and in stripes, of Wang et al. |
//! | [`weights`] | weights of any module, in and out: `PyTorch`, safetensors, burnpack |
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
