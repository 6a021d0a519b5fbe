//! A small module to load weights into.

use std::sync::LazyLock;

use burn::{
    module::Module,
    nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig},
    tensor::{Device, TensorData},
};
use reid_zoo::weights::{self, Weights};

use crate::Folder;

/// A layer of 4 values to 2, and a normalisation of 2.
#[derive(Module, Debug)]
pub struct Small {
    linear: Linear,
    norm: BatchNorm,
}

/// The module as it is built.
pub fn small() -> Small {
    let device = Device::default();
    Small {
        linear: LinearConfig::new(4, 2).init(&device),
        norm: BatchNormConfig::new(2).init(&device),
    }
}

impl Small {
    /// All values, as bytes.
    fn bytes(&self) -> Vec<u8> {
        let Self { linear, norm } = self;
        let bias = linear.bias.as_ref().expect("has one");
        let tensors: [TensorData; 6] = [
            linear.weight.val().into_data(),
            bias.val().into_data(),
            norm.gamma.val().into_data(),
            norm.beta.val().into_data(),
            norm.running_mean.value().into_data(),
            norm.running_var.value().into_data(),
        ];
        tensors.iter().flat_map(|data| data.as_bytes().to_vec()).collect()
    }
}

/// Checks a file of weights of this name: it is refused by name, or what of it fits is the same when it is
/// saved and loaded again.
pub fn check_weights(name: &str, bytes: &[u8]) {
    static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::with([] as [&str; 0]));
    static SMALL: LazyLock<Small> = LazyLock::new(small);
    let path = FOLDER.write(name, bytes);
    let Some(weights) = FOLDER.names(Weights::open(&path)) else { return };
    let mut module = SMALL.clone();
    let strict = FOLDER.names(weights.load_into(&mut module));
    if strict.is_none() {
        assert_eq!(module.bytes(), SMALL.bytes(), "changed by what was refused");
    }
    let mut partly = SMALL.clone();
    let Some(report) = FOLDER.names(weights.load_partially_into(&mut partly)) else { return };
    assert_eq!(strict.is_some(), report.fits());
    if strict.is_some() {
        assert_eq!(partly.bytes(), module.bytes());
    }
    // A prefix that all keys have may have been taken off.
    let known = |applied: &String| weights.keys().any(|key| key.ends_with(applied.as_str()));
    let applied = report.applied.iter().all(known);
    assert!(applied, "{:?}", report.applied);
    if !report.applied.is_empty() {
        let again = FOLDER.path().join("again.safetensors");
        weights::save(&partly, &again).expect("a file to write to");
        let mut same = SMALL.clone();
        weights::load(&mut same, &again).expect("written by a program");
        assert_eq!(same.bytes(), partly.bytes());
    }
}
