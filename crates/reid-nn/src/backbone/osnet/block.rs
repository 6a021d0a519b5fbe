//! The omni-scale residual block (Zhou et al., ICCV 2019, arXiv:1905.00953).

use std::slice;

use burn::{
    module::{Module, Param},
    nn::conv::Conv2d,
    tensor::Tensor,
};
use reid_core::{FeatureShape, Problems};
use reid_ops::{ChannelGate, Epilogue, LightConvolution};
use serde::{Deserialize, Serialize};

use super::super::ConvNorm;
use crate::{
    attention::SqueezeExcitation,
    block::{Block, BlockConfig},
    convolution,
    init::Init,
    norm::{BatchNorm, BatchNormConfig, InstanceNorm, InstanceNormConfig},
};

/// The ratio of the channels of a block to those of its streams.
const BOTTLENECK: usize = 4;

/// The ratio of the channels of a stream to the hidden units of the gate.
const GATE_REDUCTION: usize = 16;

/// The largest number of channels; published networks have at most 512.
pub(super) const MAX_CHANNELS: usize = 4096;

/// Where an omni-scale block uses instance normalisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OsInstanceNorm {
    /// No instance normalisation.
    #[default]
    None,
    /// On the sum of residual and shortcut, before the last ReLU, as in OSNet-IBN.
    Sum,
    /// On the residual before the addition, instead of its batch normalisation, as in OSNet-AIN.
    Residual,
}

/// Configuration of [`OsBlock`], whose documentation has an example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OsBlockConfig {
    /// The number of output channels, a multiple of 4, at most 4096. The streams have a quarter of them.
    pub channels: usize,
    /// Where instance normalisation is used.
    #[serde(default)]
    pub instance: OsInstanceNorm,
}

/// Four streams with receptive fields of 3 to 9 pixels, of which a shared gate selects channels.
///
/// ```text
/// h  = relu(bn(conv₁ · x))                                  [batch, channels/4, height, width]
/// hₜ = lightᵗ(h)              t light convolutions          t = 1 … 4
/// F  = bn(conv₃ · Σₜ hₜ ⊙ gate(hₜ))                         [batch, channels, height, width]
/// y  = relu(F + shortcut(x))
/// ```
///
/// The gate is a squeeze-and-excitation with a reduction of 16 (§3.2 of the paper). All four streams share its
/// weights. The fields are named as in torchreid.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Block, BlockConfig, Init, backbone::{OsBlockConfig, OsInstanceNorm}};
///
/// let config = OsBlockConfig { channels: 32, instance: OsInstanceNorm::None };
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let block = config.init(FeatureShape::new(16, 8, 4), &init);
/// assert_eq!(block.forward(Tensor::ones([2, 16, 8, 4], &device)).dims(), [2, 32, 8, 4]);
/// ```
#[derive(Module, Debug)]
pub struct OsBlock {
    /// The 1 x 1 convolution to a quarter of the channels.
    pub conv1: ConvNorm,
    /// The stream of one light convolution.
    pub conv2a: LightConv,
    /// The stream of two light convolutions.
    pub conv2b: Vec<LightConv>,
    /// The stream of three light convolutions.
    pub conv2c: Vec<LightConv>,
    /// The stream of four light convolutions.
    pub conv2d: Vec<LightConv>,
    /// The gate, which the streams share.
    pub gate: SqueezeExcitation,
    /// The 1 x 1 convolution of the gated sum, without ReLU.
    pub conv3: ConvNorm,
    /// The 1 x 1 convolution of the shortcut, if the numbers of input and output channels differ.
    pub downsample: Option<ConvNorm>,
    /// Instance normalisation of the residual in OSNet-AIN; `conv3` then has no batch normalisation.
    pub in_residual: Option<InstanceNorm>,
    /// Instance normalisation after the addition in OSNet-IBN.
    pub in_sum: Option<InstanceNorm>,
}

/// A light convolution: a 1 x 1 convolution without activation, then a depthwise 3 x 3 convolution.
///
/// ```text
/// y = relu(bn(conv₂ · conv₁ · x))        [batch, channels, height, width]
/// ```
///
/// An [`OsBlock`], which has an example, builds it.
#[derive(Module, Debug)]
pub struct LightConv {
    /// The 1 x 1 convolution.
    pub conv1: Conv2d,
    /// The depthwise convolution.
    pub conv2: Conv2d,
    /// Batch normalisation after `conv2`; absent when [folded](Block::fold_batch_norm).
    pub bn: Option<BatchNorm>,
}

