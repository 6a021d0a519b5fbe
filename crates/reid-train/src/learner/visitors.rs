//! What goes over the parameters of a learner.

use std::{any::Any, collections::HashMap};

use burn::{
    module::{Flag, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::Tensor,
};

use super::Parameter;

/// Which parameters and flags are trained.
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

/// Freezes parameters and the statistics beside them, or thaws them.
pub(super) struct SetTrained<'a> {
    pub(super) at_first: &'a HashMap<String, bool>,
    pub(super) trained: &'a dyn Fn(&str) -> bool,
    pub(super) path: Vec<String>,
}

impl SetTrained<'_> {
    fn is_trained(&self) -> bool {
        let path = self.path.join(".");
        let at_first = self.at_first.get(&path).copied().unwrap_or(false);
        at_first && (self.trained)(&path)
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

/// The values of a module, without gradients.
pub(super) struct Values(pub(super) HashMap<ParamId, Box<dyn Any>>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().without_autodiff();
        self.0.insert(param.id, Box::new(value));
    }
}

/// Moves an average towards values.
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
