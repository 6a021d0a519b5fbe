//! One file of a shard, read block by block.

use std::{
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
};

use half::{f16, slice::HalfFloatSliceExt};
use safetensors::Dtype;

use super::{
    BLOCK,
    manifest::{Manifest, Part},
};
#[cfg(feature = "parquet")]
use crate::files::parquet;
use crate::{
    Labels,
    files::{
        FileError,
        arrays::Columns,
        at, content,
        source::{Header, Source},
        tensors::{Shaped, Tensors},
    },
    gallery::GalleryStorage,
};

/// A file of embeddings. It is opened for each read, so that a thousand shards do not need a thousand open files.
pub(super) struct PartFile {
    path: PathBuf,
    images: usize,
    dimensions: usize,
    storage: GalleryStorage,
    content: Content,
    /// The images of each block, as indices in this file.
    blocks: Vec<Range<usize>>,
}

/// Where the embeddings are.
enum Content {
    /// The offset of the first value in a safetensors file.
    Safetensors(u64),
    #[cfg(feature = "parquet")]
    Parquet(Box<parquet::Blocks>),
}

impl PartFile {
    /// Opens a file whose hash is right.
    pub(super) fn open(folder: &Path, manifest: &Manifest, part: &Part) -> Result<Self, FileError> {
        let path = folder.join(&part.file);
        let dimensions = manifest.dimensions.unwrap_or(0);
        let opened = match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => open_safetensors(&path, part, dimensions, manifest.storage),
            Some("parquet") => open_parquet(&path, dimensions),
            _ => Err("expected a `.safetensors` or a `.parquet` file".to_owned()),
        };
        let (content_of, storage, blocks) = opened.map_err(content(&path))?;
        let images = blocks.last().map_or(0, |block| block.end);
        if (storage, images) != (manifest.storage, part.images) {
            return Err(content(&path)(format!(
                "expected {} embeddings in {:?} precision, found {images} in {storage:?} precision",
                part.images, manifest.storage
            )));
        }
        Ok(Self {
            path,
            images,
            dimensions,
            storage,
            content: content_of,
            blocks,
        })
    }

    /// The images of each block, as indices in this file.
    pub(super) fn blocks(&self) -> &[Range<usize>] {
        &self.blocks
    }

    /// Reads the embeddings of a block, row by row.
    pub(super) fn read(&self, block: usize) -> Result<Vec<f32>, FileError> {
        let (rows, path) = (self.blocks[block].clone(), &self.path);
        let size = match self.storage {
            GalleryStorage::Single => 4,
            GalleryStorage::Half => 2,
        };
        let length = rows.len() * self.dimensions * size;
        let bytes = match &self.content {
            Content::Safetensors(start) => {
                let offset = start + (rows.start * self.dimensions * size) as u64;
                let mut bytes = vec![0; length];
                let file = File::open(path).map_err(at(path))?;
                Source::read(&file, offset, &mut bytes).map_err(at(path))?;
                bytes
            }
            #[cfg(feature = "parquet")]
            Content::Parquet(blocks) => blocks.read(path, block).map_err(content(path))?,
        };
        if bytes.len() != length {
            let (first, found) = (rows.start, bytes.len());
            return Err(content(path)(format!(
                "expected {length} bytes of embeddings from row {first} on, found {found}"
            )));
        }
        let values = values(&bytes, self.storage);
        let Some(value) = values.iter().position(|value| !value.is_finite()) else {
            return Ok(values);
        };
        let (row, column) = (
            rows.start + value / self.dimensions,
            value % self.dimensions,
        );
        Err(content(path)(format!(
            "embedding value at row {row}, column {column} is {}, expected a finite number",
            values[value]
        )))
    }

    /// Reads the labels, with the paths of the images if they are wanted.
    pub(super) fn labels(&self, with_paths: bool) -> Result<Labels, FileError> {
        let paths = ["paths", "paths.utf8", "paths.ends"];
        let accepts = |name: &str| with_paths || !paths.contains(&name);
        let labels = match &self.content {
            Content::Safetensors(_) => self.safetensors_labels(accepts),
            #[cfg(feature = "parquet")]
            Content::Parquet(_) => parquet::labels(&self.path, self.images, accepts),
        };
        labels.map_err(content(&self.path))
    }

    fn safetensors_labels(&self, accepts: impl Fn(&str) -> bool) -> Result<Labels, String> {
        let tensors = FileTensors::open(&self.path)?;
        let mut keys = tensors.keys();
        keys.retain(|key| accepts(key));
        let columns = Columns {
            tensors: &tensors,
            keys,
            prefix: "",
            rows: self.images,
        };
        columns.labels()
    }
}

