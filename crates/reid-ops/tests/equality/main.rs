//! Every operation equals a composition of Burn's operations in double precision, forward and backward, and
//! is bit-identical on any number of threads.

mod adam;
mod attention;
mod convolutions;
mod edges;
mod maps;
mod normalisations;
mod threads;
mod views;

use std::cell::Cell;

use burn::tensor::{
    DType, Device, Gradients, Tensor, TensorData, activation::relu, ops::ConvOptions,
};
use reid_ops::{BatchNormParams, Epilogue};

/// The dtypes, each with the allowed error of a result, relative to its largest value.
const TYPES: [(DType, f64); 2] = [(DType::F32, 1e-5), (DType::F64, 1e-10)];

/// Random values of mean 0 and variance 1, the same in every run. The generator is local to the thread of a
/// test: all tests of the process would share Burn's generator.
fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    thread_local! {
        static DRAWN: Cell<u64> = const { Cell::new(1) };
    }
    let next = || {
        let state = DRAWN.get().wrapping_mul(6_364_136_223_846_793_005);
        DRAWN.set(state.wrapping_add(1_442_695_040_888_963_407));
        (DRAWN.get() >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let values = (0..shape.iter().product()).map(|_| 3_f32.sqrt() * next());
    Tensor::from_data(TensorData::new(values.collect(), shape), device)
}

/// Random values of a dtype, tracked on an autodiff device.
fn leaf<const D: usize>(shape: [usize; D], (device, dtype): (&Device, DType)) -> Tensor<D> {
    tracked(random(shape, device).cast(dtype))
}

/// The values as a leaf that is tracked on an autodiff device.
fn tracked<const D: usize>(values: Tensor<D>) -> Tensor<D> {
    if values.device().is_autodiff() {
        values.detach().require_grad()
    } else {
        values
    }
}

/// The values without autodiff.
fn plain<const D: usize>(values: &Tensor<D>) -> Tensor<D> {
    let values = values.clone();
    if values.device().is_autodiff() {
        values.inner()
    } else {
        values
    }
}

/// The values in double precision; gradients flow through the cast.
fn wide<const D: usize>(of: &Tensor<D>) -> Tensor<D> {
    of.clone().cast(DType::F64)
}

/// A normalisation by random statistics.
fn normalisation(channels: usize, target: (&Device, DType)) -> BatchNormParams {
    let one = || leaf([channels], target);
    BatchNormParams {
        weight: one(),
        bias: one(),
        mean: one(),
        variance: tracked(one().square() + 0.5),
        epsilon: 1e-5,
    }
}

/// The normalisation without autodiff.
fn untracked(of: &BatchNormParams) -> BatchNormParams {
    let [gamma, bias, mean, variance] = values(of).map(plain);
    BatchNormParams {
        weight: gamma,
        bias,
        mean,
        variance,
        epsilon: of.epsilon,
    }
}

/// The parameters and statistics of a normalisation.
fn values(of: &BatchNormParams) -> [&Tensor<1>; 4] {
    [&of.weight, &of.bias, &of.mean, &of.variance]
}

/// Every epilogue for features of a shape.
fn epilogues<const D: usize>(shape: [usize; D], target: (&Device, DType)) -> [Epilogue<D>; 3] {
    [
        Epilogue::None,
        Epilogue::Relu,
        Epilogue::AddRelu(leaf(shape, target)),
    ]
}

/// The epilogue without autodiff.
fn without_gradient(epilogue: &Epilogue<4>) -> Epilogue<4> {
    match epilogue {
        Epilogue::AddRelu(shortcut) => Epilogue::AddRelu(plain(shortcut)),
        other => other.clone(),
    }
}

/// Applies an epilogue by Burn's operations, in double precision.
fn apply_epilogue<const D: usize>(map: Tensor<D>, epilogue: &Epilogue<D>) -> Tensor<D> {
    match epilogue {
        Epilogue::None => map,
        Epilogue::Relu => relu(map),
        Epilogue::AddRelu(shortcut) => relu(map + wide(shortcut)),
    }
}

/// The leaves that a result is computed from.
#[derive(Clone, Default)]
struct Leaves<'a> {
    maps: Vec<&'a Tensor<4>>,
    vectors: Vec<&'a Tensor<1>>,
}

impl<'a> Leaves<'a> {
    fn of(maps: &[&'a Tensor<4>], vectors: &[&'a Tensor<1>]) -> Self {
        Self {
            maps: maps.to_vec(),
            vectors: vectors.to_vec(),
        }
    }

    /// Adds the shortcut of an epilogue, if there is one.
    fn and(mut self, epilogue: &'a Epilogue<4>) -> Self {
        if let Epilogue::AddRelu(shortcut) = epilogue {
            self.maps.push(shortcut);
        }
        self
    }
}

/// The largest difference, relative to the largest expected value, in double precision.
fn difference<const D: usize>(found: &Tensor<D>, expected: &Tensor<D>) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let [found, expected] = [found, expected].map(|of| wide(&plain(of)));
    let scale = expected.clone().abs().max().into_scalar::<f64>().max(1e-3);
    (found - expected).abs().max().into_scalar::<f64>() / scale
}

/// Asserts that two tensors are equal up to `allowed`.
fn close<const D: usize>(what: &str, found: &Tensor<D>, expected: &Tensor<D>, allowed: f64) {
    let difference = difference(found, expected);
    assert!(
        difference < allowed,
        "{what}: differs by {difference:e}, allowed {allowed:e}"
    );
}

/// Asserts that a result and its gradients with respect to the leaves equal the expected ones, in double
/// precision.
fn agree<const D: usize>(
    what: &str,
    [found, expected]: [&Tensor<D>; 2],
    leaves: &Leaves<'_>,
    allowed: f64,
) {
    close(what, found, expected, allowed);
    let upstream = random(found.dims(), &found.device());
    let [found, expected] = [found, expected].map(|of| {
        let upstream = upstream.clone().cast(of.dtype());
        (of.clone() * upstream).sum().backward()
    });
    for (index, map) in leaves.maps.iter().enumerate() {
        let what = format!("{what}, gradient of map {index}");
        gradients_agree(&what, map, [&found, &expected], allowed);
    }
    for (index, vector) in leaves.vectors.iter().enumerate() {
        let what = format!("{what}, gradient of vector {index}");
        gradients_agree(&what, vector, [&found, &expected], allowed);
    }
}

/// Asserts that the gradient with respect to a leaf equals the expected one.
fn gradients_agree<const D: usize>(
    what: &str,
    leaf: &Tensor<D>,
    gradients: [&Gradients; 2],
    allowed: f64,
) {
    let [found, expected] = gradients.map(|all| leaf.grad(all).expect("a gradient"));
    close(what, &found, &expected, allowed);
}

/// The sizes of a convolution.
struct Case {
    input: [usize; 4],
    results: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
}

#[expect(clippy::too_many_arguments, reason = "a row of a table")]
const fn case(
    input: [usize; 4],
    results: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    groups: usize,
) -> Case {
    Case {
        input,
        results,
        kernel,
        stride,
        padding,
        dilation: [1, 1],
        groups,
    }
}

impl Case {
    const fn dilated(self, dilation: [usize; 2]) -> Self {
        Self { dilation, ..self }
    }

    fn options(&self) -> ConvOptions<2> {
        ConvOptions::new(self.stride, self.padding, self.dilation, self.groups)
    }

    fn weights(&self) -> [usize; 4] {
        let [down, across] = self.kernel;
        [self.results, self.input[1] / self.groups, down, across]
    }
}
