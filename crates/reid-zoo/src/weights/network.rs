//! Network: loads published weights of a whole network.

use std::path::Path;

use burn::module::Module;
use reid_core::{InputSize, MAX_WEIGHTS};
use reid_nn::{
    Block, Head, Init, Network, ReidModel,
    head::{LinearBnReluHead, PooledHead},
};

use super::{
    Weights,
    backbone::PublishedBackbone,
    layout::Layout,
    parameters::{self, Convention},
};
use crate::{ArchitectureModel, Error};

/// The field of a classifier in a head.
const CLASSIFIER: &str = "classifier";

/// A head that published networks have.
pub trait PublishedHead: Head {
    /// The prefix of each published layer, and the field of this head that it is loaded into.
    const LAYERS: &'static [(&'static str, &'static str)];
}

impl PublishedHead for LinearBnReluHead {
    const LAYERS: &'static [(&'static str, &'static str)] = &[
        ("fc.0.", "reduction."),
        ("fc.1.", "norm."),
        ("classifier.", "classifier."),
    ];
}

impl PublishedHead for PooledHead {
    const LAYERS: &'static [(&'static str, &'static str)] = &[
        ("classifier.1.", "classifier."),
        ("classifier.", "classifier."),
        ("fc.", "classifier."),
        ("last_linear.", "classifier."),
        ("linear.", "classifier."),
    ];
}

/// A whole network with published weights, which [`load_published`] loads under the names of their authors.
pub trait PublishedNetwork: Module {
    /// Renames the keys of published weights to those of this network, and removes a prefix that all of them
    /// have. Keys of this library are unchanged.
    ///
    /// # Errors
    /// If the keys of the backbone occur with several prefixes.
    fn rename(&self, weights: Weights) -> Result<Weights, Error>;
}

impl<B: Block + PublishedBackbone, H: PublishedHead> PublishedNetwork for ReidModel<B, H> {
    fn rename(&self, weights: Weights) -> Result<Weights, Error> {
        if weights.keys().any(|key| key.starts_with("backbone.")) {
            return Ok(weights);
        }
        let mut weights = self.backbone.rename(weights)?.renamed("", "backbone.");
        for (theirs, ours) in H::LAYERS {
            weights = weights.renamed(&format!("backbone.{theirs}"), &format!("head.{ours}"));
        }
        let optional = weights.optional.into_iter();
        weights.optional = optional
            .map(|prefix| format!("backbone.{prefix}"))
            .collect();
        Ok(weights)
    }
}

/// Renames the keys for the networks with published weights; weights for other architectures need the names
/// of this library.
impl PublishedNetwork for ArchitectureModel {
    fn rename(&self, weights: Weights) -> Result<Weights, Error> {
        match self {
            Self::OsNet(model) => model.rename(weights),
            Self::LightMbn(model) => model.rename(weights),
            Self::MobileNetV2(model) => model.rename(weights),
            Self::ResNet(model) => model.rename(weights),
            Self::DenseNet(model) => model.rename(weights),
            _ => Ok(weights),
        }
    }
}

/// Loads published weights into a whole network, strictly except for its classifiers: the model keeps its own
/// if the file has none, or some for another number of classes. Returns whether the classifiers were loaded.
///
/// | network | names of |
/// |---|---|
/// | [`OsNetReid`](crate::OsNetReid) | torchreid (`fc.0`, `fc.1`, `classifier`) |
/// | [`MobileNetReid`](crate::MobileNetReid) | torchvision (`fc` or `classifier.1`), Cadene (`last_linear`), torchreid |
/// | [`Architecture::ResNet`](crate::Architecture::ResNet) | torchvision (`fc`), akamaster (`linear`) |
/// | [`Architecture::DenseNet`](crate::Architecture::DenseNet) | torchvision (`classifier`), andreasveit and bamos (`fc`) |
/// | [`LightMbn`](crate::LightMbn) | the authors (`backone`, `global_branch`, `reduction_0`) |
/// | [`SegmentationModel`](reid_nn::segmentation::SegmentationModel) | torchvision (`classifier.0.convs`, `aux_classifier`), semseg (`ppm`, `cls`, `aux`), mmsegmentation (`decode_head`, `auxiliary_head`; [which networks](crate::segmentation#mmsegmentation)) |
///
/// The names of a backbone are those of [`load_backbone`](super::load_backbone).
///
/// ```
/// use burn::tensor::Device;
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Init, Network, backbone::OsNetConfig};
/// use reid_zoo::{OsNetReidConfig, weights};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("osnet_x0_25_msmt17.safetensors");
/// let config = OsNetReidConfig::from_backbone(OsNetConfig::x0_25());
/// let device = Device::default();
/// let mut model = config.init(InputSize::PERSON, 751, &Init::new(Seed::new(1), &device));
/// # weights::save(&model, &path)?;
/// let has_classifier = weights::load_published(&mut model, path)?;
/// assert!(has_classifier); // not if the file has a classifier of 1041 classes
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`Weights::open`] and [`Weights::load_into`].
pub fn load_published<M: PublishedNetwork>(
    model: &mut M,
    path: impl AsRef<Path>,
) -> Result<bool, Error> {
    let weights = model.rename(Weights::open(path)?)?;
    load_renamed(model, weights)
}

/// Builds a network with published weights, whose classifiers have the number of classes of the file. Returns this
/// number, or `None` if the file has no classifier; the network then has classifiers of a single class.
pub(crate) fn build_published<N>(
    network: &N,
    weights: Weights,
    input: InputSize,
    init: &Init<'_>,
) -> Result<(N::Model, Option<usize>), Error>
where
    N: Network<Model: PublishedNetwork>,
{
    // Names do not depend on the number of classes.
    let mut model = network.init(input, 1, init);
    let mut weights = model.rename(weights)?;
    // No block may keep the values with which it is built, because nobody trains this network afterwards.
    weights.optional.clear();
    let classes = classes(&weights);
    if let Some(classes) = classes {
        model = network.init(input, classes, init);
    }
    let has_classifier = load_renamed(&mut model, weights)?;
    Ok((model, classes.filter(|_| has_classifier)))
}

/// The number of classes of the classifiers of a file; `None` if there is none that a network could have.
pub(crate) fn classes(weights: &Weights) -> Option<usize> {
    let mut tensors = weights.tensors.iter();
    let weight = tensors.find(|tensor| tensor.name.ends_with(".classifier.weight"))?;
    let &[one, other] = weight.shape.as_slice() else {
        return None;
    };
    let classes = match weights.convention {
        Convention::PyTorch => one,
        Convention::Burn => other,
    };
    let count = one.checked_mul(other)?;
    (1..=MAX_WEIGHTS).contains(&count).then_some(classes)
}

/// Loads weights with the names of the model, and classifiers if all of them fit. Returns whether they were loaded.
fn load_renamed<M: Module>(model: &mut M, mut weights: Weights) -> Result<bool, Error> {
    let expected = parameters::collect(model, weights.convention);
    let classifiers: Vec<_> = expected
        .iter()
        .filter(|tensor| tensor.name.split('.').any(|field| field == CLASSIFIER))
        .collect();
    let fit = classifiers.iter().all(|expected| {
        let mut found = weights.tensors.iter();
        let found = found.find(|found| found.name == expected.name);
        found.is_some_and(|found| Layout::of(expected).takes(&Layout::of(found)))
    });
    if !fit {
        for classifier in classifiers {
            weights = weights.without(&classifier.name).optional(&classifier.name);
        }
    }
    weights.load_into(model)?;
    Ok(fit)
}
