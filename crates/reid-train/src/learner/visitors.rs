//! Visitors and mappers of the parameters of a learner.

use std::{any::Any, collections::HashMap};

use burn::{
    module::{Flag, Module, ModuleMapper, ModuleVisitor, Param},
    tensor::Tensor,
};
use reid_nn::traversal;

use super::Parameter;

/// Collects whether each parameter or flag is trained, by path.
#[derive(Default)]
pub(super) struct Trained {
    pub(super) path: Vec<String>,
    pub(super) found: HashMap<String, bool>,
}

impl ModuleVisitor for Trained {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found
            .insert(self.path.join("."), param.is_require_grad());
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.found
            .insert(self.path.join("."), flag.val().is_enabled());
    }
}

/// Freezes or unfreezes parameters and the running statistics of batch normalisations.
pub(super) struct SetTrained<'a> {
    pub(super) initially: &'a HashMap<String, bool>,
    pub(super) trained: &'a dyn Fn(&str) -> bool,
    pub(super) path: Vec<String>,
}

impl SetTrained<'_> {
    fn is_trained(&self) -> bool {
        let path = self.path.join(".");
        let initially = self.initially.get(&path).copied().unwrap_or(false);
        initially && (self.trained)(&path)
    }
}

impl ModuleMapper for SetTrained<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let trained = self.is_trained();
        if param.is_require_grad() == trained {
            param
        } else {
            param.set_require_grad(trained)
        }
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        flag.with_value(self.is_trained())
    }
}

/// Collects all parameters.
#[derive(Default)]
pub(super) struct Parameters {
    pub(super) path: Vec<String>,
    pub(super) found: Vec<Parameter>,
}

impl ModuleVisitor for Parameters {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push(Parameter {
            path: self.path.join("."),
            id: param.id,
            trained: param.is_require_grad(),
        });
    }
}

/// The values of the parameters and running statistics of a module by path, without autodiff.
#[derive(Default)]
pub(super) struct Values {
    path: Vec<String>,
    found: HashMap<String, Box<dyn Any>>,
}

impl Values {
    /// Collects the values of a module.
    pub(super) fn of_module<M: Module>(module: &M) -> Self {
        let mut values = Self::default();
        traversal::visit(module, &mut values);
        values
    }

    /// Updates an average of modules: `average ← average + (1 - decay) · (values - average)`.
    ///
    /// In this form an average of equal values is exactly this value. In the form `decay · average + (1 - decay) ·
    /// values` it drifts, because the two factors do not add up to 1 in single precision.
    pub(super) fn averaged<M: Module>(self, average: M, decay: f64) -> M {
        let (path, values) = (self.path, self.found);
        traversal::map(
            average,
            &mut Change {
                path,
                values,
                decay,
            },
        )
    }

    /// Replaces the values of a module of the same network. Parameters on an autodiff device stay there, but
    /// no longer require gradients.
    pub(super) fn replaced_in<M: Module>(self, module: M) -> M {
        self.averaged(module, 0.0)
    }
}

impl ModuleVisitor for Values {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().without_autodiff();
        self.found.insert(self.path.join("."), Box::new(value));
    }
}

/// Moves the values of a module towards others. Values are matched by their paths, because the identifiers
/// of a loaded average can differ from those of the model.
struct Change {
    path: Vec<String>,
    values: HashMap<String, Box<dyn Any>>,
    decay: f64,
}

impl ModuleMapper for Change {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = self.values.remove(&self.path.join("."));
        let Some(value) = value.and_then(|value| value.downcast::<Tensor<D>>().ok()) else {
            return param;
        };
        let (decay, is_autodiff) = (self.decay, param.lazy_device().is_autodiff());
        param.map(|before| {
            // A decay of 0 replaces the value, whatever it was before.
            let value = if decay > 0.0 {
                let before = before.without_autodiff();
                before.clone() + (*value - before) * (1.0 - decay)
            } else {
                *value
            };
            if is_autodiff { value.autodiff() } else { value }
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::{nn::LinearConfig, tensor::Device};

    use super::*;

    #[test]
    fn an_average_of_equal_values_does_not_drift() {
        let device = Device::default();
        let model = LinearConfig::new(8, 8).init(&device);
        let mut average = model.clone();
        for _ in 0..300 {
            average = Values::of_module(&model).averaged(average, 0.999);
        }
        assert_eq!(average.weight.to_data(), model.weight.to_data());
    }
}
