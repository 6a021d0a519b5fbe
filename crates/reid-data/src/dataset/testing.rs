//! Helpers for tests: small datasets on disk, and checks of the published counts.

pub(super) mod published;
pub(super) mod tree;
