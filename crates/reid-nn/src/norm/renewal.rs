//! Renews the running statistics of batch normalisation, for weights that were not trained themselves, such as
//! averaged ones (Izmailov et al., UAI 2018, arXiv:1803.05407, §3.2).

use std::{any::Any, cell::RefCell, collections::HashMap, ptr};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Device, Tensor},
};

use super::BatchNorm;
use crate::traversal;

/// The number of batches that each layer has normalised in a renewal, by the address of the layer. A copy that
/// is made inside a forward pass has the identifiers of the layer, but counts for itself.
type Counts = HashMap<usize, usize>;

thread_local! {
    /// The counts of the renewal that runs on this thread.
    static COUNTS: RefCell<Option<Counts>> = const { RefCell::new(None) };
}

/// Computes the running statistics of every batch normalisation anew, as means over `batches`. `forward`
/// computes the forward pass of a batch in training mode. Weights and other statistics are unchanged.
///
/// ```text
/// μ = 1/n Σ_b μ_b        σ² = 1/n Σ_b σ²_b        b = 1 … n
/// ```
///
/// `μ_b` and `σ²_b` are the mean and the unbiased variance of a batch. The earlier statistics do not count. This
/// is PyTorch's `torch.optim.swa_utils.update_bn`, which sets the momentum of the n-th batch to 1/n.
///
/// The module may be on a plain or on an autodiff device, and stays there. No gradients are computed. Some layers
/// keep their statistics: those that `forward` does not reach, and those whose
/// [training flag](BatchNorm::training) is off. Without batches, all do. A module without batch normalisation is
/// returned at once. `forward` must compute on the thread that
/// calls it. Burn's own batch normalisation is updated with its usual momentum.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::norm::{BatchNormConfig, renew_batch_norm};
///
/// let device = Device::default();
/// let norm = BatchNormConfig::new(1).init(&device);
/// let batches = [[[1.0], [3.0]], [[4.0], [8.0]]];
/// let norm = renew_batch_norm(norm, batches, |norm, batch| {
///     norm.forward(Tensor::<2>::from_data(batch, &device));
/// });
/// // The means of the batches are 2 and 6, and their variances 2 and 8.
/// assert_eq!(norm.running_mean.value().into_scalar::<f32>(), 4.0);
/// assert_eq!(norm.running_var.value().into_scalar::<f32>(), 5.0);
/// ```
#[must_use]
pub fn renew_batch_norm<M: Module, B>(
    module: M,
    batches: impl IntoIterator<Item = B>,
    mut forward: impl FnMut(&M, B),
) -> M {
    let mut statistics = Statistics::default();
    traversal::visit(&module, &mut statistics);
    if statistics.found.is_empty() {
        return module;
    }
    let devices = module.devices();
    let training = if devices.iter().any(Device::is_autodiff) {
        module.clone()
    } else {
        module.clone().train()
    };
    let training = traversal::map(training, &mut NoGradients);
    let renewal = Renewal::begin();
    for batch in batches {
        forward(&training, batch);
        if let Some(device) = devices.first() {
            forget_operations(device);
        }
    }
    drop(renewal);
    let mut statistics = Statistics::default();
    traversal::visit(&training, &mut statistics);
    traversal::map(module, &mut statistics)
}

/// Counts a batch of a layer in a renewal. Returns its number, from 1; `None` outside of a renewal.
pub(super) fn count_batch(layer: &BatchNorm) -> Option<usize> {
    COUNTS.with_borrow_mut(|counts| {
        let count = counts.as_mut()?.entry(ptr::from_ref(layer).addr());
        let count = count.or_insert(0);
        *count += 1;
        Some(*count)
    })
}

/// Makes Burn forget the operations on an autodiff device, which it keeps until the next backward pass.
fn forget_operations(device: &Device) {
    let device = device.clone().autodiff();
    let _ = Tensor::<1>::ones([1], &device).require_grad().backward();
}

/// Marks a renewal on this thread, until it is dropped.
struct Renewal {
    before: Option<Counts>,
}

impl Renewal {
    fn begin() -> Self {
        let before = COUNTS.replace(Some(Counts::new()));
        Self { before }
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        COUNTS.set(self.before.take());
    }
}

/// Switches off the gradients of all parameters, and keeps training flags.
struct NoGradients;

impl ModuleMapper for NoGradients {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.set_require_grad(false)
    }
}

/// The running statistics of batch normalisations, by path. As a visitor it collects them, and as a mapper it
/// sets them.
#[derive(Default)]
pub(super) struct Statistics {
    path: Vec<String>,
    containers: Vec<String>,
    pub(super) found: HashMap<String, Box<dyn Any>>,
}

impl Statistics {
    fn enter(&mut self, name: &str, container: &str) {
        self.path.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    fn exit(&mut self) {
        self.path.pop();
        self.containers.pop();
    }

    /// The path of the visited tensor, if it is a running statistic of a batch normalisation.
    fn statistic(&self) -> Option<String> {
        let (name, container) = (self.path.last()?, self.containers.last()?);
        let is_statistic = name.starts_with("running_") && container.ends_with("BatchNorm");
        is_statistic.then(|| self.path.join("."))
    }
}

impl ModuleVisitor for Statistics {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(path) = self.statistic() {
            let value = param.val().without_autodiff();
            self.found.insert(path, Box::new(value));
        }
    }
}

