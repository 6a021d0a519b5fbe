//! Empty inputs, NaN, and shapes that do not match.

use burn::tensor::{
    DType, Device, Int, Tensor,
    ops::{ConvOptions, MaxPoolOptions},
};
use reid_ops::{
    Epilogue, RunningStatistics, add_relu, attention, batch_norm, batch_norm_train,
    batch_norm_update, conv2d, conv2d_batch_norm, conv2d_epilogue, cut_mix, global_avg_pool2d,
    max_pool2d, mul_gate, mul_gate_epilogue, window_avg_pool2d,
};

use crate::{normalisation, random};

type Operation = fn(Tensor<4>) -> Tensor<4>;

fn pointwise() -> ConvOptions<2> {
    ConvOptions::new([1, 1], [0, 0], [1, 1], 1)
}

/// The weights of a 1 x 1 convolution that sums all channels.
fn ones(x: &Tensor<4>) -> Tensor<4> {
    let channels = x.dims()[1];
    Tensor::ones([channels, channels, 1, 1], &x.device())
}

/// The weights and options of a depthwise convolution that sums 3 x 3 positions.
fn depthwise(x: &Tensor<4>) -> (Tensor<4>, ConvOptions<2>) {
    let channels = x.dims()[1];
    let weight = Tensor::ones([channels, 1, 3, 3], &x.device());
    (weight, ConvOptions::new([1, 1], [1, 1], [1, 1], channels))
}

fn one(x: &Tensor<4>) -> Tensor<1> {
    Tensor::ones([x.dims()[1]], &x.device())
}

fn add_relu_epilogue(x: &Tensor<4>) -> Epilogue<4> {
    Epilogue::AddRelu(Tensor::ones(x.shape(), &x.device()))
}

/// Every operation on features, with its name in error messages.
const OPERATIONS: [(&str, Operation); 20] = [
    ("convolution", |x| {
        let weight = ones(&x);
        conv2d(x, weight, None, pointwise())
    }),
    ("convolution", |x| {
        let (weight, bias) = (ones(&x), one(&x));
        conv2d_epilogue(x, weight, Some(bias), pointwise(), Epilogue::Relu)
    }),
    ("convolution", |x| {
        let (weight, epilogue) = (ones(&x), add_relu_epilogue(&x));
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
        let epilogue = add_relu_epilogue(&x);
        conv2d_batch_norm(x, weight, None, pointwise(), (norm, epilogue))
    }),
    ("convolution", |x| {
        let (weight, options) = depthwise(&x);
        conv2d(x, weight, None, options)
    }),
    ("convolution", |x| {
        let ((weight, options), bias) = (depthwise(&x), one(&x));
        let epilogue = add_relu_epilogue(&x);
        conv2d_epilogue(x, weight, Some(bias), options, epilogue)
    }),
    ("normalisation", |x| {
        let norm = normalisation(x.dims()[1], (&x.device(), DType::F32));
        batch_norm(x, norm, Epilogue::Relu)
    }),
    ("normalisation", |x| {
        let (norm, epilogue) = (
            normalisation(x.dims()[1], (&x.device(), DType::F32)),
            add_relu_epilogue(&x),
        );
        batch_norm(x, norm, epilogue)
    }),
    ("normalisation", |x| {
        let one = one(&x);
        batch_norm_train(x, one.clone(), one, 1e-5, Epilogue::Relu).output
    }),
    ("normalisation", |x| {
        let (one, epilogue) = (one(&x), add_relu_epilogue(&x));
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
    ("pooling", |x| window_avg_pool2d(x, [1, 1])),
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
        let epilogue = add_relu_epilogue(&x);
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

/// The message names the operation and the shape.
#[test]
fn an_empty_batch_is_rejected() {
    for (name, operation) in OPERATIONS {
        let run = || operation(Tensor::zeros([0, 2, 4, 4], &Device::default()));
        let result = std::panic::catch_unwind(run);
        let message = result
            .expect_err("an empty batch panics")
            .downcast::<String>();
        let message = message.expect("a message");
        let expected = format!(
            "{name} of an empty tensor: expected every dimension to be at least 1, found shape [0,"
        );
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn nan_stays_nan() {
    let device = Device::default();
    for (name, operation) in OPERATIONS {
        let bad = Tensor::<4>::full([1, 1, 1, 1], f32::NAN, &device);
        assert!(operation(bad).into_scalar::<f32>().is_nan(), "{name}");
        // With one NaN among many values, some results are NaN and others are not.
        let mut values = vec![1.0_f32; 2 * 3 * 5 * 7];
        values[17] = f32::NAN;
        let some = Tensor::<1>::from_data(values.as_slice(), &device).reshape([2, 3, 5, 7]);
        let result = operation(some);
        let (all, bad) = (result.shape().num_elements(), result.is_nan().int().sum());
        let bad = usize::try_from(bad.into_scalar::<i64>()).expect("a count");
        assert!(
            (1..all).contains(&bad),
            "{name}: {bad} of {all} values are NaN"
        );
    }
}

#[test]
#[should_panic(expected = "shape of the tensor added to a tensor of shape [1, 2, 3, 3]")]
fn a_shortcut_that_differs_in_shape_from_a_convolution_is_rejected() {
    let device = Device::default();
    let input = random([1, 2, 3, 3], &device);
    let epilogue = Epilogue::AddRelu(random([1, 2, 3, 1], &device));
    let (weight, bias) = (ones(&input), one(&input));
    let _ = conv2d_epilogue(input, weight, Some(bias), pointwise(), epilogue);
}

#[test]
#[should_panic(expected = "shape of the tensor added to a tensor of shape [1, 2, 3, 3]")]
fn a_shortcut_that_differs_in_shape_from_a_gate_is_rejected() {
    let device = Device::default();
    let (features, gate) = (random([1, 2, 3, 3], &device), random([1, 2, 1, 1], &device));
    let epilogue = Epilogue::AddRelu(random([1, 2, 3, 1], &device));
    let _ = mul_gate_epilogue(features, gate, epilogue);
}

#[test]
#[should_panic(expected = "channels")]
fn channels_that_do_not_match_are_rejected() {
    let device = Device::default();
    let weight = Tensor::zeros([4, 3, 3, 3], &device);
    let _ = conv2d(
        Tensor::zeros([1, 2, 5, 5], &device),
        weight,
        None,
        pointwise(),
    );
}
