//! Gradient centralisation (Yong et al., Gradient Centralization: A New Optimization Technique for
//! Deep Neural Networks, ECCV 2020, arXiv:2004.01461).

use burn::{
    optim::{LearningRate, Optimizer},
    tensor::{Device, Tensor},
};

/// Subtracts from the gradient of each output of a layer its mean over the inputs, before an inner
/// optimizer uses it.
///
/// ```text
/// g ← g - mean over inputs (and kernel) of g        for weights of convolutions and linear layers
/// ```
///
/// ```
/// use burn::optim::{ModuleOptimizer, SgdConfig};
/// use reid_train::Centralised;
///
/// let optimizer = ModuleOptimizer::from(Centralised { inner: SgdConfig::new().build() });
/// # let _ = optimizer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Centralised<O> {
    /// The inner optimizer.
    pub inner: O,
}

fn centralised<const D: usize>(gradient: Tensor<D>) -> Tensor<D> {
    match D {
        0 | 1 => gradient,
        // Weights are `[inputs, outputs]` in linear layers, `[outputs, inputs, ...]` in convolutions.
        2 => gradient.clone() - gradient.mean_dim(0),
        _ => {
            let mean = (1..D).fold(gradient.clone(), Tensor::mean_dim);
            gradient - mean
        }
    }
}

impl<O: Optimizer> Optimizer for Centralised<O> {
    type State<const D: usize> = O::State<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weights: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        self.inner.step(rate, weights, centralised(gradient), state)
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        O::to_device(state, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_over_inputs_are_subtracted() {
        let device = Device::default();
        let read = |tensor: Tensor<1>| tensor.into_data().try_to_vec::<f32>().unwrap();
        // Two outputs with inputs (1, 3) and (5, 9), once as a linear layer, once as a convolution.
        let linear = Tensor::<2>::from_data([[1.0, 5.0], [3.0, 9.0]], &device);
        let convolution = linear.clone().transpose().reshape([2, 2, 1, 1]);
        let expected = [-1.0, -2.0, 1.0, 2.0];
        assert_eq!(read(centralised(linear).flatten(0, 1)), expected);
        let expected = [-1.0, 1.0, -2.0, 2.0];
        assert_eq!(read(centralised(convolution).flatten(0, 3)), expected);
        let bias = Tensor::<1>::from_data([1.0, 3.0], &device);
        assert_eq!(read(centralised(bias)), [1.0, 3.0]);
    }
}
