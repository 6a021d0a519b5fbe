//! Loading: decoded and augmented images per second, with and without a cache of decoded images.
//!
//! ```sh
//! cargo bench --bench loading
//! ```

use divan::{Bencher, counter::ItemsCount};
use reid::{
    data::{dataset::market1501, loader::TrainLoader, transform::Augmentation},
    prelude::*,
    synthetic::SyntheticConfig,
};

fn main() {
    divan::main();
}

#[divan::bench(args = [0, 1 << 30], sample_count = 10)]
fn batches_of_64_with_cache_bytes(bencher: Bencher<'_, '_>, cache_bytes: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let dataset = SyntheticConfig::new()
        .with_height(256)
        .with_width(128)
        .with_train_identities(16);
    dataset.write(folder.path()).expect("a written dataset");
    let splits = market1501::load(folder.path()).expect("a readable dataset");
    let loader = TrainLoader::new(splits.train, InputSize::PERSON, Seed::new(1))
        .with_config(LoaderConfig::new().with_cache_bytes(cache_bytes))
        .with_augmentation(&Augmentation::default());
    let batches: Vec<Vec<usize>> = (0..3)
        .map(|batch| (64 * batch..64 * batch + 64).collect())
        .collect();
    bencher.counter(ItemsCount::new(192_usize)).bench(|| {
        for batch in loader.epoch(0, batches.clone()) {
            divan::black_box(batch.expect("readable images"));
        }
    });
}
