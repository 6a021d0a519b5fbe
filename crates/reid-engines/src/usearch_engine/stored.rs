//! The files of an engine of `USearch`.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use reid_core::replace_atomic;
use reid_eval::gallery::{GalleryEntry, GalleryError, ModelFingerprint};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use usearch::Index;

use super::{UsearchConfig, UsearchEngine, failed, new_index, searches};
use crate::files::{at, check_description, content, read_json, write_json};

/// The file of everything but the index.
const DESCRIPTION: &str = "engine.json";
/// The version of the format.
const VERSION: u32 = 1;

/// The content of the file of everything but the index.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    version: u32,
    model: ModelFingerprint,
    config: UsearchConfig,
    /// `None` if nothing was enrolled.
    index: Option<IndexFile>,
    entries: Vec<GalleryEntry>,
}

/// The file of the index.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexFile {
    dimensions: usize,
    /// Counts the times that the folder was saved, because a file with another name may not be replaced before
    /// [`DESCRIPTION`] is.
    generation: u64,
    sha256: String,
}

impl IndexFile {
    fn name(generation: u64) -> String {
        format!("index-{generation}.usearch")
    }
}

impl UsearchEngine {
    /// Writes the engine to a folder, which is created if it does not exist:
    ///
    /// ```text
    /// index-N.usearch   the vectors and their graph, which USearch opens in any language; keys are entry indices
    /// engine.json       the model, the settings, the entries and the SHA-256 of the index
    /// ```
    ///
    /// `N` is 0, and increases each time the folder is saved. The previous index is removed after `engine.json` is
    /// replaced. So after a kill, the folder has the previous engine or the new one.
    ///
    /// # Errors
    /// [`GalleryError::File`] if a file cannot be written, or if the folder has an `engine.json` that is not one of
    /// this type.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), GalleryError> {
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(at(folder))?;
        let path = folder.join(DESCRIPTION);
        let previous = path.exists().then(|| read_json::<Description>(&path));
        let previous = previous
            .transpose()?
            .and_then(|description| description.index);
        let generation = previous.as_ref().map_or(0, |index| index.generation + 1);
        let index = match &self.index {
            Some(index) => Some(write_index(index, folder, generation)?),
            None => None,
        };
        let description = Description {
            version: VERSION,
            model: self.model.clone(),
            config: self.config,
            index,
            entries: self.entries.clone(),
        };
        write_json(&path, &description)?;
        match previous {
            Some(previous) => {
                let path = folder.join(IndexFile::name(previous.generation));
                fs::remove_file(&path).map_err(at(&path))
            }
            None => Ok(()),
        }
    }

    /// Reads an engine of a model from a folder into memory.
    ///
    /// # Errors
    /// [`GalleryError::FileModel`] if the engine was made for another model, and [`GalleryError::File`] if a file
    /// cannot be read, is truncated or was changed.
    pub fn open(folder: impl AsRef<Path>, model: &ModelFingerprint) -> Result<Self, GalleryError> {
        let folder = folder.as_ref();
        let path = folder.join(DESCRIPTION);
        let Description {
            version,
            model: found,
            config,
            index,
            entries,
        } = read_json(&path)?;
        check_description(&path, [VERSION, version], model, &found)?;
        config.check().map_err(|reason| content(&path, reason))?;
        let index = match index {
            Some(file) => Some(read_index(folder, &file, &config, entries.len())?),
            None if entries.is_empty() => None,
            None => {
                let reason = format!("expected an index of {} entries, found none", entries.len());
                return Err(content(&path, reason));
            }
        };
        Ok(Self {
            entries,
            index,
            ..Self::new(found, config)
        })
    }
}

fn write_index(index: &Index, folder: &Path, generation: u64) -> Result<IndexFile, GalleryError> {
    let path = folder.join(IndexFile::name(generation));
    let save = |draft: &Path| {
        let name = draft.to_str().ok_or("expected a Unicode path");
        let name = name.map_err(io::Error::other)?;
        index.save(name).map_err(io::Error::other)
    };
    replace_atomic(&path, save).map_err(at(&path))?;
    Ok(IndexFile {
        dimensions: index.dimensions(),
        generation,
        sha256: sha256(&path)?,
    })
}

/// Opens an index after checking its hash, because a damaged file could crash the C++ code that reads it.
fn read_index(
    folder: &Path,
    file: &IndexFile,
    config: &UsearchConfig,
    entries: usize,
) -> Result<Index, GalleryError> {
    let path = folder.join(IndexFile::name(file.generation));
    let found = sha256(&path)?;
    if found != file.sha256 {
        let expected = &file.sha256;
        let reason = format!(
            "expected an index with the SHA-256 {expected}, found {found}: the index is damaged"
        );
        return Err(content(&path, reason));
    }
    let name = path.to_str();
    let name = name.ok_or_else(|| content(&path, "expected a Unicode path"))?;
    let index = new_index(config, file.dimensions)?;
    index.load(name).map_err(|error| content(&path, error))?;
    if [index.size(), index.dimensions()] != [entries, file.dimensions] {
        let reason = format!(
            "expected {entries} vectors of {} dimensions, found {} of {}",
            file.dimensions,
            index.size(),
            index.dimensions(),
        );
        return Err(content(&path, reason));
    }
    let threads = searches(config);
    let reserved = index.reserve_capacity_and_threads(entries, threads);
    reserved.map_err(failed)?;
    index.change_expansion_add(config.expansion_add);
    index.change_expansion_search(config.expansion_search);
    Ok(index)
}

/// The SHA-256 of a file in hexadecimal digits. The file is not held in memory.
fn sha256(path: &Path) -> Result<String, GalleryError> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).map_err(at(path))?;
    io::copy(&mut file, &mut hash).map_err(at(path))?;
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
