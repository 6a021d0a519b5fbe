//! The inverted residual block (Sandler et al., CVPR 2018, arXiv:1801.04381).

use burn::tensor::Tensor;

use super::ChannelAffine;

/// The parameters of an inverted residual block. Each convolution is a pair of its weights and the affine map after
/// it.
#[derive(Clone, Debug)]
pub struct InvertedResidual {
    /// The 1 x 1 convolution to the hidden channels, `[hidden, channels, 1, 1]`; `None` if there is none.
    pub expand: Option<(Tensor<4>, ChannelAffine)>,
    /// The depthwise convolution, `[hidden, 1, 3, 3]`, padded by 1.
    pub depthwise: (Tensor<4>, ChannelAffine),
    /// The 1 x 1 convolution to the output channels, `[output channels, hidden, 1, 1]`.
    pub project: (Tensor<4>, ChannelAffine),
    /// The stride of the depthwise convolution, at least 1.
    pub stride: usize,
    /// Whether the input is added to the output.
    pub residual: bool,
}

/// Computes an inverted residual block.
///
/// ```text
/// h = relu6(expand · x)        d = relu6(depthwise ⊛ h)        y = project · d  [+ x]
/// ```
///
/// Returns `None`, without calling `parts`, if this crate has no such operation for the device and dtype of
/// `input`: there is one on Flex in single precision and without autodiff. It also returns `None` if `parts` does,
/// or a parameter is on another device or of another shape.
///
/// # Shapes
/// - `input`: `[batch, channels, height, width]`
/// - result: `[batch, output channels, ⌈height / stride⌉, ⌈width / stride⌉]`
///
/// # Panics
/// If the input is empty, or the stride is 0.
#[must_use]
pub fn inverted_residual(
    input: &Tensor<4>,
    parts: impl FnOnce() -> Option<InvertedResidual>,
) -> Option<Tensor<4>> {
    crate::expect_not_empty("inverted residual block", &input.dims());
    #[cfg(native_flex)]
    if super::is_native(input) {
        return on_flex(input.clone(), parts()?);
    }
    let _ = parts;
    None
}

#[cfg(native_flex)]
fn on_flex(input: Tensor<4>, block: InvertedResidual) -> Option<Tensor<4>> {
    use super::flex::{Layer, read, written};

    let shape = input.dims();
    let [batch, channels, height, width] = shape;
    let ([hidden, ..], [results, ..]) = (block.depthwise.0.dims(), block.project.0.dims());
    let layer = |(weights, affine), shape| Layer::new(weights, affine, shape);
    let expand = match block.expand {
        Some(expand) => Some(layer(expand, [hidden, channels, 1, 1])?),
        None => None,
    };
    let depthwise = layer(block.depthwise, [hidden, 1, 3, 3])?;
    let project = layer(block.project, [results, hidden, 1, 1])?;
    let sizes = reid_kernels::InvertedResidual {
        batch,
        channels: [channels, hidden, results],
        size: [height, width],
        stride: block.stride,
        residual: block.residual,
    };
    let [down, across] = sizes.output();
    let same = [results, down, across] == [channels, height, width];
    if (expand.is_none() && hidden != channels) || (block.residual && !same) {
        return None;
    }
    let weights = reid_kernels::InvertedWeights {
        expand: expand
            .as_ref()
            .map(|layer| (layer.weights(), layer.epilogue(true))),
        depthwise: (depthwise.weights(), depthwise.epilogue(true)),
        project: (project.weights(), project.epilogue(false)),
    };
    let input = read(input, shape)?;
    let output = sizes.forward(input.values(), weights);
    Some(written(output, [batch, results, down, across]))
}
