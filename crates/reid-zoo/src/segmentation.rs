//! Semantic segmentation: `PSPNet` (Zhao et al., CVPR 2017, arXiv:1612.01105), `DeepLabV3` (Chen et al.,
//! arXiv:1706.05587), and relation-aware attention (Zhang et al., CVPR 2020, arXiv:1904.02998, Table 6).
//!
//! | network | backbone | head | weights with the names of |
//! |---|---|---|---|
//! | [`deeplab_v3`] | torchvision's, output stride 8 | ASPP | torchvision |
//! | [`fcn`] | torchvision's, output stride 8 | plain | torchvision |
//! | [`pspnet`] | deep stem, output stride 8 | PPM | semseg |
//! | [`ocnet_baseline`], the baseline of Table 6 | deep stem, output stride 8 | plain | |
//! | [`rga`], RGA-SC of Table 6 | deep stem, output stride 8 | plain, with attention | |
//! | [`mmseg_pspnet`] | `ResNetV1c`, output stride 8 | PPM | mmsegmentation |
//! | [`mmseg_deeplab_v3`] | `ResNetV1c`, output stride 8 | ASPP without projection | mmsegmentation |
//!
//! [`load_published`](crate::weights::load_published) loads the published weights. The settings of Table 6
//! are those of OCNet, [`SegmentationRecipe::ocnet`](reid_train::SegmentationRecipe::ocnet). The baseline
//! has no auxiliary head.
//!
//! # mmsegmentation
//!
//! The published networks of mmsegmentation differ from torchvision's and semseg's in the stem, in the
//! dilation, in the head and in how logits are resized. These can be loaded, with the names of its
//! checkpoints:
//!
//! | network there | here |
//! |---|---|
//! | `pspnet_r50-d8`, `pspnet_r101-d8` | [`mmseg_pspnet`] |
//! | `deeplabv3_r50-d8`, `deeplabv3_r101-d8` | [`mmseg_deeplab_v3`] |
//! | the same with `r50b` or `r101b`, the backbone of torchvision | with `config.backbone.stem = Stem::Large(MaxPool::Padded)` |
//! | configurations with `align_corners`, such as those for crops of 769 x 769 | with `Alignment::Corners` in the model and in the PPM |
//! | an `FCNHead` with `num_convs=1` and `concat_input=False` | [`DecodeHeadConfig::auxiliary`] as the head |
//!
//! Others are rejected: an `FCNHead` of several convolutions, which `fcn_r50-d8` has, DeepLabV3+, `UPerHead`,
//! cascades of heads, and `ResNetV1d` ([`Error::OtherNetwork`](crate::Error::OtherNetwork)). Any other network
//! is rejected with the list of the keys that do not fit. Names do not show the stride in the first
//! convolution of a block (`style='caffe'`), which this library does not have.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use reid_core::{InputSize, Seed};
//! use reid_nn::{Init, backbone::ResNetConfig};
//! use reid_zoo::segmentation;
//!
//! let mut config = segmentation::rga(ResNetConfig::resnet50().with_width(4), 4);
//! config.head = config.head.with_channels(16);
//! let (device, size) = (Device::default(), InputSize::new(33, 65));
//! let model = config.init(size, 19, &Init::new(Seed::new(1), &device));
//! let logits = model.evaluation().forward(Tensor::zeros([1, 3, 33, 65], &device));
//! assert_eq!(logits.dims(), [1, 19, 33, 65]);
//! ```

use reid_nn::{
    attention::{
        FixedSize, Resized, ResizedConfig, RgaChannel, RgaChannelConfig, RgaSpatial,
        RgaSpatialConfig,
    },
    backbone::{Dilation, FirstDilation, MaxPool, ResNetConfig, Stem},
    dropout::Dropout,
    resample::Alignment,
    segmentation::{
        Aspp, AsppConfig, DecodeHeadConfig, PyramidPooling, PyramidPoolingConfig,
        SegmentationConfig, SegmentationModel,
    },
};

/// torchvision's `DeepLabV3`.
pub type DeepLabV3 = SegmentationModel<Aspp>;

/// semseg's `PSPNet`.
pub type PspNet = SegmentationModel<PyramidPooling>;

/// RGA-SC at a fixed size: first over positions, then over channels.
pub type FixedRga = (Resized<RgaSpatial>, Resized<RgaChannel>);

/// Configuration of [`FixedRga`].
pub type FixedRgaConfig = (
    ResizedConfig<RgaSpatialConfig>,
    ResizedConfig<RgaChannelConfig>,
);

/// torchvision's `DeepLabV3` with an auxiliary head: 60,996,202 parameters with a ResNet-101 and 21 classes.
/// `backbone` is a bottleneck network without dilation, such as `ResNetConfig::resnet101()`.
#[must_use]
pub fn deeplab_v3(backbone: ResNetConfig) -> SegmentationConfig<AsppConfig> {
    let head = DecodeHeadConfig::aspp();
    SegmentationConfig::new(torchvision(backbone), head).with_auxiliary(torchvision_plain(256))
}

/// torchvision's fully convolutional network (Long et al., CVPR 2015, arXiv:1411.4038) with an auxiliary
/// head.
#[must_use]
pub fn fcn(backbone: ResNetConfig) -> SegmentationConfig {
    let head = torchvision_plain(512);
    SegmentationConfig::new(torchvision(backbone), head).with_auxiliary(torchvision_plain(256))
}

fn torchvision(backbone: ResNetConfig) -> ResNetConfig {
    backbone.with_dilation(Dilation::Stride8(FirstDilation::Previous))
}

