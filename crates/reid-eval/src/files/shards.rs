//! Shards: the embeddings of a dataset in several files, which jobs on several machines compute.
//!
//! Job `k` of `n` embeds shard `k` of `n`, where `k` counts from 0, and writes it to a folder that all jobs share
//! ([`write_shard`]). [`Shards`] reads the finished folder: as a whole, or block by block, for the evaluation of a
//! gallery that does not fit into memory ([`ShardDistances`]) and for its re-ranking ([`Shards::reranked`]).
//!
//! ```text
//! shards/shard-00003-of-00008.json              written last: the shard is finished
//!        query-00003-of-00008.safetensors       its queries, if it has any
//!        gallery-00003-of-00008.safetensors     its gallery images, if it has any
//! ```
//!
//! - The images are those of a sorted list ([`ShardList`]). A shard has a contiguous range of the queries and one
//!   of the gallery ([`Shard::range`]), so the shards in order are the list, and no job needs another one.
//! - The files are tables of embeddings that [`Embeddings::load`](crate::Embeddings::load) reads one by one:
//!   Parquet with the feature `parquet`, otherwise safetensors. `features` may be in half precision. Attributes of
//!   the images, such as the column `time` of a CSV list, are columns too. The model, the hash of the list, the split
//!   and the shard are a JSON text in their metadata, with the key `shard`.
//! - The JSON file has the hash of the list, the model, and the length and SHA-256 of each file. Every file is
//!   written under another name and then renamed, the JSON file last. So a shard counts only if it is complete.
//! - A job whose shard is finished only compares the hashes. Otherwise, it embeds the shard again. It refuses a
//!   folder with shards of another model, of another list, or of another number of shards.
//!
//! ```
//! use reid_core::{Identity, Sample, Split};
//! use reid_eval::{
//!     Embeddings, EvaluationConfig, Labels, Metric, Protocol, evaluate_rows,
//!     files::{FileError, shards::{ShardList, ShardOptions, Shard, Shards, write_shard}},
//!     gallery::ModelFingerprint,
//! };
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let image = |name: &str, identity| Sample::new(name, Identity::new(identity));
//! let gallery = vec![image("1.jpg", 1), image("2.jpg", 2), image("3.jpg", 3)];
//! let list = ShardList::new(vec![image("q.jpg", 2)], gallery)?;
//! let options = ShardOptions::new(ModelFingerprint::new("strong baseline of May"));
//!
//! // Each of two jobs embeds one half. Here, the embedding of an image is its identity.
//! for index in 0..2 {
//!     let embed = |_: Split, images: &[Sample]| -> Result<Embeddings, FileError> {
//!         let values = images.iter().map(|image| image.identity.label() as f32).collect();
//!         Ok(Embeddings::from_parts(values, 1, Labels::unknown(images.len())).expect("finite"))
//!     };
//!     write_shard(folder, &list, Shard::new(index, 2)?, &options, embed)?;
//! }
//!
//! let shards = Shards::open(folder)?;
//! let query = shards.load(Split::Query)?; // in memory; the gallery stays on disk
//! let distances = shards.distances(&query, Metric::Euclidean)?;
//! let labels = shards.labels(Split::Gallery)?;
//! let config = EvaluationConfig::default()
//!     .with_metric(Metric::Euclidean)
//!     .with_protocol(Protocol::NoCameras);
//! let report = evaluate_rows(&distances, query.labels(), &labels, &config)?;
//! assert_eq!(report.rank(1), 1.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod distances;
mod list;
mod manifest;
mod part;
mod set;
mod sink;
mod write;

use std::{fmt, ops::Range, str::FromStr};

use crate::Error;
pub use distances::ShardDistances;
pub use list::ShardList;
pub use set::Shards;
pub use write::{ShardFormat, ShardOptions, ShardStatus, write_shard};

/// The number of images that are embedded, written and read together.
const BLOCK: usize = 1 << 12;

/// One of several shards of a dataset, such as `3/8`: its number from 0, and the number of shards.
///
/// ```
/// use reid_eval::files::shards::Shard;
///
/// let shard: Shard = "1/3".parse()?;
/// assert_eq!(shard, Shard::new(1, 3)?);
/// // Of ten images, the shards have 4, 3 and 3.
/// assert_eq!(shard.range(10), 4..7);
/// assert!("3/3".parse::<Shard>().is_err());
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// The largest number of shards.
    pub const MAX: usize = 99_999;

    /// Creates shard `index`, from 0, of `count` shards.
    ///
    /// # Errors
    /// If `count` is not from 1 to [`MAX`](Self::MAX), or `index` is not below `count`.
    pub fn new(index: usize, count: usize) -> Result<Self, Error> {
        let shard = Self { index, count };
        if index < count && count <= Self::MAX {
            return Ok(shard);
        }
        Err(Error::Choice {
            expected: "a shard k/n, where k is from 0 to n - 1 and n is at most 99999",
            found: shard.to_string(),
        })
    }

    /// The number of the shard, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        self.index
    }

    /// The number of all shards.
    #[must_use]
    pub fn count(self) -> usize {
        self.count
    }

    /// The indices of the images of this shard in a sorted list of `images` images.
    ///
    /// The ranges of all shards are the whole list, in order. Their lengths differ by at most 1; the first shards are
    /// the longer ones.
    #[must_use]
    pub fn range(self, images: usize) -> Range<usize> {
        let (each, more) = (images / self.count, images % self.count);
        let start = |index: usize| index * each + index.min(more);
        start(self.index)..start(self.index + 1)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('/');
        let numbers =
            parts.and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        let (index, count) = numbers.ok_or_else(|| Error::Choice {
            expected: "a shard k/n, such as 0/8",
            found: text.to_owned(),
        })?;
        Self::new(index, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_all_shards_are_the_list() {
        for images in [0, 1, 2, 7, 8, 9, 1000, usize::MAX / 2] {
            for of in [1, 2, 3, 7, 8, 100] {
                let mut end = 0;
                let shortest = images / of;
                for index in 0..of {
                    let range = Shard::new(index, of).expect("a shard").range(images);
                    assert_eq!(range.start, end, "{index}/{of} of {images}");
                    assert!([shortest, shortest + 1].contains(&range.len()), "{range:?}");
                    end = range.end;
                }
                assert_eq!(end, images, "{of} shards");
            }
        }
    }

    #[test]
    fn a_shard_is_parsed_or_rejected() {
        let shard: Shard = "3/8".parse().expect("a shard");
        assert_eq!(
            (shard.index(), shard.count(), shard.to_string().as_str()),
            (3, 8, "3/8")
        );
        for text in ["8/8", "0/0", "1/100000"] {
            let error = text.parse::<Shard>().expect_err("out of range").to_string();
            let expected =
                "expected a shard k/n, where k is from 0 to n - 1 and n is at most 99999";
            assert_eq!(error, format!("{expected}, found `{text}`"));
        }
        for text in ["", "3", "3 of 8", "-1/8", "3/8/2", "a/b"] {
            let error = text.parse::<Shard>().expect_err("no shard").to_string();
            assert_eq!(
                error,
                format!("expected a shard k/n, such as 0/8, found `{text}`")
            );
        }
    }
}
