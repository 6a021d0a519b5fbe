//! Reads the values of a module, for tests that compare runs bit by bit.

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::Tensor,
};

/// Reads all parameters and running statistics of a module, in order.
pub(crate) fn values<M: Module>(module: &M) -> Vec<f32> {
    struct Values(Vec<f32>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().iter::<f32>());
        }
    }
    let mut values = Values(Vec::new());
    module.visit(&mut values);
    values.0
}