/// A plain head of torchvision, which drops values where semseg drops channels.
fn torchvision_plain(channels: usize) -> DecodeHeadConfig {
    let mut head = DecodeHeadConfig::auxiliary().with_channels(channels);
    head.dropout = Some(Dropout::values(0.1));
    head
}

/// semseg's `PSPNet` with an auxiliary head. Images of 8n + 1 pixels per side, such as 713, are resized
/// exactly.
#[must_use]
pub fn pspnet(backbone: ResNetConfig) -> SegmentationConfig<PyramidPoolingConfig> {
    SegmentationConfig::new(deep(backbone), DecodeHeadConfig::pyramid_pooling())
        .with_auxiliary(DecodeHeadConfig::auxiliary())
        .with_alignment(Alignment::Corners)
}

/// mmsegmentation's `PSPNet` with an auxiliary head, `pspnet_r50-d8`: 48,975,494 parameters with a ResNet-50
/// and 19 classes. `backbone` is a bottleneck network without dilation, such as `ResNetConfig::resnet50()`.
#[must_use]
pub fn mmseg_pspnet(backbone: ResNetConfig) -> SegmentationConfig<PyramidPoolingConfig> {
    let mut head = DecodeHeadConfig::pyramid_pooling();
    head.context.alignment = Alignment::Edges;
    SegmentationConfig::new(v1c(backbone), head).with_auxiliary(DecodeHeadConfig::auxiliary())
}

/// mmsegmentation's `DeepLabV3` with an auxiliary head, `deeplabv3_r50-d8`: 68,113,030 parameters with a
/// ResNet-50 and 19 classes. `backbone` is a bottleneck network without dilation, such as
/// `ResNetConfig::resnet50()`.
#[must_use]
pub fn mmseg_deeplab_v3(backbone: ResNetConfig) -> SegmentationConfig<AsppConfig> {
    let context = AsppConfig::new().with_channels(512).with_project(false);
    let mut head = DecodeHeadConfig::from_context(context, 512);
    head.dropout = Some(Dropout::channels(0.1));
    SegmentationConfig::new(v1c(backbone), head).with_auxiliary(DecodeHeadConfig::auxiliary())
}

/// mmsegmentation's `ResNetV1c` with `contract_dilation`.
fn v1c(backbone: ResNetConfig) -> ResNetConfig {
    backbone
        .with_stem(Stem::DeepHalf(MaxPool::Padded))
        .with_dilation(Dilation::Stride8(FirstDilation::Previous))
}

/// The baseline of OCNet and of Table 6, without an auxiliary head.
///
/// OCNet's max pooling rounds sizes up. For images of 4n + 1 pixels per side, such as 769, that is the same.
#[must_use]
pub fn ocnet_baseline(backbone: ResNetConfig) -> SegmentationConfig {
    SegmentationConfig::new(deep(backbone), DecodeHeadConfig::plain())
        .with_alignment(Alignment::Corners)
}

/// Relation-aware attention of Table 6: the baseline with RGA-SC, whose output is concatenated with the
/// features, and an auxiliary head.
///
/// The paper brings the feature map to a fixed size by `RoIAlign`, because the weights of RGA fit one number
/// of positions. It does not say which size, which reduction ratios, and from which feature map. Our reading:
/// RGA works at `side` x `side` positions of the 512 channels before the classifier, with ratios of 8. Its
/// factors are resized to the feature map, which keeps its resolution. With a side of 32, it has 823,396
/// parameters.
#[must_use]
pub fn rga(backbone: ResNetConfig, side: usize) -> SegmentationConfig<(), FixedRgaConfig> {
    let size = [side, side];
    let attention = (
        ResizedConfig::new(size, RgaSpatialConfig::new()).with_pooling(FixedSize::RoiAlign),
        ResizedConfig::new(size, RgaChannelConfig::new()).with_pooling(FixedSize::RoiAlign),
    );
    let head = DecodeHeadConfig::plain().with_attention(attention);
    SegmentationConfig::new(deep(backbone), head)
        .with_auxiliary(DecodeHeadConfig::auxiliary())
        .with_alignment(Alignment::Corners)
}

fn deep(backbone: ResNetConfig) -> ResNetConfig {
    backbone
        .with_stem(Stem::Deep(MaxPool::Padded))
        .with_dilation(Dilation::Stride8(FirstDilation::Stage))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use reid_core::InputSize;
    use reid_nn::{Init, parameters};

    use super::*;

    #[test]
    fn parameter_counts_are_the_published_ones() {
        let (device, size) = (Device::default(), InputSize::new(713, 713));
        let init = Init::empty(&device);
        let backbone = ResNetConfig::resnet101;
        let model = deeplab_v3(backbone()).init(size, 21, &init);
        assert_eq!(parameters::count(&model), 60_996_202);
        let (stem, context, classifier, auxiliary) = (42_623_936, 4_198_400, 18_885_139, 2_364_691);
        let model = pspnet(backbone()).init(size, 19, &init);
        let expected = stem + context + classifier + auxiliary;
        assert_eq!(parameters::count(&model), expected);
        let plain = 9_447_955 + 512;
        let model = ocnet_baseline(backbone()).init(size, 19, &init);
        assert_eq!(parameters::count(&model), stem + plain);
        // The classifier has 512 more channels.
        let model = rga(backbone(), 32).init(size, 19, &init);
        let expected = stem + plain + 823_396 + 512 * 19 + auxiliary;
        assert_eq!(parameters::count(&model), expected);
        let backbone = ResNetConfig::resnet50;
        let model = mmseg_pspnet(backbone()).init(size, 19, &init);
        assert_eq!(parameters::count(&model), 48_975_494);
        let model = mmseg_deeplab_v3(backbone()).init(size, 19, &init);
        assert_eq!(parameters::count(&model), 68_113_030);
    }
}
