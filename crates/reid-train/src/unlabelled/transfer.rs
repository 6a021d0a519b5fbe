//! Copies the parameters of a model to a model of the same network with another number of classes.

use std::{any::Any, collections::HashMap};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::Tensor,
};
use reid_nn::traversal;

/// Replaces the parameters and running statistics of `into` by those of `from`, identifiers included. Those
/// of another shape, which are those of classifiers, keep their values and identifiers.
pub(super) fn transfer<M: Module>(from: &M, into: M) -> M {
    let mut values = Values::default();
    traversal::visit(from, &mut values);
    let mut mapper = Transfer {
        values: values.found,
        path: Vec::new(),
    };
    traversal::map(into, &mut mapper)
}

/// The identifiers and values of all parameters, by path.
#[derive(Default)]
struct Values {
    path: Vec<String>,
    found: HashMap<String, (ParamId, Box<dyn Any>)>,
}

impl ModuleVisitor for Values {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().detach();
        let entry = (param.id, Box::new(value) as Box<dyn Any>);
        self.found.insert(self.path.join("."), entry);
    }
}

struct Transfer {
    values: HashMap<String, (ParamId, Box<dyn Any>)>,
    path: Vec<String>,
}

impl ModuleMapper for Transfer {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some((id, value)) = self.values.remove(&self.path.join(".")) else {
            return param;
        };
        match value.downcast::<Tensor<D>>() {
            // The shape and the gradient setting are read without drawing the initial value.
            Ok(value) if value.shape() == param.lazy_shape() => {
                param.transform_for_load(*value, id)
            }
            _ => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use reid_core::{InputSize, Seed};
    use reid_nn::{
        Init, Network, ReidModel,
        backbone::{ResNet, ResNetConfig},
        head::{BnNeck, BnNeckConfig},
    };

    use super::*;

    fn model(classes: usize, seed: u64) -> ReidModel<ResNet, BnNeck> {
        let network = (ResNetConfig::resnet18().with_width(4), BnNeckConfig::new());
        let device = Device::default().autodiff();
        let init = Init::new(Seed::new(seed), &device);
        network.init(InputSize::new(32, 16), classes, &init)
    }

    #[test]
    fn all_but_the_classifier_is_carried_over_with_its_identifiers() {
        let (from, into) = (model(3, 1), model(5, 2));
        let neck = &from.head.bottleneck;
        neck.running_mean
            .set(Tensor::ones([32], &neck.running_mean.value().device()));
        let old = into.head.classifier.weight.clone();
        let carried = transfer(&from, into);

        let embed = |model: &ReidModel<ResNet, BnNeck>| {
            let device = Device::default();
            let images = Tensor::ones([2, 3, 32, 16], &device);
            model.valid().embed(images).into_data()
        };
        assert_eq!(embed(&carried), embed(&from));
        let (neck, carried_neck) = (&from.head.bottleneck, &carried.head.bottleneck);
        assert_eq!(carried_neck.weight.id, neck.weight.id);
        assert!(carried_neck.weight.is_require_grad());
        // The bias of the neck is not trained.
        assert!(!carried_neck.bias.is_require_grad());
        let classifier = &carried.head.classifier.weight;
        assert_eq!((classifier.dims(), classifier.id), ([32, 5], old.id));
        assert_eq!(classifier.to_data(), old.to_data());
    }
}
