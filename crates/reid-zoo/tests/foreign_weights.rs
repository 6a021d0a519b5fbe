//! Weights that other toolkits save, with any extension, nesting and prefix; and files that are not weights.

use std::{fs, path::PathBuf};

use burn::{
    nn::{Linear, LinearConfig},
    tensor::Device,
};
use reid_core::{InputSize, Seed};
use reid_nn::{BlockConfig, Init, backbone::ResNetConfig};
use reid_zoo::{
    Error,
    weights::{self, Weights},
};
use tempfile::{TempDir, tempdir};

/// An entry of a checkpoint.
enum Entry {
    /// A tensor of two values.
    Pair(f32, f32),
    /// A tensor with the declared shape and strides, and one stored value.
    Declared(Vec<u64>, Vec<u64>),
    Number(u8),
    List,
    Dict(Vec<(&'static str, Entry)>),
}

use Entry::{Declared, Dict, List, Number, Pair};

/// Writes the format of `torch.save` before version 1.6: pickles, then the values.
struct Legacy {
    pickle: Vec<u8>,
    storages: Vec<Vec<f32>>,
}

impl Legacy {
    const BEFORE: &'static [u8] =
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}X\x0d\0\0\0little_endian\x88s.";

    fn file(entry: Entry) -> Vec<u8> {
        let mut this = Self {
            pickle: b"\x80\x02".to_vec(),
            storages: Vec::new(),
        };
        this.add(entry);
        this.pickle.push(b'.');
        let mut file = [Self::BEFORE, &this.pickle, b"\x80\x02]("].concat();
        for key in 0..this.storages.len() {
            file.extend(text(&key.to_string()));
        }
        file.extend(b"e.");
        for storage in this.storages {
            file.extend((storage.len() as u64).to_le_bytes());
            file.extend(storage.iter().flat_map(|value| value.to_le_bytes()));
        }
        file
    }

    fn add(&mut self, entry: Entry) {
        match entry {
            Number(number) => self.pickle.extend([b'K', number]),
            List => self.pickle.extend(b"]"),
            Dict(entries) => {
                self.pickle.extend(b"}(");
                for (key, entry) in entries {
                    self.pickle.extend(text(key));
                    self.add(entry);
                }
                self.pickle.push(b'u');
            }
            Pair(one, two) => self.tensor(vec![one, two], &[2], &[1]),
            Declared(shape, strides) => self.tensor(vec![1.0], &shape, &strides),
        }
    }

    fn tensor(&mut self, values: Vec<f32>, shape: &[u64], strides: &[u64]) {
        let (key, count) = (self.storages.len().to_string(), values.len() as u64);
        self.storages.push(values);
        self.pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.pickle.extend(text("storage"));
        self.pickle.extend(b"ctorch\nFloatStorage\n");
        self.pickle.extend(text(&key));
        self.pickle.extend(text("cpu"));
        self.pickle.extend(long(count));
        self.pickle.extend(b"NtQK\0");
        for sizes in [shape, strides] {
            self.pickle.push(b'(');
            self.pickle
                .extend(sizes.iter().flat_map(|&size| long(size)));
            self.pickle.push(b't');
        }
        self.pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
}

fn text(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("short");
    [b"X", &length.to_le_bytes()[..], text.as_bytes()].concat()
}

/// A pickled long integer of nine bytes, the last of which makes it positive.
fn long(number: u64) -> Vec<u8> {
    [b"\x8a\x09", &number.to_le_bytes()[..], b"\0"].concat()
}

/// The state dict of a [`Norm`], with the same `gamma` in both channels.
fn norm(gamma: f32) -> Entry {
    Dict(vec![
        ("gamma", Pair(gamma, gamma)),
        ("beta", Pair(0.0, 0.5)),
    ])
}

#[derive(burn::module::Module, Debug)]
struct Norm {
    gamma: burn::module::Param<burn::tensor::Tensor<1>>,
    beta: burn::module::Param<burn::tensor::Tensor<1>>,
}

impl Norm {
    fn new() -> Self {
        let zeros = || {
            burn::module::Param::from_tensor(burn::tensor::Tensor::zeros([2], &Device::default()))
        };
        Self {
            gamma: zeros(),
            beta: zeros(),
        }
    }

    fn gamma(&self) -> f32 {
        self.gamma
            .val()
            .into_data()
            .try_to_vec::<f32>()
            .expect("f32")[0]
    }
}

fn file(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("written");
    path
}

fn load(bytes: &[u8]) -> Result<f32, String> {
    let folder = tempdir().expect("a folder");
    let path = file(&folder, "w.pth", bytes);
    let mut norm = Norm::new();
    weights::load(&mut norm, path).map_err(|error| error.to_string())?;
    Ok(norm.gamma())
}

#[test]
fn files_of_any_extension_are_read_by_their_content() {
    let folder = tempdir().expect("a folder");
    let legacy = Legacy::file(norm(7.0));
    let names = [
        "w.pth.tar-60",
        "W.PTH",
        "w.ckpt",
        "w.bin",
        "w.pkl",
        "w.th",
        "w.pt",
        "w.safetensors",
        "weights",
    ];
    for name in names {
        let mut norm = Norm::new();
        weights::load(&mut norm, file(&folder, name, &legacy)).expect(name);
        assert_eq!(norm.gamma().to_bits(), 7.0_f32.to_bits());
    }
    // Safetensors and burnpack files with the extensions of PyTorch.
    let linear = || LinearConfig::new(4, 2).init(&Device::default());
    for (from, to) in [("w.safetensors", "a.bin"), ("w.bpk", "b.ckpt")] {
        let (from, to) = (folder.path().join(from), folder.path().join(to));
        weights::save(&linear(), &from).expect("saved");
        fs::rename(from, &to).expect("renamed");
        let mut read: Linear = linear();
        weights::load(&mut read, &to).expect("read");
    }
}

#[test]
fn nested_weights_are_found_or_listed_in_the_error() {
    for nest in [
        "net",
        "weights",
        "ema",
        "params",
        "state_dict",
        "model",
        "model_state_dict",
        "mine",
    ] {
        let optimizer = Dict(vec![
            ("state", Dict(vec![("exp_avg", Pair(1.0, 1.0))])),
            ("param_groups", List),
        ]);
        let entries = vec![
            (nest, norm(2.0)),
            ("optimizer", optimizer),
            ("epoch", Number(3)),
        ];
        assert_eq!(load(&Legacy::file(Dict(entries))), Ok(2.0), "{nest}");
    }
    // Weights under two keys, as some trainers save them.
    let twice = Dict(vec![("state_dict", Dict(vec![("model", norm(4.0))]))]);
    assert_eq!(load(&Legacy::file(twice)), Ok(4.0));

    let both = Legacy::file(Dict(vec![("model", norm(2.0)), ("ema", norm(3.0))]));
    let error = load(&both).expect_err("ambiguous");
    assert!(
        error.ends_with("found `ema`, `model`: choose one with `Weights::open_nested`"),
        "{error}"
    );
    let folder = tempdir().expect("a folder");
    let path = file(&folder, "w.pth", &both);
    let mut norm = Norm::new();
    let weights = Weights::open_nested(&path, "ema").expect("there");
    weights.load_into(&mut norm).expect("fits");
    assert_eq!(norm.gamma().to_bits(), 3.0_f32.to_bits());
    let error = Weights::open_nested(&path, "swa")
        .expect_err("not there")
        .to_string();
    assert!(
        error.contains("`swa`") || error.contains("'swa'"),
        "{error}"
    );
    let path = folder.path().join("w.safetensors");
    weights::save(&norm, &path).expect("written");
    let error = Weights::open_nested(&path, "ema").expect_err("not nested");
    let found =
        "expected a PyTorch checkpoint with the key `ema`, found a format without nested keys";
    assert!(error.to_string().contains(found), "{error}");
}

#[test]
fn prefixes_are_removed_or_named_in_the_error() {
    for prefix in [
        "base",
        "backbone",
        "model",
        "module",
        "_orig_mod",
        "encoder",
    ] {
        // A flat state dict whose keys have dots, not a nested one.
        let key = |name| -> &'static str { Box::leak(format!("{prefix}.{name}").into_boxed_str()) };
        let flat = vec![
            (key("gamma"), Pair(5.0, 5.0)),
            (key("beta"), Pair(0.0, 0.0)),
        ];
        assert_eq!(load(&Legacy::file(Dict(flat))), Ok(5.0), "{prefix}");

        let more = vec![
            (key("gamma"), Pair(5.0, 5.0)),
            (key("beta"), Pair(0.0, 0.0)),
            ("classifier.weight", Pair(1.0, 1.0)),
        ];
        let error = load(&Legacy::file(Dict(more))).expect_err("a classifier too many");
        let expected = format!(
            "in the file under the prefix `{prefix}.`: call `.renamed(\"{prefix}.\", \"\")`"
        );
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn the_prefix_of_a_backbone_is_found() {
    let folder = tempdir().expect("a folder");
    let (device, image) = (Device::default(), InputSize::new(32, 16).rgb());
    let config = ResNetConfig::resnet18().with_width(4);
    let published = config.init(image, &Init::new(Seed::new(1), &device));
    let path = folder.path().join("w.safetensors");
    for prefixes in [
        &["base."][..],
        &["_orig_mod.model.backbone."],
        &["student.", "teacher."],
    ] {
        weights::save(&published, &path).expect("saved");
        let bytes = fs::read(&path).expect("read");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let mut tensors = Vec::new();
        for prefix in prefixes {
            tensors.extend(
                file.iter()
                    .map(|(key, view)| (format!("{prefix}{key}"), view)),
            );
        }
        // A classifier, as in a whole model.
        let (_, some) = file.iter().next().expect("a tensor");
        tensors.push(("classifier.weight".to_owned(), some));
        safetensors::serialize_to_file(tensors, None, &path).expect("written");
        let mut backbone = config.init(image, &Init::new(Seed::new(2), &device));
        let loaded = weights::load_backbone(&mut backbone, &path);
        if prefixes.len() == 1 {
            loaded.expect("fits");
            let values = |net: &reid_nn::backbone::ResNet| net.conv1.weight.val().into_data();
            assert_eq!(values(&backbone), values(&published));
        } else {
            let error = loaded.expect_err("ambiguous").to_string();
            assert!(error.contains("found `student.`, `teacher.`"), "{error}");
        }
    }
}

#[test]
fn the_error_says_what_a_file_without_a_state_dict_is() {
    let optimizer = Dict(vec![
        ("state", Dict(vec![("exp_avg", Pair(1.0, 1.0))])),
        ("param_groups", List),
    ]);
    let module = [
        Legacy::BEFORE,
        b"\x80\x02cmy.models\nNet\n)\x81}b.\x80\x02].".as_slice(),
    ]
    .concat();
    let cases = [
        (Legacy::file(optimizer), "the state of an optimizer"),
        (
            Legacy::file(Dict(vec![("epoch", Number(3))])),
            "a checkpoint without tensors",
        ),
        (Legacy::file(List), "a list instead of a dictionary"),
        (
            module,
            "an object of class `my.models.Net`: save its `state_dict()`",
        ),
        (
            b"<!doctype html><title>Sign in</title>".to_vec(),
            "a web page",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid".to_vec(),
            "a Git LFS pointer",
        ),
        (Vec::new(), "an empty file"),
    ];
    for (bytes, expected) in cases {
        let error = load(&bytes).expect_err(expected);
        assert!(error.contains(&format!("found {expected}")), "{error}");
    }
    // A TorchScript archive contains code and weights.
    let mut script =
        fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/plain.pth")).expect("read");
    let end = script.len() - 22;
    script.truncate(end);
    script.extend(b"net/constants.pkl");
    let error = load(&script).expect_err("code");
    assert!(error.contains("found a TorchScript archive"), "{error}");
}

#[test]
fn declared_sizes_allocate_no_memory() {
    let huge = 1_u64 << 40;
    let cases = [
        Declared(vec![huge], vec![0]),
        Declared(vec![huge, huge], vec![0, 0]),
        Declared(vec![huge], vec![1]),
        Declared(vec![2], vec![huge]),
        Declared(vec![0, huge], vec![1, 1]),
        // Just below the limit of the reader. The values are only read if a module has this shape.
        Declared(vec![1 << 31], vec![0]),
    ];
    for declared in cases {
        let bytes = Legacy::file(Dict(vec![("gamma", declared), ("beta", Pair(0.0, 0.0))]));
        let error = load(&bytes).expect_err("no such tensor");
        assert!(error.starts_with('/') || error.contains("w.pth"), "{error}");
    }
    // Safetensors and burnpack files that declare more bytes than they contain.
    let header =
        format!(r#"{{"gamma":{{"dtype":"F32","shape":[{huge},{huge}],"data_offsets":[0,8]}}}}"#);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend([0; 8]);
    assert!(load(&bytes).is_err());
    let long = [&u64::from(u32::MAX).to_le_bytes()[..], b"{\"gamma\":"].concat();
    assert!(load(&long).is_err());
    assert!(load(b"NRUB\x01\x00\xff\xff\xff\xff").is_err());
}

/// Files that are truncated at every length, or changed at every byte, give an error or weights, never a panic.
#[test]
fn damaged_files_never_panic() {
    let whole = Legacy::file(Dict(vec![("state_dict", norm(2.0)), ("epoch", Number(3))]));
    assert_eq!(load(&whole), Ok(2.0));
    for length in 0..whole.len() {
        load(&whole[..length]).expect_err("truncated");
    }
    for at in 0..whole.len() {
        for bit in [0x01, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[at] ^= bit;
            let _ = load(&changed);
        }
    }
}

#[test]
fn a_mismatch_starts_with_the_diagnosis() {
    let folder = tempdir().expect("a folder");
    let (device, image) = (Device::default(), InputSize::new(32, 16).rgb());
    let path = folder.path().join("w.safetensors");
    weights::save(
        &ResNetConfig::resnet18()
            .with_width(4)
            .init(image, &Init::new(Seed::new(1), &device)),
        &path,
    )
    .expect("saved");
    let mut wider = ResNetConfig::resnet18()
        .with_width(8)
        .init(image, &Init::new(Seed::new(2), &device));
    let error = weights::load(&mut wider, &path).expect_err("another width");
    let Error::Mismatch { diagnosis, .. } = &error else {
        panic!("{error}");
    };
    assert!(diagnosis.starts_with("all names fit, but 1"), "{diagnosis}");
    let text = error.to_string();
    assert!(
        text.lines().count() < 15 && text.ends_with("more"),
        "{text}"
    );
}
