//! Compares parts of a network: outputs in evaluation and in training, and gradients.

use burn::{
    module::Module,
    tensor::{DType, Device, Tensor},
};

use super::{GRADIENT, Golden, OUTPUT, ROUNDING, STATISTIC};
use crate::formula::{self, INPUT};

/// Compares a part's outputs in evaluation and in training, its gradients and its running statistics.
pub(crate) fn compare<M: Module, const D: usize>(
    golden: &Golden,
    part: &str,
    module: M,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<D>,
) {
    let module = compare_outputs(golden, part, module, &forward, OUTPUT);
    compare_gradients(golden, part, module, &forward, DType::F32);
}

/// The same for a network: its gradients are compared in double precision, because in single precision those
/// of deep networks differ between implementations. A device without double precision skips them.
pub(crate) fn compare_network<M: Module, const D: usize>(
    golden: &Golden,
    part: &str,
    module: M,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<D>,
) {
    compare_network_within(golden, part, module, forward, OUTPUT);
}

/// The same with another tolerance of the output in training, for networks with logits.
pub(crate) fn compare_network_within<M: Module, const D: usize>(
    golden: &Golden,
    part: &str,
    module: M,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<D>,
    trained_within: f64,
) {
    let module = compare_outputs(golden, part, module, &forward, trained_within);
    if Device::default().supports_dtype(DType::F64) {
        compare_gradients(golden, part, module, &forward, DType::F64);
    } else {
        let prefixes = ["grad.", "grad_output", "state_after."].map(|key| format!("{part}.{key}"));
        golden.skip(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
    }
}

/// Compares the outputs in both modes, in training within this tolerance, and returns the module. Its running
/// statistics are then those after training.
fn compare_outputs<M: Module, const D: usize>(
    golden: &Golden,
    part: &str,
    module: M,
    forward: &impl Fn(&M, Tensor<4>) -> Tensor<D>,
    trained_within: f64,
) -> M {
    let module = filled_part(part, module);
    let input = part_input(golden, part, &Device::default().autodiff());
    let evaluated = forward(&module.valid(), input.clone().inner());
    golden.meets(&format!("{part}.output.eval"), evaluated, OUTPUT);
    let trained = forward(&module, input);
    golden.meets(&format!("{part}.output.train"), trained, trained_within);
    module
}

/// Compares the gradients and, after one pass in training, the running statistics. The parameters are by the
/// formula again.
fn compare_gradients<M: Module, const D: usize>(
    golden: &Golden,
    part: &str,
    module: M,
    forward: &impl Fn(&M, Tensor<4>) -> Tensor<D>,
    dtype: DType,
) {
    let device = Device::default().autodiff();
    let key = |name: &str| format!("{part}.{name}");
    let module = formula::filled(module, |path| part_key(part, path), dtype);
    let input = part_input(golden, part, &device).cast(dtype).require_grad();
    let output = forward(&module, input.clone());
    let weights = golden.tensor::<D>(&key("grad_output"), &device).cast(dtype);
    let gradients = (output * weights).sum().backward();
    let gradient = input.grad(&gradients).expect("the input's gradient");
    golden.meets(&key("grad.input"), gradient, GRADIENT);
    for (path, gradient) in formula::gradients(&module, &gradients) {
        let name = part_key("grad", &path);
        gradient_meets(
            golden,
            &key(&name),
            &path,
            &gradient.unwrap_or_default(),
            ROUNDING,
        );
    }
    if golden.has_some(&key("state_after.")) {
        let name = |path: &str| key(&part_key("state_after", path));
        golden.meets_statistics(&module, name, STATISTIC);
    }
}

/// Compares a gradient. The tolerance is relative to the largest value, and for a gradient that is zero up to
/// rounding at least relative to `rounding`.
pub(crate) fn gradient_meets(
    golden: &Golden,
    name: &str,
    path: &str,
    found: &[f64],
    rounding: f64,
) {
    let expected = golden.values(name);
    let largest = expected.iter().fold(0.0_f64, |max, x| max.max(x.abs()));
    let least = if formula::vanishes(path, found.len()) {
        rounding
    } else {
        0.0
    };
    golden.compare_scaled(name, found, expected, GRADIENT * largest.max(least));
}

/// Replaces the parameters of a part by values of the formula.
pub(crate) fn filled_part<M: Module>(part: &str, module: M) -> M {
    formula::filled(module, |path| part_key(part, path), DType::F32)
}

/// Maps the path of a parameter to its name in the file, where the BNNeck's `bottleneck` is `bn`.
fn part_key(part: &str, path: &str) -> String {
    format!("{part}.{}", path.replace("bottleneck", "bn"))
}

/// Computes the input of a part by the formula.
pub(crate) fn part_input(golden: &Golden, part: &str, device: &Device) -> Tensor<4> {
    let shape = golden.shape(&format!("{part}.grad.input"));
    formula::tensor(&format!("{part}.input"), shape, INPUT, (device, DType::F32))
}
