//! The formula: computes weights and inputs from the names of tensors, so that Rust and Python tests agree
//! on them without files. The docs of `tests/golden/make.py` define it.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{DType, Device, Gradients, Tensor, TensorData},
};

/// A half-open range `[low, high)`.
pub(crate) type Bounds = [f64; 2];

/// The range of output gradients and probes.
pub(crate) const UNIT: Bounds = [-1.0, 1.0];

/// The range of inputs.
pub(crate) const INPUT: Bounds = [-2.0, 2.0];

/// Computes the first `count` values of the tensor `name`, in row-major order.
pub(crate) fn values(name: &str, [low, high]: Bounds, count: usize) -> Vec<f32> {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let value = |index| {
        let unit = (mix(hash ^ mix(index)) >> 40) as f64 / f64::from(1 << 24);
        narrowed(low + (high - low) * unit)
    };
    (0..count as u64).map(value).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "the formula rounds to f32")]
fn narrowed(value: f64) -> f32 {
    value as f32
}

const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Computes the tensor `name`.
pub(crate) fn tensor<const D: usize>(
    name: &str,
    shape: [usize; D],
    bounds: Bounds,
    (device, dtype): (&Device, DType),
) -> Tensor<D> {
    let values = values(name, bounds, shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), (device, dtype))
}

/// Replaces every weight, bias and running statistic of a module by values of the formula. `key` maps the
/// path of a parameter in the module to its name. Other parameters keep their values.
pub(crate) fn filled<M: Module>(module: M, key: impl Fn(&str) -> String, dtype: DType) -> M {
    let mut shapes = Shapes::default();
    module.visit(&mut shapes);
    let shapes = shapes.shapes.into_iter();
    let shapes = shapes.map(|(path, shape)| (key(&path), shape)).collect();
    module.map(&mut Fill {
        module_path: ModulePath::default(),
        key,
        shapes,
        dtype,
    })
}

/// Collects the gradient of every trained parameter by path, in PyTorch's layout. It is `None` for a
/// parameter that the loss does not depend on.
pub(crate) fn gradients<M: Module>(
    module: &M,
    gradients: &Gradients,
) -> BTreeMap<String, Option<Vec<f64>>> {
    let mut collect = Collect {
        module_path: ModulePath::default(),
        gradients,
        found: BTreeMap::new(),
    };
    module.visit(&mut collect);
    collect.found
}

/// Whether the gradient of a parameter is zero up to rounding.
///
/// It is zero for a bias before a normalisation, which subtracts the mean, and for a bias before a softmax,
/// which ignores a term that all positions share. It is also zero for a weight with one element before a
/// normalisation, which keeps only the sign of its scale. The last bias of a block before a maximum over
/// positions is such a bias too, because every such maximum is above 0 for these inputs.
pub(crate) fn vanishes(path: &str, elements: usize) -> bool {
    let biases = [
        "w.0.bias",
        "g.bias",
        "h.bias",
        "phi.bias",
        "reduction.bias",
        "bn3.bias",
        "downsample.1.bias",
        "downsample.bn.bias",
        "conv3.bn.bias",
        "project.bn.bias",
        "conv.conv.bias",
        "stages.0.0.bn2.bias",
    ];
    let scale = elements == 1 && path.ends_with(".0.weight");
    scale || biases.iter().any(|bias| path.ends_with(bias))
}

/// Reads the values of a tensor of any float dtype.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    let values = tensor.try_into_vec_as::<f64>();
    values.expect("the tensor is computed")
}

/// The path of the current parameter while a module is visited.
#[derive(Default)]
pub(crate) struct ModulePath {
    /// The name and the container type of each module from the root.
    steps: Vec<(String, String)>,
}

