//! Every operation gives what Burn's own operations give in double precision, forward and backward, and the
//! same bits however many threads there are.

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

/// The types of numbers, and what a result may be off by in each, as a share of its largest number.
const TYPES: [(DType, f64); 2] = [(DType::F32, 1e-5), (DType::F64, 1e-10)];

/// Numbers of mean 0 and variance 1, the same in every run: each test has a thread, and the process's
/// generator of Burn is drawn from by all of them.
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

/// Random numbers of a type, that gradients are asked for where there are any.
fn leaf<const D: usize>(shape: [usize; D], (device, dtype): (&Device, DType)) -> Tensor<D> {
    tracked(random(shape, device).cast(dtype))
}

/// Numbers that gradients are asked for where there are any.
fn tracked<const D: usize>(values: Tensor<D>) -> Tensor<D> {
    if values.device().is_autodiff() {
        values.detach().require_grad()
    } else {
        values
    }
}

/// Numbers that are not tracked.
fn plain<const D: usize>(values: &Tensor<D>) -> Tensor<D> {
    let values = values.clone();
    if values.device().is_autodiff() {
        values.inner()
    } else {
        values
    }
}

/// The same numbers in double precision; gradients pass.
fn wide<const D: usize>(of: &Tensor<D>) -> Tensor<D> {
    of.clone().cast(DType::F64)
}

/// A normalisation by statistics that are not those of any features.
fn normalisation(channels: usize, position: (&Device, DType)) -> BatchNormParams {
    let one = || leaf([channels], position);
    BatchNormParams {
        weight: one(),
        bias: one(),
        mean: one(),
        variance: tracked(one().square() + 0.5),
        epsilon: 1e-5,
    }
}

/// The same normalisation, not tracked.
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

/// The learnt and given numbers of a normalisation.
fn values(of: &BatchNormParams) -> [&Tensor<1>; 4] {
    [&of.weight, &of.bias, &of.mean, &of.variance]
}

/// Every ending of a map of a shape.
fn epilogues<const D: usize>(shape: [usize; D], position: (&Device, DType)) -> [Epilogue<D>; 3] {
    [
        Epilogue::None,
        Epilogue::Relu,
        Epilogue::AddRelu(leaf(shape, position)),
    ]
}

/// The same ending, not tracked.
fn without_gradient(epilogue: &Epilogue<4>) -> Epilogue<4> {
    match epilogue {
        Epilogue::AddRelu(shortcut) => Epilogue::AddRelu(plain(shortcut)),
        other => other.clone(),
    }
}

/// An ending by Burn's operations, in double precision.
fn apply_epilogue<const D: usize>(map: Tensor<D>, epilogue: &Epilogue<D>) -> Tensor<D> {
    match epilogue {
        Epilogue::None => map,
        Epilogue::Relu => relu(map),
        Epilogue::AddRelu(shortcut) => relu(map + wide(shortcut)),
    }
}

/// What a result is computed from.
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

    /// And the shortcut of an ending.
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

fn close<const D: usize>(what: &str, found: &Tensor<D>, expected: &Tensor<D>, allowed: f64) {
    let difference = difference(found, expected);
    assert!(difference < allowed, "{what}: {difference:e}");
}

/// A result and its gradients by leaves are what was expected, which is in double precision.
fn agree<const D: usize>(
    what: &str,
    [found, expected]: [&Tensor<D>; 2],
    leaves: &Leaves<'_>,
    allowed: f64,
) {
    close(what, found, expected, allowed);
    let pull = random(found.dims(), &found.device());
    let [found, expected] = [found, expected].map(|of| {
        let pull = pull.clone().cast(of.dtype());
        (of.clone() * pull).sum().backward()
    });
    for (position, map) in leaves.maps.iter().enumerate() {
        let what = format!("{what}, by map {position}");
        gradients_agree(&what, map, [&found, &expected], allowed);
    }
    for (position, vector) in leaves.vectors.iter().enumerate() {
        let what = format!("{what}, by vector {position}");
        gradients_agree(&what, vector, [&found, &expected], allowed);
    }
}

/// A gradient by a leaf is what was expected.
fn gradients_agree<const D: usize>(
    what: &str,
    leaf: &Tensor<D>,
    gradients: [&Gradients; 2],
    allowed: f64,
) {
    let [found, expected] = gradients.map(|all| leaf.grad(all).expect("a gradient"));
    close(what, &found, &expected, allowed);
}

struct Case {
    input: [usize; 4],
    results: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
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
        groups,
    }
}

impl Case {
    fn options(&self) -> ConvOptions<2> {
        ConvOptions::new(self.stride, self.padding, [1, 1], self.groups)
    }

    fn weights(&self) -> [usize; 4] {
        let [down, across] = self.kernel;
        [self.results, self.input[1] / self.groups, down, across]
    }
}
