//! A convolution without bias and the batch normalisation after it, as the building block of `OSNet` and
//! `MobileNetV2`.

use burn::{
    module::Module,
    nn::conv::{Conv2d, Conv2dConfig},
    tensor::Tensor,
};
use reid_ops::Epilogue;

use crate::{
    convolution,
    init::Init,
    norm::{BatchNorm, BatchNormConfig},
};

/// A convolution and the batch normalisation after it.
///
/// ```text
/// y = bn(conv · x)        or        y = relu(bn(conv · x))
/// ```
///
/// Which of the two it computes depends on the block that it is part of, such as an
/// [`OsBlock`](super::OsBlock), which builds it and has an example.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// The convolution; it has a bias only when the normalisation is folded into it.
    pub conv: Conv2d,
    /// The batch normalisation. It is absent when [folded](crate::Block::fold_batch_norm), or if another layer
    /// normalises the output.
    pub bn: Option<BatchNorm>,
}

impl ConvNorm {
    pub(crate) fn new(config: &Conv2dConfig, init: &Init<'_>) -> Self {
        let [_, channels] = config.channels;
        Self {
            conv: init.conv2d(config),
            bn: Some(BatchNormConfig::new(channels).init(init.device())),
        }
    }

    /// Builds a 1 x 1 convolution with batch normalisation.
    pub(super) fn pointwise(from: usize, to: usize, init: &Init<'_>) -> Self {
        Self::new(&convolution::square([from, to], 1, 1, 1), init)
    }

    /// Computes the convolution and the normalisation, then applies an epilogue.
    pub(crate) fn apply(&self, features: Tensor<4>, epilogue: Epilogue<4>) -> Tensor<4> {
        convolution::normalised(&self.conv, self.bn.as_ref(), features, epilogue)
    }

    pub(crate) fn folded(self) -> Self {
        let (conv, bn) = convolution::fold_if(self.conv, self.bn);
        Self { conv, bn }
    }
}
