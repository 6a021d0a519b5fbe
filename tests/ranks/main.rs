//! Data-parallel training: several ranks train one model as one process does, or as a plain reference does, and end,
//! resume and write together.

mod equality;
mod failures;
mod fixture;
mod references;
mod resuming;
