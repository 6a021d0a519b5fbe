//! The formula: weights and inputs that each side of a comparison computes from names, as stated at
//! the top of `tests/golden/make.py`.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{DType, Device, Gradients, Tensor, TensorData},
};

/// A half-open range `[low, high)`.
pub(crate) type Bounds = [f64; 2];

/// The range of gradients and probes.
pub(crate) const UNIT: Bounds = [-1.0, 1.0];

/// The range of inputs.
pub(crate) const INPUT: Bounds = [-2.0, 2.0];

/// The first `count` values of the tensor of this name, in row-major order.
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

/// The tensor of this name.
pub(crate) fn tensor<const D: usize>(
    name: &str,
    shape: [usize; D],
    bounds: Bounds,
    (device, dtype): (&Device, DType),
) -> Tensor<D> {
    let values = values(name, bounds, shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), (device, dtype))
}

/// The module with every weight and running statistic from the formula; `key` gives a parameter's
/// name from its path in the module. What is no weight, bias or statistic stays as it is.
pub(crate) fn filled<M: Module>(module: M, key: impl Fn(&str) -> String, dtype: DType) -> M {
    let mut shapes = Shapes::default();
    module.visit(&mut shapes);
    let shapes = shapes.shapes.into_iter();
    let shapes = shapes.map(|(path, shape)| (key(&path), shape)).collect();
    module.map(&mut Fill {
        place: Place::default(),
        key,
        shapes,
        dtype,
    })
}

/// The gradient of every trained parameter by its path, in `PyTorch`'s layout; `None` for one that the
/// loss did not reach.
pub(crate) fn gradients<M: Module>(
    module: &M,
    gradients: &Gradients,
) -> BTreeMap<String, Option<Vec<f64>>> {
    let mut collect = Collect {
        place: Place::default(),
        gradients,
        found: BTreeMap::new(),
    };
    module.visit(&mut collect);
    collect.found
}

/// Whether the gradient of a parameter is zero but for rounding: normalisation takes away a shift before
/// it and, of a lone weight, all but the sign; a softmax takes away what all of its places share. The
/// last shift of a block before a maximum over places goes the same way here, since in these inputs
/// every such maximum is above 0; so does one before an instance normalisation.
pub(crate) fn vanishes(path: &str, elements: usize) -> bool {
    let shifts = [
        "w.0.bias",
        "g.bias",
        "h.bias",
        "phi.bias",
        "reduction.bias",
        "bn3.bias",
        "downsample.1.bias",
        "stages.0.0.bn2.bias",
    ];
    let lone = elements == 1 && path.ends_with(".0.weight");
    lone || shifts.iter().any(|shift| path.ends_with(shift))
}

/// The values of a tensor, whatever it holds them in.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    let values = tensor.try_into_vec_as::<f64>();
    values.expect("the device computes the tensor")
}

/// Where a walk through a module is.
#[derive(Default)]
pub(crate) struct Place {
    /// Name and container of each step.
    steps: Vec<(String, String)>,
}

impl Place {
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

    /// Between Burn's layout and `PyTorch`'s: the weight of a linear layer is transposed.
    pub(crate) fn transposed<const D: usize>(&self, tensor: Tensor<D>) -> Tensor<D> {
        if self.is_turned(D) {
            tensor.swap_dims(0, 1)
        } else {
            tensor
        }
    }

    /// `PyTorch`'s shape of a parameter of Burn's `shape`.
    pub(crate) fn turned_shape<const D: usize>(&self, mut shape: [usize; D]) -> [usize; D] {
        if self.is_turned(D) {
            shape.swap(0, 1);
        }
        shape
    }

    fn is_turned(&self, rank: usize) -> bool {
        let last = self.steps.last();
        rank == 2 && last.is_some_and(|(_, container)| container == "Struct:Linear")
    }
}

/// The shape of every parameter by path, in `PyTorch`'s layout.
#[derive(Default)]
struct Shapes {
    place: Place,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.place.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.place.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let shape = self.place.turned_shape(param.lazy_shape().dims::<D>());
        self.shapes.insert(self.place.path(), shape.to_vec());
    }
}

struct Fill<K> {
    place: Place,
    key: K,
    shapes: BTreeMap<String, Vec<usize>>,
    dtype: DType,
}

impl<K: Fn(&str) -> String> ModuleMapper for Fill<K> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.place.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.place.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let key = (self.key)(&self.place.path());
        let device = param.lazy_device();
        let place = (&device, self.dtype);
        let value = match self.bounds_of(&key) {
            Some(bounds) => {
                let shape = self.place.turned_shape(param.lazy_shape().dims());
                self.place.transposed(tensor(&key, shape, bounds, place))
            }
            None => Tensor::from_data(param.val().into_data(), place),
        };
        let id = param.id;
        param.transform_for_load(value, id)
    }
}

impl<K> Fill<K> {
    /// The range of a parameter, by the table in `make.py`; `None` if it is not in the table.
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

    /// Whether a normalisation is the last one of a residual branch.
    fn closes_a_branch(&self, owner: &str) -> bool {
        let (block, name) = owner.rsplit_once('.').unwrap_or(("", owner));
        let third = format!("{block}.bn3.weight");
        name == "bn3" || name == "bn2" && !self.shapes.contains_key(third.trim_matches('.'))
    }
}

struct Collect<'a> {
    place: Place,
    gradients: &'a Gradients,
    found: BTreeMap<String, Option<Vec<f64>>>,
}

impl ModuleVisitor for Collect<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.place.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.place.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad() {
            let gradient = value.grad(self.gradients);
            let gradient = gradient.map(|gradient| read(self.place.transposed(gradient)));
            self.found.insert(self.place.path(), gradient);
        }
    }
}
