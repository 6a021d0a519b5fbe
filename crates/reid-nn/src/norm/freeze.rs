//! Freezes running statistics while weights are trained, or the reverse.

use burn::{
    module::{Flag, Module, ModuleMapper, Param},
    tensor::Tensor,
};

use crate::traversal;

/// Switches every batch normalisation of a module to its running statistics, which then are no longer
/// updated. The layers of this library and those of Burn are switched. Their weights and biases still take
/// gradients, and other layers, such as dropout, are unchanged.
///
/// Fine-tuning on small batches needs this. `Module::unfreeze` undoes it.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::norm::{BatchNormConfig, freeze_statistics};
///
/// let training = Device::default().autodiff();
/// let norm = freeze_statistics(BatchNormConfig::new(1).init(&training));
/// let output = norm.forward(Tensor::<4>::from_data([[[[1.0, 3.0]]]], &training));
/// // Running mean 0 and variance 1: only ε changes the values.
/// assert!((output.sum().into_scalar::<f32>() - 4.0).abs() < 1e-4);
/// assert_eq!(norm.running_mean.value().into_scalar::<f32>(), 0.0);
/// ```
#[must_use]
pub fn freeze_statistics<M: Module>(module: M) -> M {
    traversal::map(
        module,
        &mut Switch {
            containers: Vec::new(),
            switches_off: |in_norm| in_norm,
            gradients: true,
        },
    )
}

/// Switches off the gradients of all parameters and every training flag except those of batch normalisations,
/// to repeat the forward pass of a training step.
pub(crate) fn freeze_but_statistics<M: Module>(module: M) -> M {
    traversal::map(
        module,
        &mut Switch {
            containers: Vec::new(),
            switches_off: |in_norm| !in_norm,
            gradients: false,
        },
    )
}

/// Switches training flags off, depending on whether they belong to a batch normalisation.
struct Switch {
    containers: Vec<String>,
    switches_off: fn(bool) -> bool,
    gradients: bool,
}

impl Switch {
    /// Whether the module being mapped is a batch normalisation of this library or of Burn.
    fn in_norm(&self) -> bool {
        let container = self.containers.last();
        container.is_some_and(|container| container.ends_with("BatchNorm"))
    }
}

impl ModuleMapper for Switch {
    fn enter_module(&mut self, _name: &str, container: &str) {
        self.containers.push(container.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.containers.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.gradients {
            param
        } else {
            param.set_require_grad(false)
        }
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        if (self.switches_off)(self.in_norm()) {
            flag.with_value(false)
        } else {
            flag
        }
    }
}
