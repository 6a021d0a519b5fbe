//! Nothing, what is not a number, and shapes that do not fit.

use burn::tensor::{
    DType, Device, Int, Tensor,
    ops::{ConvOptions, MaxPoolOptions},
};
use reid_ops::{
    Epilogue, RunningStatistics, add_relu, attention, batch_norm, batch_norm_train,
    batch_norm_update, conv2d, conv2d_batch_norm, conv2d_epilogue, cut_mix, global_avg_pool2d,
    max_pool2d, mul_gate, mul_gate_epilogue,
};

use crate::{normalisation, random};

type Operation = fn(Tensor<4>) -> Tensor<4>;

fn pointwise() -> ConvOptions<2> {
    ConvOptions::new([1, 1], [0, 0], [1, 1], 1)
}

/// Weights of 1 from all channels of a map to as many.
fn ones(x: &Tensor<4>) -> Tensor<4> {
    let channels = x.dims()[1];
    Tensor::ones([channels, channels, 1, 1], &x.device())
}

fn one(x: &Tensor<4>) -> Tensor<1> {
    Tensor::ones([x.dims()[1]], &x.device())
}

fn joined(x: &Tensor<4>) -> Epilogue<4> {
    Epilogue::AddRelu(Tensor::ones(x.shape(), &x.device()))
}

/// Every operation on maps, and what it calls itself.
const OPERATIONS: [(&str, Operation); 17] = [
    ("convolution", |x| {
        let weight = ones(&x);
        conv2d(x, weight, None, pointwise())
    }),
    ("convolution", |x| {
        let (weight, bias) = (ones(&x), one(&x));
        conv2d_epilogue(x, weight, Some(bias), pointwise(), Epilogue::Relu)
    }),
    ("convolution", |x| {
        let (weight, epilogue) = (ones(&x), joined(&x));
        conv2d_epilogue(x, weight, None, pointwise(), epilogue)
    }),
    ("convolution", |x| {
        let (weight, norm) = (
            ones(&x),
            normalisation(x.dims()[1], (&x.device(), DType::F32)),
        );
        conv2d_batch_norm(x, weight, None, pointwise(), (norm, Epilogue::Relu))
    }),
    ("convolution", |x| {
        let (weight, norm) = (
            ones(&x),
            normalisation(x.dims()[1], (&x.device(), DType::F32)),
        );
        let epilogue = joined(&x);
        conv2d_batch_norm(x, weight, None, pointwise(), (norm, epilogue))
    }),
    ("normalisation", |x| {
        let norm = normalisation(x.dims()[1], (&x.device(), DType::F32));
        batch_norm(x, norm, Epilogue::Relu)
    }),
    ("normalisation", |x| {
        let (norm, epilogue) = (
            normalisation(x.dims()[1], (&x.device(), DType::F32)),
            joined(&x),
        );
        batch_norm(x, norm, epilogue)
    }),
    ("normalisation", |x| {
        let one = one(&x);
        batch_norm_train(x, one.clone(), one, 1e-5, Epilogue::Relu).output
    }),
    ("normalisation", |x| {
        let (one, epilogue) = (one(&x), joined(&x));
        let running = RunningStatistics {
            mean: one.clone(),
            variance: one.clone(),
        };
        batch_norm_update(x, [one.clone(), one], 1e-5, epilogue, (running, 0.1)).0
    }),
    ("sum", |x| {
        let other = Tensor::ones(x.shape(), &x.device());
        add_relu(x, other)
    }),
    ("pooling", |x| max_pool2d(x, MaxPoolOptions::new([1, 1]))),
    ("pooling", |x| {
        global_avg_pool2d(x).unsqueeze_dims(&[-1, -1])
    }),
    ("gate", |x| {
        let gate = Tensor::ones([x.dims()[0], x.dims()[1], 1, 1], &x.device());
        mul_gate(x, gate)
    }),
    ("gate", |x| {
        let [batch, _, height, width] = x.dims();
        let gate = Tensor::ones([batch, 1, height, width], &x.device());
        mul_gate_epilogue(x, gate, Epilogue::Relu)
    }),
    ("gate", |x| {
        let gate = Tensor::ones([x.dims()[0], x.dims()[1], 1, 1], &x.device());
        let epilogue = joined(&x);
        mul_gate_epilogue(x, gate, epilogue)
    }),
    ("mixing", |x| {
        let [batch, _, height, width] = x.dims();
        let cut = Tensor::<3, Int>::zeros([batch, height, width], &x.device()).bool();
        let partners: Vec<_> = (0..batch).collect();
        cut_mix(x, cut, &partners, true)
    }),
    ("attention", |x| {
        let map: Tensor<3> = x.flatten(2, 3);
        attention(map.clone(), map.clone(), map).unsqueeze_dim(3)
    }),
];

/// A message says which operation was given nothing.
#[test]
fn an_empty_batch_is_refused() {
    for (name, operation) in OPERATIONS {
        let nothing = || operation(Tensor::zeros([0, 2, 4, 4], &Device::default()));
        let refused = std::panic::catch_unwind(nothing);
        let message = refused.expect_err("nothing in").downcast::<String>();
        let message = message.expect("a message");
        let expected = format!("{name} of an empty map, expected at least one number, found [0,");
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    let device = Device::default();
    for (name, operation) in OPERATIONS {
        let bad = Tensor::<4>::full([1, 1, 1, 1], f32::NAN, &device);
        assert!(operation(bad).into_scalar::<f32>().is_nan(), "{name}");
        // One of many: what it is part of is not a number, and something else is.
        let mut values = vec![1.0_f32; 2 * 3 * 5 * 7];
        values[17] = f32::NAN;
        let some = Tensor::<1>::from_data(values.as_slice(), &device).reshape([2, 3, 5, 7]);
        let result = operation(some);
        let (all, bad) = (result.shape().num_elements(), result.is_nan().int().sum());
        let bad = usize::try_from(bad.into_scalar::<i64>()).expect("a number of numbers");
        assert!((1..all).contains(&bad), "{name}: {bad} of {all}");
    }
}

#[test]
#[should_panic(expected = "maps that are added to maps [1, 2, 3, 3]")]
fn a_shortcut_of_another_shape_than_a_convolutions_is_refused() {
    let device = Device::default();
    let input = random([1, 2, 3, 3], &device);
    let epilogue = Epilogue::AddRelu(random([1, 2, 3, 1], &device));
    let (weight, bias) = (ones(&input), one(&input));
    let _ = conv2d_epilogue(input, weight, Some(bias), pointwise(), epilogue);
}

#[test]
#[should_panic(expected = "maps that are added to maps [1, 2, 3, 3]")]
fn a_shortcut_of_another_shape_than_a_gates_is_refused() {
    let device = Device::default();
    let (features, gate) = (random([1, 2, 3, 3], &device), random([1, 2, 1, 1], &device));
    let epilogue = Epilogue::AddRelu(random([1, 2, 3, 1], &device));
    let _ = mul_gate_epilogue(features, gate, epilogue);
}

#[test]
#[should_panic(expected = "channels")]
fn channels_that_do_not_fit_are_refused() {
    let device = Device::default();
    let weight = Tensor::zeros([4, 3, 3, 3], &device);
    let _ = conv2d(
        Tensor::zeros([1, 2, 5, 5], &device),
        weight,
        None,
        pointwise(),
    );
}
