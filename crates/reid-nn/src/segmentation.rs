//! Semantic segmentation: a class for every pixel.
//!
//! A [`SegmentationModel`] is a [`ResNet`](crate::backbone::ResNet), usually
//! [dilated](crate::backbone::Dilation), and a [`DecodeHead`]. The head has a context block, such as
//! [`PyramidPooling`] or [`Aspp`], and may have any attention block. The segmentation experiments of
//! relation-aware attention (Zhang et al., CVPR 2020, arXiv:1904.02998, Table 6) are its configurations.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use reid_core::{InputSize, Seed};
//! use reid_nn::{Init, backbone::{Dilation, FirstDilation, ResNetConfig}};
//! use reid_nn::segmentation::{DecodeHeadConfig, LabelMaps, PixelLoss, SegmentationConfig};
//!
//! let backbone = ResNetConfig::resnet50()
//!     .with_width(4)
//!     .with_dilation(Dilation::Stride8(FirstDilation::Previous));
//! let config = SegmentationConfig::new(backbone, DecodeHeadConfig::plain().with_channels(8));
//! let device = Device::default();
//! let model = config.init(InputSize::new(33, 41), 19, &Init::new(Seed::new(1), &device));
//! let logits = model.forward(Tensor::zeros([2, 3, 33, 41], &device));
//! assert_eq!(logits.dims(), [2, 19, 33, 41]);
//!
//! let labels = LabelMaps::new(vec![255; 2 * 33 * 41], [2, 33, 41], &device); // no pixel is labelled
//! let loss = PixelLoss::new().loss(logits, &labels);
//! assert_eq!(loss.into_scalar::<f32>(), 0.0);
//! ```

mod aspp;
mod decode_head;
mod inference;
mod labels;
mod loss;
mod model;
mod network;
mod pyramid_pooling;

pub use aspp::{Aspp, AsppConfig};
pub use decode_head::{DecodeHead, DecodeHeadConfig};
pub use inference::SlidingWindow;
pub use labels::LabelMaps;
pub use loss::PixelLoss;
pub use model::{SegmentationConfig, SegmentationModel, SegmentationOutput};
pub use network::{PixelModel, PixelNetwork};
pub use pyramid_pooling::{PyramidPooling, PyramidPoolingConfig};

use burn::nn::conv::Conv2dConfig;
use reid_core::Problems;

/// The largest number of channels of a layer; published heads have at most 4096.
const MAX_CHANNELS: usize = 65_536;

/// Configures a convolution without bias, padded to keep the size. Its weights have PyTorch's initial
/// distribution, as in the authors' code of all heads.
fn convolution([from, to]: [usize; 2], kernel: usize, dilation: usize) -> Conv2dConfig {
    let config = Conv2dConfig::new([from, to], [kernel, kernel]).with_bias(false);
    crate::convolution::dilated(config, dilation)
}

/// Rejects a number of channels that is out of range, and a layer of too many weights.
fn validate_channels(from: usize, to: usize, kernel: usize, problems: &mut Problems) {
    problems.count("channels", to, 1..=MAX_CHANNELS);
    problems.at("channels", |problems| {
        let weights = from.checked_mul(to);
        problems.weights(
            "a layer",
            weights.and_then(|weights| weights.checked_mul(kernel * kernel)),
        );
    });
}
