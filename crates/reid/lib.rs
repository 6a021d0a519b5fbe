#![doc = include_str!("../../README.md")]
//!
//! # Modules
//!
//! | module | content |
//! |---|---|
//! | [`core`] | basic types: identities, cameras, samples, splits, image sizes, heat maps, similarity maps, seeds |
//! | [`data`] | datasets, samplers, transforms and data loaders |
//! | [`synthetic`] | datasets of synthetic people and vehicles |
//! | [`nn`] | network parts and losses as Burn modules |
//! | [`zoo`] | published architectures; loading and saving weights and whole models |
//! | [`train`] | recipes, the training loop, checkpoints and embedding extraction |
//! | [`eval`] | evaluation protocols, CMC, mAP, mINP and ranked lists |
//! | [`vis`] | figures, heat maps and contact sheets |
//! | [`device`](mod@device) | selection of a device that is available |
//!
//! Depend on this crate for programs that train a network or compute embeddings. A program that only evaluates or
//! searches embeddings needs `reid-eval` alone, which does not depend on Burn. Files for other runtimes are written
//! by `reid-onnx`, which is not part of this crate.
//!
//! # Features
//!
//! | feature | what it enables |
//! |---|---|
//! | `flex` | Burn's CPU backend; on by default |
//! | `native` | the operations of this library that are faster than Burn's; on by default |
//! | `x86-v4` | kernels of Flex for AVX-512, on processors that have it |
//! | `cuda`, `rocm`, `metal`, `vulkan`, `wgpu` | Burn's GPU backends; [`device::pick`] selects one that finds hardware |
//! | `cuda-plain`, `wgpu-plain` | the same without autotuning, for tests and measurements |
//! | `ndarray` | Burn's second CPU backend, for tests |
//! | `persistence` | compiled GPU kernels and autotuning results are kept on disk |
//! | `parquet` | Parquet files of embeddings ([`eval::files`]) |
//! | `hub` | model folders from Hugging Face ([`zoo::Embedder`]) |

#![doc(test(attr(deny(warnings))))]

pub use burn;
pub use reid_core as core;
pub use reid_data as data;
pub use reid_eval as eval;
pub use reid_nn as nn;
pub use reid_nn::device;
pub use reid_synthetic as synthetic;
pub use reid_train as train;
pub use reid_vis as vis;
pub use reid_zoo as zoo;

/// The types and functions that most programs need.
pub mod prelude {
    pub use crate::{
        core::{Camera, FeatureShape, Identity, InputSize, Sample, Seed, Split, Splits, Track},
        data::loader::LoaderConfig,
        device,
        eval::{Embeddings, EvaluationConfig, Metric, Protocol, Report, evaluate},
        nn::{
            Block, BlockConfig, Criterion, CriterionConfig, Embed, Head, HeadConfig, Init, Model,
            NamedLoss, Network, OutputShape, ReidModel, ReidOutput, Targets,
        },
        train::{
            CheckpointKind, Checkpoints, Console, Extractor, Interrupt, ParameterGroup, Recipe,
            Trainer,
        },
        zoo::{Architecture, BagOfTricks, BagOfTricksConfig, Embedder},
    };
}

/// The documents in `docs/` and the pages of the guide, included so that their programs run as doc tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../docs/ADDING.md")]
    struct Adding;

    #[doc = include_str!("../../docs/MIGRATION.md")]
    struct Migration;

    // The pages of the guide that have programs.
    #[doc = include_str!("../../docs/guide/src/composing.md")]
    struct Composing;

    #[doc = include_str!("../../docs/guide/src/explaining.md")]
    struct Explaining;

    #[doc = include_str!("../../docs/guide/src/first-steps.md")]
    struct FirstSteps;

    #[doc = include_str!("../../docs/guide/src/from-fastreid.md")]
    struct FromFastreid;

    #[doc = include_str!("../../docs/guide/src/from-pytorch.md")]
    struct FromPytorch;

    #[doc = include_str!("../../docs/guide/src/from-torchreid.md")]
    struct FromTorchreid;

    #[doc = include_str!("../../docs/guide/src/galleries.md")]
    struct Galleries;

    #[doc = include_str!("../../docs/guide/src/networks.md")]
    struct Networks;

    #[doc = include_str!("../../docs/guide/src/shipping.md")]
    struct Shipping;

    #[doc = include_str!("../../docs/guide/src/threshold.md")]
    struct Threshold;

    #[doc = include_str!("../../docs/guide/src/transfer.md")]
    struct Transfer;

    #[doc = include_str!("../../docs/guide/src/your-images.md")]
    struct YourImages;
}
