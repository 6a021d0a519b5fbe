//! All shards of a dataset.

use std::{
    fmt, mem,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use reid_core::Split;

use super::{
    Shard, ShardDistances,
    manifest::{Manifest, manifests},
    part::PartFile,
};
use crate::{
    Embeddings, Error, Labels, Metric,
    files::{FileError, content, is_folder},
    gallery::ModelFingerprint,
};

/// The number of missing shards that an error lists.
const LISTED: usize = 20;

/// The finished shards of a dataset, which are read from their files when they are needed.
///
/// The images are in the order of the sorted list ([`ShardList`](super::ShardList)), whatever the number of shards.
/// The files must not change while they are used. The [module](super) has an example.
pub struct Shards {
    folder: PathBuf,
    model: ModelFingerprint,
    dimensions: usize,
    query: Vec<PartFile>,
    gallery: Vec<PartFile>,
}

impl Shards {
    /// Opens the shards in a folder, and compares the hashes of all files, on all threads. That reads every file
    /// once.
    ///
    /// # Errors
    /// The error names the folder or the file, and says what was expected and found:
    ///
    /// - There are no shards, some are missing, or one is there twice.
    /// - Two shards are of different models or lists, have different precisions or dimensions, or count different
    ///   numbers of shards.
    /// - A file is missing or was truncated or changed.
    /// - A file is Parquet, and the Cargo feature `parquet` is not enabled.
    /// - No shard has an image.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, FileError> {
        let folder = folder.as_ref();
        let manifests = ordered(folder)?;
        let parts = manifests.iter().flat_map(|manifest| {
            let parts = manifest.files.iter();
            parts.map(move |part| (manifest, part))
        });
        let parts: Vec<_> = parts.collect();
        let opened: Vec<Result<PartFile, FileError>> = parts
            .par_iter()
            .map(|(manifest, part)| {
                part.verify(folder)?;
                PartFile::open(folder, manifest, part)
            })
            .collect();
        let (mut query, mut gallery) = (Vec::new(), Vec::new());
        // Of several errors, the first one is reported.
        for ((_, part), file) in parts.iter().zip(opened) {
            match part.split {
                Split::Query => query.push(file?),
                Split::Gallery | Split::Train => gallery.push(file?),
            }
        }
        let dimensions = manifests.iter().find_map(|manifest| manifest.dimensions);
        let (Some(dimensions), Some(first)) = (dimensions, manifests.first()) else {
            let reason = "expected shards with at least 1 image, found none".to_owned();
            return Err(content(folder)(reason));
        };
        Ok(Self {
            folder: folder.to_owned(),
            model: first.model.clone(),
            dimensions,
            query,
            gallery,
        })
    }

    /// Whether a path is a folder with at least one finished shard.
    ///
    /// # Errors
    /// If there is nothing at the path, or the folder cannot be read.
    pub fn are_in(path: impl AsRef<Path>) -> Result<bool, FileError> {
        let path = path.as_ref();
        Ok(is_folder(path)? && !manifests(path)?.is_empty())
    }

    /// The model of the embeddings.
    #[must_use]
    pub fn model(&self) -> &ModelFingerprint {
        &self.model
    }

    /// The number of dimensions of an embedding.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The number of images of a split.
    #[must_use]
    pub fn images(&self, split: Split) -> usize {
        let blocks = self
            .files(split)
            .iter()
            .filter_map(|file| file.blocks().last());
        blocks.map(|block| block.end).sum()
    }

    /// Reads the labels of a split: all but the paths, which would need most of the memory.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn labels(&self, split: Split) -> Result<Labels, FileError> {
        self.read_labels(split, false)
    }

    /// Reads the embeddings of a split into memory, with all their labels: `[images, dimensions]`.
    ///
    /// # Errors
    /// If a file cannot be read, or a value is not finite.
    pub fn load(&self, split: Split) -> Result<Embeddings, FileError> {
        let mut values = Vec::with_capacity(self.images(split) * self.dimensions);
        for file in self.files(split) {
            for block in 0..file.blocks().len() {
                values.extend(file.read(block)?);
            }
        }
        let labels = self.read_labels(split, true)?;
        let embeddings = Embeddings::from_parts(values, self.dimensions, labels);
        embeddings.map_err(|error| content(&self.folder)(error.to_string()))
    }

    /// Prepares the distances from queries in memory to the gallery, which stays in its files.
    ///
    /// # Errors
    /// [`Error::Dimensions`] if the queries have another number of dimensions.
    pub fn distances<'a>(
        &'a self,
        query: &'a Embeddings,
        metric: Metric,
    ) -> Result<ShardDistances<'a>, Error> {
        ShardDistances::new(query, &self.gallery, self.dimensions, metric)
    }

    fn files(&self, split: Split) -> &[PartFile] {
        match split {
            Split::Query => &self.query,
            Split::Gallery => &self.gallery,
            Split::Train => &[],
        }
    }

    fn read_labels(&self, split: Split, with_paths: bool) -> Result<Labels, FileError> {
        let files = self.files(split).par_iter();
        let labels: Vec<Result<Labels, FileError>> =
            files.map(|file| file.labels(with_paths)).collect();
        let mut all: Option<Labels> = None;
        for labels in labels {
            let labels = labels?;
            match &mut all {
                None => all = Some(labels),
                Some(all) => all.append(labels).map_err(content(&self.folder))?,
            }
        }
        Ok(all.unwrap_or_default())
    }
}

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards")
            .field("folder", &self.folder)
            .field("model", &self.model)
            .field("dimensions", &self.dimensions)
            .field("query", &self.images(Split::Query))
            .field("gallery", &self.images(Split::Gallery))
            .finish_non_exhaustive()
    }
}

