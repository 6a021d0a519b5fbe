//! Shards of a dataset that an embedder computes: together they are the embeddings of the whole dataset.

use std::sync::{Arc, Mutex};

use burn::tensor::Device;
use reid_core::{InputSize, Seed, Split, Splits};
use reid_data::dataset::market1501;
use reid_eval::{
    EvaluationConfig, evaluate, evaluate_rows,
    files::shards::{Shard, ShardList, ShardOptions, ShardStatus, Shards},
};
use reid_nn::{Init, Network, backbone::ResNetConfig, head::BnNeckConfig};
use reid_synthetic::SyntheticConfig;
use reid_zoo::{BagOfTricksConfig, Embedder};

const INPUT: InputSize = InputSize::new(32, 16);

fn embedder(seed: u64) -> Embedder {
    let device = Device::flex();
    let network = BagOfTricksConfig {
        backbone: ResNetConfig::resnet18().with_width(4),
        head: BnNeckConfig::new(),
    };
    let model = network.init(INPUT, 10, &Init::new(Seed::new(seed), &device));
    Embedder::new(model, INPUT, &device).with_name(&format!("seed {seed}"))
}

fn dataset(folder: &std::path::Path) -> Splits {
    SyntheticConfig::new()
        .with_train_identities(2)
        .with_test_identities(3)
        .with_cameras(2)
        .write(folder)
        .expect("a synthetic dataset");
    market1501::load(folder).expect("a readable dataset")
}

#[test]
fn shards_together_are_the_embeddings_of_the_dataset() {
    let folder = tempfile::tempdir().expect("a folder");
    let splits = dataset(&folder.path().join("data"));
    let list = ShardList::new(splits.query.clone(), splits.gallery.clone()).expect("cameras");
    let progress = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::clone(&progress);
    let embedder = embedder(1)
        .with_batch_size(2)
        .with_progress(move |done, all| calls.lock().expect("one thread").push((done, all)));
    let options = ShardOptions::new(embedder.fingerprint().expect("a name"));
    let shards = folder.path().join("shards");
    let write = |index: usize| {
        let shard = Shard::new(index, 3).expect("a shard");
        embedder.write_shard(&shards, &list, shard, &options)
    };
    for index in [2, 0, 1] {
        assert_eq!(write(index).expect("written"), ShardStatus::Written);
        let calls = std::mem::take(&mut *progress.lock().expect("one thread"));
        let all = calls[0].1;
        assert_eq!(calls.last(), Some(&(all, all)), "{calls:?}");
        assert!(calls.is_sorted(), "{calls:?}");
        assert_eq!(write(index).expect("found"), ShardStatus::Found);
        assert!(progress.lock().expect("one thread").is_empty());
    }

    let (query, gallery) = embedder.embed_splits(&splits).expect("embedded");
    let shards = Shards::open(&shards).expect("complete");
    assert_eq!(Some(shards.model()), embedder.fingerprint().ok().as_ref());
    for (split, whole) in [(Split::Query, &query), (Split::Gallery, &gallery)] {
        let found = shards.load(split).expect("loaded");
        assert_eq!(found.values(), whole.values(), "{split}");
        assert_eq!(found.labels().paths(), whole.labels().paths(), "{split}");
        assert_eq!(found.cameras(), whole.cameras(), "{split}");
    }
    let config = EvaluationConfig::default();
    let distances = shards.distances(&query, config.metric).expect("rows");
    let labels = shards.labels(Split::Gallery).expect("labels");
    assert_eq!(
        evaluate_rows(&distances, query.labels(), &labels, &config),
        evaluate(&query, &gallery, &config)
    );
}

#[test]
fn another_model_is_refused_with_both_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let splits = dataset(&folder.path().join("data"));
    let list = ShardList::new(Vec::new(), splits.gallery).expect("cameras");
    let shards = folder.path().join("shards");
    let write = |seed, index| {
        let embedder = embedder(seed);
        let options = ShardOptions::new(embedder.fingerprint().expect("a name"));
        let shard = Shard::new(index, 2).expect("a shard");
        embedder.write_shard(&shards, &list, shard, &options)
    };
    write(1, 0).expect("written");
    let error = write(2, 1).expect_err("another model").to_string();
    let expected = "shard-00000-of-00002.json: expected the model `seed 2 (32x16)`, as for this job, found \
                    `seed 1 (32x16)`: write to another folder";
    assert!(error.ends_with(expected), "{error}");
}
