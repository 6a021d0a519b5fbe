//! Safetensors: reads and writes files with `PyTorch`'s names and layout.

use std::{collections::HashMap, path::Path};

use burn::{
    store::burn_pack::Tensor,
    tensor::{BoolStore, Bytes, DType},
};
use reid_core::write_atomic;
use safetensors::{
    Dtype, SafeTensors,
    tensor::{TensorView, serialize},
};

use super::{format::Format, parameters::Convention};
use crate::Error;

/// Reads the tensors of a file, and the convention of their names and layouts.
///
/// In files of Burn's own store, the metadata entry `producer` is `burn`, and the layout is Burn's. All other files,
/// including those of this library, have `PyTorch`'s.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<(Convention, Vec<Tensor>), Error> {
    let damaged = |reason: String| Format::Safetensors.damaged(path, reason);
    let (_, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| damaged(error.to_string()))?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| damaged(error.to_string()))?;
    let producer = metadata
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get("producer"));
    let convention = match producer.map(String::as_str) {
        Some("burn") => Convention::Burn,
        _ => Convention::PyTorch,
    };
    let tensor = |(name, view): (&str, TensorView)| {
        let dtype = to_burn(view.dtype())
            .ok_or_else(|| damaged(format!("`{name}` has the unknown dtype {}", view.dtype())))?;
        let bytes = Bytes::from_bytes_vec(view.data().to_vec());
        Ok(Tensor::new(
            name.to_owned(),
            dtype,
            view.shape().to_vec(),
            None,
            bytes,
        ))
    };
    let tensors = file.iter().map(tensor).collect::<Result<_, Error>>()?;
    Ok((convention, tensors))
}

/// Writes a file atomically: it is complete or unchanged.
pub(super) fn write(path: &Path, tensors: Vec<Tensor>) -> Result<(), String> {
    write_atomic(path, to_bytes(tensors)?).map_err(|error| error.to_string())
}

/// Serialises tensors as a file.
pub(super) fn to_bytes(tensors: Vec<Tensor>) -> Result<Vec<u8>, String> {
    let mut parts = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let (name, dtype, shape, _, bytes) =
            tensor.into_parts().map_err(|error| error.to_string())?;
        let dtype = from_burn(dtype).ok_or_else(|| {
            format!("`{name}` has dtype {dtype:?}, which safetensors does not support")
        })?;
        parts.push((name, dtype, shape.to_vec(), bytes));
    }
    let mut views = Vec::with_capacity(parts.len());
    for (name, dtype, shape, bytes) in &parts {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        views.push((name, view.map_err(|error| error.to_string())?));
    }
    // PyTorch programs look for this entry. There is only one, because several entries of a map would be written
    // in random order.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize(views, Some(metadata)).map_err(|error| error.to_string())
}

fn to_burn(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F64 => Some(DType::F64),
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::I64 => Some(DType::I64),
        Dtype::I32 => Some(DType::I32),
        Dtype::I16 => Some(DType::I16),
        Dtype::I8 => Some(DType::I8),
        Dtype::U64 => Some(DType::U64),
        Dtype::U32 => Some(DType::U32),
        Dtype::U16 => Some(DType::U16),
        Dtype::U8 => Some(DType::U8),
        Dtype::BOOL => Some(DType::Bool(BoolStore::Native)),
        _ => None,
    }
}

fn from_burn(dtype: DType) -> Option<Dtype> {
    match dtype {
        DType::F64 => Some(Dtype::F64),
        DType::F32 | DType::Flex32 => Some(Dtype::F32),
        DType::F16 => Some(Dtype::F16),
        DType::BF16 => Some(Dtype::BF16),
        DType::I64 => Some(Dtype::I64),
        DType::I32 => Some(Dtype::I32),
        DType::I16 => Some(Dtype::I16),
        DType::I8 => Some(Dtype::I8),
        DType::U64 => Some(Dtype::U64),
        DType::U32 => Some(Dtype::U32),
        DType::U16 => Some(Dtype::U16),
        DType::U8 => Some(Dtype::U8),
        DType::Bool(BoolStore::Native | BoolStore::U8) => Some(Dtype::BOOL),
        DType::Bool(BoolStore::U32) | DType::QFloat(_) => None,
    }
}
