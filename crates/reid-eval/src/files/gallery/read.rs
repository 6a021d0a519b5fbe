//! Reads the tensors of a gallery on all threads, and hashes them at the same time.

use std::{collections::BTreeMap, io};

use bytemuck::Pod;
use half::{f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;
use safetensors::Dtype;
use sha2::{Digest, Sha256};

use super::{
    super::{
        source::{Header, Source},
        tensors::{Shaped, Tensors},
    },
    CHUNK, Hash,
};

/// The values of a tensor.
enum Values {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
    Bytes(Vec<u8>),
}

/// The tensors of a file.
pub(super) struct Stored(BTreeMap<String, (Vec<usize>, Values)>);

impl Stored {
    /// Reads all tensors and adds them to the hash.
    pub(super) fn read(
        source: &(impl Source + ?Sized),
        header: &Header,
        hash: &mut Hash,
    ) -> Result<Self, String> {
        let tensors: BTreeMap<_, _> = header.metadata.tensors().into_iter().collect();
        let mut stored = BTreeMap::new();
        for (key, info) in tensors {
            let (start, end) = info.data_offsets;
            let bytes = TensorBytes {
                source,
                offset: header.data + start as u64,
                length: end - start,
            };
            let (values, chunks) = match info.dtype {
                Dtype::F32 => bytes
                    .plain()
                    .map(|(values, chunks)| (Values::Floats(values), chunks)),
                Dtype::F16 => bytes
                    .halves()
                    .map(|(values, chunks)| (Values::Floats(values), chunks)),
                Dtype::I64 => bytes
                    .plain()
                    .map(|(values, chunks)| (Values::Integers(values), chunks)),
                Dtype::U8 => bytes
                    .plain()
                    .map(|(values, chunks)| (Values::Bytes(values), chunks)),
                found => {
                    return Err(format!(
                        "`{key}`: expected F32, F16, I64 or U8 values, found {found}"
                    ));
                }
            }
            .map_err(|error| format!("`{key}`: {error}"))?;
            hash.add(&key, info.dtype, &info.shape, &chunks);
            stored.insert(key, (info.shape.clone(), values));
        }
        Ok(Self(stored))
    }

    /// Removes a tensor of floats.
    pub(super) fn take_floats(&mut self, key: &str) -> Result<Shaped<f32>, String> {
        match self.0.remove(key) {
            Some((shape, Values::Floats(values))) => Ok((shape, values)),
            Some(_) => Err(format!("`{key}`: expected F32 or F16 values")),
            None => Err(self.missing(key)),
        }
    }

    fn get(&self, key: &str) -> Result<&(Vec<usize>, Values), String> {
        self.0.get(key).ok_or_else(|| self.missing(key))
    }
}

impl Tensors for Stored {
    fn keys(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn floats(&self, key: &str) -> Result<Shaped<f32>, String> {
        match self.get(key)? {
            (shape, Values::Floats(values)) => Ok((shape.clone(), values.clone())),
            _ => Err(format!("`{key}`: expected F32 or F16 values")),
        }
    }

    fn integers(&self, key: &str) -> Result<Shaped<i64>, String> {
        match self.get(key)? {
            (shape, Values::Integers(values)) => Ok((shape.clone(), values.clone())),
            _ => Err(format!("`{key}`: expected I64 values")),
        }
    }

    fn bytes(&self, key: &str) -> Result<Shaped<u8>, String> {
        match self.get(key)? {
            (shape, Values::Bytes(values)) => Ok((shape.clone(), values.clone())),
            _ => Err(format!("`{key}`: expected U8 values")),
        }
    }
}

/// The SHA-256 of a chunk of bytes.
type ChunkHash = sha2::digest::Output<Sha256>;

/// The bytes of a tensor in a file.
struct TensorBytes<'a, S: ?Sized> {
    source: &'a S,
    offset: u64,
    length: usize,
}

impl<S: Source + ?Sized> TensorBytes<'_, S> {
    /// Reads little-endian values.
    fn plain<T: Pod + Send>(&self) -> io::Result<(Vec<T>, Vec<ChunkHash>)> {
        let mut values = vec![T::zeroed(); self.length / size_of::<T>()];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
        let chunks = bytes.par_chunks_mut(CHUNK).enumerate();
        let hashes = chunks.map(|(chunk, bytes)| {
            let hash = self.chunk(chunk, bytes)?;
            if cfg!(target_endian = "big") {
                bytes
                    .chunks_exact_mut(size_of::<T>())
                    .for_each(<[u8]>::reverse);
            }
            Ok(hash)
        });
        let hashes = hashes.collect::<io::Result<Vec<_>>>()?;
        Ok((values, hashes))
    }

    /// Reads values in half precision, and converts them to single precision.
    fn halves(&self) -> io::Result<(Vec<f32>, Vec<ChunkHash>)> {
        let mut values = vec![0.0; self.length / 2];
        let chunks = values.par_chunks_mut(CHUNK / 2).enumerate();
        let hashes = chunks.map(|(chunk, values)| {
            let mut bytes = vec![0; 2 * values.len()];
            let hash = self.chunk(chunk, &mut bytes)?;
            let halves = bytes.as_chunks().0.iter().copied().map(f16::from_le_bytes);
            let halves: Vec<f16> = halves.collect();
            halves.convert_to_f32_slice(values);
            Ok(hash)
        });
        let hashes = hashes.collect::<io::Result<Vec<_>>>()?;
        Ok((values, hashes))
    }

    /// Reads and hashes a chunk.
    fn chunk(&self, chunk: usize, bytes: &mut [u8]) -> io::Result<ChunkHash> {
        let offset = self.offset + (chunk * CHUNK) as u64;
        self.source.read(offset, bytes)?;
        Ok(Sha256::digest(bytes))
    }
}
