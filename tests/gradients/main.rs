//! Compares the gradients of every block, head and criterion with finite differences.
//!
//! The tests run in double precision if the device supports it, and otherwise in single precision with a
//! larger tolerance. The device's default dtype is not changed, so the tests also check that parts keep the
//! dtype of their input. Weights and inputs come from the formula (`tests/formula`), so they are the same in
//! every run.

use std::{collections::BTreeMap, sync::LazyLock};

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Device, Tensor, TensorData},
};
use reid::{
    core::{FeatureShape, Seed},
    nn::{
        Block, BlockConfig, Head, HeadConfig, Init, Targets, TrainingStep,
        attention::SqueezeExcitationConfig,
    },
};

use formula::{INPUT, ModulePath, UNIT};

mod blocks;
mod criteria;
#[path = "../formula/mod.rs"]
mod formula;
mod heads;
mod networks;

/// The number of elements per tensor to check, besides the element with the largest gradient.
const COORDINATES: usize = 5;

/// The same for networks with more than `MANY` parameters, whose forward passes are slow.
const COORDINATES_OF_MANY: usize = 1;

/// The number of parameters from which fewer elements are checked.
const MANY: usize = 60;

/// The settings of finite differences on the device under test.
struct Precision {
    device: Device,
    dtype: DType,
    /// The step sizes, tried until one agrees: kinks such as ReLU's spoil large steps, rounding spoils small
    /// ones.
    steps: &'static [f64],
    /// The tolerance, relative to the largest gradient of a tensor.
    tolerance: f64,
}

static PRECISION: LazyLock<Precision> = LazyLock::new(|| {
    let device = Device::default();
    let has_double = device.supports_dtype(DType::F64);
    let (steps, tolerance): (&[f64], _) = if has_double {
        (&[1e-6], 1e-5)
    } else {
        (&[1e-3, 1e-2, 2e-4, 5e-2, 5e-5], 2e-2)
    };
    Precision {
        device: device.autodiff(),
        dtype: if has_double { DType::F64 } else { DType::F32 },
        steps,
        tolerance,
    }
});

fn device() -> &'static Device {
    &PRECISION.device
}

// ------------------------------------------------------------------------------------ the method

/// The gradients from the backward pass, with respect to the input and to each parameter.
struct Derivatives {
    input: Vec<f64>,
    parameters: BTreeMap<String, Vec<f64>>,
}

impl Derivatives {
    /// The reference magnitude for the tolerance of a gradient that is zero up to rounding: a twentieth of
    /// the largest gradient.
    fn least(&self) -> f64 {
        let all = self.parameters.values().flatten().chain(&self.input);
        all.fold(0.0_f64, |max, gradient| max.max(gradient.abs())) / 20.0
    }
}

/// Checks the gradients of a loss with respect to its input and to every trained parameter.
fn check<M: Module, const D: usize>(
    module: M,
    shape: [usize; D],
    loss: impl Fn(&M, Tensor<D>) -> Tensor<1>,
) {
    check_filled(&filled(module), shape, &loss);
}

/// The same for a module whose parameters are already those of the test.
fn check_filled<M: Module, const D: usize>(
    module: &M,
    shape: [usize; D],
    loss: &impl Fn(&M, Tensor<D>) -> Tensor<1>,
) {
    let derivatives = back_propagated(module, shape, loss);
    check_input(&derivatives, module, shape, loss);
    check_parameters(&derivatives, module, shape, loss);
}

fn filled<M: Module>(module: M) -> M {
    formula::filled(module, str::to_owned, PRECISION.dtype)
}

fn tensor<const D: usize>(name: &str, shape: [usize; D], bounds: formula::Bounds) -> Tensor<D> {
    formula::tensor(name, shape, bounds, (device(), PRECISION.dtype))
}

fn back_propagated<M: Module, const D: usize>(
    module: &M,
    shape: [usize; D],
    loss: &impl Fn(&M, Tensor<D>) -> Tensor<1>,
) -> Derivatives {
    let leaf = tensor("input", shape, INPUT).require_grad();
    let gradients = loss(module, leaf.clone()).backward();
    let input = leaf
        .grad(&gradients)
        .expect("the loss depends on its input");
    let parameters = formula::gradients(module, &gradients).into_iter();
    let parameters = parameters.map(|(path, gradient)| {
        let unreached = || panic!("the loss does not reach {path}");
        let gradient = gradient.unwrap_or_else(unreached);
        (path, gradient)
    });
    Derivatives {
        input: formula::read(input),
        parameters: parameters.collect(),
    }
}

fn check_input<M: Module, const D: usize>(
    derivatives: &Derivatives,
    module: &M,
    shape: [usize; D],
    loss: &impl Fn(&M, Tensor<D>) -> Tensor<1>,
) {
    let gradient = ("input", &*derivatives.input);
    let untracked = module.clone().no_grad();
    compare(gradient, (0.0, COORDINATES), |index, change| {
        let input = tensor("input", shape, INPUT) + one_hot(shape, index, change);
        value(loss(&untracked, input))
    });
}