impl ModuleMapper for Statistics {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = self.statistic().and_then(|path| self.found.remove(&path));
        let Some(value) = value.and_then(|value| value.downcast::<Tensor<D>>().ok()) else {
            return param;
        };
        param.map(|before| {
            let value = *value;
            if before.is_autodiff() {
                value.autodiff()
            } else {
                value
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use reid_core::InputSize;

    use super::*;
    use crate::{
        ReidModel,
        backbone::{ResNet, ResNetConfig},
        fixtures,
        head::{BnNeck, BnNeckConfig},
        norm::{BatchNormConfig, RunningStatistic, freeze_statistics},
    };

    type Model = ReidModel<ResNet, BnNeck>;

    fn read(statistic: &RunningStatistic) -> Vec<f32> {
        let data = statistic.value().into_data();
        data.try_to_vec().expect("f32 statistics")
    }

    fn model(device: &Device) -> Model {
        let backbone = ResNetConfig::resnet18().with_width(2);
        let (size, head) = (InputSize::new(32, 16), BnNeckConfig::new());
        let model = ReidModel::new(&backbone, &head, size, 3, &fixtures::init(device));
        fixtures::weights(model)
    }

    fn batches() -> Vec<Tensor<4>> {
        let device = Device::default();
        let sizes = [4, 2, 3].into_iter();
        let batch = |images| fixtures::tensor([images, 3, 32, 16], -1.0..2.0, &device);
        sizes.map(batch).collect()
    }

    fn renewed(model: Model, batches: Vec<Tensor<4>>) -> Model {
        renew_batch_norm(model, batches, |model, images| {
            let _ = model.forward(images.autodiff());
        })
    }

    /// The mean over the batches of the statistics of each one, which a momentum of 1 gives.
    #[test]
    fn the_statistics_are_the_means_over_the_batches() {
        let device = Device::default().autodiff();
        let layer = |momentum| {
            let config = BatchNormConfig::new(2).with_momentum(momentum);
            config.init(&device)
        };
        let batches: Vec<Tensor<2>> = [3, 5, 2]
            .map(|rows| fixtures::tensor([rows, 2], -3.0..9.0, &device))
            .to_vec();
        let (mut means, mut variances) = ([0.0; 2], [0.0; 2]);
        for batch in &batches {
            let single = layer(1.0);
            let _ = single.forward(batch.clone());
            for (sums, statistic) in [
                (&mut means, &single.running_mean),
                (&mut variances, &single.running_var),
            ] {
                for (sum, value) in sums.iter_mut().zip(read(statistic)) {
                    *sum += value / 3.0;
                }
            }
        }
        for momentum in [0.0, 0.1] {
            let norm = layer(momentum);
            norm.running_mean.set(Tensor::full([2], 1e30, &device));
            let norm = renew_batch_norm(norm, batches.clone(), |norm, batch| {
                let _ = norm.forward(batch);
            });
            let found = [read(&norm.running_mean), read(&norm.running_var)].concat();
            for (found, expected) in found.iter().zip(means.iter().chain(&variances)) {
                let allowed = 1e-5 * (1.0 + expected.abs());
                assert!((found - expected).abs() < allowed, "{found}, {expected}");
            }
        }
    }

    #[test]
    fn a_layer_that_is_used_twice_counts_both_batches() {
        let device = Device::default().autodiff();
        let norm = BatchNormConfig::new(1).init(&device);
        let batch = |values: [[f32; 1]; 2]| Tensor::<2>::from_data(values, &device);
        let norm = renew_batch_norm(norm, [()], |norm, ()| {
            let _ = norm.clone().forward(batch([[70.0], [90.0]])); // a copy changes nothing
            let _ = norm.forward(batch([[1.0], [3.0]]));
            let _ = norm.forward(batch([[5.0], [7.0]]));
        });
        assert_eq!(read(&norm.running_mean), [4.0]);
        // Afterwards, the momentum is that of the layer.
        let _ = norm.forward(batch([[14.0], [14.0]]));
        assert!((read(&norm.running_mean)[0] - 5.0).abs() < 1e-5);
    }

    #[test]
    fn a_module_without_batch_normalisation_needs_no_pass() {
        let layer = burn::nn::LinearConfig::new(2, 2).init(&Device::default());
        let weight = layer.weight.to_data();
        let renewed = renew_batch_norm(layer, [()], |_, ()| panic!("a needless pass"));
        assert_eq!(renewed.weight.to_data(), weight);
    }

    #[test]
    fn a_model_is_renewed_alike_on_a_plain_and_an_autodiff_device() {
        let device = Device::default();
        let on_autodiff = renewed(model(&device.clone().autodiff()), batches());
        let plain = renewed(model(&device), batches());
        assert!(on_autodiff.backbone.conv1.weight.val().is_require_grad());
        assert!(!plain.devices().iter().any(Device::is_autodiff));
        let images = batches().remove(0);
        let found = plain.embed(images.clone()).into_data();
        assert_eq!(found, on_autodiff.embed(images.clone()).into_data());
        assert_ne!(found, model(&device).embed(images).into_data());
        let stem = plain.backbone.bn1.as_ref().expect("a batch normalisation");
        assert_ne!(read(&stem.running_mean), [0.0; 2]);
    }

    #[test]
    fn frozen_layers_and_a_model_without_batches_keep_their_statistics() {
        let device = Device::default().autodiff();
        let statistics = |model: &Model| read(&model.head.bottleneck.running_mean);
        let before = statistics(&model(&device));
        assert_eq!(statistics(&renewed(model(&device), Vec::new())), before);
        let frozen = freeze_statistics(model(&device));
        assert_eq!(statistics(&renewed(frozen, batches())), before);
        assert_ne!(statistics(&renewed(model(&device), batches())), before);
    }
}
