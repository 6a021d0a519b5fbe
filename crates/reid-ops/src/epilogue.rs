//! The operation that is applied to a feature map before it is written.
//!
//! The convolution, normalisation or gate that computes a feature map also applies its epilogue. As
//! separate operations, the addition and the ReLU at the end of a residual block would be three passes over
//! its largest feature maps. On CPUs, the result even overwrites the shortcut if no other tensor shares its
//! memory.
//!
//! Rejected: recognising the pattern afterwards, which needs a graph of operations that are not computed yet.

use burn::tensor::{Tensor, activation::relu};

use crate::relu::add_relu;

#[cfg(native_cube)]
mod cube;

/// The operation that a convolution, normalisation or gate applies to its result `y` as it is written.
///
/// ```text
/// y        max(0, y)        max(0, y + shortcut)
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor, ops::ConvOptions};
/// use reid_ops::{Epilogue, conv2d_epilogue};
///
/// let device = Device::default();
/// let (images, weights) = (Tensor::ones([1, 2, 3, 3], &device), Tensor::ones([2, 2, 1, 1], &device));
/// let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
/// let bias = Some(Tensor::from_data([-5.0, 5.0], &device));
/// let epilogue = Epilogue::AddRelu(images.clone());
/// let features = conv2d_epilogue(images, weights, bias, options, epilogue);
/// // 2 - 5 + 1 is negative, 2 + 5 + 1 is not.
/// assert_eq!(features.max_dim(2).max_dim(3).into_data().try_to_vec::<f32>()?, [0.0, 8.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::large_enum_variant,
    reason = "an epilogue is short-lived, and there is one per feature map"
)]
pub enum Epilogue<const D: usize> {
    /// `y`: no operation.
    #[default]
    None,
    /// `max(0, y)`: a ReLU.
    Relu,
    /// `max(0, y + shortcut)`: adds a tensor of the same shape, then applies a ReLU, as at the end of a
    /// residual block.
    AddRelu(Tensor<D>),
}

impl<const D: usize> Epilogue<D> {
    /// Applies the epilogue to a tensor of any shape. The result has the same shape.
    ///
    /// # Panics
    /// If there is a shortcut, and the tensor is empty or differs from it in shape.
    #[must_use]
    pub fn apply(self, map: Tensor<D>) -> Tensor<D> {
        match self {
            Self::None => map,
            Self::Relu => relu(map),
            Self::AddRelu(shortcut) => add_relu(map, shortcut),
        }
    }

    /// Splits off a ReLU: returns whether the operation itself applies one, and the remaining epilogue.
    #[cfg(any(native_flex, native_cube))]
    pub(crate) fn split(self) -> (bool, Self) {
        match self {
            Self::Relu => (true, Self::None),
            other => (false, other),
        }
    }
}

#[cfg(native_cube)]
impl Epilogue<4> {
    /// Adds a value to each channel, `shift` of shape `[channels]`, then applies the epilogue, in one kernel.
    pub(crate) fn apply_shifted(self, features: Tensor<4>, shift: Tensor<1>) -> Tensor<4> {
        use burn::backend::Dispatch;

        use cube::Shift;
        match self {
            Self::AddRelu(shortcut) if crate::are_alike(&shortcut, &features) => {
                let (features, shift) = (features.into_dispatch(), shift.into_dispatch());
                let shortcut = shortcut.into_dispatch();
                Tensor::from_dispatch(Dispatch::shifted_onto(features, shift, shortcut))
            }
            epilogue => {
                let (relu, epilogue) = epilogue.split();
                let (features, shift) = (features.into_dispatch(), shift.into_dispatch());
                let shifted = Dispatch::shifted(features, shift, relu);
                epilogue.apply(Tensor::from_dispatch(shifted))
            }
        }
    }
}
