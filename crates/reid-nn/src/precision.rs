//! Precision: the floating-point dtype that a network computes in.
//!
//! Every part computes in the dtype of its features and casts its weights to it. The dtype of the images
//! therefore sets that of the network, and mixed precision (Micikevicius et al., ICLR 2018, arXiv:1710.03740)
//! only needs a cast of the images. Weights and their gradients stay in single precision. So do operations
//! that sum many values: statistics of normalisations, pooling and everything after it (embeddings, logits,
//! losses), and relation-aware attention after its embeddings.

use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

/// The floating-point dtype that a network computes in.
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
    /// bfloat16 for features, with single precision for sums of many values. Features take half the memory,
    /// and GPUs can use their matrix units. Losses need no scaling, since the range is that of single
    /// precision.
    BFloat16,
    /// IEEE 754 half precision for features, which most GPUs support. It is finer than bfloat16 but has a
    /// range of only 6e-8 to 65504. Small gradients underflow unless the loss is scaled, as the trainer does.
    Float16,
}

impl Precision {
    /// Whether a device supports this precision.
    #[must_use]
    pub fn is_supported(self, device: &Device) -> bool {
        match self {
            Self::Single => true,
            Self::BFloat16 => device.supports_dtype(DType::BF16),
            Self::Float16 => device.supports_dtype(DType::F16),
        }
    }

    /// Casts images, `[batch, 3, height, width]`, to this precision, so that a network computes in it.
    #[must_use]
    pub fn cast(self, images: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Single => images,
            Self::BFloat16 => images.cast(DType::BF16),
            Self::Float16 => images.cast(DType::F16),
        }
    }
}

/// Returns single precision for a dtype of less precision, and the dtype itself otherwise.
pub(crate) fn wide(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

/// Casts a tensor to at least single precision.
pub(crate) fn widened<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let dtype = wide(tensor.dtype());
    tensor.cast(dtype)
}
