//! The streams of an omni-scale block (Zhou et al., ICCV 2019, arXiv:1905.00953).

use burn::tensor::Tensor;

use super::ChannelAffine;

/// A light convolution: a 1 x 1 convolution, a depthwise 3 x 3 convolution padded by 1, and a ReLU.
#[derive(Clone, Debug)]
pub struct LightConvolution {
    /// The weights of the 1 x 1 convolution, `[channels, channels, 1, 1]`.
    pub pointwise: Tensor<4>,
    /// The weights of the depthwise convolution, `[channels, 1, 3, 3]`.
    pub depthwise: Tensor<4>,
    /// What is applied before the ReLU.
    pub affine: ChannelAffine,
}

/// Squeeze-and-excitation, whose two layers are 1 x 1 convolutions.
#[derive(Clone, Debug)]
pub struct ChannelGate {
    /// `W₁` and `W₂`, `[hidden, channels, 1, 1]` and `[channels, hidden, 1, 1]`.
    pub weights: [Tensor<4>; 2],
    /// `b₁` and `b₂`, `[hidden]` and `[channels]`.
    pub biases: [Tensor<1>; 2],
}

/// Computes the sum of the gated streams of an omni-scale block.
///
/// ```text
/// y = Σₜ hₜ ⊙ σ(W₂ · relu(W₁ · mean(hₜ) + b₁) + b₂)        hₜ = the light convolutions of stream t, of x
/// ```
///
/// Returns `None`, without calling `parts`, if this crate has no such operation for the device and dtype of
/// `input`: there is one on Flex in single precision and without autodiff. It also returns `None` if `parts` does,
/// or a parameter is on another device or of another shape.
///
/// # Shapes
/// - `input` and result: `[batch, channels, height, width]`
///
/// # Panics
/// If the input is empty.
#[must_use]
pub fn omni_scale(
    input: &Tensor<4>,
    parts: impl FnOnce() -> Option<(Vec<Vec<LightConvolution>>, ChannelGate)>,
) -> Option<Tensor<4>> {
    crate::expect_not_empty("omni-scale streams", &input.dims());
    #[cfg(native_flex)]
    if super::is_native(input) {
        let (streams, gate) = parts()?;
        return on_flex(input.clone(), streams, gate);
    }
    let _ = parts;
    None
}

#[cfg(native_flex)]
fn kernels(
    lights: &[(crate::flex::Read, super::flex::Layer)],
) -> Vec<reid_kernels::LightConvolution<'_>> {
    let lights = lights.iter();
    let kernels = lights.map(|(pointwise, depthwise)| reid_kernels::LightConvolution {
        pointwise: pointwise.values(),
        depthwise: depthwise.weights(),
        epilogue: depthwise.epilogue(true),
    });
    kernels.collect()
}

#[cfg(native_flex)]
fn on_flex(
    input: Tensor<4>,
    streams: Vec<Vec<LightConvolution>>,
    gate: ChannelGate,
) -> Option<Tensor<4>> {
    use super::flex::{Layer, read, written};
    use crate::flex::Read;

    let shape = input.dims();
    let [batch, channels, height, width] = shape;
    let light = |light: LightConvolution| {
        let pointwise = read(light.pointwise, [channels, channels, 1, 1])?;
        let shape = [channels, 1, 3, 3];
        Some((pointwise, Layer::new(light.depthwise, light.affine, shape)?))
    };
    let stream = |lights: Vec<LightConvolution>| lights.into_iter().map(light).collect();
    let streams: Vec<Vec<(Read, Layer)>> =
        streams.into_iter().map(stream).collect::<Option<_>>()?;
    let kernels: Vec<Vec<_>> = streams.iter().map(|lights| kernels(lights)).collect();
    let kernels: Vec<&[_]> = kernels.iter().map(Vec::as_slice).collect();

    let hidden = gate.biases[0].dims()[0];
    let [first, second] = gate.weights;
    let weights = [
        read(first, [hidden, channels, 1, 1])?,
        read(second, [channels, hidden, 1, 1])?,
    ];
    let [first, second] = gate.biases;
    let biases = [read(first, [hidden])?, read(second, [channels])?];
    let gate = reid_kernels::ChannelGate {
        weights: weights.each_ref().map(Read::values),
        biases: biases.each_ref().map(Read::values),
    };
    let sizes = reid_kernels::OmniScale {
        batch,
        channels,
        size: [height, width],
    };
    let input = read(input, shape)?;
    Some(written(
        sizes.forward(input.values(), &kernels, gate),
        shape,
    ))
}
