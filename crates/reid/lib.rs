#![doc = include_str!("../../README.md")]
//!
//! # Where things are
//!
//! | module | what is in it |
//! |---|---|
//! | [`core`] | the words: identity, camera, sample, splits, sizes, heat map, seed |
//! | [`data`] | data sets, samplers, transforms, loading |
//! | [`synthetic`] | drawn people and vehicles, as data sets |
//! | [`nn`] | network parts and losses as Burn modules |
//! | [`zoo`] | named networks, weights in and out |
//! | [`train`] | recipes, the loop, checkpoints, extraction |
//! | [`eval`] | protocols, CMC, mAP, mINP, ranked lists |
//! | [`vis`] | pictures |
//! | [`device`](mod@device) | a device that is really there |

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

/// What most programs need.
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

/// The documents, so that their programs run as tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../docs/ADDING.md")]
    struct Adding;
}
