//! Reads the tensors of a gallery on all threads, and hashes them at the same time.

use std::{collections::BTreeMap, fs::File, io};

use bytemuck::Pod;
use half::{f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;
use safetensors::{Dtype, tensor::Metadata};
use sha2::{Digest, Sha256};

use super::{
    super::tensors::{Shaped, Tensors},
    CHUNK, Hash,
};

/// The number of bytes that hold the length of the header.
const LENGTH: u64 = 8;
/// The largest header that is read, as in the crate `safetensors`.
const MAX_HEADER: u64 = 100_000_000;

/// Bytes that are read at any offset, from several threads.
pub(super) trait Source: Sync {
    fn length(&self) -> io::Result<u64>;

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

impl Source for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let bytes = start.and_then(|start| self.get(start..)?.get(..into.len()));
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Source for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    #[cfg(unix)]
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, into, offset)
    }

    #[cfg(windows)]
    fn read(&self, mut offset: u64, mut into: &mut [u8]) -> io::Result<()> {
        while !into.is_empty() {
            let read = std::os::windows::fs::FileExt::seek_read(self, into, offset)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            offset += read as u64;
            into = &mut into[read..];
        }
        Ok(())
    }
}

/// The header of a complete safetensors file.
pub(super) struct Header {
    pub(super) metadata: Metadata,
    /// The offset of the first tensor in the file.
    data: u64,
}

impl Header {
    pub(super) fn read(source: &(impl Source + ?Sized)) -> Result<Self, String> {
        let say = |error: io::Error| error.to_string();
        let found = source.length().map_err(say)?;
        let not = |reason: &str| {
            format!("expected a complete safetensors file, found {found} bytes: {reason}")
        };
        let mut length = 0_u64.to_le_bytes();
        if found < LENGTH {
            return Err(not("they have no header"));
        }
        source.read(0, &mut length).map_err(say)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER.min(found - LENGTH) {
            return Err(not(&format!("they declare a header of {length} bytes")));
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|error| error.to_string())?];
        source.read(LENGTH, &mut bytes).map_err(say)?;
        let metadata = serde_json::from_slice::<Metadata>(&bytes);
        let metadata = metadata.map_err(|error| not(&error.to_string()))?;
        let tensors = metadata.tensors();
        let end = tensors.values().map(|tensor| tensor.data_offsets.1).max();
        let data = LENGTH + length;
        let expected = data.saturating_add(end.unwrap_or(0) as u64);
        if found != expected {
            return Err(not(&format!("the header declares {expected}")));
        }
        Ok(Self { metadata, data })
    }
}

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
            let place = Place {
                source,
                offset: header.data + start as u64,
                length: end - start,
            };
            let (values, chunks) = match info.dtype {
                Dtype::F32 => place
                    .plain()
                    .map(|(values, chunks)| (Values::Floats(values), chunks)),
                Dtype::F16 => place
                    .halves()
                    .map(|(values, chunks)| (Values::Floats(values), chunks)),
                Dtype::I64 => place
                    .plain()
                    .map(|(values, chunks)| (Values::Integers(values), chunks)),
                Dtype::U8 => place
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

/// Where the bytes of a tensor are.
struct Place<'a, S: ?Sized> {
    source: &'a S,
    offset: u64,
    length: usize,
}

impl<S: Source + ?Sized> Place<'_, S> {
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
