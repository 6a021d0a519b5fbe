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
    Embeddings, Error, Labels, Metric, RerankConfig, Reranked,
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
    /// The memory of the panel of [`reranked`](Self::reranked) in bytes: 256 MiB.
    pub const PANEL_BYTES: usize = 256 << 20;

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

    /// Re-ranks the gallery, which stays in its files, for queries in memory. The distances and reports are
    /// bit-identical to those of [`Reranked::new`].
    ///
    /// Every image is compared with every other one: a *panel* of consecutive gallery images is in memory, and all
    /// later ones are read past it. Then the next images are the panel. If the gallery has `P` times the
    /// [size of a panel](Self::PANEL_BYTES), in single precision, `P` is rounded up and
    ///
    /// - it is read about (P + 1)/2 times to find the neighbours, and at most as often for the distances of expanded
    ///   neighbours that are in no list,
    /// - [`Reranked::evaluate`] reads it twice for the original distances, or not at all if λ is 0.
    ///
    /// Memory is linear in the number of images, whatever the number of dimensions. With the default k₁ and k₂ an
    /// image needs about 400 bytes while the neighbours are found, and then 8 bytes for each weight of its encoding,
    /// about `k₁·k₂` of them, twice. Besides these lists, memory holds
    ///
    /// - the queries, the panel, and two more blocks of 4096 embeddings,
    /// - for each thread, a block while it is converted, and 4 bytes for each image,
    /// - what [`ShardDistances`] needs for an evaluation. With a λ of 0 these are rows of distances instead: at most
    ///   64 MiB per thread, or 4 bytes for each gallery image if that is more.
    ///
    /// ```
    /// # use reid_core::{Identity, Sample};
    /// use reid_core::Split;
    /// # use reid_eval::{Embeddings, Labels, files::FileError, gallery::ModelFingerprint};
    /// # use reid_eval::files::shards::{Shard, ShardList, ShardOptions, write_shard};
    /// use reid_eval::{EvaluationConfig, Protocol, RerankConfig, files::shards::Shards};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let folder = folder.path();
    /// # let image = |name: &str, identity| Sample::new(name, Identity::new(identity));
    /// # let gallery = vec![image("1.jpg", 1), image("2.jpg", 2), image("3.jpg", 3)];
    /// # let list = ShardList::new(vec![image("q.jpg", 2)], gallery)?;
    /// # let embed = |_: Split, images: &[Sample]| -> Result<Embeddings, FileError> {
    /// #     let angle = |image: &Sample| image.identity.label() as f32;
    /// #     let values = images.iter().flat_map(|image| [angle(image).cos(), angle(image).sin()]).collect();
    /// #     Ok(Embeddings::from_parts(values, 2, Labels::unknown(images.len())).expect("finite"))
    /// # };
    /// # let options = ShardOptions::new(ModelFingerprint::new("a model"));
    /// # write_shard(folder, &list, Shard::new(0, 1)?, &options, embed)?;
    /// let shards = Shards::open(folder)?;
    /// let query = shards.load(Split::Query)?;
    /// let labels = shards.labels(Split::Gallery)?;
    /// let config = RerankConfig::default().with_parameters(2, 1, 0.3);
    /// let reranked = shards.reranked(&query, &config)?;
    /// let protocol = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
    /// let report = reranked.evaluate(query.labels(), &labels, &protocol)?;
    /// assert_eq!(report.rank(1), 1.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`Reranked::new`], and [`Error::Source`] with the name of the file if a file cannot be read. A
    /// file that was changed since [`open`](Self::open), at the same length, is not noticed.
    pub fn reranked<'a>(
        &'a self,
        query: &'a Embeddings,
        config: &RerankConfig,
    ) -> Result<Reranked<'a>, Error> {
        self.reranked_with_panel(query, config, Self::PANEL_BYTES)
    }

    /// Re-ranks the gallery like [`reranked`](Self::reranked), with a panel of at most `bytes` bytes, or of one block
    /// if that is larger. An image of `d` dimensions needs `4·d + 8` bytes. With a larger panel, the gallery is read
    /// fewer times; the results are the same.
    ///
    /// # Errors
    /// The errors of [`reranked`](Self::reranked).
    pub fn reranked_with_panel<'a>(
        &'a self,
        query: &'a Embeddings,
        config: &RerankConfig,
        bytes: usize,
    ) -> Result<Reranked<'a>, Error> {
        config.check(query.len(), self.images(Split::Gallery))?;
        let distances = self.distances(query, config.metric)?.squared();
        Reranked::from_source(Box::new(distances), config, bytes)
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
