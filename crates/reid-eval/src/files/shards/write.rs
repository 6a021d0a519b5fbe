//! Writes one shard, or finds it finished.

use std::{
    fs::{self, File},
    io,
    path::Path,
    str::FromStr,
};

use half::f16;
use reid_core::{Sample, Split, replace_atomic, write_atomic};
use serde::Serialize;

use super::{
    BLOCK, Shard, ShardList,
    manifest::{Manifest, Part, manifest_name, manifests, part_name},
    sink::{self, Hashed},
};
use crate::{
    Embeddings, Error, Labels,
    files::{FileError, at, content},
    gallery::{GalleryStorage, ModelFingerprint},
};

/// The file format of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ShardFormat {
    /// Safetensors.
    Safetensors,
    /// Parquet, with the Cargo feature `parquet`.
    Parquet,
}

/// Parquet with the Cargo feature `parquet`, otherwise safetensors.
impl Default for ShardFormat {
    fn default() -> Self {
        if cfg!(feature = "parquet") {
            Self::Parquet
        } else {
            Self::Safetensors
        }
    }
}

impl ShardFormat {
    /// The extension of the files.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Parquet => "parquet",
        }
    }
}

impl FromStr for ShardFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let formats = [Self::Safetensors, Self::Parquet];
        let found = formats
            .into_iter()
            .find(|format| format.extension() == text);
        found.ok_or_else(|| Error::Choice {
            expected: "safetensors or parquet",
            found: text.to_owned(),
        })
    }
}

/// What a job writes to its shard, besides the images.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ShardOptions {
    /// The model that computes the embeddings.
    pub model: ModelFingerprint,
    /// The precision of the embeddings in the file. They are rounded as they are, without normalising them.
    /// Default: single.
    pub storage: GalleryStorage,
    /// The file format. Default: Parquet with the Cargo feature `parquet`, otherwise safetensors.
    pub format: ShardFormat,
}

impl ShardOptions {
    /// Creates the default options for embeddings of a model.
    #[must_use]
    pub fn new(model: ModelFingerprint) -> Self {
        Self {
            model,
            storage: GalleryStorage::default(),
            format: ShardFormat::default(),
        }
    }

    /// Sets the precision of the embeddings in the file.
    #[must_use]
    pub fn with_storage(self, storage: GalleryStorage) -> Self {
        Self { storage, ..self }
    }

    /// Sets the file format.
    #[must_use]
    pub fn with_format(self, format: ShardFormat) -> Self {
        Self { format, ..self }
    }
}

/// What [`write_shard`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardStatus {
    /// The shard was embedded and written.
    Written,
    /// The shard was finished before: its hashes are right, and nothing was embedded.
    Found,
}

/// Embeds one shard of a list and writes it to a folder, unless the folder has it already.
///
/// `embed` is called with at most 4096 images at a time, in order, first those of the query and then those of the
/// gallery. It returns one embedding per image; labels are taken from the list. Memory is needed for the
/// embeddings of these images and for the labels of the shard.
///
/// After a kill at any moment, call it again with the same arguments: a finished shard is kept, and any other is
/// embedded again. A killed process may leave temporary files `.reid-….tmp` in the folder, which nothing reads.
///
/// # Errors
/// - The errors of `embed`.
/// - The folder has shards of another model, of another list, with another precision, or another number of them.
///   The error names the file of such a shard.
/// - `embed` returned another number of embeddings or of dimensions.
/// - A value does not fit half precision, a path is not Unicode, or a file cannot be written.
pub fn write_shard<E: From<FileError>>(
    folder: impl AsRef<Path>,
    list: &ShardList,
    shard: Shard,
    options: &ShardOptions,
    mut embed: impl FnMut(Split, &[Sample]) -> Result<Embeddings, E>,
) -> Result<ShardStatus, E> {
    let folder = folder.as_ref();
    fs::create_dir_all(folder).map_err(at(folder))?;
    let path = folder.join(manifest_name(shard));
    let mut manifest = Manifest::new(shard, list.fingerprint(), &options.model, options.storage);
    for other in manifests(folder)? {
        // One that cannot be read is that of a shard which has to be embedded again.
        let Ok(found) = Manifest::read(&other) else {
            continue;
        };
        found
            .expect_set_of(&manifest, "for this job")
            .map_err(|reason| format!("{reason}: write to another folder"))
            .map_err(content(&other))?;
        let mut parts = found.files.iter();
        if other == path && parts.all(|part| part.verify(folder).is_ok()) {
            return Ok(ShardStatus::Found);
        }
    }
    let job = Job {
        folder,
        list,
        shard,
        options,
    };
    for split in [Split::Query, Split::Gallery] {
        if !list.samples(split, shard).is_empty() {
            let part = job.write(split, &mut manifest.dimensions, &mut embed)?;
            manifest.files.push(part);
        }
    }
    let json = manifest.to_json().map_err(content(&path))?;
    write_atomic(&path, json).map_err(at(&path))?;
    Ok(ShardStatus::Written)
}

