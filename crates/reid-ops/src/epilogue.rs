//! What becomes of a map before it is written.

use burn::tensor::{Tensor, activation::relu};

use crate::relu::add_relu;

#[cfg(native_cube)]
mod cube;

/// What becomes of a map, as convolutions and normalisations write it.
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
    reason = "there is one for a map, and none is kept"
)]
pub enum Epilogue<const D: usize> {
    /// Nothing.
    #[default]
    None,
    /// Negative numbers become 0.
    Relu,
    /// A map of the same shape is added, then negative numbers become 0, as a residual block ends.
    AddRelu(Tensor<D>),
}

impl<const D: usize> Epilogue<D> {
    /// What becomes of a map that is there already.
    ///
    /// # Panics
    /// If there is a shortcut, and the map is empty or of another shape.
    #[must_use]
    pub fn apply(self, map: Tensor<D>) -> Tensor<D> {
        match self {
            Self::None => map,
            Self::Relu => relu(map),
            Self::AddRelu(shortcut) => add_relu(map, shortcut),
        }
    }

    /// Without what an operation does itself: whether it rectifies, and what is left to do.
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
    /// The ending of features that numbers of their channels, `[channels]`, are added to before.
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
