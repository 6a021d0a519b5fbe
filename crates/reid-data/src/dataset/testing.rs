//! Testing: small data sets on disk, and the numbers of published ones.

pub(super) mod published;
pub(super) mod tree;
