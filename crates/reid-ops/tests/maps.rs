//! Gates, means of maps and mixing give what Burn's own operations give, forward and backward.

use burn::tensor::{Bool, Device, Distribution, Int, Tensor, TensorData, activation::relu};
use reid_ops::{Ending, add_rectified, cut_mix, gated, gated_ending, means};

/// Small maps and odd ones, and some that are shared out: by whole lines, and not.
const SHAPES: [[usize; 4]; 7] = [
    [1, 1, 1, 1],
    [3, 5, 7, 3],
    [2, 48, 1, 9],
    [2, 1, 4, 6],
    [3, 65, 32, 48],
    [5, 66, 31, 29],
    [2, 3, 300, 301],
];

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

fn close<const D: usize>(found: &Tensor<D>, expected: &Tensor<D>, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let scale = expected.clone().abs().max().into_scalar::<f32>().max(1e-3);
    let worst = (found.clone() - expected.clone()).abs().max();
    let worst = worst.into_scalar::<f32>() / scale;
    assert!(worst < 1e-5, "{what}: {worst:e}");
}

/// The gradients by some leaves of a result that is pulled at.
fn pulled<const D: usize>(result: Tensor<D>, pull: Tensor<D>, by: &[&Tensor<4>]) -> Vec<Tensor<4>> {
    let gradients = (result * pull).sum().backward();
    let gradient = |leaf: &&Tensor<4>| leaf.grad(&gradients).expect("a gradient");
    by.iter().map(gradient).collect()
}

/// The shapes of gates of features: for each channel, for each place, and for each number.
fn gates([batch, channels, height, width]: [usize; 4]) -> [[usize; 4]; 3] {
    [
        [batch, channels, 1, 1],
        [batch, 1, height, width],
        [batch, channels, height, width],
    ]
}

#[test]
fn gates_and_their_gradients_are_burns() {
    let device = Device::default().autodiff();
    for shape in SHAPES {
        for gate in gates(shape) {
            let what = format!("{shape:?} {gate:?}");
            let features = random(shape, &device).require_grad();
            let gate = random(gate, &device).require_grad();
            let shortcut = random(shape, &device).require_grad();
            let pull = random(shape, &device);
            let product = || features.clone() * gate.clone();
            let cases = [
                (Ending::Plain, product(), 2),
                (Ending::Rectified, relu(product()), 2),
                (
                    Ending::Joined(shortcut.clone()),
                    relu(product() + shortcut.clone()),
                    3,
                ),
            ];
            for (ending, expected, leaves) in cases {
                let found = gated_ending(features.clone(), gate.clone(), ending);
                assert_eq!(found.to_data(), expected.to_data(), "{what}");
                let leaves = &[&features, &gate, &shortcut][..leaves];
                let found = pulled(found, pull.clone(), leaves);
                let expected = pulled(expected, pull.clone(), leaves);
                for (found, expected) in found.iter().zip(&expected) {
                    close(found, expected, &what);
                }
            }
        }
    }
}

#[test]
fn means_and_their_gradients_are_burns() {
    let device = Device::default().autodiff();
    for shape in SHAPES {
        let what = format!("{shape:?}");
        let maps = random(shape, &device).require_grad();
        // Alone, and with another gradient before and after.
        for others in 0..3 {
            let of = |native: bool| {
                let means = if native {
                    means(maps.clone())
                } else {
                    maps.clone().flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2)
                };
                let gate = means.clone().unsqueeze_dims::<4>(&[-1, -1]);
                match others {
                    0 => gate.expand(shape),
                    1 => maps.clone() * gate,
                    _ => maps.clone().tanh() * gate + maps.clone(),
                }
            };
            let (found, expected) = (of(true), of(false));
            close(&found.clone().inner(), &expected.clone().inner(), &what);
            let pull = random(shape, &device);
            let found = pulled(found, pull.clone(), &[&maps]);
            let expected = pulled(expected, pull, &[&maps]);
            close(&found[0], &expected[0], &format!("{what} {others}"));
        }
    }
}