/// The arguments of [`write_shard`].
struct Job<'a> {
    folder: &'a Path,
    list: &'a ShardList,
    shard: Shard,
    options: &'a ShardOptions,
}

/// The text in the metadata of a file.
#[derive(Serialize)]
struct Origin<'a> {
    model: &'a ModelFingerprint,
    list: &'a str,
    split: Split,
    shard: usize,
    of: usize,
}

impl Job<'_> {
    /// Writes the file of one split, which has images in this shard. Another file of the shard may have set the
    /// number of dimensions.
    fn write<E: From<FileError>>(
        &self,
        split: Split,
        dimensions: &mut Option<usize>,
        embed: &mut impl FnMut(Split, &[Sample]) -> Result<Embeddings, E>,
    ) -> Result<Part, E> {
        let name = part_name(split, self.shard, self.options.format);
        let path = self.folder.join(&name);
        let labels = self.list.labels(split, self.shard);
        let labels = labels.map_err(|error| content(&path)(error.to_string()))?;
        let mut written = None;
        let renamed = replace_atomic(&path, |draft| {
            let result = self.write_to(draft, (split, &labels), dimensions, embed);
            let complete = result.is_ok();
            written = Some(result);
            // Only `written` is reported, but the temporary file has to be removed.
            complete
                .then_some(())
                .ok_or_else(|| io::Error::other("the shard is not complete"))
        });
        let (bytes, sha256) = match written {
            Some(Ok(written)) => written,
            Some(Err(error)) => return Err(error.at(&path)),
            // There is no temporary file, which is the error below.
            None => (0, String::new()),
        };
        renamed.map_err(at(&path))?;
        Ok(Part {
            split,
            file: name,
            images: labels.len(),
            bytes,
            sha256,
        })
    }

    /// Embeds the images and writes them to the temporary file. Returns its length and its hash.
    fn write_to<E>(
        &self,
        draft: &Path,
        (split, labels): (Split, &Labels),
        dimensions: &mut Option<usize>,
        embed: &mut impl FnMut(Split, &[Sample]) -> Result<Embeddings, E>,
    ) -> Result<(u64, String), Failure<E>> {
        let mut output = Some(Hashed::new(File::create(draft)?));
        let mut sink = None;
        for (block, samples) in self.samples(split).chunks(BLOCK).enumerate() {
            let embeddings = embed(split, samples).map_err(Failure::Embedding)?;
            let expected = (samples.len(), dimensions.unwrap_or(embeddings.dimensions()));
            let found = (embeddings.len(), embeddings.dimensions());
            if expected != found {
                return Err(Failure::Content(format!(
                    "expected {} embeddings of {} dimensions, found {} of {}",
                    expected.0, expected.1, found.0, found.1
                )));
            }
            *dimensions = Some(found.1);
            let storage = self.options.storage;
            expect_storable(&embeddings, block * BLOCK, storage)?;
            if let Some(output) = output.take() {
                let (format, shape) = (self.options.format, (found.1, storage));
                let origin = self.origin(split)?;
                sink = Some(sink::begin(format, output, labels, shape, origin)?);
            }
            if let Some(sink) = &mut sink {
                sink.push(embeddings.values())?;
            }
        }
        let sink = sink.ok_or_else(|| "expected at least 1 image".to_owned())?;
        Ok(sink.finish()?.finish()?)
    }

    fn samples(&self, split: Split) -> &[Sample] {
        self.list.samples(split, self.shard)
    }

    fn origin(&self, split: Split) -> Result<String, String> {
        let origin = Origin {
            model: &self.options.model,
            list: self.list.sha256(),
            split,
            shard: self.shard.index(),
            of: self.shard.count(),
        };
        serde_json::to_string(&origin).map_err(|error| error.to_string())
    }
}

/// Why a file is not complete.
enum Failure<E> {
    Embedding(E),
    Io(io::Error),
    Content(String),
}

impl<E: From<FileError>> Failure<E> {
    /// Adds the path of the file to an error that is not that of embedding.
    fn at(self, path: &Path) -> E {
        match self {
            Self::Embedding(error) => error,
            Self::Io(error) => at(path)(error).into(),
            Self::Content(reason) => content(path)(reason).into(),
        }
    }
}

impl<E> From<io::Error> for Failure<E> {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl<E> From<String> for Failure<E> {
    fn from(reason: String) -> Self {
        Self::Content(reason)
    }
}

/// Checks that embeddings can be stored in a precision. `first` is the row of the first one.
fn expect_storable(
    embeddings: &Embeddings,
    first: usize,
    storage: GalleryStorage,
) -> Result<(), String> {
    if storage == GalleryStorage::Single {
        return Ok(());
    }
    let mut values = embeddings.values().iter();
    match values.position(|value| !f16::from_f32(*value).is_finite()) {
        None => Ok(()),
        Some(at) => {
            let (value, dimensions) = (embeddings.values()[at], embeddings.dimensions());
            let (row, column) = (first + at / dimensions, at % dimensions);
            Err(format!(
                "embedding value at row {row}, column {column} is {value}, expected at most 65504 in half \
                 precision: use `GalleryStorage::Single`"
            ))
        }
    }
}
