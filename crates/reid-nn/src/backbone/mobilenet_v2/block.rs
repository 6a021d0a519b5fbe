//! The inverted residual block (Sandler et al., CVPR 2018, arXiv:1801.04381).

use burn::{module::Module, tensor::Tensor};
use reid_core::{FeatureShape, Problems};
use reid_ops::Epilogue;
use serde::{Deserialize, Serialize};

use super::super::ConvNorm;
use crate::{
    block::{Block, BlockConfig},
    convolution,
    init::Init,
};

/// The largest number of channels; published networks have at most 1792.
pub(super) const MAX_CHANNELS: usize = 8192;

/// The largest expansion; published networks have 6.
const MAX_EXPANSION: usize = 64;

/// Configuration of [`InvertedResidual`], whose documentation has an example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvertedResidualConfig {
    /// The number of output channels, from 1 to 8192.
    pub channels: usize,
    /// The ratio of hidden channels to input channels, from 1 to 64; 6 in the paper. `None` omits the
    /// expansion, and the depthwise convolution has as many channels as the input.
    #[serde(deserialize_with = "Option::deserialize")]
    pub expansion: Option<usize>,
    /// The stride of the depthwise convolution, 1 or 2.
    pub stride: usize,
}

/// A residual block whose hidden layer is wider than its input and output.
///
/// ```text
/// h = relu6(bn(expand · x))                  [batch, expansion·channels, height, width]
/// d = relu6(bn(depthwise · h))               [batch, expansion·channels, height/stride, width/stride]
/// y = bn(project · d)  [+ x]                 [batch, channels', height/stride, width/stride]
/// ```
///
/// The input is added if it has the shape of the output. There is no activation after the projection.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Block, BlockConfig, Init, backbone::InvertedResidualConfig};
///
/// let config = InvertedResidualConfig { channels: 24, expansion: Some(6), stride: 2 };
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let block = config.init(FeatureShape::new(16, 8, 4), &init);
/// assert_eq!(block.forward(Tensor::ones([2, 16, 8, 4], &device)).dims(), [2, 24, 4, 2]);
/// ```
#[derive(Module, Debug)]
pub struct InvertedResidual {
    /// The 1 x 1 convolution to the hidden channels.
    pub expand: Option<ConvNorm>,
    /// The depthwise 3 x 3 convolution.
    pub depthwise: ConvNorm,
    /// The 1 x 1 convolution to the output channels, without activation.
    pub project: ConvNorm,
    /// Whether the input is added.
    #[module(skip)]
    pub residual: bool,
}

/// Computes `min(max(0, x), 6)` of a layer's output.
pub(super) fn relu6(layer: &ConvNorm, features: Tensor<4>) -> Tensor<4> {
    layer.apply(features, Epilogue::Relu).clamp_max(6.0)
}

impl BlockConfig for InvertedResidualConfig {
    type Block = InvertedResidual;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> InvertedResidual {
        Problems::refuse("an inverted residual block", |problems| {
            self.validate(input, problems);
        });
        let hidden = input.channels * self.expansion.unwrap_or(1);
        let depthwise = convolution::square([hidden; 2], 3, self.stride, hidden);
        let expand = || ConvNorm::pointwise(input.channels, hidden, init);
        InvertedResidual {
            expand: self.expansion.map(|_| expand()),
            depthwise: ConvNorm::new(&depthwise, init),
            project: ConvNorm::pointwise(hidden, self.channels, init),
            residual: self.stride == 1 && input.channels == self.channels,
        }
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        input
            .strided(3, self.stride, 1)
            .with_channels(self.channels)
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        problems.count("channels", self.channels, 1..=MAX_CHANNELS);
        problems.count("stride", self.stride, 1..=2);
        let expansion = self.expansion.unwrap_or(1);
        problems.count("expansion", expansion, 1..=MAX_EXPANSION);
        if self.channels <= MAX_CHANNELS && expansion <= MAX_EXPANSION {
            let hidden = input.channels.checked_mul(expansion);
            let widest = input.channels.max(self.channels);
            let count = hidden.and_then(|hidden| hidden.checked_mul(widest));
            problems.at("channels", |problems| problems.weights("a layer", count));
        }
    }
}

