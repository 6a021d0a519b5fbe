//! Exported files, run by another runtime: their outputs, their content, and errors.

mod files;
mod parity;
mod runtime;
mod segmentation;
