//! A small module into which weights are loaded.

use std::sync::LazyLock;

use burn::{
    module::Module,
    nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig},
    tensor::{Device, TensorData},
};
use reid_zoo::weights::{self, Weights};

use crate::Folder;

/// A linear layer from 4 to 2 features and a batch normalisation of 2 channels.
#[derive(Module, Debug)]
pub struct Small {
    linear: Linear,
    norm: BatchNorm,
}

/// Builds the module.
pub fn small() -> Small {
    let device = Device::default();
    Small {
        linear: LinearConfig::new(4, 2).init(&device),
        norm: BatchNormConfig::new(2).init(&device),
    }
}

impl Small {
    /// The values of all tensors, as bytes.
    fn bytes(&self) -> Vec<u8> {
        let Self { linear, norm } = self;
        let bias = linear.bias.as_ref().expect("a bias");
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

/// Checks a weight file with this name. Either the error names the file, or the weights that fit the module
/// are unchanged after saving and loading.
pub fn check_weights(name: &str, bytes: &[u8]) {
    static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::with([] as [&str; 0]));
    static SMALL: LazyLock<Small> = LazyLock::new(small);
    let path = FOLDER.write(name, bytes);
    let Some(weights) = FOLDER.names(Weights::open(&path)) else { return };
    let mut module = SMALL.clone();
    let strict = FOLDER.names(weights.load_into(&mut module));
    if strict.is_none() {
        assert_eq!(module.bytes(), SMALL.bytes(), "rejected weights changed the module");
    }
    let mut partly = SMALL.clone();
    let Some(report) = FOLDER.names(weights.load_partially_into(&mut partly)) else { return };
    assert_eq!(strict.is_some(), report.fits());
    if strict.is_some() {
        assert_eq!(partly.bytes(), module.bytes());
    }
    // The loader may have removed a prefix that all keys share.
    let known = |applied: &String| weights.keys().any(|key| key.ends_with(applied.as_str()));
    let applied = report.applied.iter().all(known);
    assert!(applied, "applied keys that are not in the file: {:?}", report.applied);
    if !report.applied.is_empty() {
        let again = FOLDER.path().join("again.safetensors");
        weights::save(&partly, &again).expect("a file to write to");
        let mut same = SMALL.clone();
        weights::load(&mut same, &again).expect("a valid file");
        assert_eq!(same.bytes(), partly.bytes());
    }
}
