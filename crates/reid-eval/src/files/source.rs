//! Bytes that are read at any offset, and the header of a safetensors file among them.

use std::{fs::File, io};

use safetensors::tensor::Metadata;

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
    pub(super) data: u64,
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
