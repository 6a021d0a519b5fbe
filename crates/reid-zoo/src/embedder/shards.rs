//! Embeddings of one shard of a dataset, of which other jobs compute the others.

use std::path::Path;

use reid_core::{Sample, Split};
use reid_eval::files::shards::{Shard, ShardList, ShardOptions, ShardStatus, write_shard};

use super::Embedder;
use crate::error::Error;

impl Embedder {
    /// Embeds one shard of a dataset and writes it to a folder that all jobs share, unless it is there already.
    ///
    /// [`write_shard`] says what is written, and what happens after a kill. The progress counts the images of the
    /// shard. [`Shards`](reid_eval::files::shards::Shards) reads the finished folder.
    ///
    /// ```no_run
    /// use reid_data::dataset;
    /// use reid_eval::files::shards::{Shard, ShardList, ShardOptions};
    /// use reid_zoo::Embedder;
    ///
    /// let embedder = Embedder::open("run/best")?;
    /// let splits = dataset::load("people")?;
    /// let list = ShardList::new(splits.query, splits.gallery)?;
    /// let options = ShardOptions::new(embedder.fingerprint()?);
    /// // The first of eight jobs.
    /// embedder.write_shard("shards", &list, Shard::new(0, 8)?, &options)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`embed_samples`](Self::embed_samples) and [`write_shard`]. An error of an image says how many
    /// images of the same 4096 are before it.
    pub fn write_shard(
        &self,
        folder: impl AsRef<Path>,
        list: &ShardList,
        shard: Shard,
        options: &ShardOptions,
    ) -> Result<ShardStatus, Error> {
        let images = |split| list.samples(split, shard).len();
        let all = images(Split::Query) + images(Split::Gallery);
        let mut done = 0;
        let embed = |split: Split, samples: &[Sample]| {
            let extractor = self.extractor.clone().with_progress_of_part(done, all);
            let embeddings = extractor.embed(&*self.model, samples, split, &self.device)?;
            done += samples.len();
            Ok::<_, Error>(embeddings)
        };
        write_shard(folder, list, shard, options, embed)
    }
}
