//! Seeds of weights, records, recipes and run files.

use std::fs;

use burn::module::Module;
use reid_core::InputSize;
use reid_fuzz::{networks::small, pytorch::checkpoint};
use reid_train::{OptimizerConfig, Recipe};
use reid_zoo::{BagOfTricksConfig, BranchedConfig, FncConfig, MgnConfig, RgaConfig, recipes, weights};
use serde::Serialize;

use crate::Seeds;

/// SHA-256 of an empty file.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// A file written by `torch.save`.
const PLAIN: &[u8] = include_bytes!("../../crates/reid-zoo/tests/data/plain.pth");

pub(crate) fn seeds() -> [Seeds; 6] {
    let folder = tempfile::tempdir().expect("a folder to write to");
    let file = |name: &str, write: &dyn Fn(&std::path::Path)| {
        let path = folder.path().join(name);
        write(&path);
        fs::read(path).expect("the file just written")
    };
    let saved = |name| file(name, &|path| weights::save(&small(), path).expect("can be written"));
    let record = file("record.bpk", &|path| small().save_file(path).expect("can be written"));
    let optimizer = file("optimizer.bpk", &|path| {
        OptimizerConfig::ranger().init().save(path).expect("can be written");
    });
    [
        ("pth", vec![checkpoint(&pickle()), legacy(), pickle(), PLAIN.to_vec()]),
        ("pickle", vec![pickle(), nested()]),
        ("weights", vec![saved("weights.safetensors")]),
        ("bpk", vec![saved("weights.bpk"), record, optimizer]),
        ("recipe", recipes()),
        ("state", states()),
    ]
}

/// Recipes, each preceded by the byte that selects its network.
fn recipes() -> Vec<Vec<u8>> {
    let size = InputSize::PERSON;
    let recipes = [
        json(&Recipe::strong_baseline("a", size, BagOfTricksConfig::resnet50())),
        json(&recipes::rga_code("b", size, RgaConfig::rga_resnet50())),
        json(&recipes::progressive_paper("c", BranchedConfig::progressive_cut_mix(2))),
        json(&recipes::fnc_paper("d", FncConfig::se_resnext50())),
        json(&Recipe::strong_baseline("e", InputSize::PERSON_TALL, MgnConfig::resnet50())),
    ];
    let numbered = (0_u8..).zip(recipes);
    numbered.map(|(which, recipe)| [&[which], &recipe[..]].concat()).collect()
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("serialisable data")
}

/// Files of a run's folder, each preceded by the byte that selects it.
fn states() -> Vec<Vec<u8>> {
    let recipe = Recipe::strong_baseline("a", InputSize::PERSON, BagOfTricksConfig::resnet50());
    let recipe = String::from_utf8(json(&recipe)).expect("UTF-8");
    let scores = "{\"mean_average_precision\":0.5,\"rank_1\":0.25}";
    let name = "epoch-0001-step-00000";
    let best = format!("{{\"checkpoint\":\"{name}\",\"scores\":{scores}}}");
    let files = [
        format!("{{\"checkpoint\":\"{name}\"}}"),
        format!("{{\"checkpoint\":\"{name}\",\"scores\":{scores},\"best\":{best}}}"),
        format!("{{\"checkpoint\":\"{name}\"}}"),
        "{\"files\":[],\"sha256\":\"\"}".to_owned(),
        format!("{{\"files\":[{{\"name\":\"model.bpk\",\"bytes\":0,\"sha256\":\"{EMPTY}\"}}]}}"),
        format!(
            "{{\"recipe\":{recipe},\"classes\":[1,5],\"epoch\":1,\"step\":0,\"sums\":{{\"steps\":2,\
             \"losses\":[[\"identity\",1.5]],\"accuracy\":0.5}},\"history\":[{{\"epoch\":1,\
             \"learning_rate\":0.01,\"loss\":1.5,\"losses\":[[\"identity\",1.5]],\"accuracy\":0.5,\
             \"scores\":{scores}}}],\"best\":{scores},\"lengths\":[[\"model.bpk\",0]]}}"
        ),
    ];
    let numbered = (0_u8..).zip(files);
    numbered.map(|(which, file)| [&[which], file.as_bytes()].concat()).collect()
}

/// `{"linear.weight": …, "linear.bias": …}`, in protocol 2.
fn pickle() -> Vec<u8> {
    [b"\x80\x02", &dictionary()[..], b"."].concat()
}

/// The same dictionary under `state_dict`, next to an integer under `epoch`.
fn nested() -> Vec<u8> {
    [b"\x80\x02}(", &text("state_dict")[..], &dictionary(), &text("epoch"), b"K\x05u."].concat()
}

fn dictionary() -> Vec<u8> {
    let weight = tensor("0", 8, b"K\x02K\x04\x86K\x04K\x01\x86");
    let bias = tensor("1", 2, b"K\x02\x85K\x01\x85");
    [b"}(", &text("linear.weight")[..], &weight, &text("linear.bias"), &bias, b"u"].concat()
}

/// The pickle of a tensor of `values` floats in a storage. `shape` is the pickle of its shape and strides.
fn tensor(storage: &str, values: u8, shape: &[u8]) -> Vec<u8> {
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((",
        &text("storage")[..],
        b"ctorch\nFloatStorage\n",
        &text(storage),
        &text("cpu"),
        &[b'K', values],
        b"tQK\x00",
        shape,
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}

fn text(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a short text").to_le_bytes();
    [b"X", &length[..], text.as_bytes()].concat()
}

/// The format of PyTorch before 1.6: pickles of a magic number, a version, the system information, the object
/// and the keys of its storages; then the storages.
fn legacy() -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let version = b"\x80\x02M\xe9\x03.";
    let machine = [b"\x80\x02}(", &text("little_endian")[..], b"\x88u."].concat();
    let keys = [b"\x80\x02](", &text("0")[..], &text("1"), b"e."].concat();
    let storage = |values: u64| [&values.to_le_bytes()[..], &vec![1; 4 * values as usize]].concat();
    [&magic[..], version, &machine, &pickle(), &keys, &storage(8), &storage(2)].concat()
}
