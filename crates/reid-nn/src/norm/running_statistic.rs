//! A running statistic, or another tensor that a forward pass updates.

use std::sync::{Mutex, PoisonError};

use burn::{
    module::{
        Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
        Param, ParamId,
    },
    tensor::{Device, Tensor},
};

/// A running statistic with one value per channel, such as the running mean of batch normalisation, or with
/// more dimensions, such as the memory of a [`CrossBatchMemory`](crate::loss::CrossBatchMemory). It is updated
/// by a forward pass, saved with the weights and never trained.
///
/// It differs from Burn's `RunningState` in two ways. The latest value is the one that is read, saved and
/// copied, whereas records of a `RunningState` lag by one step. **A copy is independent**, whereas clones of
/// a `RunningState` share their value. Updates of the original therefore do not change a copy made for
/// Grad-CAM, for a second branch or for the best model so far.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::norm::RunningStatistic;
///
/// let device = Device::default();
/// let original = RunningStatistic::new(Tensor::<1>::zeros([2], &device));
/// let copy = original.clone();
/// original.set(Tensor::ones([2], &device));
/// assert_eq!(original.value().sum().into_scalar::<f32>(), 2.0);
/// assert_eq!(copy.value().sum().into_scalar::<f32>(), 0.0);
/// ```
#[derive(Debug)]
pub struct RunningStatistic<const D: usize = 1> {
    id: ParamId,
    value: Mutex<Tensor<D>>,
}

impl<const D: usize> RunningStatistic<D> {
    /// Creates a statistic with its initial value, `[channels]` or of another shape.
    #[must_use]
    pub fn new(value: Tensor<D>) -> Self {
        Self::with_id(ParamId::new(), value)
    }

    fn with_id(id: ParamId, value: Tensor<D>) -> Self {
        Self {
            id,
            value: Mutex::new(value),
        }
    }

    /// Returns the latest value, in the shape in which it was set.
    #[must_use]
    pub fn value(&self) -> Tensor<D> {
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        value.clone()
    }

    /// Sets the value, without its autodiff history. It should have the shape of the old value.
    pub fn set(&self, value: Tensor<D>) {
        let mut slot = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = value.detach();
    }

    fn into_parts(self) -> (ParamId, Tensor<D>) {
        let value = self.value.into_inner();
        (self.id, value.unwrap_or_else(PoisonError::into_inner))
    }
}

impl<const D: usize> Clone for RunningStatistic<D> {
    fn clone(&self) -> Self {
        Self::with_id(self.id, self.value())
    }
}

impl<const D: usize> Module for RunningStatistic<D> {
    fn collect_devices(&self, mut devices: Devices) -> Devices {
        let device = self.value().device();
        if !devices.contains(&device) {
            devices.push(device);
        }
        devices
    }

    fn fork(self, device: &Device) -> Self {
        self.to_device(device)
    }

    fn to_device(self, device: &Device) -> Self {
        let (id, value) = self.into_parts();
        Self::with_id(id, value.to_device(device))
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        let param = Param::initialized(self.id, self.value().set_require_grad(false));
        visitor.visit_float(&param);
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let (id, value) = self.into_parts();
        let mapped = mapper.map_float(Param::initialized(id, value.set_require_grad(false)));
        let (id, value, _) = mapped.consume();
        // A mapper that enables gradients everywhere must not make a statistic trainable.
        Self::with_id(id, value.set_require_grad(false))
    }

    fn valid(&self) -> Self {
        Self::with_id(self.id, self.value().without_autodiff())
    }

    fn train(self) -> Self {
        let (id, value) = self.into_parts();
        Self::with_id(id, Tensor::from_inner(value))
    }

    fn materialize(self) -> Self {
        self
    }
}

impl<const D: usize> ModuleDisplayDefault for RunningStatistic<D> {
    fn content(&self, content: Content) -> Option<Content> {
        let dims = self.value().dims().map(|size| size.to_string());
        let dims = dims.join(", ");
        content
            .add_formatted(&format!("Running({dims})"))
            .optional()
    }
}

impl<const D: usize> ModuleDisplay for RunningStatistic<D> {}
