//! Samplers: which images make a batch.
//!
//! Losses that compare images need several of each identity in one batch, so the samplers here
//! choose identities first and then images of each.

mod identity;

pub use identity::{EpochDefinition, IdentitySampler};