impl InvertedResidual {
    /// The parameters in evaluation mode; `None` if a convolution has another form.
    fn parts(&self) -> Option<reid_ops::InvertedResidual> {
        let layer = |layer: &ConvNorm, (kernel, stride, groups)| {
            let fits = convolution::is_square(&layer.conv, kernel, stride, groups);
            let affine = convolution::affine(&layer.conv, layer.bn.as_ref())?;
            fits.then(|| (layer.conv.weight.val(), affine))
        };
        let pointwise = (1, 1, 1);
        let expand = match &self.expand {
            Some(expand) => Some(layer(expand, pointwise)?),
            None => None,
        };
        let depthwise = &self.depthwise.conv;
        let ([hidden, ..], [stride, _]) = (depthwise.weight.val().dims(), depthwise.stride);
        Some(reid_ops::InvertedResidual {
            expand,
            depthwise: layer(&self.depthwise, (3, stride, hidden))?,
            project: layer(&self.project, pointwise)?,
            stride,
            residual: self.residual,
        })
    }
}

impl Block for InvertedResidual {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        let output = reid_ops::inverted_residual(&features, || self.parts());
        output.unwrap_or_else(|| self.in_layers(features))
    }

    fn fold_batch_norm(self) -> Self {
        Self {
            expand: self.expand.map(ConvNorm::folded),
            depthwise: self.depthwise.folded(),
            project: self.project.folded(),
            residual: self.residual,
        }
    }
}

impl InvertedResidual {
    /// The block as a sequence of layers.
    fn in_layers(&self, features: Tensor<4>) -> Tensor<4> {
        let hidden = match &self.expand {
            Some(expand) => relu6(expand, features.clone()),
            None => features.clone(),
        };
        let hidden = relu6(&self.depthwise, hidden);
        let output = self.project.apply(hidden, Epilogue::None);
        if self.residual {
            output + features
        } else {
            output
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::fixtures;

    /// The input is added if and only if neither the stride nor the channels change.
    #[test]
    fn the_input_is_added_if_it_has_the_shape_of_the_output() {
        let device = Device::default();
        let input = FeatureShape::new(4, 4, 2);
        for (channels, stride, added) in [(4, 1, true), (4, 2, false), (6, 1, false)] {
            let config = InvertedResidualConfig {
                channels,
                expansion: Some(2),
                stride,
            };
            let mut block = config.init(input, &fixtures::init(&device));
            let features = fixtures::tensor([1, 4, 4, 2], 1.0..2.0, &device);
            // With a projection of zeros, only the input is left.
            block.project.conv.weight = block.project.conv.weight.map(|weight| weight.zeros_like());
            let output = block.forward(features.clone());
            let sum = output.abs().sum().into_scalar::<f32>();
            let expected = if added {
                features.sum().into_scalar()
            } else {
                0.0
            };
            assert!((sum - expected).abs() < 1e-4, "{config:?}: {sum}");
        }
    }

    /// With running statistics of a training step, and with these folded into the weights.
    #[test]
    fn one_operation_equals_the_layers() {
        let (device, input) = (Device::default(), FeatureShape::new(8, 9, 6));
        for (channels, expansion, stride) in [(8, Some(6), 1), (5, Some(3), 2), (4, None, 1)] {
            let config = InvertedResidualConfig {
                channels,
                expansion,
                stride,
            };
            let trained = device.clone().autodiff();
            let block = fixtures::weights(config.init(input, &fixtures::init(&trained)));
            let _ = block.forward(fixtures::tensor([4, 8, 9, 6], -1.0..3.0, &trained));
            let block = block.valid();
            let features = fixtures::tensor([3, 8, 9, 6], -1.0..2.0, &device);
            for block in [block.clone(), block.fold_batch_norm()] {
                let expected = block.in_layers(features.clone());
                #[cfg(feature = "native")]
                assert!(block.parts().is_some(), "{config:?}");
                let off = (block.forward(features.clone()) - expected.clone()).abs();
                let (off, largest) = (off.max(), expected.abs().max());
                let [off, largest] = [off, largest].map(Tensor::into_scalar::<f32>);
                assert!(off < 1e-5 * largest, "{config:?}: {off} of {largest}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "expansion: expected 1 to 64, found 0")]
    fn an_expansion_of_0_panics() {
        let config = InvertedResidualConfig {
            channels: 4,
            expansion: Some(0),
            stride: 1,
        };
        let input = FeatureShape::new(4, 4, 2);
        let _ = config.init(input, &fixtures::init(&Device::default()));
    }
}
