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

/// The guides in `docs/`, included so that their examples run as doc tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../docs/ADDING.md")]
    struct Adding;

    #[doc = include_str!("../../docs/MIGRATION.md")]
    struct Migration;
}
