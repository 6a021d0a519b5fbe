//! Steps of Adam.

use burn::tensor::{DType, Device, Tensor};
use reid_ops::{AdamStep, adam};

use crate::{close, random};

/// In double precision, a step is a composition of Burn's operations.
#[test]
fn native_and_composed_steps_of_adam_agree() {
    let device = Device::default();
    let random = || random([7, 3001], &device);
    let gradients = [random(), random(), random()];
    for decay in [0.0, 0.3] {
        let first = [
            random(),
            Tensor::zeros([7, 3001], &device),
            Tensor::zeros([7, 3001], &device),
        ];
        let walk = |dtype: DType| {
            let [mut weights, mut mean, mut square] = first.clone().map(|start| start.cast(dtype));
            for (taken, gradient) in gradients.iter().enumerate() {
                // Transposed, so that the operands are not contiguous.
                let gradient = gradient.clone().cast(dtype).swap_dims(0, 1);
                let transposed = |tensor: Tensor<2>| tensor.swap_dims(0, 1);
                let step = AdamStep {
                    rate: 0.01,
                    beta1: 0.9,
                    beta2: 0.999,
                    epsilon: 1e-8,
                    decay,
                    time: taken + 1,
                };
                let means = [transposed(mean), transposed(square)];
                let (updated, [first, second]) = adam(transposed(weights), gradient, means, step);
                [weights, mean, square] = [updated, first, second].map(transposed);
            }
            [weights, mean, square]
        };
        let before = first[0].to_data();
        for (native, composed) in walk(DType::F32).iter().zip(&walk(DType::F64)) {
            close("a step of Adam", native, composed, 1e-5);
        }
        assert_eq!(
            first[0].to_data(),
            before,
            "a shared operand keeps its values"
        );
    }
}

/// In double precision, a step equals its formula.
#[test]
fn a_step_in_double_precision_equals_its_formula() {
    let device = Device::default();
    let values = || random::<1>([5], &device).cast(DType::F64);
    let (weights, gradient, mean, square) = (values(), values(), values(), values().square());
    let step = AdamStep {
        rate: 0.01,
        beta1: 0.75,
        beta2: 0.875,
        epsilon: 0.5,
        decay: 0.25,
        time: 2,
    };
    let of = (weights.clone(), gradient.clone());
    let (updated, means) = adam(of.0, of.1, [mean.clone(), square.clone()], step);
    let gradient = gradient + weights.clone() * 0.25;
    let mean = mean * 0.75 + gradient.clone() * 0.25;
    let square = square * 0.875 + gradient.square() * 0.125;
    let corrected = (square.clone() / (1.0 - 0.875 * 0.875)).sqrt() + 0.5;
    let expected = weights - mean.clone() / (1.0 - 0.75 * 0.75) / corrected * 0.01;
    // The bias corrections are scalars in single precision.
    close("weights", &updated, &expected, 1e-7);
    close("mean", &means[0], &mean, 1e-10);
    close("square", &means[1], &square, 1e-10);
}