/// Reads the JSON files of all shards, by the number of the shard, and checks that they are one complete set.
fn ordered(folder: &Path) -> Result<Vec<Manifest>, FileError> {
    let mut found: Vec<(Shard, PathBuf, Manifest)> = Vec::new();
    for path in manifests(folder)? {
        let manifest = Manifest::read(&path)?;
        if let Some((_, first, other)) = found.first() {
            let same = manifest.expect_set_of(other, &format!("in {}", name(first)));
            same.map_err(content(&path))?;
        }
        let shard = manifest.shard().map_err(content(&path))?;
        if let Some((_, other, _)) = found.iter().find(|(other, ..)| *other == shard) {
            return Err(content(&path)(format!(
                "expected each shard once, found shard {shard} here and in {}",
                name(other)
            )));
        }
        found.push((shard, path, manifest));
    }
    let Some(of) = found.first().map(|(shard, ..)| shard.count()) else {
        let reason = "expected finished shards, such as `shard-00000-of-00008.json`, found none";
        return Err(content(folder)(reason.to_owned()));
    };
    found.sort_by_key(|(shard, ..)| shard.index());
    let present = found.iter().map(|(shard, ..)| shard.index());
    let missing = missing(present, of);
    if !missing.is_empty() {
        return Err(content(folder)(format!(
            "expected {of} finished shards, numbered from 0, but {}",
            listed(&missing)
        )));
    }
    Ok(found.into_iter().map(|(.., manifest)| manifest).collect())
}

fn name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// The numbers below `of` that are not among these ascending ones.
fn missing(present: impl Iterator<Item = usize>, of: usize) -> Vec<usize> {
    let mut missing = Vec::new();
    let mut next = 0;
    for index in present.chain([of]) {
        missing.extend(mem::replace(&mut next, index + 1)..index);
    }
    missing
}

/// Says which shards are missing.
fn listed(missing: &[usize]) -> String {
    let numbers = missing.iter().take(LISTED).map(usize::to_string);
    let numbers = numbers.collect::<Vec<_>>().join(", ");
    match (missing.len(), missing.len().saturating_sub(LISTED)) {
        (1, _) => format!("shard {numbers} is missing"),
        (_, 0) => format!("shards {numbers} are missing"),
        (_, more) => format!("shards {numbers} and {more} more are missing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_shards_are_listed() {
        let of = |present: &[usize], of| listed(&missing(present.iter().copied(), of));
        assert_eq!(of(&[0, 2], 3), "shard 1 is missing");
        assert_eq!(of(&[1, 2, 5], 8), "shards 0, 3, 4, 6, 7 are missing");
        let many = of(&[], 25);
        assert!(
            many.ends_with("17, 18, 19 and 5 more are missing"),
            "{many}"
        );
        assert!(missing([0, 1].into_iter(), 2).is_empty());
    }
}
