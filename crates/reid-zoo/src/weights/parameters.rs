//! Parameters: collects and replaces the tensors of a module by name.

use std::collections::HashMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, Parameter},
    store::{bridge, burn_pack},
    tensor::{Bool, Int, Tensor, TensorData, kind::Basic},
};
use reid_nn::traversal;

/// The convention for names and layouts of the tensors in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Convention {
    /// `PyTorch`'s: `weight` and `bias` of every normalisation, `[out, in]` weights of linear
    /// layers, and no names of enum variants.
    PyTorch,
    /// Burn's: the names and layout of the module itself.
    Burn,
}

/// Collects every tensor of a module, including running statistics. Values are read only when they are used.
pub(super) fn collect<M: Module>(module: &M, convention: Convention) -> Vec<burn_pack::Tensor> {
    let mut collector = Collector {
        path: TensorPath::new(convention),
        tensors: Vec::new(),
    };
    traversal::visit(module, &mut collector);
    collector.tensors
}

/// Replaces the values of the tensors that `data` names, with the shapes and dtypes that [`collect`] returns. The
/// parameters keep their IDs, their device and whether they require a gradient.
pub(super) fn fill<M: Module>(
    module: M,
    convention: Convention,
    data: HashMap<String, TensorData>,
) -> M {
    traversal::map(
        module,
        &mut Filler {
            path: TensorPath::new(convention),
            data,
        },
    )
}

/// The path of a tensor in a module: names and containers, outermost first.
struct TensorPath {
    convention: Convention,
    names: Vec<String>,
    containers: Vec<String>,
}

impl TensorPath {
    const fn new(convention: Convention) -> Self {
        Self {
            convention,
            names: Vec::new(),
            containers: Vec::new(),
        }
    }

    fn enter(&mut self, name: &str, container: &str) {
        self.containers.push(container.to_owned());
        if !self.skips(container) {
            self.names.push(name.to_owned());
        }
    }

    fn exit(&mut self, container: &str) {
        self.containers.pop();
        if !self.skips(container) {
            self.names.pop();
        }
    }

    fn skips(&self, container: &str) -> bool {
        self.convention == Convention::PyTorch && container.starts_with("Enum:")
    }

    /// The key of the tensor at this path.
    fn key(&self) -> String {
        let key = self.names.join(".");
        let renamed = match (self.convention, self.owner(), self.leaf()) {
            (Convention::Burn, _, _) => None,
            (_, owner, "gamma") if is_norm(owner) => Some(("gamma", "weight")),
            (_, owner, "beta") if is_norm(owner) => Some(("beta", "bias")),
            _ => None,
        };
        match renamed.and_then(|(from, to)| Some((key.strip_suffix(from)?, to))) {
            Some((stem, to)) => format!("{stem}{to}"),
            None => key,
        }
    }

    /// Whether the tensor at this path is `[in, out]` in the module and `[out, in]` in the file.
    fn is_transposed(&self) -> bool {
        self.convention == Convention::PyTorch
            && self.owner() == "Linear"
            && self.leaf() == "weight"
    }

    fn leaf(&self) -> &str {
        self.names.last().map_or("", String::as_str)
    }

    /// The name of the struct that declares the tensor at this path.
    fn owner(&self) -> &str {
        let mut owners = self.containers.iter().rev();
        owners
            .find_map(|container| container.strip_prefix("Struct:"))
            .unwrap_or("")
    }
}

/// Whether a struct is one of Burn's normalisations, whose parameters are `gamma` and `beta`.
fn is_norm(owner: &str) -> bool {
    matches!(
        owner,
        "BatchNorm" | "GroupNorm" | "InstanceNorm" | "LayerNorm" | "RmsNorm"
    )
}

struct Collector {
    path: TensorPath,
    tensors: Vec<burn_pack::Tensor>,
}

impl Collector {
    fn add<const D: usize, K: Basic + 'static>(&mut self, param: &Param<Tensor<D, K>>)
    where
        Tensor<D, K>: Parameter,
    {
        let tensor = match self.path.convention {
            Convention::PyTorch => param.val(),
            Convention::Burn => param.transform_for_save().val(),
        };
        let tensor = if self.path.is_transposed() {
            tensor.swap_dims(0, 1)
        } else {
            tensor
        };
        let (key, id) = (self.path.key(), param.id.val());
        self.tensors
            .push(bridge::from_tensor(&tensor, key, Some(id)));
    }
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.add(param);
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(param);
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.add(param);
    }
}

struct Filler {
    path: TensorPath,
    data: HashMap<String, TensorData>,
}

