//! Counting parameters.

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::Tensor,
};

/// Number of trainable values in a module: weights, gains and biases, frozen ones too, but not the
/// running statistics of normalisation, as publications count.
///
/// ```
/// use burn::tensor::Device;
/// use reid_nn::{norm::BatchNormConfig, parameters};
///
/// assert_eq!(parameters::count(&BatchNormConfig::new(8).init(&Device::default())), 16);
/// ```
pub fn count<M: Module>(module: &M) -> usize {
    let mut counter = Counter::default();
    module.visit(&mut counter);
    counter.parameters
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