impl LightConv {
    fn new(channels: usize, init: &Init<'_>) -> Self {
        let square = |kernel, groups| convolution::square([channels; 2], kernel, 1, groups);
        Self {
            conv1: init.conv2d(&square(1, 1)),
            conv2: init.conv2d(&square(3, channels)),
            bn: Some(BatchNormConfig::new(channels).init(init.device())),
        }
    }
}

impl Block for LightConv {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        let hidden = convolution::apply(&self.conv1, features);
        convolution::normalised(&self.conv2, self.bn.as_ref(), hidden, Epilogue::Relu)
    }

    fn fold_batch_norm(self) -> Self {
        let (conv2, bn) = convolution::fold_if(self.conv2, self.bn);
        Self { conv2, bn, ..self }
    }
}

impl LightConv {
    /// The parameters of a light convolution in evaluation mode; `None` if a convolution has another form.
    fn parts(&self) -> Option<LightConvolution> {
        let Self { conv1, conv2, bn } = self;
        let [channels, ..] = conv2.weight.val().dims();
        let fits = conv1.bias.is_none()
            && convolution::is_square(conv1, 1, 1, 1)
            && convolution::is_square(conv2, 3, 1, channels);
        let affine = convolution::affine(conv2, bn.as_ref())?;
        fits.then(|| LightConvolution {
            pointwise: conv1.weight.val(),
            depthwise: conv2.weight.val(),
            affine,
        })
    }
}

impl BlockConfig for OsBlockConfig {
    type Block = OsBlock;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> OsBlock {
        Problems::refuse("an omni-scale block", |problems| {
            self.validate(input, problems);
        });
        let (from, to) = (input.channels, self.channels);
        let hidden = to / BOTTLENECK;
        let stream = |depth| (0..depth).map(|_| LightConv::new(hidden, init)).collect();
        let instance = |wanted| {
            let norm = || InstanceNormConfig::new(to).init(init.device());
            (self.instance == wanted).then(norm)
        };
        let conv1 = ConvNorm::pointwise(from, hidden, init);
        let conv2a = LightConv::new(hidden, init);
        let mut conv3 = ConvNorm::pointwise(hidden, to, init);
        if self.instance == OsInstanceNorm::Residual {
            conv3.bn = None;
        }
        OsBlock {
            conv1,
            conv2a,
            conv2b: stream(2),
            conv2c: stream(3),
            conv2d: stream(4),
            gate: gate(hidden, init),
            conv3,
            downsample: (from != to).then(|| ConvNorm::pointwise(from, to, init)),
            in_residual: instance(OsInstanceNorm::Residual),
            in_sum: instance(OsInstanceNorm::Sum),
        }
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        input.with_channels(self.channels)
    }

    fn validate(&self, _input: FeatureShape, problems: &mut Problems) {
        validate_channels("channels", self.channels, problems);
    }
}

/// Adds a problem for a number of channels that is out of range or cannot be divided among the streams.
pub(super) fn validate_channels(field: &str, channels: usize, problems: &mut Problems) {
    let holds = channels.is_multiple_of(BOTTLENECK) && (1..=MAX_CHANNELS).contains(&channels);
    let expected = format_args!("a multiple of {BOTTLENECK} from {BOTTLENECK} to {MAX_CHANNELS}");
    problems.require(field, holds, expected, channels);
}

/// Estimates the number of weights of a block, in floating point because it may be large.
pub(super) fn weights(from: usize, to: usize) -> f64 {
    let (from, to) = (from as f64, to as f64);
    let hidden = to / BOTTLENECK as f64;
    from * hidden + 10.0 * hidden * (hidden + 9.0) + hidden * to + from * to
}

/// Builds the gate with the initial weights of the other convolutions and biases of 0, as in the authors'
/// code.
fn gate(channels: usize, init: &Init<'_>) -> SqueezeExcitation {
    let hidden = (channels / GATE_REDUCTION).max(1);
    let layer = |from, to| {
        let mut conv = init.conv2d(&convolution::square([from, to], 1, 1, 1));
        conv.bias = Some(Param::from_tensor(Tensor::zeros([to], init.device())));
        conv
    };
    SqueezeExcitation {
        fc1: layer(channels, hidden),
        fc2: layer(hidden, channels),
    }
}

