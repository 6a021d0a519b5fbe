//! Convolution on GPUs as an extension of Burn's backends: the forward pass and the gradient by the input are
//! Burn's, that by the weights is this crate's.

use burn::{
    backend::{
        Autodiff, Backend, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        tensor::FloatTensor,
    },
    tensor::{FloatDType, ops::ConvOptions},
};

/// Convolution without groups or dilation. Weights may be in another type than features, in which the
/// computation is; their gradient has their own.
#[backend_extension(
    Cube: cfg(feature = "_cube"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub(super) trait GpuConvolution: Backend {
    /// The output of a convolution.
    #[fusion(default)]
    fn convolve_whole(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        let weight = as_features::<Self>(weight, &input);
        Self::conv2d(input, weight, None, options)
    }

    /// The gradient by the weights; for the backward pass alone.
    #[fusion(dtype = weight, shape = weight)]
    fn weight_gradient(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self>;
}

/// Weights in the type of features.
fn as_features<B: Backend>(weight: FloatTensor<B>, features: &FloatTensor<B>) -> FloatTensor<B> {
    let dtype = FloatDType::from(features.dtype());
    B::float_cast(weight, dtype)
}

/// Burn's gradient by the weights, in their type.
pub(super) fn weight_gradient_of_burn<B: Backend>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    gradient: FloatTensor<B>,
    options: ConvOptions<2>,
) -> FloatTensor<B> {
    let dtype = FloatDType::from(weight.dtype());
    let weight = as_features::<B>(weight, &input);
    let by_weight = B::conv2d_weight_backward(input, weight, gradient, options);
    B::float_cast(by_weight, dtype)
}

#[derive(Debug)]
struct Convolve;

impl<B: GpuConvolution> Backward<B, 2> for Convolve {
    type State = (FloatTensor<B>, FloatTensor<B>, ConvOptions<2>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let (input, weight, options) = ops.state;
        let [by_input, by_weight] = ops.parents;
        if let Some(node) = by_input {
            let weight = as_features::<B>(weight.clone(), &input);
            let (input, options) = (input.clone(), options.clone());
            let by_input = B::conv2d_x_backward(input, weight, gradient.clone(), options);
            grads.register::<B>(node.id, by_input);
        }
        if let Some(node) = by_weight {
            let by_weight = B::weight_gradient(input, weight, gradient, options);
            grads.register::<B>(node.id, by_weight);
        }
    }
}

impl<B: GpuConvolution, C: CheckpointStrategy> GpuConvolution for Autodiff<B, C> {
    fn convolve_whole(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), weight.node()];
        let [input, weight] = [input, weight].map(FloatTensor::<Self>::into_primitive);
        let output = B::convolve_whole(input.clone(), weight.clone(), options.clone());
        match Convolve.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((input, weight, options), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn weight_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        unreachable!("the backward pass of a convolution has none of its own")
    }
}
