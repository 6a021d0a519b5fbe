//! Code shared by the dataset loaders: listings, lists, labels, identities and checks.

pub(super) mod check;
pub(super) mod copies;
pub(super) mod digits;
pub(super) mod held_out;
pub(super) mod identities;
pub(super) mod labels;
pub(super) mod lines;
pub(super) mod listing;
pub(super) mod named;
pub(super) mod notices;
pub(super) mod records;
pub(super) mod three_folders;
pub(super) mod tracks;
