//! `PyramidPooling`: averages of a feature map over grids of several sizes (Zhao et al., Pyramid Scene
//! Parsing Network, CVPR 2017, arXiv:1612.01105).

use burn::{
    module::Module,
    tensor::{Tensor, module::adaptive_avg_pool2d},
};
use reid_core::{FeatureShape, Problems};
use reid_ops::Epilogue;
use serde::{Deserialize, Serialize};

use super::{convolution, validate_channels};
use crate::{
    backbone::ConvNorm,
    block::{Block, BlockConfig},
    init::Init,
    resample::{self, Alignment},
};

/// Configuration of [`PyramidPooling`], whose documentation has an example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PyramidPoolingConfig {
    /// The side of each grid, from 1 to 64; 1, 2, 3 and 6 in the paper.
    pub bins: Vec<usize>,
    /// The channels of each grid after its convolution, from 1 to 65536; by default those of the feature map
    /// divided by the number of grids, as in the paper.
    pub channels: Option<usize>,
    /// How the grids are resized to the feature map; aligned corners in semseg, edges in mmseg.
    pub alignment: Alignment,
}

impl PyramidPoolingConfig {
    /// The grids of the paper, with the alignment of semseg.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bins: vec![1, 2, 3, 6],
            channels: None,
            alignment: Alignment::Corners,
        }
    }

    /// Sets the side of each grid.
    #[must_use]
    pub fn with_bins(mut self, bins: Vec<usize>) -> Self {
        self.bins = bins;
        self
    }

    /// Sets the channels of each grid after its convolution.
    #[must_use]
    pub fn with_channels(mut self, channels: usize) -> Self {
        self.channels = Some(channels);
        self
    }

    /// Sets how the grids are resized to the feature map.
    #[must_use]
    pub fn with_alignment(mut self, alignment: Alignment) -> Self {
        self.alignment = alignment;
        self
    }

    fn channels(&self, input: FeatureShape) -> usize {
        self.channels
            .unwrap_or_else(|| (input.channels / self.bins.len().max(1)).max(1))
    }
}

impl Default for PyramidPoolingConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// Appends averages over grids of several sizes to a feature map (PPM).
///
/// ```text
/// pᵢ = relu(BN(Wᵢ · average of x over a grid of bᵢ x bᵢ))     [batch, channels, bᵢ, bᵢ]
/// y = [x, p₁, p₂, …], resized bilinearly to the size of x
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Block, BlockConfig, Init, segmentation::PyramidPoolingConfig};
///
/// let (device, input) = (Device::default(), FeatureShape::new(16, 9, 12));
/// let context = PyramidPoolingConfig::new().init(input, &Init::new(Seed::new(1), &device));
/// let features = context.forward(Tensor::ones([1, 16, 9, 12], &device));
/// assert_eq!(features.dims(), [1, 32, 9, 12]);
/// ```
#[derive(Module, Debug)]
pub struct PyramidPooling {
    /// The convolution of each grid.
    pub features: Vec<ConvNorm>,
    /// The side of each grid.
    #[module(skip)]
    pub bins: Vec<usize>,
    /// How the grids are resized to the feature map.
    #[module(skip)]
    pub alignment: Alignment,
}

impl BlockConfig for PyramidPoolingConfig {
    type Block = PyramidPooling;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> PyramidPooling {
        Problems::refuse("PyramidPooling", |problems| self.validate(input, problems));
        let config = convolution([input.channels, self.channels(input)], 1, 1);
        let layers = (0..self.bins.len()).map(|index| ConvNorm::new(&config, &init.at(index)));
        PyramidPooling {
            features: layers.collect(),
            bins: self.bins.clone(),
            alignment: self.alignment,
        }
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        input.with_channels(input.channels + self.bins.len() * self.channels(input))
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        let holds = (1..=16).contains(&self.bins.len());
        problems.require("bins", holds, "1 to 16 grids", self.bins.len());
        problems.at("bins", |problems| {
            for (index, &bins) in self.bins.iter().enumerate() {
                problems.count(&format!("[{index}]"), bins, 1..=64);
            }
        });
        validate_channels(input.channels, self.channels(input), 1, problems);
    }
}

impl Block for PyramidPooling {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = features.dims();
        let grids = self.features.iter().zip(&self.bins);
        let grids = grids.map(|(layer, &bins)| {
            let pooled = adaptive_avg_pool2d(features.clone(), [bins, bins]);
            let grid = layer.apply(pooled, Epilogue::Relu);
            resample::bilinear(grid, [height, width], self.alignment)
        });
        Tensor::cat([features.clone()].into_iter().chain(grids).collect(), 1)
    }

    fn fold_batch_norm(self) -> Self {
        let features = self.features.into_iter().map(ConvNorm::folded).collect();
        Self { features, ..self }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{fixtures, parameters};

    #[test]
    fn the_parameter_count_is_that_of_pspnet() {
        let (device, input) = (Device::default(), FeatureShape::new(2048, 97, 97));
        let config = PyramidPoolingConfig::new();
        let context = config.init(input, &fixtures::init(&device));
        assert_eq!(parameters::count(&context), 4_198_400); // 4·(2048·512 + 2·512)
        assert_eq!(config.output(input).channels, 4096);
    }

    #[test]
    fn the_grid_of_one_bin_is_the_mean_at_every_position() {
        let device = Device::default();
        let input = FeatureShape::new(2, 2, 3);
        let config = PyramidPoolingConfig::new()
            .with_bins(vec![1])
            .with_channels(2);
        let mut context = config.init(input, &fixtures::init(&device));
        // An identity convolution; positive means pass the ReLU.
        let weight = Tensor::<2>::eye(2, &device).reshape([2, 2, 1, 1]);
        context.features[0].conv.weight = burn::module::Param::from_tensor(weight);
        let features = fixtures::tensor([1, 2, 2, 3], 0.0..1.0, &device);
        let output = context.forward(features.clone());
        let means = features.clone().mean_dim(2).mean_dim(3);
        let difference = output.narrow(1, 2, 2) - means;
        // The epsilon of the normalisation is 1e-5.
        assert!(difference.abs().max().into_scalar::<f32>() < 1e-5);
    }

    #[test]
    #[should_panic(expected = "PyramidPooling: bins: expected 1 to 16 grids, found 0")]
    fn no_grid_panics() {
        let config = PyramidPoolingConfig::new().with_bins(Vec::new());
        let device = Device::default();
        let _ = config.init(FeatureShape::new(2, 2, 2), &fixtures::init(&device));
    }
}
