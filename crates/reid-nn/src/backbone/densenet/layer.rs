//! The layer and the transition of a `DenseNet` (Huang et al., CVPR 2017, arXiv:1608.06993).

use std::ops::Range;

use burn::{module::Module, nn::conv::Conv2d, tensor::Tensor};
use reid_core::{FeatureShape, Problems, Seed};
use reid_ops::Epilogue;
use serde::{Deserialize, Serialize};

use crate::{
    block::{Block, BlockConfig},
    convolution,
    dropout::Dropout,
    init::Init,
    norm::{BatchNorm, BatchNormConfig},
};

/// The largest growth, and the largest number of channels of the stem; published networks have at most 96.
pub(super) const MAX_CHANNELS: usize = 4096;

/// The largest bottleneck; published networks have 4.
const MAX_BOTTLENECK: usize = 64;

/// The range of a dropout rate.
const RATES: Range<f64> = 0.0..1.0;

/// Configuration of [`DenseLayer`], whose documentation has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenseLayerConfig {
    /// The number of new channels k, from 1 to 4096; 12 in the paper's networks for CIFAR.
    pub growth: usize,
    /// The ratio of hidden channels to new channels, from 1 to 64; 4 in the paper. `None` omits the 1 x 1
    /// convolution.
    #[serde(deserialize_with = "Option::deserialize")]
    pub bottleneck: Option<usize>,
    /// The rate of the dropout after each convolution in training, in `[0, 1)`; 0.2 in the paper for training
    /// without augmentation, and otherwise 0.
    pub dropout: f64,
}

/// A layer that appends new channels to its input.
///
/// ```text
/// plain        y = [x, conv1 · relu(norm1(x))]                            3 x 3
/// bottleneck   y = [x, conv2 · relu(norm2(conv1 · relu(norm1(x))))]       1 x 1, 3 x 3
///              [batch, channels + growth, height, width]
/// ```
///
/// In training, dropout follows each convolution. The fields are named as in torchvision.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Block, BlockConfig, Init, backbone::DenseLayerConfig};
///
/// let config = DenseLayerConfig { growth: 12, bottleneck: Some(4), dropout: 0.0 };
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let layer = config.init(FeatureShape::new(24, 8, 8), &init);
/// assert_eq!(layer.forward(Tensor::ones([2, 24, 8, 8], &device)).dims(), [2, 36, 8, 8]);
/// ```
#[derive(Module, Debug)]
pub struct DenseLayer {
    /// The normalisation of the input.
    pub norm1: BatchNorm,
    /// The first convolution; it has a bias only when `norm2` is folded into it.
    pub conv1: Conv2d,
    /// The normalisation after the first convolution of a bottleneck; absent when
    /// [folded](Block::fold_batch_norm).
    pub norm2: Option<BatchNorm>,
    /// The second convolution of a bottleneck.
    pub conv2: Option<Conv2d>,
    /// The rate of the dropout in training, in `[0, 1)`.
    #[module(skip)]
    pub dropout: f64,
}

impl BlockConfig for DenseLayerConfig {
    type Block = DenseLayer;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> DenseLayer {
        Problems::refuse("a dense layer", |problems| self.validate(input, problems));
        let (from, growth) = (input.channels, self.growth);
        let norm = |channels| BatchNormConfig::new(channels).init(init.device());
        let conv = |from, to, kernel| init.conv2d(&convolution::square([from, to], kernel, 1, 1));
        let (conv1, norm2, conv2) = match self.bottleneck {
            None => (conv(from, growth, 3), None, None),
            Some(bottleneck) => {
                let hidden = bottleneck * growth;
                let first = conv(from, hidden, 1);
                (first, Some(norm(hidden)), Some(conv(hidden, growth, 3)))
            }
        };
        DenseLayer {
            norm1: norm(from),
            conv1,
            norm2,
            conv2,
            dropout: self.dropout,
        }
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        input.with_channels(input.channels + self.growth)
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        problems.count("growth", self.growth, 1..=MAX_CHANNELS);
        let bottleneck = self.bottleneck.unwrap_or(1);
        problems.count("bottleneck", bottleneck, 1..=MAX_BOTTLENECK);
        problems.number("dropout", self.dropout, RATES);
        if self.growth <= MAX_CHANNELS && bottleneck <= MAX_BOTTLENECK {
            let count = self.weights(input.channels);
            problems.at("growth", |problems| problems.weights("a layer", count));
        }
    }
}

impl DenseLayerConfig {
    /// The number of weights of the largest convolution; `None` if it does not fit.
    pub(super) fn weights(&self, channels: usize) -> Option<usize> {
        let plain = channels.checked_mul(9)?.checked_mul(self.growth)?;
        let Some(bottleneck) = self.bottleneck else {
            return Some(plain);
        };
        let hidden = bottleneck.checked_mul(self.growth)?;
        let [first, second] = [channels, 9 * self.growth].map(|other| hidden.checked_mul(other));
        Some(first?.max(second?))
    }
}

impl DenseLayer {
    /// Computes the layer; with dropout if there is a seed.
    fn extend(&self, features: Tensor<4>, seed: Option<Seed>) -> Tensor<4> {
        let drop = |new: Tensor<4>, index| match seed {
            Some(seed) => Dropout::values(self.dropout).apply(new, seed.at(index)),
            None => new,
        };
        let hidden = self.norm1.forward_relu(features.clone());
        let new = match &self.conv2 {
            None => convolution::apply(&self.conv1, hidden),
            Some(conv2) => {
                let norm2 = self.norm2.as_ref();
                let hidden = match (seed, norm2) {
                    // Dropout is between the convolution and its normalisation.
                    (Some(_), Some(norm2)) if self.dropout > 0.0 => {
                        norm2.forward_relu(drop(convolution::apply(&self.conv1, hidden), 0))
                    }
                    _ => convolution::normalised(&self.conv1, norm2, hidden, Epilogue::Relu),
                };
                convolution::apply(conv2, hidden)
            }
        };
        Tensor::cat(vec![features, drop(new, 1)], 1)
    }
}