impl ModulePath {
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        self.steps.push((name.to_owned(), container.to_owned()));
    }

    pub(crate) fn exit(&mut self) {
        self.steps.pop();
    }

    /// The path, such as `layer1.0.conv1.weight`.
    pub(crate) fn path(&self) -> String {
        let names: Vec<_> = self.steps.iter().map(|(name, _)| name.as_str()).collect();
        names.join(".")
    }

    /// Converts a parameter between Burn's and PyTorch's layout: transposes the weight of a linear layer.
    pub(crate) fn transposed<const D: usize>(&self, tensor: Tensor<D>) -> Tensor<D> {
        if self.is_transposed(D) {
            tensor.swap_dims(0, 1)
        } else {
            tensor
        }
    }

    /// Returns PyTorch's shape of a parameter with Burn's `shape`.
    pub(crate) fn pytorch_shape<const D: usize>(&self, mut shape: [usize; D]) -> [usize; D] {
        if self.is_transposed(D) {
            shape.swap(0, 1);
        }
        shape
    }

    fn is_transposed(&self, rank: usize) -> bool {
        let last = self.steps.last();
        rank == 2 && last.is_some_and(|(_, container)| container == "Struct:Linear")
    }
}

/// Collects the shape of every parameter by path, in PyTorch's layout.
#[derive(Default)]
struct Shapes {
    module_path: ModulePath,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.module_path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.module_path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let shape = self
            .module_path
            .pytorch_shape(param.lazy_shape().dims::<D>());
        self.shapes.insert(self.module_path.path(), shape.to_vec());
    }
}

struct Fill<K> {
    module_path: ModulePath,
    key: K,
    shapes: BTreeMap<String, Vec<usize>>,
    dtype: DType,
}

impl<K: Fn(&str) -> String> ModuleMapper for Fill<K> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.module_path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.module_path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let key = (self.key)(&self.module_path.path());
        let device = param.lazy_device();
        let options = (&device, self.dtype);
        let value = match self.bounds_of(&key) {
            Some(bounds) => {
                let shape = self.module_path.pytorch_shape(param.lazy_shape().dims());
                self.module_path
                    .transposed(tensor(&key, shape, bounds, options))
            }
            None => Tensor::from_data(param.val().into_data(), options),
        };
        let id = param.id;
        param.transform_for_load(value, id)
    }
}

impl<K> Fill<K> {
    /// Returns the range of a parameter, by the table in `make.py`, or `None` if it is not in the table.
    fn bounds_of(&self, key: &str) -> Option<Bounds> {
        let (owner, kind) = key.rsplit_once('.').unwrap_or(("", key));
        let sibling = |name: &str| self.shapes.get(format!("{owner}.{name}").trim_matches('.'));
        let bounds = match (kind, sibling("weight").map(Vec::as_slice)) {
            ("running_mean", _) | ("bias", Some([_])) => [-0.2, 0.2],
            ("bias", Some(_)) => [-0.1, 0.1],
            ("weight", Some([_])) if self.closes_a_branch(owner) => [0.1, 0.3],
            ("running_var", _) | ("weight", Some([_])) => [0.5, 1.5],
            ("weight", Some([_, others @ ..])) => {
                let bound = (3.0 / others.iter().product::<usize>() as f64).sqrt();
                [-bound, bound]
            }
            _ => return None,
        };
        Some(bounds)
    }

    /// Whether a normalisation is the last one before the residual addition of a block.
    fn closes_a_branch(&self, owner: &str) -> bool {
        let (block, name) = owner.rsplit_once('.').unwrap_or(("", owner));
        let third = format!("{block}.bn3.weight");
        name == "bn3" || name == "bn2" && !self.shapes.contains_key(third.trim_matches('.'))
    }
}

struct Collect<'a> {
    module_path: ModulePath,
    gradients: &'a Gradients,
    found: BTreeMap<String, Option<Vec<f64>>>,
}

impl ModuleVisitor for Collect<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.module_path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.module_path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad() {
            let gradient = value.grad(self.gradients);
            let gradient = gradient.map(|gradient| read(self.module_path.transposed(gradient)));
            self.found.insert(self.module_path.path(), gradient);
        }
    }
}
