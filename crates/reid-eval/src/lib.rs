#![doc = include_str!("../README.md")]
#![doc(test(attr(deny(warnings))))]

mod average_precision;
mod breakdown;
mod classification;
mod clustering;
mod column_ranks;
mod combination;
mod comparison;
mod config;
mod distance;
mod distance_columns;
mod distance_rows;
mod embeddings;
mod error;
mod evaluate;
mod expansion;
#[cfg(feature = "files")]
pub mod files;
#[cfg(feature = "files")]
pub mod gallery;
mod hard_examples;
mod interval;
mod labels;
mod metric;
mod no_match;
mod open_set;
mod protocol;
mod ranked_list;
mod ranking;
mod relevance;
mod report;
mod rerank;
mod retrieval_task;
mod screening;
mod search;
mod segmentation;
mod single_shot;
mod threshold;
mod track_bank;
mod verification;
#[cfg(feature = "whitening")]
mod whitening;

pub use average_precision::{AveragePrecision, Denominator};
pub use breakdown::{CameraPair, GroupScores, IdentityScores, camera_pairs};
pub use classification::Classification;
pub use clustering::{ClusterQuality, ClusteringConfig, Clusters};
pub use comparison::{Comparison, QueryDifference};
pub use config::{EvaluationConfig, Unmatched};
pub use distance::Distances;
pub use distance_columns::{DistanceColumns, VisitPart};
pub use distance_rows::DistanceRows;
pub use embeddings::Embeddings;
pub use error::Error;
pub use evaluate::{evaluate, evaluate_distances, evaluate_rows};
pub use expansion::Expansion;
pub use hard_examples::{HardQuery, HardTriplet, hard_triplets};
pub use interval::{Interval, Intervals, Resampling, ResamplingUnit};
pub use labels::{ImageLabels, Labels};
pub use metric::Metric;
pub use open_set::{OpenSet, OpenSetConfig, OpenSetQueries};
pub use protocol::{CustomProtocol, Protocol};
pub use ranked_list::{RankedEntry, RankedList, ranked_list};
pub use relevance::{Relevance, RelevanceRule};
pub use report::{QueryResult, Report};
pub use rerank::{HalfK1Rounding, JaccardDistances, RerankConfig, Reranked};
pub use retrieval_task::RetrievalTask;
pub use search::{Index, Neighbour};
pub use segmentation::{ClassScores, ConfusionMatrix, SegmentationError, SegmentationReport};
pub use single_shot::{Trials, single_gallery_shot};
pub use threshold::{Rates, Threshold};
pub use track_bank::{TrackBank, TrackBankConfig, TrackDistance, TrackDistances};
pub use verification::{PairCounts, RocPoint, Verification};
#[cfg(feature = "whitening")]
pub use whitening::Whitening;