/// Mixing as a composition.
fn composed(features: Tensor<4>, cut: Tensor<3, Bool>, donors: &[usize], flows: bool) -> Tensor<4> {
    let index = |&donor: &usize| i32::try_from(donor).expect("a place in a batch");
    let donors: Vec<i32> = donors.iter().map(index).collect();
    let donors = Tensor::<1, Int>::from_data(donors.as_slice(), &features.device());
    let giving = if flows {
        features.clone()
    } else {
        features.clone().detach()
    };
    let cut = cut.unsqueeze_dim::<4>(1).expand(features.dims());
    features.mask_where(cut, giving.select(0, donors))
}

#[test]
fn mixing_and_its_gradient_are_burns() {
    let device = Device::default().autodiff();
    for shape @ [batch, _, height, width] in SHAPES {
        let cut = random([batch, height, width], &device).greater_elem(0.3);
        // Some give to none, some to several, some to themselves.
        for donors in [
            (0..batch).collect::<Vec<_>>(),
            vec![batch - 1; batch],
            (0..batch).map(|image| (image + 1) % batch).collect(),
        ] {
            for flows in [true, false] {
                let features = random(shape, &device).require_grad();
                let found = cut_mix(features.clone(), cut.clone(), &donors, flows);
                let expected = composed(features.clone(), cut.clone(), &donors, flows);
                let what = format!("{shape:?} {donors:?} {flows}");
                assert_eq!(found.to_data(), expected.to_data(), "{what}");
                let pull = random(shape, &device);
                let found = pulled(found, pull.clone(), &[&features]);
                let expected = pulled(expected, pull, &[&features]);
                close(&found[0], &expected[0], &what);
            }
        }
    }
}

/// Where numbers do not lie one behind the other, as after a transposition or a spread of few.
#[test]
fn views_are_read_as_what_they_show() {
    let device = Device::default().autodiff();
    let shape @ [batch, channels, height, _] = [2, 6, 4, 5];
    let dense = |view: &Tensor<4>| Tensor::<4>::from_data(view.to_data(), &device);
    let features = random([2, 6, 5, 4], &device).swap_dims(2, 3);
    let cut = random([2, 5, 4], &device).greater_elem(0.0);
    let cut = cut.swap_dims(1, 2);
    let spread = [
        random([1, 1, 1, 1], &device),
        random([batch, channels, 1, 1], &device),
        random([1, channels, 1, 1], &device),
        random([batch, 1, 1, 1], &device),
        random([batch, channels, height, 1], &device),
    ];
    let gates = gates(shape).map(|gate| {
        let [batch, channels, height, width] = gate;
        random([channels, batch, width, height], &device).permute([1, 0, 3, 2])
    });
    for pull in spread.map(|pull| pull.expand(shape)) {
        let run = |features: Tensor<4>, gates: [Tensor<4>; 3], pull: Tensor<4>| {
            let leaf = features.detach().require_grad();
            let mut results = gates.map(|gate| gated(leaf.clone(), gate)).to_vec();
            results.push(cut_mix(leaf.clone(), cut.clone(), &[1, 0], true));
            results.push(means(leaf.clone()).unsqueeze_dims(&[-1, -1]));
            results
                .into_iter()
                .map(|result| {
                    let value = result.to_data();
                    let pull = pull.clone().narrow(2, 0, result.dims()[2]);
                    let pull = pull.narrow(3, 0, result.dims()[3]);
                    let gradient = pulled(result, pull, &[&leaf]).remove(0);
                    (value, gradient.into_data())
                })
                .collect::<Vec<_>>()
        };
        let found = run(features.clone(), gates.clone(), pull.clone());
        let laid_out = gates.clone().map(|gate| dense(&gate));
        let expected = run(dense(&features), laid_out, dense(&pull));
        assert_eq!(found, expected);
    }
}

