#![doc = include_str!("../README.md")]
#![doc(test(attr(deny(warnings))))]

mod average_precision;
mod config;
mod distance;
mod embeddings;
mod error;
mod evaluate;
mod labels;
mod metric;
mod protocol;
mod ranked_list;
mod ranking;
mod report;
mod rerank;
mod verdict;

pub use average_precision::{AveragePrecision, Denominator};
pub use config::{EvaluationConfig, Unmatched};
pub use distance::DistanceRows;
pub use embeddings::Embeddings;
pub use error::Error;
pub use evaluate::{evaluate, evaluate_distances, evaluate_rows};
pub use labels::Labels;
pub use metric::Metric;
pub use protocol::Protocol;
pub use ranked_list::{RankedEntry, RankedList, ranked_list};
pub use report::{QueryResult, Report};
pub use rerank::{HalfSet, RerankConfig, Reranked};
pub use verdict::Verdict;
