//! Instance normalisation (Ulyanov et al., 2016, arXiv:1607.08022).

use burn::{
    config::Config,
    module::{Module, Param},
    tensor::{Device, Tensor},
};
use reid_ops::{Epilogue, batch_norm_train};

use crate::{block::Block, precision::widened};

/// Configuration of [`InstanceNorm`], whose documentation has an example.
#[derive(Config, Debug)]
pub struct InstanceNormConfig {
    /// The number of channels, at least 1.
    pub channels: usize,
    /// The constant ε added to the variance, above 0; 1e-5 as in PyTorch.
    #[config(default = 1e-5)]
    pub epsilon: f64,
}

/// Normalises each channel of each image by its own statistics, in training and in evaluation.
///
/// ```text
/// y_nc = γ_c·(x_nc - μ_nc)/√(σ²_nc + ε) + β_c
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::{Block, norm::InstanceNormConfig};
///
/// let device = Device::default();
/// let norm = InstanceNormConfig::new(1).init(&device);
/// let features = Tensor::<4>::from_data([[[[1.0, 3.0]]], [[[70.0, 90.0]]]], &device);
/// let found = norm.forward(features).into_data().try_to_vec::<f32>()?;
/// // Mean 2 and deviation 1, mean 80 and deviation 10.
/// for (found, expected) in found.iter().zip([-1.0, 1.0, -1.0, 1.0]) {
///     assert!((found - expected).abs() < 1e-4);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Module, Debug)]
pub struct InstanceNorm {
    /// The weight γ, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// The bias β, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// The constant ε added to the variance, above 0.
    pub epsilon: f64,
}

impl InstanceNormConfig {
    /// Builds the layer with weight 1 and bias 0.
    ///
    /// # Panics
    /// If `channels` is 0 or `epsilon` is not above 0.
    #[must_use]
    pub fn init(&self, device: &Device) -> InstanceNorm {
        let (channels, epsilon) = (self.channels, self.epsilon);
        assert!(
            channels > 0 && epsilon > 0.0,
            "instance normalisation needs at least 1 channel and an epsilon above 0, found {channels} \
             and {epsilon}"
        );
        InstanceNorm {
            weight: Param::from_tensor(Tensor::ones([channels], device)),
            bias: Param::from_tensor(Tensor::zeros([channels], device)),
            epsilon,
        }
    }
}

impl InstanceNorm {
    /// Normalises features and applies ReLU, in one pass where the backend has a fused operation.
    ///
    /// # Shapes
    /// - `features` and result: `[batch, channels, height, width]`
    ///
    /// # Panics
    /// If the layer was built for another number of channels.
    #[must_use]
    pub fn forward_relu(&self, features: Tensor<4>) -> Tensor<4> {
        self.normalised(features, Epilogue::Relu)
    }

    /// Computes the layer as a batch normalisation of one image with `batch · channels` channels.
    fn normalised(&self, features: Tensor<4>, epilogue: Epilogue<4>) -> Tensor<4> {
        let shape @ [batch, channels, height, width] = features.dims();
        let [built] = self.weight.shape().dims();
        assert_eq!(
            channels, built,
            "instance normalisation was built for {built} channels and got {shape:?}"
        );
        let given = features.dtype();
        let features = widened(features);
        let dtype = features.dtype();
        let [weight, bias] = [&self.weight, &self.bias].map(|param| param.val().cast(dtype));
        let [weight, bias] = [weight, bias].map(|values| values.repeat_dim(0, batch));
        let one = features.reshape([1, batch * channels, height, width]);
        let output = batch_norm_train(one, weight, bias, self.epsilon, epilogue).output;
        output.reshape(shape).cast(given)
    }
}

impl Block for InstanceNorm {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        self.normalised(features, Epilogue::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "was built for 3 channels and got [1, 2, 4, 4]")]
    fn another_number_of_channels_panics() {
        let device = Device::default();
        let norm = InstanceNormConfig::new(3).init(&device);
        let _ = norm.forward(Tensor::ones([1, 2, 4, 4], &device));
    }
}