#[test]
fn what_someone_else_holds_stays() {
    let device = Device::default();
    for shape in SHAPES {
        for gate in gates(shape) {
            let (features, gate) = (random(shape, &device), random(gate, &device));
            let before = [&features, &gate].map(Tensor::to_data);
            let held = gated(features.clone(), gate.clone()).into_data();
            assert_eq!([&features, &gate].map(Tensor::to_data), before);
            // Held by no one, it is written over, with the same result.
            assert_eq!(
                gated(features.clone() * 1.0, gate.clone()).into_data(),
                held
            );
            let join = |features: Tensor<4>| {
                let ending = Ending::Joined(features.clone().flip([0]) * 1.0);
                gated_ending(features, gate.clone(), ending).into_data()
            };
            assert_eq!(join(features.clone()), join(features.clone() * 1.0));
            assert_eq!(features.to_data(), before[0]);
        }
    }
    // A sum gives one gradient to both of its sides.
    let device = device.autodiff();
    let features = random([2, 3, 4, 5], &device).require_grad();
    let gates = [random([2, 3, 1, 1], &device), random([2, 1, 4, 5], &device)];
    let pull = random([2, 3, 4, 5], &device);
    let [one, other] = gates.clone().map(|gate| gated(features.clone(), gate));
    let found = pulled(add_rectified(one, other), pull.clone(), &[&features]);
    let [one, other] = gates.map(|gate| features.clone() * gate);
    let sum = relu(one + other);
    let expected = pulled(sum, pull, &[&features]);
    close(&found[0], &expected[0], "both sides of a sum");
}

/// Everything that these operations compute, with so many threads.
fn with_threads(threads: usize, shape: [usize; 4]) -> Vec<TensorData> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.expect("threads").install(|| {
        let device = Device::default().autodiff();
        let numbers = |shape: [usize; 4]| {
            let count = i64::try_from(shape.iter().product::<usize>()).expect("small");
            let numbers = Tensor::<1, Int>::arange(0..count, &device).float();
            (numbers * 0.37).sin().reshape(shape).require_grad()
        };
        let [batch, _, height, width] = shape;
        let features = numbers(shape);
        let [over_channels, over_places, _] = gates(shape).map(numbers);
        let donors: Vec<usize> = (0..batch).rev().collect();
        let cut = numbers([batch, 1, height, width]).greater_elem(0.2);
        let gated = gated(
            gated(features.clone(), over_channels.clone()),
            over_places.clone(),
        );
        let ending = Ending::Joined(features.clone());
        let gated = gated_ending(gated, over_channels.clone(), ending);
        let mixed = cut_mix(gated.clone(), cut.squeeze_dim(1), &donors, true);
        let result = means(mixed.clone() * mixed);
        let gradients = result.clone().sum().backward();
        let by = |tensor: &Tensor<4>| tensor.grad(&gradients).expect("a gradient").into_data();
        let leaves = [&features, &over_channels, &over_places].map(by);
        [result.into_data()].into_iter().chain(leaves).collect()
    })
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for shape in SHAPES {
        let one = with_threads(1, shape);
        assert_eq!(one, with_threads(2, shape), "{shape:?}");
        assert_eq!(one, with_threads(7, shape), "{shape:?}");
    }
}

#[test]
#[should_panic(expected = "maps that are added to maps [1, 2, 3, 3]")]
fn a_shortcut_of_another_shape_is_refused() {
    let device = Device::default();
    let ending = Ending::Joined(random([1, 2, 3, 1], &device));
    let _ = gated_ending(
        random([1, 2, 3, 3], &device),
        random([1, 2, 1, 1], &device),
        ending,
    );
}

#[test]
fn what_is_not_a_number_stays_so() {
    let device = Device::default();
    let bad = Tensor::<4>::full([1, 1, 1, 1], f32::NAN, &device);
    for ending in [
        Ending::Rectified,
        Ending::Joined(Tensor::ones([1, 1, 1, 1], &device)),
    ] {
        let gate = Tensor::ones([1, 1, 1, 1], &device);
        let result = gated_ending(bad.clone(), gate, ending);
        assert!(result.into_scalar::<f32>().is_nan());
    }
}