impl Filler {
    fn fill<const D: usize, K: Basic + 'static>(
        &mut self,
        param: Param<Tensor<D, K>>,
    ) -> Param<Tensor<D, K>>
    where
        Tensor<D, K>: Parameter,
    {
        let Some(data) = self.data.remove(&self.path.key()) else {
            return param;
        };
        let (id, dtype) = (param.id, data.dtype());
        let device = param.lazy_device();
        let tensor = Tensor::from_data(data, (&device, dtype));
        if self.path.convention == Convention::PyTorch && self.path.is_transposed() {
            // The weight is stored as in a new layer, so that products are rounded as before the save.
            let transposed = tensor.swap_dims(0, 1).into_data();
            let tensor = Tensor::from_data(transposed, (&device, dtype));
            return param.map(|old| replaced(&old, tensor));
        }
        // The parameter IDs of the file are not used, because two branches may be filled from one file. A parameter
        // that is not initialised yet draws no random numbers.
        param.transform_for_load(tensor, id)
    }
}

/// Returns the new value, which requires a gradient if the old one did.
fn replaced<T: Parameter>(old: &T, new: T) -> T {
    new.set_require_grad(old.is_require_grad())
}

impl ModuleMapper for Filler {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.fill(param)
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        self.fill(param)
    }

    fn map_bool<const D: usize>(
        &mut self,
        param: Param<Tensor<D, Bool>>,
    ) -> Param<Tensor<D, Bool>> {
        self.fill(param)
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig, LinearLayout},
        tensor::{Device, Tolerance},
    };

    use super::*;

    #[derive(Module, Debug)]
    enum Layer {
        Plain(Linear),
    }

    #[derive(Module, Debug)]
    struct Net {
        layer: Layer,
        norms: Vec<LayerNorm>,
        skip: (Linear, Option<Linear>),
    }

    fn net(device: &Device) -> Net {
        let linear = |outputs| LinearConfig::new(3, outputs).with_bias(false).init(device);
        Net {
            layer: Layer::Plain(linear(2)),
            norms: vec![LayerNormConfig::new(3).init(device)],
            skip: (linear(4), None),
        }
    }

    fn names_and_shapes(convention: Convention) -> Vec<(String, Vec<usize>)> {
        let tensors = collect(&net(&Device::default()), convention);
        let pair = |tensor: burn_pack::Tensor| (tensor.name, tensor.shape.to_vec());
        tensors.into_iter().map(pair).collect()
    }

    #[test]
    fn the_pytorch_convention_renames_norms_and_transposes_linear_layers() {
        let expected = [
            ("layer.weight", vec![2, 3]),
            ("norms.0.weight", vec![3]),
            ("norms.0.bias", vec![3]),
            ("skip.0.weight", vec![4, 3]),
        ];
        let expected = expected.map(|(name, shape)| (name.to_owned(), shape));
        assert_eq!(names_and_shapes(Convention::PyTorch), expected);
    }

    #[test]
    fn the_burn_convention_keeps_the_names_of_the_module() {
        let expected = [
            ("layer.Plain.weight", vec![3, 2]),
            ("norms.0.gamma", vec![3]),
            ("norms.0.beta", vec![3]),
            ("skip.0.weight", vec![3, 4]),
        ];
        let expected = expected.map(|(name, shape)| (name.to_owned(), shape));
        assert_eq!(names_and_shapes(Convention::Burn), expected);
    }

    /// Collected tensors can be filled in again, also if the weight of a linear layer is stored in columns.
    #[test]
    fn both_conventions_work_with_both_layouts_of_linear_layers() {
        let device = Device::default();
        let layer = |layout| LinearConfig::new(3, 3).with_layout(layout).init(&device);
        for convention in [Convention::PyTorch, Convention::Burn] {
            let from = layer(LinearLayout::Col);
            let data = collect(&from, convention)
                .into_iter()
                .map(|tensor| {
                    let data = bridge::to_data(&tensor).expect("in memory");
                    (tensor.name, data)
                })
                .collect();
            let to = match convention {
                Convention::PyTorch => layer(LinearLayout::Row),
                Convention::Burn => layer(LinearLayout::Col),
            };
            let to = fill(to, convention, data);
            let input = Tensor::<2>::from_data([[1.0, 2.0, 3.0]], &device);
            let (one, other) = (from.forward(input.clone()), to.forward(input));
            // The products of the two layouts are rounded differently.
            let (one, other) = (one.into_data(), other.into_data());
            one.assert_approx_eq::<f32>(&other, Tolerance::default());
        }
    }
}