/// What a file has: its embeddings, their precision and the rows of their blocks.
type Opened = (Content, GalleryStorage, Vec<Range<usize>>);

fn open_safetensors(
    path: &Path,
    part: &Part,
    dimensions: usize,
    storage: GalleryStorage,
) -> Result<Opened, String> {
    let header = FileTensors::open(path)?.header;
    let features = header.metadata.info("features");
    let features = features.ok_or_else(|| "expected the key `features`".to_owned())?;
    let dtype = match storage {
        GalleryStorage::Single => Dtype::F32,
        GalleryStorage::Half => Dtype::F16,
    };
    if features.dtype != dtype || features.shape != [part.images, dimensions] {
        return Err(format!(
            "`features`: expected {dtype} values and the shape [{}, {dimensions}], found {} and {:?}",
            part.images, features.dtype, features.shape
        ));
    }
    let start = header.data + features.data_offsets.0 as u64;
    let blocks = (0..part.images).step_by(BLOCK);
    let blocks = blocks.map(|first| first..part.images.min(first + BLOCK));
    Ok((Content::Safetensors(start), storage, blocks.collect()))
}

#[cfg(feature = "parquet")]
fn open_parquet(path: &Path, dimensions: usize) -> Result<Opened, String> {
    let blocks = parquet::Blocks::open(path, dimensions)?;
    let (storage, rows) = (blocks.storage(), blocks.rows().to_vec());
    Ok((Content::Parquet(Box::new(blocks)), storage, rows))
}

#[cfg(not(feature = "parquet"))]
fn open_parquet(_: &Path, _: usize) -> Result<Opened, String> {
    Err(crate::files::NO_PARQUET.to_owned())
}

/// Converts little-endian bytes to values.
fn values(bytes: &[u8], storage: GalleryStorage) -> Vec<f32> {
    match storage {
        GalleryStorage::Single => {
            let values = bytes.as_chunks().0.iter();
            values.map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        GalleryStorage::Half => {
            let halves = bytes.as_chunks().0.iter();
            let halves: Vec<f16> = halves.map(|bytes| f16::from_le_bytes(*bytes)).collect();
            let mut values = vec![0.0; halves.len()];
            halves.convert_to_f32_slice(&mut values);
            values
        }
    }
}

/// The tensors of a safetensors file, each of which is read when it is needed.
struct FileTensors {
    file: File,
    header: Header,
}

impl FileTensors {
    fn open(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let header = Header::read(&file)?;
        Ok(Self { file, header })
    }

    /// Reads the shape and the bytes of a tensor of this dtype.
    fn read(&self, key: &str, dtype: Dtype) -> Result<Shaped<u8>, String> {
        let info = self.header.metadata.info(key);
        let info = info.ok_or_else(|| self.missing(key))?;
        if info.dtype != dtype {
            let found = info.dtype;
            return Err(format!("`{key}`: expected {dtype} values, found {found}"));
        }
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        Source::read(&self.file, self.header.data + start as u64, &mut bytes)
            .map_err(|error| format!("`{key}`: {error}"))?;
        Ok((info.shape.clone(), bytes))
    }
}

impl Tensors for FileTensors {
    fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.header.metadata.tensors().into_keys().collect();
        keys.sort_unstable();
        keys
    }

    fn floats(&self, key: &str) -> Result<Shaped<f32>, String> {
        let (shape, bytes) = self.read(key, Dtype::F32)?;
        Ok((shape, values(&bytes, GalleryStorage::Single)))
    }

    fn integers(&self, key: &str) -> Result<Shaped<i64>, String> {
        let (shape, bytes) = self.read(key, Dtype::I64)?;
        let values = bytes.as_chunks().0.iter();
        let values = values.map(|bytes| i64::from_le_bytes(*bytes));
        Ok((shape, values.collect()))
    }

    fn bytes(&self, key: &str) -> Result<Shaped<u8>, String> {
        self.read(key, Dtype::U8)
    }
}
