//! Named tensors as a trait, and its implementation for safetensors files.

use std::{borrow::Cow, collections::HashMap};

use half::{f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::arrays::{Array, Values};

/// The number of values that are converted to half precision together.
const HALVES: usize = 1 << 19;

/// A shape and the values, row by row.
pub(super) type Shaped<T> = (Vec<usize>, Vec<T>);

/// A source of named tensors.
pub(super) trait Tensors {
    /// The names of the tensors, sorted.
    fn keys(&self) -> Vec<String>;

    /// Reads a tensor of floats.
    fn floats(&self, key: &str) -> Result<Shaped<f32>, String>;

    /// Reads a tensor of integers.
    fn integers(&self, key: &str) -> Result<Shaped<i64>, String>;

    /// Reads a tensor of bytes.
    fn bytes(&self, key: &str) -> Result<Shaped<u8>, String>;

    /// The error message for a missing key.
    fn missing(&self, key: &str) -> String {
        let found = match self.keys().as_slice() {
            [] => "no keys".to_owned(),
            keys => format!("`{}`", keys.join("`, `")),
        };
        format!("expected the key `{key}`, found {found}")
    }
}

/// The tensors of a safetensors file.
pub(super) struct Safetensors<'a>(pub(super) SafeTensors<'a>);

impl<'a> Safetensors<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| {
            let found = bytes.len();
            format!("expected a complete safetensors file, found {found} bytes: {error}")
        })?;
        Ok(Self(file))
    }

    fn tensor(&self, key: &str) -> Result<TensorView<'a>, String> {
        if !self.0.names().contains(&key) {
            return Err(self.missing(key));
        }
        self.0
            .tensor(key)
            .map_err(|error| format!("`{key}`: {error}"))
    }
}

impl Tensors for Safetensors<'_> {
    fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.0.names().into_iter().map(str::to_owned).collect();
        keys.sort_unstable();
        keys
    }

    fn floats(&self, key: &str) -> Result<Shaped<f32>, String> {
        let tensor = self.tensor(key)?;
        let values = match tensor.dtype() {
            Dtype::F32 => values(&tensor).map(f32::from_le_bytes).collect(),
            Dtype::F16 => values(&tensor)
                .map(f16::from_le_bytes)
                .map(f16::to_f32)
                .collect(),
            Dtype::F64 => values(&tensor)
                .map(f64::from_le_bytes)
                .map(narrow)
                .collect(),
            found => {
                return Err(format!(
                    "`{key}`: expected F16, F32 or F64 values, found {found}"
                ));
            }
        };
        Ok((tensor.shape().to_vec(), values))
    }

    fn integers(&self, key: &str) -> Result<Shaped<i64>, String> {
        let tensor = self.tensor(key)?;
        let values = match tensor.dtype() {
            Dtype::I64 => values(&tensor).map(i64::from_le_bytes).collect(),
            Dtype::I32 => values(&tensor)
                .map(i32::from_le_bytes)
                .map(i64::from)
                .collect(),
            found => {
                return Err(format!(
                    "`{key}`: expected I64 or I32 values, found {found}"
                ));
            }
        };
        Ok((tensor.shape().to_vec(), values))
    }

    fn bytes(&self, key: &str) -> Result<Shaped<u8>, String> {
        let tensor = self.tensor(key)?;
        match tensor.dtype() {
            Dtype::U8 => Ok((tensor.shape().to_vec(), tensor.data().to_vec())),
            found => Err(format!("`{key}`: expected U8 values, found {found}")),
        }
    }
}

/// The name, dtype, shape and little-endian bytes of a tensor.
pub(super) type Encoded = (String, Dtype, Vec<usize>, Vec<u8>);

/// Encodes arrays as the bytes of a safetensors file.
pub(super) fn safetensors(arrays: Vec<Array<'_>>) -> Result<Vec<u8>, String> {
    let encoded: Vec<Encoded> = arrays.into_iter().map(encode).collect();
    serialize(&encoded, None)
}

/// Encodes tensors, and metadata for the header, as the bytes of a safetensors file.
pub(super) fn serialize(
    tensors: &[Encoded],
    metadata: Option<HashMap<String, String>>,
) -> Result<Vec<u8>, String> {
    let views = tensors.iter().map(|(key, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        let view = view.map_err(|error| format!("`{key}`: {error}"))?;
        Ok((key.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, String>>()?;
    safetensors::serialize(views, metadata).map_err(|error| error.to_string())
}

/// Encodes an array as its name, dtype, shape and little-endian bytes.
pub(super) fn encode(array: Array<'_>) -> Encoded {
    let Array { key, shape, values } = array;
    let (dtype, bytes) = match values {
        Values::Floats(values) => {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            (Dtype::F32, bytes.collect())
        }
        Values::Integers(values) => {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            (Dtype::I64, bytes.collect())
        }
        Values::Bytes(bytes) => (Dtype::U8, bytes),
    };
    (key, dtype, shape, bytes)
}

/// The values of a tensor, each as its little-endian bytes.
fn values<const BYTES: usize>(tensor: &TensorView<'_>) -> impl Iterator<Item = [u8; BYTES]> {
    tensor.data().as_chunks().0.iter().copied()
}

/// The little-endian bytes of values in single precision.
pub(super) fn single_bytes(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        return Cow::Borrowed(bytemuck::cast_slice(values));
    }
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    Cow::Owned(bytes.collect())
}

/// The little-endian bytes of values in half precision.
pub(super) fn half_bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; 2 * values.len()];
    let chunks = bytes
        .par_chunks_mut(2 * HALVES)
        .zip(values.par_chunks(HALVES));
    chunks.for_each(|(bytes, values)| {
        let mut halves = vec![f16::ZERO; values.len()];
        halves.convert_from_f32_slice(values);
        for (bytes, half) in bytes.as_chunks_mut().0.iter_mut().zip(halves) {
            *bytes = half.to_le_bytes();
        }
    });
    bytes
}

/// Rounds to single precision. A value that is too large becomes infinite, which is rejected later with its
/// row and column.
#[expect(
    clippy::cast_possible_truncation,
    reason = "embeddings are in single precision"
)]
pub(super) fn narrow(value: f64) -> f32 {
    value as f32
}
