//! Visitors and mappers of the parameters of a learner.

use std::{any::Any, collections::HashMap};

use burn::{
    module::{Flag, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::Tensor,
};

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

/// Collects the values of all parameters, detached.
pub(super) struct Values(pub(super) HashMap<ParamId, Box<dyn Any>>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().without_autodiff();
        self.0.insert(param.id, Box::new(value));
    }
}

/// Updates the exponential average of the values.
pub(super) struct Average {
    pub(super) decay: f64,
    pub(super) values: HashMap<ParamId, Box<dyn Any>>,
}

impl ModuleMapper for Average {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = self.values.remove(&param.id);
        match value.and_then(|value| value.downcast::<Tensor<D>>().ok()) {
            Some(value) => {
                let decay = self.decay;
                param.map(|average| average * decay + *value * (1.0 - decay))
            }
            None => param,
        }
    }
}
