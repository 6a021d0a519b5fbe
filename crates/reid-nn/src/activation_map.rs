//! Activation maps: the strength of a feature map at each position (Zagoruyko and Komodakis, ICLR 2017,
//! arXiv:1612.03928).

use burn::tensor::Tensor;
use reid_core::HeatMap;

use crate::heat_map::heat_maps;

/// Computes the mean square over channels at each position, independently of any class or loss.
///
/// ```text
/// m = mean_c(x²)        [height, width], one per image
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::activation_map::activation_maps;
///
/// let features = Tensor::<4>::from_data([[[[1.0, 2.0]], [[3.0, 0.0]]]], &Device::default());
/// let maps = activation_maps(features); // (1 + 9)/2 and (4 + 0)/2
/// assert_eq!(maps[0].values(), [5.0, 2.0]);
/// ```
///
/// # Why the borders are bright
///
/// Such a map shows strength, and not importance. In networks with zero padding, the borders and most of all
/// the corners are bright, whatever the image shows (Alsallakh et al., *Mind the Pad*, ICLR 2021,
/// arXiv:2010.02178):
///
/// - After a `ReLU`, the mean of a feature map is above 0. A 3 x 3 convolution therefore sees an edge where
///   the padding of 0 begins. Most of this response is the same for every image, and an image of one colour
///   has it too.
/// - The batch normalisations after convolutions shift by one value per channel, that of the mean over all
///   positions. They cannot remove a response at some of the positions.
/// - Training does not remove it either. A neck subtracts the mean over images after pooling, and distances
///   between embeddings do not depend on what all embeddings have in common.
///
/// [`centred_activation_maps`] subtracts this response. To see what matters, use
/// [Grad-CAM](crate::grad_cam) or a [similarity map](crate::similarity_map).
///
/// # Shapes
/// - `features`: `[batch, channels, height, width]`
///
/// # Panics
/// If a feature is infinite or NaN.
#[must_use]
pub fn activation_maps(features: Tensor<4>) -> Vec<HeatMap> {
    heat_maps(features.square().mean_dim(1).squeeze_dim(1))
}

/// Computes the mean square over channels of the difference from other images at each position.
///
/// ```text
/// m = mean_c((x - x̄)²)      x̄ = the mean over the reference images at each position
/// ```
///
/// The part that all images have in common, such as the response to padding, is 0. The embeddings of two
/// images after average pooling differ only by the rest: `mean_hw(x) - mean_hw(x')` is the same with and
/// without `x̄`.
///
/// Suitable references are some dozens of images of the training set or of the gallery. If they always show
/// an object at the same position, so that its mean is subtracted too, the map shows what distinguishes one
/// from the others. A single image of one colour as the reference removes only the response to the padding.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::activation_map::centred_activation_maps;
///
/// let device = Device::default();
/// let features = Tensor::<4>::from_data([[[[5.0, 2.0]], [[3.0, 0.0]]]], &device);
/// let one = [[[4.0, 0.0]], [[3.0, 0.0]]];
/// let other = [[[6.0, 0.0]], [[3.0, 0.0]]];
/// let reference = Tensor::<4>::from_data([one, other], &device); // means 5 and 0, 3 and 0
/// let maps = centred_activation_maps(features, reference);
/// assert_eq!(maps[0].values(), [0.0, 2.0]);
/// ```
///
/// # Shapes
/// - `features`: `[batch, channels, height, width]`
/// - `reference`: `[images, channels, height, width]`, at least one image
///
/// # Panics
/// If the reference has another number of channels, or another height or width, or no image. Also if a
/// feature is infinite or NaN.
#[must_use]
pub fn centred_activation_maps(features: Tensor<4>, reference: Tensor<4>) -> Vec<HeatMap> {
    let ([_, shape @ ..], [images, found @ ..]) = (features.dims(), reference.dims());
    assert!(
        images > 0 && shape == found,
        "a centred activation map needs reference images of shape {shape:?}, found {images} of {found:?}"
    );
    activation_maps(features - reference.mean_dim(0))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use reid_core::InputSize;

    use super::*;
    use crate::{
        Block, BlockConfig,
        backbone::{ResNetConfig, Stem},
        fixtures,
    };

    #[test]
    fn the_response_to_padding_is_in_the_map_and_not_in_the_centred_one() {
        let device = Device::default();
        let image = InputSize::new(64, 32).rgb();
        let backbone = ResNetConfig::resnet18().with_width(4).with_last_stride(1);
        let backbone = backbone.with_stem(Stem::Small);
        let backbone = backbone.init(image, &fixtures::init(&device));
        // An image of one colour has no edges but those of the padding.
        let features = backbone.forward(Tensor::full([1, 3, 64, 32], 0.5, &device));
        let map = activation_maps(features.clone()).remove(0);
        let values = map.values().iter().copied();
        let (low, high) = (values.clone().reduce(f32::min), values.reduce(f32::max));
        assert!(high > low.map(|low| 2.0 * low), "{low:?} to {high:?}");
        let centred = centred_activation_maps(features.clone(), features);
        assert!(centred[0].values().iter().all(|&value| value == 0.0));
    }

    #[test]
    #[should_panic(expected = "reference images of shape [2, 1, 2], found 1 of [2, 1, 1]")]
    fn a_reference_of_another_size_panics() {
        let device = Device::default();
        let features = Tensor::ones([1, 2, 1, 2], &device);
        let _ = centred_activation_maps(features, Tensor::ones([1, 2, 1, 1], &device));
    }
}