impl Block for DenseLayer {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        self.extend(features, None)
    }

    fn forward_train(&self, features: Tensor<4>, seed: Seed) -> Tensor<4> {
        self.extend(features, Some(seed))
    }

    fn fold_batch_norm(self) -> Self {
        // `norm1` comes before ReLU and a convolution, so it cannot be folded.
        let (conv1, norm2) = convolution::fold_if(self.conv1, self.norm2);
        Self {
            norm1: self.norm1,
            conv1,
            norm2,
            conv2: self.conv2,
            dropout: self.dropout,
        }
    }
}

/// The layers between two dense blocks.
///
/// ```text
/// y = avgpool₂(conv · relu(norm(x)))       1 x 1       [batch, channels', height/2, width/2]
/// ```
///
/// An odd last row or column is dropped. In training, dropout follows the convolution. A
/// [`DenseNet`](super::DenseNet), which has an example, builds it.
#[derive(Module, Debug)]
pub struct Transition {
    /// The normalisation of the input.
    pub norm: BatchNorm,
    /// The 1 x 1 convolution.
    pub conv: Conv2d,
    /// The rate of the dropout in training, in `[0, 1)`.
    #[module(skip)]
    pub dropout: f64,
}

impl Transition {
    pub(super) fn new([from, to]: [usize; 2], dropout: f64, init: &Init<'_>) -> Self {
        Self {
            norm: BatchNormConfig::new(from).init(init.device()),
            conv: init.conv2d(&convolution::square([from, to], 1, 1, 1)),
            dropout,
        }
    }
}

impl Block for Transition {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        let features = convolution::apply(&self.conv, self.norm.forward_relu(features));
        halved(features)
    }

    fn forward_train(&self, features: Tensor<4>, seed: Seed) -> Tensor<4> {
        let features = convolution::apply(&self.conv, self.norm.forward_relu(features));
        halved(Dropout::values(self.dropout).apply(features, seed))
    }
}

/// Averages each 2 x 2 window.
fn halved(features: Tensor<4>) -> Tensor<4> {
    reid_ops::window_avg_pool2d(features, [2, 2])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, s};

    use super::*;
    use crate::fixtures;

    const INPUT: FeatureShape = FeatureShape::new(4, 6, 5);

    fn config(bottleneck: Option<usize>, dropout: f64) -> DenseLayerConfig {
        DenseLayerConfig {
            growth: 3,
            bottleneck,
            dropout,
        }
    }

    fn data(tensor: Tensor<4>) -> Vec<f32> {
        tensor.into_data().try_to_vec().expect("f32 values")
    }

    #[test]
    fn the_input_comes_first_and_is_unchanged() {
        let device = Device::default();
        let features = fixtures::tensor([2, 4, 6, 5], -1.0..1.0, &device);
        for bottleneck in [None, Some(2)] {
            let layer = config(bottleneck, 0.0).init(INPUT, &fixtures::init(&device));
            let output = layer.forward(features.clone());
            assert_eq!(output.dims(), [2, 7, 6, 5]);
            assert_eq!(data(output.slice(s![.., ..4])), data(features.clone()));
        }
    }

    #[test]
    fn dropout_applies_in_training_only_and_to_new_channels_only() {
        let device = Device::default();
        let features = fixtures::tensor([2, 4, 6, 5], -1.0..1.0, &device);
        for bottleneck in [None, Some(2)] {
            let layer = config(bottleneck, 0.5).init(INPUT, &fixtures::init(&device));
            let evaluated = data(layer.forward(features.clone()));
            let train = |seed| layer.forward_train(features.clone(), Seed::new(seed));
            assert_ne!(data(train(1)), evaluated);
            assert_ne!(data(train(1)), data(train(2)));
            assert_eq!(data(train(1)), data(train(1)));
            assert_eq!(data(train(1).slice(s![.., ..4])), data(features.clone()));
            let zeros = data(train(1).slice(s![.., 4..]));
            let zeros = zeros.iter().filter(|&&value| value == 0.0).count();
            assert!((50..=130).contains(&zeros), "{zeros} of 180");
            let without = config(bottleneck, 0.0).init(INPUT, &fixtures::init(&device));
            assert_eq!(
                data(without.forward_train(features.clone(), Seed::new(1))),
                evaluated
            );
        }
    }

    #[test]
    fn a_transition_drops_values_before_it_averages_them() {
        let device = Device::default();
        let transition = Transition::new([4, 2], 0.5, &fixtures::init(&device));
        let features = fixtures::tensor([1, 4, 5, 6], -1.0..1.0, &device);
        let evaluated = transition.forward(features.clone());
        assert_eq!(evaluated.dims(), [1, 2, 2, 3]);
        let trained = transition.forward_train(features, Seed::new(1));
        assert_ne!(data(trained), data(evaluated));
    }

    #[test]
    #[should_panic(expected = "dropout: expected at least 0 and below 1, found 1")]
    fn a_dropout_of_1_panics() {
        let _ = config(None, 1.0).init(INPUT, &fixtures::init(&Device::default()));
    }
}
