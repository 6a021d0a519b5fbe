//! Burnpack: reads and writes Burn's own format, with Burn's names and layout.

use std::path::Path;

use burn::{
    store::burn_pack::{Reader, Tensor, Writer},
    tensor::Bytes,
};

use super::format::Format;
use crate::Error;

/// Reads the tensors of a file.
pub(super) fn read(path: &Path, bytes: Vec<u8>) -> Result<Vec<Tensor>, Error> {
    Reader::from_bytes(Bytes::from_bytes_vec(bytes))
        .and_then(Reader::into_tensors)
        .map_err(|error| Format::Burnpack.damaged(path, error.to_string()))
}

/// Writes a file under a temporary name in the same folder, and renames it when it is complete.
pub(super) fn write(path: &Path, tensors: Vec<Tensor>) -> Result<(), String> {
    Writer::new(tensors)
        .with_metadata("format", "burnpack")
        .with_metadata("producer", "reid")
        .auto_extension(false)
        .overwrite(true)
        .write_to_file(path)
        .map_err(|error| error.to_string())
}
