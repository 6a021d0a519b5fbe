//! Convolutions followed by batch normalisation, and the folding of one into the other.

use burn::{
    module::Param,
    nn::{
        Initializer, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Tensor, ops::ConvOptions},
};
use reid_ops::{ChannelAffine, Epilogue};
use serde::{Deserialize, Serialize};

use crate::{norm::BatchNorm, precision::wide};

/// The fan by which the initial weights of convolutions are scaled: N(0, 2 / fan), for networks with ReLU (He
/// et al., ICCV 2015, arXiv:1502.01852).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fan {
    /// The number of output values that an input value contributes to, as in torchvision.
    #[default]
    Out,
    /// The number of input values that contribute to an output value, as in networks for CIFAR.
    In,
}

impl Fan {
    /// The distribution of initial weights.
    pub(crate) const fn initializer(self) -> Initializer {
        Initializer::KaimingNormal {
            gain: std::f64::consts::SQRT_2,
            fan_out_only: matches!(self, Self::Out),
        }
    }

    /// Whether this is the default.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(crate) const fn is_out(&self) -> bool {
        matches!(self, Self::Out)
    }
}

/// Configures a square convolution without bias, padded to keep the size at stride 1. Its weights are drawn
/// from N(0, 2 / fan-out), for networks with ReLU (He et al., arXiv:1502.01852).
pub(crate) fn square(
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    groups: usize,
) -> Conv2dConfig {
    let padding = kernel / 2;
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(
            padding, padding, padding, padding,
        ))
        .with_groups(groups)
        .with_bias(false)
        .with_initializer(Fan::Out.initializer())
}

/// Dilates a square convolution, and pads it so that the size stays the same.
pub(crate) fn dilated(config: Conv2dConfig, dilation: usize) -> Conv2dConfig {
    let padding = config.kernel_size[0] / 2 * dilation;
    config
        .with_dilation([dilation, dilation])
        .with_padding(PaddingConfig2d::Explicit(
            padding, padding, padding, padding,
        ))
}

/// Applies a convolution with [`reid_ops::conv2d`] in the dtype of the features.
///
/// ```
/// use burn::{nn::conv::Conv2dConfig, tensor::{Device, Tensor}};
/// use reid_nn::convolution;
///
/// let device = Device::default();
/// let conv = Conv2dConfig::new([4, 8], [1, 1]).with_stride([2, 2]).init(&device);
/// assert_eq!(convolution::apply(&conv, Tensor::ones([1, 4, 5, 4], &device)).dims(), [1, 8, 3, 2]);
/// ```
///
/// # Shapes
/// As in [`reid_ops::conv2d`]: `[batch, channels, height, width]` to
/// `[batch, channels out, height out, width out]`.
#[must_use]
pub fn apply(conv: &Conv2d, features: Tensor<4>) -> Tensor<4> {
    let Some(options) = options(conv) else {
        return conv.forward(features);
    };
    let (weight, bias) = weights(conv);
    reid_ops::conv2d(features, weight, bias, options)
}

fn weights(conv: &Conv2d) -> (Tensor<4>, Option<Tensor<1>>) {
    let bias = conv.bias.as_ref().map(Param::val);
    (conv.weight.val(), bias)
}

/// Applies a convolution, the batch normalisation after it unless it is folded, and an epilogue.
pub(crate) fn normalised(
    conv: &Conv2d,
    norm: Option<&BatchNorm>,
    features: Tensor<4>,
    epilogue: Epilogue<4>,
) -> Tensor<4> {
    let fixed_norm = norm.is_none_or(|norm| !norm.uses_batch_statistics());
    let Some(options) = options(conv).filter(|_| fixed_norm) else {
        let output = apply(conv, features);
        return match norm {
            Some(norm) => norm.forward_epilogue(output, epilogue),
            None => epilogue.apply(output),
        };
    };
    let (weight, bias) = weights(conv);
    match norm {
        None => reid_ops::conv2d_epilogue(features, weight, bias, options, epilogue),
        Some(norm) => {
            let norm = (norm.running_params(wide(features.dtype())), epilogue);
            reid_ops::conv2d_batch_norm(features, weight, bias, options, norm)
        }
    }
}

/// The affine map after a convolution in evaluation mode: a normalisation by running statistics, or a bias. `None` if
/// there are both or none, or the normalisation uses the statistics of the batch.
pub(crate) fn affine(conv: &Conv2d, norm: Option<&BatchNorm>) -> Option<ChannelAffine> {
    match (norm, &conv.bias) {
        (Some(norm), None) if !norm.uses_batch_statistics() => {
            let norm = norm.running_params(wide(conv.weight.val().dtype()));
            Some(ChannelAffine::BatchNorm(norm))
        }
        (None, Some(bias)) => Some(ChannelAffine::Bias(bias.val())),
        _ => None,
    }
}

/// Whether a convolution is square, with this kernel and stride, and padded so that stride 1 keeps the size.
pub(crate) fn is_square(conv: &Conv2d, kernel: usize, stride: usize, groups: usize) -> bool {
    options(conv).is_some_and(|options| {
        conv.weight.val().dims()[2..] == [kernel; 2]
            && options.stride == [stride; 2]
            && options.dilation == [1, 1]
            && options.padding_begin() == [kernel / 2; 2]
            && options.groups == groups
    })
}

/// The options of a convolution, or `None` if its padding is not the same on opposite sides.
fn options(conv: &Conv2d) -> Option<ConvOptions<2>> {
    let padding = match conv.padding {
        PaddingConfig2d::Valid => [0, 0],
        PaddingConfig2d::Explicit(top, left, bottom, right) if [top, left] == [bottom, right] => {
            [top, left]
        }
        _ => return None,
    };
    Some(ConvOptions::new(
        conv.stride,
        padding,
        conv.dilation,
        conv.groups,
    ))
}

/// Folds an evaluation-time batch normalisation into the convolution before it. The parameters of the result
/// are new leaves on the device of the convolution, which may be an autodiff device.
///
/// ```text
/// s = γ/√(σ² + ε)     W' = s·W     b' = β + s·(b - μ)
/// ```
#[must_use]
pub fn fold(mut conv: Conv2d, norm: &BatchNorm) -> Conv2d {
    let (scale, shift) = norm.affine();
    let [scale, shift] = [scale, shift].map(Tensor::without_autodiff);
    let [channels] = scale.dims();
    let weight = conv.weight.val();
    let trains = weight.device().is_autodiff();
    let weight = weight.without_autodiff() * scale.clone().reshape([channels, 1, 1, 1]);
    let bias = match &conv.bias {
        Some(bias) => bias.val().without_autodiff() * scale + shift,
        None => shift,
    };
    // A parameter must be a leaf of the autodiff graph, which a product of tensors is not.
    let (weight, bias) = if trains {
        (weight.autodiff(), bias.autodiff())
    } else {
        (weight, bias)
    };
    conv.weight = Param::from_tensor(weight);
    conv.bias = Some(Param::from_tensor(bias));
    conv
}

/// Folds the batch normalisation after a convolution into it, if there is one.
pub(crate) fn fold_if(conv: Conv2d, norm: Option<BatchNorm>) -> (Conv2d, Option<BatchNorm>) {
    match norm {
        Some(norm) => (fold(conv, &norm), None),
        None => (conv, None),
    }
}
