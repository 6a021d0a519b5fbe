//! What kernels on GPUs share.

use burn::tensor::{DType, Shape};
use burn_cubecl::{
    cubecl::ir::{ElemType, FloatKind},
    kernel::into_contiguous,
    ops::{numeric::empty_device_contiguous_dtype, permute},
    tensor::CubeTensor,
};

pub(crate) mod rows;

/// Features as rows of channels.
#[derive(Clone)]
pub(crate) struct Rows {
    pub(crate) tensor: CubeTensor,
    /// Numbers from one row to the next.
    pub(crate) pitch: usize,
}

impl Rows {
    /// Features `[batch, channels, ...]`, copied if their rows do not lie at one distance.
    pub(crate) fn new(features: CubeTensor) -> Self {
        let rank = features.meta.num_dims();
        let order: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
        let rows = permute(features, &order);
        if let Some(pitch) = pitch(rows.meta.shape(), rows.meta.strides()) {
            return Self {
                tensor: rows,
                pitch,
            };
        }
        let tensor = into_contiguous(rows);
        let pitch = tensor.meta.shape()[rank - 1];
        Self { tensor, pitch }
    }

    /// Room for features like these.
    pub(crate) fn empty_like(&self) -> CubeTensor {
        let shape = self.tensor.meta.shape().clone();
        empty(&self.tensor, shape, self.tensor.dtype)
    }

    /// Numbers for each channel.
    pub(crate) fn per_channel(&self, lists: usize) -> CubeTensor {
        empty(&self.tensor, [lists * self.channels()], DType::F32)
    }

    /// Numbers that are read at once as so many bytes each, for rows at these distances.
    pub(crate) fn vector(&self, pitches: &[usize], bytes: usize) -> usize {
        let channels = self.channels();
        let fits = |vector: &usize| {
            let fits = |of: &usize| of.is_multiple_of(*vector);
            fits(&channels) && pitches.iter().all(fits)
        };
        let sizes = self.tensor.client.io_optimized_vector_sizes(bytes);
        sizes.filter(fits).max().unwrap_or(1)
    }

    /// The same in the type of the features, vectors of a row, and of all.
    pub(crate) fn vectors(&self, pitches: &[usize]) -> [usize; 3] {
        let vector = self.vector(pitches, self.tensor.dtype.size());
        let width = self.channels() / vector;
        [vector, width, width * self.count()]
    }

    pub(crate) fn channels(&self) -> usize {
        self.tensor.meta.shape()[self.tensor.meta.num_dims() - 1]
    }

    pub(crate) fn count(&self) -> usize {
        self.tensor.meta.num_elements() / self.channels()
    }
}

/// Room for numbers on the device of a tensor.
pub(crate) fn empty(like: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, shape.into(), dtype)
}

/// The distance of rows, if it is one.
fn pitch(shape: &[usize], strides: &[usize]) -> Option<usize> {
    let last = shape.len() - 1;
    if strides[last] != 1 && shape[last] != 1 {
        return None;
    }
    let (mut pitch, mut rows) = (None, 1);
    for (size, stride) in shape[..last].iter().zip(&strides[..last]).rev() {
        if *size > 1 {
            let pitch = *pitch.get_or_insert(*stride);
            if pitch < shape[last] || *stride != pitch * rows {
                return None;
            }
            rows *= size;
        }
    }
    Some(pitch.unwrap_or(shape[last]))
}

/// Features `[batch, ..., channels]` as `[batch, channels, ...]`.
pub(crate) fn channels_second(rows: CubeTensor) -> CubeTensor {
    let last = rows.meta.num_dims() - 1;
    let order: Vec<usize> = [0, last].into_iter().chain(1..last).collect();
    permute(rows, &order)
}

/// The type of numbers in a kernel.
pub(crate) fn values(dtype: DType) -> ElemType {
    ElemType::Float(match dtype {
        DType::F16 => FloatKind::F16,
        DType::BF16 => FloatKind::BF16,
        _ => FloatKind::F32,
    })
}

/// A number of a kernel that computes in single precision.
#[expect(
    clippy::cast_possible_truncation,
    reason = "kernels compute in single precision"
)]
pub(crate) fn single(value: f64) -> f32 {
    value as f32
}
