//! Precision: in which type of numbers a network computes.
//!
//! Every part computes in the type of its features, whatever the type of its weights, which it takes
//! along: the type of the images is that of the network. So mixed precision (Micikevicius et al., ICLR
//! 2018, arXiv:1710.03740) is a matter of the images. Weights and their gradients stay as they are, in
//! single precision, and so does what sums many numbers: statistics of normalisations, pooling and
//! all behind it (descriptors, logits, losses), and relation-aware attention from its embeddings on.

use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

/// In which type of numbers a network computes.
///
/// ```
/// use burn::tensor::{DType, Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Init, Precision, ReidModel, backbone::ResNetConfig, head::BnNeckConfig};
///
/// let (device, size) = (Device::default(), InputSize::new(32, 16));
/// let init = Init::new(Seed::new(1), &device);
/// let backbone = ResNetConfig::resnet18().with_width(4);
/// let model = ReidModel::new(&backbone, &BnNeckConfig::new(), size, 3, &init);
///
/// let images = Precision::BFloat16.cast(Tensor::ones([2, 3, 32, 16], &device));
/// assert_eq!(model.backbone.conv1.weight.val().dtype(), DType::F32);
/// assert_eq!(model.embed(images).dtype(), DType::F32); // computed in bfloat16 up to pooling
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision, 32 bits.
    #[default]
    Single,
    /// bfloat16, with single precision where it matters: half the memory for features, and matrix units
    /// where a GPU has them. Its range is that of single precision, so losses need no scaling.
    BFloat16,
    /// Half precision of IEEE 754, which most GPUs have: finer than bfloat16, but with a range of 6e-8 to
    /// 65504, so small gradients vanish unless the loss is scaled, as a trainer does.
    Float16,
}

impl Precision {
    /// Whether a device computes in it.
    #[must_use]
    pub fn is_supported(self, device: &Device) -> bool {
        match self {
            Self::Single => true,
            Self::BFloat16 => device.supports_dtype(DType::BF16),
            Self::Float16 => device.supports_dtype(DType::F16),
        }
    }

    /// Images in this type, with which a network computes in it.
    #[must_use]
    pub fn cast(self, images: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Single => images,
            Self::BFloat16 => images.cast(DType::BF16),
            Self::Float16 => images.cast(DType::F16),
        }
    }
}

/// Single precision where a type has less.
pub(crate) fn wide(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

/// Numbers in at least single precision.
pub(crate) fn widened<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let dtype = wide(tensor.dtype());
    tensor.cast(dtype)
}
