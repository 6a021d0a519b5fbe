//! Exported files, run by another runtime: their embeddings, their content, and errors.

mod files;
mod parity;
mod runtime;
