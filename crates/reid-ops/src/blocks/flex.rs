//! Tensors of blocks on Flex.

use burn::{
    backend::{BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind},
    tensor::{DType, Tensor},
};
use burn_flex::FlexTensor;
use reid_kernels::{ConvEpilogue, normalisation::Map};

use super::ChannelAffine;
use crate::{
    flex::{Read, tensor},
    normalisation::{Affine, given},
};

/// The tensor of the backend, if it is on Flex in single precision, without autodiff, and has this shape.
fn flex<const D: usize>(of: Tensor<D>, shape: [usize; D]) -> Option<FlexTensor> {
    let fits = of.dtype() == DType::F32 && of.dims() == shape;
    match of.into_dispatch().kind {
        DispatchTensorKind::Flex(BackendTensor::Float(tensor)) if fits => Some(tensor),
        _ => None,
    }
}

/// The values of a tensor, under the conditions of [`flex`].
pub(super) fn read<const D: usize>(of: Tensor<D>, shape: [usize; D]) -> Option<Read> {
    flex(of, shape).map(|tensor| Read::new(&tensor))
}

/// A tensor on Flex.
pub(super) fn written(values: Vec<f32>, shape: [usize; 4]) -> Tensor<4> {
    Tensor::from_dispatch(DispatchTensor {
        kind: DispatchTensorKind::Flex(BackendTensor::Float(tensor(values, shape))),
        autodiff: DispatchAutodiffContext::Disabled,
    })
}

/// The weights of a convolution, and the affine map after it.
pub(super) struct Layer {
    weights: Read,
    scale: Option<Vec<f32>>,
    bias: Vec<f32>,
}

impl Layer {
    /// The values of a layer with weights of the given shape, whose first dimension is the output channels. `None` if
    /// a tensor is on another device, or of another dtype or shape.
    pub(super) fn new(
        weights: Tensor<4>,
        affine: ChannelAffine,
        shape: [usize; 4],
    ) -> Option<Self> {
        let channels = [shape[0]];
        let (scale, bias) = match affine {
            ChannelAffine::Bias(bias) => (None, read(bias, channels)?.values().to_vec()),
            ChannelAffine::BatchNorm(norm) => {
                let flex = |of| flex(of, channels);
                let (gamma, bias) = (flex(norm.weight)?, flex(norm.bias)?);
                let (mean, variance) = (flex(norm.mean)?, flex(norm.variance)?);
                let affine = Affine::new(&gamma, &bias, norm.epsilon);
                let statistics = given(&mean, &variance);
                let map = Map::new(&statistics, affine.parameters());
                let (scale, shift) = map.scale_and_shift();
                (Some(scale), shift)
            }
        };
        Some(Self {
            weights: read(weights, shape)?,
            scale,
            bias,
        })
    }

    pub(super) fn weights(&self) -> &[f32] {
        self.weights.values()
    }

    pub(super) fn epilogue(&self, relu: bool) -> ConvEpilogue<'_> {
        ConvEpilogue {
            scale: self.scale.as_deref(),
            bias: Some(&self.bias),
            relu,
        }
    }
}
