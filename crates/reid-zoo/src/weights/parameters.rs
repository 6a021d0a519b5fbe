//! Parameters: the tensors of a module by name, out and in.

use std::collections::HashMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, Parameter},
    store::{bridge, burn_pack},
    tensor::{Bool, Int, Tensor, TensorData, kind::Basic},
};

/// Whose names and layout the tensors of a file have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Convention {
    /// `PyTorch`'s: `weight` and `bias` of every normalisation, `[out, in]` weights of linear
    /// layers, no names of enum variants.
    PyTorch,
    /// Burn's: the names and layout of the module itself.
    Burn,
}

/// Every tensor of a module, running statistics too; values are read when they are asked for.
pub(super) fn collect<M: Module>(module: &M, convention: Convention) -> Vec<burn_pack::Tensor> {
    let mut collector = Collector {
        place: Place::new(convention),
        tensors: Vec::new(),
    };
    module.visit(&mut collector);
    collector.tensors
}

/// The module with `data` in the tensors of these names, whose shapes and types must be those that
/// [`collect`] gives. Identifiers, devices, and what takes a gradient stay those of the module.
pub(super) fn fill<M: Module>(
    module: M,
    convention: Convention,
    data: HashMap<String, TensorData>,
) -> M {
    module.map(&mut Filler {
        place: Place::new(convention),
        data,
    })
}

/// A place in a module, as names and containers from the outside in.
struct Place {
    convention: Convention,
    names: Vec<String>,
    containers: Vec<String>,
}

impl Place {
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

    /// The name of the tensor at this place.
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

    /// Whether the tensor here is `[in, out]` in the module and `[out, in]` in the file.
    fn is_transposed(&self) -> bool {
        self.convention == Convention::PyTorch
            && self.owner() == "Linear"
            && self.leaf() == "weight"
    }

    fn leaf(&self) -> &str {
        self.names.last().map_or("", String::as_str)
    }

    /// The name of the struct that declares the tensor here.
    fn owner(&self) -> &str {
        let mut owners = self.containers.iter().rev();
        owners
            .find_map(|container| container.strip_prefix("Struct:"))
            .unwrap_or("")
    }
}

/// Whether a struct is one of Burn's normalisations, which say `gamma` and `beta`.
fn is_norm(owner: &str) -> bool {
    matches!(
        owner,
        "BatchNorm" | "GroupNorm" | "InstanceNorm" | "LayerNorm" | "RmsNorm"
    )
}

struct Collector {
    place: Place,
    tensors: Vec<burn_pack::Tensor>,
}

impl Collector {
    fn add<const D: usize, K: Basic + 'static>(&mut self, param: &Param<Tensor<D, K>>)
    where
        Tensor<D, K>: Parameter,
    {
        let tensor = match self.place.convention {
            Convention::PyTorch => param.val(),
            Convention::Burn => param.transform_for_save().val(),
        };
        let tensor = if self.place.is_transposed() {
            tensor.swap_dims(0, 1)
        } else {
            tensor
        };
        let (key, id) = (self.place.key(), param.id.val());
        self.tensors
            .push(bridge::from_tensor(&tensor, key, Some(id)));
    }
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.place.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.place.exit(container);
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
    place: Place,
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
        let Some(data) = self.data.remove(&self.place.key()) else {
            return param;
        };
        let (id, dtype) = (param.id, data.dtype());
        let device = param.lazy_device();
        let tensor = Tensor::from_data(data, (&device, dtype));
        if self.place.convention == Convention::PyTorch && self.place.is_transposed() {
            // Laid out as it is built, so that products round as they did before it was saved.
            let transposed = tensor.swap_dims(0, 1).into_data();
            let tensor = Tensor::from_data(transposed, (&device, dtype));
            return param.map(|old| replaced(&old, tensor));
        }
        // The file's identifiers are not taken over: two branches may be filled from one file. Of a parameter that
        // was never read, nothing is drawn.
        param.transform_for_load(tensor, id)
    }
}

/// The new value, which takes a gradient if the old one did.
fn replaced<T: Parameter>(old: &T, new: T) -> T {
    new.set_require_grad(old.is_require_grad())
}

impl ModuleMapper for Filler {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.place.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.place.exit(container);
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
    fn pytorch_names_norms_and_transposes_linear_layers() {
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
    fn burn_names_are_those_of_the_module() {
        let expected = [
            ("layer.Plain.weight", vec![3, 2]),
            ("norms.0.gamma", vec![3]),
            ("norms.0.beta", vec![3]),
            ("skip.0.weight", vec![3, 4]),
        ];
        let expected = expected.map(|(name, shape)| (name.to_owned(), shape));
        assert_eq!(names_and_shapes(Convention::Burn), expected);
    }

    /// What comes out goes in again, also where Burn keeps a linear layer the other way round.
    #[test]
    fn both_conventions_travel_between_both_layouts_of_linear_layers() {
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
            // Two layouts round in two ways.
            let (one, other) = (one.into_data(), other.into_data());
            one.assert_approx_eq::<f32>(&other, Tolerance::default());
        }
    }
}
