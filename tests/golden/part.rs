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
    let device = Device::default().autodiff();
    let key = |name: &str| format!("{part}.{name}");
    let module = filled_part(part, module);
    let input = part_input(golden, part, &device).require_grad();
    let evaluated = forward(&module.valid(), input.clone().inner());
    golden.meets(&key("output.eval"), evaluated, OUTPUT);

    let output = forward(&module, input.clone());
    golden.meets(&key("output.train"), output.clone(), OUTPUT);
    let weights = golden.tensor::<D>(&key("grad_output"), &device);
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
