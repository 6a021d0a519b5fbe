//! Counting and copying parameters.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::Tensor,
};

use crate::traversal;

/// Counts the parameters of a module: weights and biases, also frozen ones, but not the running statistics of
/// normalisation. Publications count in this way.
///
/// ```
/// use burn::tensor::Device;
/// use reid_nn::{norm::BatchNormConfig, parameters};
///
/// assert_eq!(parameters::count(&BatchNormConfig::new(8).init(&Device::default())), 16);
/// ```
pub fn count<M: Module>(module: &M) -> usize {
    let mut counter = Counter::default();
    traversal::visit(module, &mut counter);
    counter.parameters
}

/// Copies a module for separate training: the values are the same, the parameter identifiers are new. A clone
/// shares its identifiers with the original, so two clones in one network would share their gradients.
///
/// ```
/// use burn::{nn::LinearConfig, tensor::{Device, Tensor}};
/// use reid_nn::parameters;
///
/// let device = Device::default().autodiff();
/// let one = LinearConfig::new(2, 1).with_bias(false).init(&device);
/// let two = parameters::copy(&one);
/// assert_eq!(one.weight.to_data(), two.weight.to_data());
///
/// let gradients = one.forward(Tensor::<2>::ones([1, 2], &device)).sum().backward();
/// assert!(one.weight.val().grad(&gradients).is_some());
/// assert!(two.weight.val().grad(&gradients).is_none());
/// ```
#[must_use]
pub fn copy<M: Module>(module: &M) -> M {
    traversal::map(module.clone(), &mut Copier)
}

struct Copier;

impl ModuleMapper for Copier {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (_, value, mapper) = param.consume();
        let trained = value.is_require_grad();
        let value = value.detach().set_require_grad(trained);
        Param::from_mapped_value(ParamId::new(), value, mapper)
    }
}

#[derive(Default)]
struct Counter {
    path: Vec<String>,
    parameters: usize,
}

impl ModuleVisitor for Counter {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.last().map_or("", String::as_str);
        if !name.starts_with("running_") {
            self.parameters += param.lazy_shape().num_elements();
        }
    }
}
