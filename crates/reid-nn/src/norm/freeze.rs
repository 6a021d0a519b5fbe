//! Running statistics that stay as they are while weights are trained.

use burn::{
    module::{Flag, Module, ModuleMapper, Param},
    tensor::Tensor,
};

/// The module with every batch normalisation in evaluation, this library's and Burn's: they use their running
/// statistics and do not move them, while their weights take gradients as before. Other layers, such as
/// dropout, stay as they are.
///
/// This is what fine-tuning on small batches asks for. `Module::unfreeze` turns it off again.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::norm::{BatchNormConfig, freeze_statistics};
///
/// let training = Device::default().autodiff();
/// let norm = freeze_statistics(BatchNormConfig::new(1).init(&training));
/// let output = norm.forward(Tensor::<4>::from_data([[[[1.0, 3.0]]]], &training));
/// // Running mean 0 and variance 1: nothing changes but by ε.
/// assert!((output.sum().into_scalar::<f32>() - 4.0).abs() < 1e-4);
/// assert_eq!(norm.running_mean.value().into_scalar::<f32>(), 0.0);
/// ```
#[must_use]
pub fn freeze_statistics<M: Module>(module: M) -> M {
    module.map(&mut Switch {
        containers: Vec::new(),
        switched: |in_norm| in_norm,
        gradients: true,
    })
}

/// The module with every training flag off but those of batch normalisations, and without gradients of its
/// parameters: for a second look at a training step.
pub(crate) fn freeze_but_statistics<M: Module>(module: M) -> M {
    module.map(&mut Switch {
        containers: Vec::new(),
        switched: |in_norm| !in_norm,
        gradients: false,
    })
}

/// Turns training flags off by whether they belong to a batch normalisation.
struct Switch {
    containers: Vec<String>,
    switched: fn(bool) -> bool,
    gradients: bool,
}

impl Switch {
    /// Whether what is mapped belongs to a batch normalisation, of this library or of Burn.
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
        if (self.switched)(self.in_norm()) {
            flag.with_value(false)
        } else {
            flag
        }
    }
}
