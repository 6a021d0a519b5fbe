//! Writes the embeddings of a shard to a file block by block, so that they need not be in memory.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Write},
};

use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use sha2::{Digest, Sha256};

use super::write::ShardFormat;
#[cfg(feature = "parquet")]
use crate::files::parquet::Table;
use crate::{
    Labels,
    files::{
        arrays::from_labels,
        hexadecimal,
        tensors::{Encoded, encode, half_bytes, single_bytes},
    },
    gallery::GalleryStorage,
};

/// The key of the metadata of a file.
const KEY: &str = "shard";

/// A file that is counted and hashed while it is written.
pub(super) struct Hashed {
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl Hashed {
    pub(super) fn new(file: File) -> Self {
        Self {
            file: BufWriter::new(file),
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    /// Writes what is buffered. Returns the number of bytes and their SHA-256.
    pub(super) fn finish(mut self) -> io::Result<(u64, String)> {
        self.file.flush()?;
        Ok((self.bytes, hexadecimal(&self.hash.finalize())))
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file of embeddings whose labels are known, and whose values follow block by block.
pub(super) trait Sink {
    /// Writes the values of the next images.
    fn push(&mut self, values: &[f32]) -> Result<(), String>;

    /// Writes the end of the file, after the values of all images.
    fn finish(self: Box<Self>) -> Result<Hashed, String>;
}

/// Begins a file of embeddings with this number of dimensions and this precision. `metadata` is a JSON text.
pub(super) fn begin<'a>(
    format: ShardFormat,
    output: Hashed,
    labels: &'a Labels,
    shape: (usize, GalleryStorage),
    metadata: String,
) -> Result<Box<dyn Sink + 'a>, String> {
    match format {
        ShardFormat::Safetensors => Ok(Box::new(Tensors::begin(output, labels, shape, metadata)?)),
        #[cfg(feature = "parquet")]
        ShardFormat::Parquet => {
            let table = Table::new(output, labels, shape, &[(KEY, metadata)])?;
            Ok(Box::new(table))
        }
        #[cfg(not(feature = "parquet"))]
        ShardFormat::Parquet => Err(crate::files::NO_PARQUET.to_owned()),
    }
}

#[cfg(feature = "parquet")]
impl Sink for Table<'_, Hashed> {
    fn push(&mut self, values: &[f32]) -> Result<(), String> {
        Table::push(self, values)
    }

    fn finish(self: Box<Self>) -> Result<Hashed, String> {
        Table::finish(*self)
    }
}

/// A safetensors file. Its tensors are ordered as by the crate `safetensors`: integers, embeddings, texts.
struct Tensors {
    output: Hashed,
    storage: GalleryStorage,
    /// The bytes of the texts, which follow the embeddings.
    texts: Vec<Encoded>,
}

impl Tensors {
    fn begin(
        mut output: Hashed,
        labels: &Labels,
        (dimensions, storage): (usize, GalleryStorage),
        metadata: String,
    ) -> Result<Self, String> {
        let say = |error: &dyn std::fmt::Display| error.to_string();
        let labels_of = from_labels(labels, "")?.into_iter().map(encode);
        let (integers, texts): (Vec<Encoded>, Vec<Encoded>) =
            labels_of.partition(|(_, dtype, ..)| *dtype == Dtype::I64);
        let (dtype, size) = match storage {
            GalleryStorage::Single => (Dtype::F32, 4),
            GalleryStorage::Half => (Dtype::F16, 2),
        };
        let shape = vec![labels.len(), dimensions];
        let length = size * labels.len() * dimensions;
        let info = |(key, dtype, shape, bytes): &Encoded| {
            (key.clone(), *dtype, shape.clone(), bytes.len())
        };
        let features = ("features".to_owned(), dtype, shape, length);
        let all = integers.iter().map(info).chain([features]);
        let mut end = 0;
        let all = all
            .chain(texts.iter().map(info))
            .map(|(key, dtype, shape, length)| {
                let data_offsets = (end, end + length);
                end += length;
                let info = TensorInfo {
                    dtype,
                    shape,
                    data_offsets,
                };
                (key, info)
            });
        // A single key, because several would be written in any order.
        let metadata = HashMap::from([(KEY.to_owned(), metadata)]);
        let header = Metadata::new(Some(metadata), all.collect()).map_err(|error| say(&error))?;
        let mut header = serde_json::to_vec(&header).map_err(|error| say(&error))?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let length = (header.len() as u64).to_le_bytes();
        let before = integers.iter().map(|(.., bytes)| bytes.as_slice());
        for bytes in [&length[..], &header[..]].into_iter().chain(before) {
            output.write_all(bytes).map_err(|error| say(&error))?;
        }
        Ok(Self {
            output,
            storage,
            texts,
        })
    }
}

impl Sink for Tensors {
    fn push(&mut self, values: &[f32]) -> Result<(), String> {
        let written = match self.storage {
            GalleryStorage::Single => self.output.write_all(&single_bytes(values)),
            GalleryStorage::Half => self.output.write_all(&half_bytes(values)),
        };
        written.map_err(|error| error.to_string())
    }

    fn finish(self: Box<Self>) -> Result<Hashed, String> {
        let Self {
            mut output, texts, ..
        } = *self;
        for (.., bytes) in &texts {
            output.write_all(bytes).map_err(|error| error.to_string())?;
        }
        Ok(output)
    }
}
