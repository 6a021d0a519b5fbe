//! Views: tensors that are not contiguous in memory.

use burn::tensor::{
    Device, Tensor,
    ops::{ConvOptions, MaxPoolOptions},
};
use reid_ops::{
    BatchNormParams, Epilogue, RunningStatistics, add_relu, attention, batch_norm,
    batch_norm_train, batch_norm_update, conv2d, conv2d_batch_norm, conv2d_epilogue, cut_mix,
    global_avg_pool2d, max_pool2d, mul_gate, mul_gate_epilogue,
};

use crate::random;

const SHAPE: [usize; 4] = [2, 6, 4, 5];

/// Views of one shape: transposed, with channels innermost, a slice, and expanded over images, positions,
/// or channels and columns.
fn views(device: &Device) -> Vec<Tensor<4>> {
    let map = |shape: [usize; 4]| random(shape, device);
    vec![
        map([2, 6, 5, 4]).swap_dims(2, 3),
        map([2, 4, 5, 6]).permute([0, 3, 1, 2]),
        map([4, 9, 6, 8]).slice([1..3, 2..8, 1..5, 3..8]),
        map([1, 6, 4, 5]).expand(SHAPE),
        map([2, 6, 1, 1]).expand(SHAPE),
        map([2, 1, 4, 1]).expand(SHAPE),
    ]
}

/// A contiguous copy.
fn dense<const D: usize>(view: &Tensor<D>) -> Tensor<D> {
    Tensor::from_data(view.to_data(), &view.device())
}

/// A function of two tensors of one shape.
type Operation = Box<dyn Fn(Tensor<4>, Tensor<4>) -> Tensor<4>>;

/// Depthwise convolutions, whose weights are views as well.
fn depthwise(device: &Device) -> [Operation; 2] {
    let weight = random([3, 6, 1, 5], device).permute([1, 2, 0, 3]);
    let (same, bias) = (weight.clone(), random([6], device));
    [
        Box::new(move |x, y| {
            let (weight, bias) = (weight.clone(), Some(bias.clone()));
            let options = ConvOptions::new([1, 1], [1, 2], [1, 1], 6);
            conv2d_epilogue(x, weight, bias, options, Epilogue::AddRelu(y))
        }),
        Box::new(move |x, _| {
            let options = ConvOptions::new([2, 2], [1, 2], [1, 1], 6);
            conv2d(x, same.clone(), None, options)
        }),
    ]
}

/// The other operations.
fn operations(device: &Device) -> Vec<Operation> {
    let vector = || random::<1>([6], device);
    let (gamma, bias, mean) = (vector(), vector(), vector());
    let norm = BatchNormParams {
        weight: gamma.clone(),
        bias: bias.clone(),
        mean,
        variance: vector().square() + 0.5,
        epsilon: 1e-5,
    };
    let cut = random([2, 5, 4], device).greater_elem(0.0).swap_dims(1, 2);
    let options = |padding| ConvOptions::new([1, 1], [padding; 2], [1, 1], 1);
    let running = RunningStatistics {
        mean: gamma.clone(),
        variance: bias.clone(),
    };
    // Weights that are views as well.
    let (taps, points) = (
        random([3, 6, 6, 3], device).permute([1, 2, 0, 3]),
        random([6, 6, 1, 1], device).swap_dims(0, 1),
    );
    let (of, to, by) = (taps.clone(), points.clone(), norm.clone());
    let (shift, learnt) = (bias.clone(), [gamma.clone(), bias.clone()]);
    vec![
        Box::new({
            let taps = taps.clone();
            move |x, _| conv2d(x, taps.clone(), None, options(1))
        }),
        Box::new(move |x, _| conv2d(x, points.clone(), None, options(0))),
        Box::new(move |x, y| {
            let epilogue = Epilogue::AddRelu(y);
            conv2d_epilogue(x, of.clone(), Some(shift.clone()), options(1), epilogue)
        }),
        Box::new(move |x, y| {
            let with = (by.clone(), Epilogue::AddRelu(y));
            conv2d_batch_norm(x, to.clone(), None, options(0), with)
        }),
        Box::new(move |x, y| batch_norm(x, norm.clone(), Epilogue::AddRelu(y))),
        Box::new(move |x, _| {
            let (gamma, bias) = (gamma.clone(), bias.clone());
            batch_norm_train(x, gamma, bias, 1e-5, Epilogue::Relu).output
        }),
        Box::new(move |x, y| {
            let (running, epilogue) = ((running.clone(), 0.1), Epilogue::AddRelu(y));
            batch_norm_update(x, learnt.clone(), 1e-5, epilogue, running).0
        }),
        Box::new(add_relu),
        Box::new(|x, _| max_pool2d(x, MaxPoolOptions::new([3, 2]).with_stride([2, 1]))),
        Box::new(|x, _| global_avg_pool2d(x).unsqueeze_dims(&[-1, -1])),
        Box::new(|x, y| mul_gate(x, y.slice([0..2, 0..6, 1..2, 2..3]))),
        Box::new(|x, y| mul_gate(x, y.slice([0..2, 3..4]))),
        Box::new(mul_gate),
        Box::new(|x, y| {
            let gate = y.clone().slice([0..2, 0..6, 1..2, 2..3]);
            mul_gate_epilogue(x, gate, Epilogue::AddRelu(y))
        }),
        Box::new(move |x, _| cut_mix(x, cut.clone(), &[1, 0], true)),
        Box::new(|x, y| {
            let [x, y] = [x, y].map(|of| of.reshape([2, 6, 20]));
            attention(x.clone(), y.clone(), y).reshape(SHAPE)
        }),
    ]
}

/// Results and gradients are bit-identical to those of contiguous copies.
#[test]
fn every_operation_reads_views_correctly() {
    let device = Device::default().autodiff();
    let operations = operations(&device).into_iter().chain(depthwise(&device));
    for (index, operation) in operations.enumerate() {
        for (one, x) in views(&device).iter().enumerate() {
            for (other, y) in views(&device).iter().enumerate() {
                // The gradient with respect to the result is a view too, of different kinds.
                let run = |x: &Tensor<4>, y: &Tensor<4>, contiguous: bool| {
                    let [x, y] = [x, y].map(|of| of.clone().detach().require_grad());
                    let result = operation(x.clone(), y.clone());
                    let [images, channels, height, width] = result.dims();
                    let upstream = match (one + other) % 3 {
                        0 => {
                            values([width, images, channels, height], &device).permute([1, 2, 3, 0])
                        }
                        1 => values([images, channels, 1, 1], &device)
                            .expand([images, channels, height, width]),
                        _ => values([1, 1, 1, width], &device)
                            .expand([images, channels, height, width]),
                    };
                    let upstream = if contiguous {
                        dense(&upstream)
                    } else {
                        upstream
                    };
                    let value = result.to_data();
                    let gradients = (result * upstream).sum().backward();
                    let [x, y] = [x, y].map(|of| of.grad(&gradients).map(Tensor::into_data));
                    (value, x, y)
                };
                let found = run(x, y, false);
                let expected = run(&dense(x), &dense(y), true);
                assert_eq!(
                    found, expected,
                    "operation {index} on views {one} and {other}"
                );
            }
        }
    }
}

/// Values that are the same on every call.
fn values(shape: [usize; 4], device: &Device) -> Tensor<4> {
    let count = i64::try_from(shape.iter().product::<usize>()).expect("few");
    let values = Tensor::<1, burn::tensor::Int>::arange(0..count, device).float();
    (values * 0.37).sin().reshape(shape)
}
