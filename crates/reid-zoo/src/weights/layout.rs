//! Layout: shape and dtype of a tensor.

use std::fmt;

use burn::{store::burn_pack::Tensor, tensor::DType};

/// The shape and the dtype of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// The dtype of the values.
    pub dtype: DType,
}

impl Layout {
    pub(super) fn of(tensor: &Tensor) -> Self {
        Self {
            shape: tensor.shape.to_vec(),
            dtype: tensor.dtype,
        }
    }

    /// Whether a tensor of this layout can take values of the other layout after a cast.
    pub(super) fn takes(&self, other: &Self) -> bool {
        self.shape == other.shape && self.is_of_kind(other)
    }

    /// Whether both dtypes are floats, integers or booleans, of any width.
    pub(super) fn is_of_kind(&self, other: &Self) -> bool {
        let (one, other) = (self.dtype, other.dtype);
        let is_int = |dtype: DType| dtype.is_int() || dtype.is_uint();
        one == other
            || (one.is_float() && other.is_float())
            || (is_int(one) && is_int(other))
            || (one.is_bool() && other.is_bool())
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}", self.shape, self.dtype)
    }
}
