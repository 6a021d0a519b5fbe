//! The JSON file of a finished shard: what it is a shard of, and the hashes of its files.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use reid_core::Split;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Shard, list::ListFingerprint, write::ShardFormat};
use crate::{
    files::{FileError, at, content, hexadecimal},
    gallery::{GalleryStorage, ModelFingerprint},
};

/// The version of the format.
const VERSION: u32 = 1;
/// The number of bytes that are hashed together.
const CHUNK: usize = 1 << 20;

/// What is written last, when all files of a shard are complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    version: u32,
    /// The number of the shard, from 0.
    shard: usize,
    /// The number of shards.
    of: usize,
    pub(super) list: ListFingerprint,
    pub(super) model: ModelFingerprint,
    pub(super) storage: GalleryStorage,
    /// The number of dimensions; absent if the shard has no images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dimensions: Option<usize>,
    /// The files of the queries and of the gallery, without those that would be empty.
    pub(super) files: Vec<Part>,
}

/// One file of a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    pub(super) split: Split,
    /// The name of the file, without its folder.
    pub(super) file: String,
    pub(super) images: usize,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl Manifest {
    /// Describes a shard whose files are not written yet.
    pub(super) fn new(
        shard: Shard,
        list: &ListFingerprint,
        model: &ModelFingerprint,
        storage: GalleryStorage,
    ) -> Self {
        Self {
            version: VERSION,
            shard: shard.index(),
            of: shard.count(),
            list: list.clone(),
            model: model.clone(),
            storage,
            dimensions: None,
            files: Vec::new(),
        }
    }

    /// Reads the file of a finished shard.
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        let bytes = fs::read(path).map_err(at(path))?;
        let manifest: Result<Self, _> = serde_json::from_slice(&bytes);
        let manifest = manifest.map_err(|error| {
            let found = bytes.len();
            format!("expected the JSON of a finished shard, found {found} bytes: {error}")
        });
        let manifest = manifest.map_err(content(path))?;
        manifest.check().map_err(content(path))?;
        Ok(manifest)
    }

    /// The JSON text, without a line break at its end: every part of it that is shorter is invalid.
    pub(super) fn to_json(&self) -> Result<String, String> {
        serde_json::to_string_pretty(self).map_err(|error| error.to_string())
    }

    /// Which shard this is.
    pub(super) fn shard(&self) -> Result<Shard, String> {
        Shard::new(self.shard, self.of).map_err(|error| error.to_string())
    }

    /// Checks that the files are those of this shard: one for each split that has images in its range.
    fn check(&self) -> Result<(), String> {
        if self.version != VERSION {
            let found = self.version;
            return Err(format!(
                "expected version {VERSION} of a shard, found {found}"
            ));
        }
        let shard = self.shard()?;
        for split in [Split::Query, Split::Gallery] {
            let images = shard.range(self.list.images(split)).len();
            let expected: Vec<usize> = (images > 0).then_some(images).into_iter().collect();
            let found = self.files.iter().filter(|part| part.split == split);
            let found: Vec<usize> = found.map(|part| part.images).collect();
            if found != expected {
                return Err(format!(
                    "`files`: expected files of the {split} with {expected:?} images, found {found:?}"
                ));
            }
        }
        for Part { file, split, .. } in &self.files {
            let is_name = Path::new(file).file_name() == Some(OsStr::new(file));
            if !is_name || *split == Split::Train {
                return Err(format!(
                    "`files`: expected names of files of the query and the gallery, found {file} of the \
                     {split}"
                ));
            }
        }
        if self.dimensions.is_some() == self.files.is_empty() || self.dimensions == Some(0) {
            return Err(format!(
                "`dimensions`: expected at least 1 if and only if the shard has images, found {:?}",
                self.dimensions
            ));
        }
        Ok(())
    }

    /// Checks that this shard and another one belong to the same set. `source` says where the other one is.
    pub(super) fn expect_set_of(&self, other: &Self, source: &str) -> Result<(), String> {
        let properties = |manifest: &Self| {
            let ListFingerprint {
                query,
                gallery,
                sha256,
            } = &manifest.list;
            let storage = match manifest.storage {
                GalleryStorage::Single => "single",
                GalleryStorage::Half => "half",
            };
            [
                ("model", format!("`{}`", manifest.model)),
                (
                    "list of images",
                    format!("{sha256} ({query} queries, {gallery} gallery images)"),
                ),
                ("number of shards", manifest.of.to_string()),
                ("precision", storage.to_owned()),
            ]
        };
        let mut pairs = properties(other).into_iter().zip(properties(self));
        if let Some(((name, expected), (_, found))) = pairs.find(|(one, two)| one.1 != two.1) {
            return Err(format!(
                "expected the {name} {expected}, as {source}, found {found}"
            ));
        }
        match (other.dimensions, self.dimensions) {
            (Some(expected), Some(found)) if expected != found => Err(format!(
                "expected {expected} dimensions, as {source}, found {found}"
            )),
            _ => Ok(()),
        }
    }
}

impl Part {
    /// Checks the length and the hash of the file.
    pub(super) fn verify(&self, folder: &Path) -> Result<(), FileError> {
        let path = folder.join(&self.file);
        let (bytes, sha256) = hash_file(&path).map_err(at(&path))?;
        if (bytes, sha256.as_str()) == (self.bytes, self.sha256.as_str()) {
            return Ok(());
        }
        Err(content(&path)(format!(
            "expected {} bytes with the SHA-256 {}, found {bytes} with {sha256}: the file is damaged, make \
             its shard again",
            self.bytes, self.sha256
        )))
    }
}

/// The number of bytes of a file, and their SHA-256.
fn hash_file(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut bytes = vec![0; CHUNK];
    loop {
        match file.read(&mut bytes) {
            Ok(0) => return Ok((length, hexadecimal(&hash.finalize()))),
            Ok(count) => {
                hash.update(&bytes[..count]);
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The name of the JSON file of a shard.
pub(super) fn manifest_name(shard: Shard) -> String {
    format!("shard-{:05}-of-{:05}.json", shard.index(), shard.count())
}

/// The name of the file of one split of a shard.
pub(super) fn part_name(split: Split, shard: Shard, format: ShardFormat) -> String {
    let (index, of, extension) = (shard.index(), shard.count(), format.extension());
    format!("{split}-{index:05}-of-{of:05}.{extension}")
}

/// The JSON files of shards in a folder, sorted by name.
pub(super) fn manifests(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix("shard-")?.strip_suffix(".json"));
        if number.is_some() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