impl OsBlock {
    /// The parameters of the streams and of their gate in evaluation mode; `None` if a part has another form.
    fn parts(&self) -> Option<(Vec<Vec<LightConvolution>>, ChannelGate)> {
        let first = slice::from_ref(&self.conv2a);
        let streams = [first, &self.conv2b, &self.conv2c, &self.conv2d];
        let stream = |lights: &[LightConv]| lights.iter().map(LightConv::parts).collect();
        let SqueezeExcitation { fc1, fc2 } = &self.gate;
        let gate = ChannelGate {
            weights: [fc1.weight.val(), fc2.weight.val()],
            biases: [fc1.bias.as_ref()?.val(), fc2.bias.as_ref()?.val()],
        };
        let streams = streams.into_iter().map(stream).collect::<Option<_>>()?;
        Some((streams, gate))
    }

    /// The sum of the gated streams as a sequence of operations.
    fn gated_sum(&self, hidden: &Tensor<4>) -> Tensor<4> {
        let mut sum = self.gate.forward(self.conv2a.forward(hidden.clone()));
        for stream in [&self.conv2b, &self.conv2c, &self.conv2d] {
            sum = sum + self.gate.forward(stream.forward(hidden.clone()));
        }
        sum
    }
}

impl Block for OsBlock {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.apply(features.clone(), Epilogue::None),
            None => features.clone(),
        };
        let hidden = self.conv1.apply(features, Epilogue::Relu);
        let sum = reid_ops::omni_scale(&hidden, || self.parts());
        let sum = sum.unwrap_or_else(|| self.gated_sum(&hidden));
        if let Some(norm) = &self.in_sum {
            return norm.forward_relu(self.conv3.apply(sum, Epilogue::None) + shortcut);
        }
        let epilogue = Epilogue::AddRelu(shortcut);
        match &self.in_residual {
            Some(norm) => epilogue.apply(norm.forward(self.conv3.apply(sum, Epilogue::None))),
            None => self.conv3.apply(sum, epilogue),
        }
    }

    fn fold_batch_norm(self) -> Self {
        Self {
            conv1: self.conv1.folded(),
            conv2a: self.conv2a.fold_batch_norm(),
            conv2b: self.conv2b.fold_batch_norm(),
            conv2c: self.conv2c.fold_batch_norm(),
            conv2d: self.conv2d.fold_batch_norm(),
            gate: self.gate,
            conv3: self.conv3.folded(),
            downsample: self.downsample.map(ConvNorm::folded),
            in_residual: self.in_residual,
            in_sum: self.in_sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{fixtures, parameters};

    #[test]
    fn the_size_is_as_counted_by_hand() {
        let device = Device::default();
        let config = OsBlockConfig {
            channels: 64,
            instance: OsInstanceNorm::None,
        };
        let block = config.init(FeatureShape::new(16, 4, 2), &fixtures::init(&device));
        // conv1 16·16 + 2·16; ten light convolutions of 16·16 + 9·16 + 2·16; the gate 16 + 1 + 16 + 16;
        // conv3 16·64 + 2·64; downsample 16·64 + 2·64.
        let expected = 288 + 10 * 432 + 49 + 1152 + 1152;
        assert_eq!(parameters::count(&block), expected);
    }

    /// With running statistics of a training step, and with these folded into the weights.
    #[test]
    fn streams_in_one_operation_equal_those_in_many() {
        let config = OsBlockConfig {
            channels: 64,
            instance: OsInstanceNorm::None,
        };
        let (device, input) = (Device::default(), FeatureShape::new(12, 9, 6));
        let trained = device.clone().autodiff();
        let block = fixtures::weights(config.init(input, &fixtures::init(&trained)));
        let _ = block.forward(fixtures::tensor([4, 12, 9, 6], -1.0..3.0, &trained));
        let block = block.valid();
        let hidden = fixtures::tensor([3, 16, 9, 6], -1.0..2.0, &device);
        for block in [block.clone(), block.fold_batch_norm()] {
            let expected = block.gated_sum(&hidden);
            let found = reid_ops::omni_scale(&hidden, || block.parts());
            #[cfg(feature = "native")]
            assert!(found.is_some());
            let off = (found.unwrap_or_else(|| expected.clone()) - expected.clone()).abs();
            let (off, largest) = (off.max(), expected.abs().max());
            let [off, largest] = [off, largest].map(Tensor::into_scalar::<f32>);
            assert!(off < 1e-5 * largest, "{off} of {largest}");
        }
    }

    #[test]
    #[should_panic(expected = "channels: expected a multiple of 4 from 4 to 4096, found 6")]
    fn channels_that_four_does_not_divide_panic() {
        let config = OsBlockConfig {
            channels: 6,
            instance: OsInstanceNorm::None,
        };
        let _ = config.init(
            FeatureShape::new(16, 4, 2),
            &fixtures::init(&Device::default()),
        );
    }
}