fn check_parameters<M: Module, const D: usize>(
    derivatives: &Derivatives,
    module: &M,
    shape: [usize; D],
    loss: &impl Fn(&M, Tensor<D>) -> Tensor<1>,
) {
    let many = derivatives.parameters.len() > MANY;
    let coordinates = if many {
        COORDINATES_OF_MANY
    } else {
        COORDINATES
    };
    for (path, gradient) in &derivatives.parameters {
        let vanishes = formula::vanishes(path, gradient.len());
        let least = if vanishes { derivatives.least() } else { 0.0 };
        compare((path, gradient), (least, coordinates), |index, change| {
            let mut nudge = Nudge {
                module_path: ModulePath::default(),
                path,
                index,
                change,
            };
            let nudged = module.clone().map(&mut nudge).no_grad();
            value(loss(&nudged, tensor("input", shape, INPUT)))
        });
    }
}

/// Compares a gradient with central differences at its largest element and at a few random elements.
fn compare(
    (name, gradient): (&str, &[f64]),
    (least, coordinates): (f64, usize),
    nudged: impl Fn(usize, f64) -> f64,
) {
    let Precision {
        steps, tolerance, ..
    } = *PRECISION;
    let magnitude = |index: &usize| gradient[*index].abs();
    let largest = (0..gradient.len()).max_by(|a, b| magnitude(a).total_cmp(&magnitude(b)));
    let largest = largest.expect("a tensor with elements");
    let allowed = magnitude(&largest).max(least) * tolerance;
    assert!(
        allowed > 0.0,
        "{name}: expected a gradient that is not zero everywhere"
    );

    let random = formula::values(&format!("coordinate.{name}"), [0.0, 1.0], coordinates);
    let random = random.iter().map(|&unit| index_at(unit, gradient.len()));
    for index in random.chain([largest]) {
        let found = gradient[index];
        let mut differences = Vec::new();
        let agrees = steps.iter().any(|&step| {
            let difference = (nudged(index, step) - nudged(index, -step)) / (2.0 * step);
            differences.push(difference);
            (found - difference).abs() <= allowed
        });
        assert!(
            agrees,
            "{name}[{index}]: the backward pass gives {found}, finite differences give {differences:?}"
        );
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a value in [0, 1) times a length is an index"
)]
fn index_at(unit: f32, length: usize) -> usize {
    (f64::from(unit) * length as f64) as usize
}

/// The value of a loss that is not differentiated. Burn keeps an entry for each of its operations until the next
/// backward pass, so there is one: without it, the entries of a test may take 12 GB.
fn value(loss: Tensor<1>) -> f64 {
    let value = loss.into_scalar();
    let _ = Tensor::<1>::ones([1], device()).require_grad().backward();
    value
}

fn one_hot<const D: usize>(shape: [usize; D], index: usize, value: f64) -> Tensor<D> {
    let mut values = vec![0.0; shape.iter().product()];
    values[index] = value;
    Tensor::from_data(TensorData::new(values, shape), (device(), PRECISION.dtype))
}

/// Adds `change` to one element of one parameter.
struct Nudge<'a> {
    module_path: ModulePath,
    path: &'a str,
    index: usize,
    change: f64,
}

impl ModuleMapper for Nudge<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.module_path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.module_path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.module_path.path() != self.path {
            return param;
        }
        let (id, value) = (param.id, param.val());
        let shape = self.module_path.pytorch_shape(value.dims());
        let change = one_hot(shape, self.index, self.change);
        let nudged = value + self.module_path.transposed(change);
        // The sum is not a leaf of the graph, and only a leaf can be a parameter.
        param.transform_for_load(nudged.inner().autodiff(), id)
    }
}

/// Makes the weights of the first layer of each gate of an OSNet positive, so that its only hidden unit is active.
/// An inactive one would have no gradient.
#[derive(Default)]
struct ActiveGates(ModulePath);

impl ModuleMapper for ActiveGates {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.0.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.0.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !self.0.path().contains(".gate.fc1.") {
            return param;
        }
        let (id, value) = (param.id, param.val());
        param.transform_for_load(value.inner().abs().autodiff(), id)
    }
}

/// Reduces a tensor to a scalar that depends on every element.
fn project<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let weights = self::tensor("probe", tensor.dims(), UNIT);
    (tensor * weights).sum()
}

// -------------------------------------------------------------------------------------- fixtures

const MAP: FeatureShape = FeatureShape::new(4, 4, 3);

fn check_block(config: &impl BlockConfig, input: FeatureShape) {
    let shape = [3, input.channels, input.height, input.width];
    let block = config.init(input, &Init::new(Seed::new(1), device()));
    check(block, shape, |block, features| {
        project(block.forward(features))
    });
}

fn gate() -> SqueezeExcitationConfig {
    SqueezeExcitationConfig::new().with_reduction(2)
}

fn step(labels: &[usize]) -> TrainingStep<'_> {
    TrainingStep::new(labels, Seed::new(1))
}

fn check_head(config: &impl HeadConfig) {
    let head = config.init(MAP, 3, &Init::new(Seed::new(1), device()));
    check(head, [4, 4, 4, 3], loss_of_head);
}

fn loss_of_head<H: Head>(head: &H, features: Tensor<4>) -> Tensor<1> {
    let output = head.forward_train(features, step(&[0, 1, 2, 0]));
    let outputs = output.features.into_iter().chain(output.logits);
    outputs.fold(project(output.embedding), |sum, output| {
        sum + project(output)
    })
}

/// Class labels: three, two, two and one images of a class.
const LABELS: [usize; 8] = [0, 0, 0, 1, 1, 2, 2, 3];

fn targets() -> Targets {
    Targets::new(&LABELS, device())
}
