//! ReLU of a sum, max and average pooling, gates, and feature `CutMix`.

use burn::tensor::{
    Bool, Device, Int, Tensor,
    activation::relu,
    module,
    ops::{AvgPoolOptions, MaxPoolOptions},
};
use reid_ops::{
    Epilogue, add_relu, batch_norm_train, cut_mix, global_avg_pool2d, max_pool2d, mul_gate,
    mul_gate_epilogue, window_avg_pool2d,
};

use crate::{Leaves, TYPES, agree, apply_epilogue, epilogues, leaf, random, wide};

/// Small and odd sizes, and sizes that are divided among threads, with and without whole cache lines.
pub(crate) const SHAPES: [[usize; 4]; 7] = [
    [1, 1, 1, 1],
    [3, 5, 7, 3],
    [2, 48, 1, 9],
    [2, 1, 4, 6],
    [3, 65, 32, 48],
    [5, 66, 31, 29],
    [2, 3, 300, 301],
];

/// The shapes of gates: one value per channel, one per position, and one per feature value.
pub(crate) fn gates([batch, channels, height, width]: [usize; 4]) -> [[usize; 4]; 3] {
    [
        [batch, channels, 1, 1],
        [batch, 1, height, width],
        [batch, channels, height, width],
    ]
}

#[test]
fn add_relu_and_its_gradients_equal_burns() {
    let device = Device::default().autodiff();
    for shape in SHAPES {
        for (dtype, allowed) in TYPES {
            let [left, right] = [(); 2].map(|()| leaf(shape, (&device, dtype)));
            let found = add_relu(left.clone(), right.clone());
            let expected = relu(wide(&left) + wide(&right));
            let leaves = Leaves::of(&[&left, &right], &[]);
            agree(&format!("{shape:?}"), [&found, &expected], &leaves, allowed);
        }
    }
}

#[test]
fn max_pooling_and_its_gradients_equal_burns() {
    let device = Device::default().autodiff();
    let cases = [
        ([2, 3, 8, 6], [3, 3], [2, 2], [1, 1]),
        ([1, 2, 7, 9], [3, 3], [2, 2], [0, 0]),
        ([2, 1, 5, 4], [2, 3], [1, 2], [1, 0]),
        ([1, 4, 1, 1], [1, 1], [1, 1], [0, 0]),
        ([1, 2, 33, 20], [3, 3], [3, 3], [1, 1]),
    ];
    for (shape, kernel, stride, padding) in cases {
        for ceil_mode in [false, true] {
            for (dtype, allowed) in TYPES {
                let options = || {
                    MaxPoolOptions::new(kernel)
                        .with_stride(stride)
                        .with_padding(padding)
                        .with_ceil_mode(ceil_mode)
                };
                // With different values, and with several maxima of 0 after a ReLU.
                let input = leaf(shape, (&device, dtype));
                for after_relu in [false, true] {
                    let features = || {
                        if after_relu {
                            relu(input.clone())
                        } else {
                            input.clone()
                        }
                    };
                    let found = max_pool2d(features(), options());
                    let expected = module::max_pool2d(wide(&features()), options());
                    let what = format!("{shape:?} {ceil_mode} {dtype:?}");
                    let leaves = Leaves::of(&[&input], &[]);
                    agree(&what, [&found, &expected], &leaves, allowed);
                }
                // A ReLU hides which of several zeros receives the gradient, so ties are checked without it
                // too.
                let zeros = input.clone().mul_scalar(0.0).detach().require_grad();
                let found = max_pool2d(zeros.clone(), options());
                let expected = module::max_pool2d(wide(&zeros), options());
                let leaves = Leaves::of(&[&zeros], &[]);
                agree("all values equal", [&found, &expected], &leaves, allowed);
            }
        }
    }
}

#[test]
fn window_average_pooling_and_its_gradients_equal_burns() {
    let device = Device::default().autodiff();
    for shape in SHAPES {
        for window in [[1, 1], [2, 2], [3, 2], [1, 4]] {
            let [_, _, height, width] = shape;
            let window = [window[0].min(height), window[1].min(width)];
            for (dtype, allowed) in TYPES {
                let input = leaf(shape, (&device, dtype));
                let options = AvgPoolOptions::new(window).with_stride(window);
                let found = window_avg_pool2d(input.clone(), window);
                let expected = module::avg_pool2d(wide(&input), options);
                let leaves = Leaves::of(&[&input], &[]);
                let what = format!("{shape:?} {window:?} {dtype:?}");
                agree(&what, [&found, &expected], &leaves, allowed);
            }
        }
    }
}

#[test]
#[should_panic(expected = "expected at least 1 x 1 and at most 2 x 3, found 3 x 1")]
fn a_window_that_is_larger_than_the_feature_map_is_rejected() {
    let _ = window_avg_pool2d(Tensor::ones([1, 1, 2, 3], &Device::default()), [3, 1]);
}

#[test]
fn gates_and_their_gradients_equal_burns() {
    let device = Device::default().autodiff();
    for shape in SHAPES {
        for gate in gates(shape) {
            for (dtype, allowed) in TYPES {
                let target = (&device, dtype);
                let (features, factors) = (leaf(shape, target), leaf(gate, target));
                let product = || wide(&features) * wide(&factors);
                let leaves = Leaves::of(&[&features, &factors], &[]);
                let of = || (features.clone(), factors.clone());
                let found = mul_gate(of().0, of().1);
                let what = format!("{shape:?} {gate:?} {dtype:?}");
                agree(&what, [&found, &product()], &leaves, allowed);
                for epilogue in epilogues(shape, target) {
                    let expected = apply_epilogue(product(), &epilogue);
                    let found = mul_gate_epilogue(of().0, of().1, epilogue.clone());
                    let leaves = leaves.clone().and(&epilogue);
                    agree(&what, [&found, &expected], &leaves, allowed);
                }
            }
        }
    }
}

#[test]
fn average_pooling_and_its_gradients_equal_burns() {
    let device = Device::default().autodiff();
    for shape in SHAPES {
        for (dtype, allowed) in TYPES {
            let maps = leaf(shape, (&device, dtype));
            let composed = || -> Tensor<2> {
                let positions = wide(&maps).flatten::<3>(2, 3);
                positions.mean_dim(2).squeeze_dim(2)
            };
            // Without other gradients of the features, and with one before and one after.
            let of = |gate: Tensor<2>, maps: Tensor<4>, others: usize| {
                let gate = gate.unsqueeze_dims::<4>(&[-1, -1]);
                match others {
                    0 => gate.expand(shape),
                    1 => maps * gate,
                    _ => maps.clone().tanh() * gate + maps,
                }
            };
            for others in 0..3 {
                let found = of(global_avg_pool2d(maps.clone()), maps.clone(), others);
                let expected = of(composed(), wide(&maps), others);
                let leaves = Leaves::of(&[&maps], &[]);
                let what = format!("{shape:?} {others}");
                agree(&what, [&found, &expected], &leaves, allowed);
            }
        }
    }
}

/// Feature `CutMix` as a composition of Burn's operations.
fn composed(
    features: Tensor<4>,
    cut: Tensor<3, Bool>,
    partners: &[usize],
    flows: bool,
) -> Tensor<4> {
    let index = |&partner: &usize| i32::try_from(partner).expect("an index in the batch");
    let partners: Vec<i32> = partners.iter().map(index).collect();
    let partners = Tensor::<1, Int>::from_data(partners.as_slice(), &features.device());
    let source = if flows {
        features.clone()
    } else {
        features.clone().detach()
    };
    let cut = cut.unsqueeze_dim::<4>(1).expand(features.dims());
    features.mask_where(cut, source.select(0, partners))
}

#[test]
fn cut_mix_and_its_gradient_equal_burns() {
    let device = Device::default().autodiff();
    for shape @ [batch, _, height, width] in SHAPES {
        let cut = random([batch, height, width], &device).greater_elem(0.3);
        // Each image is its own partner, one image is the partner of all, or all are partners in a cycle.
        for partners in [
            (0..batch).collect::<Vec<_>>(),
            vec![batch - 1; batch],
            (0..batch).map(|image| (image + 1) % batch).collect(),
        ] {
            for (dtype, allowed) in TYPES {
                for flows in [true, false] {
                    let features = leaf(shape, (&device, dtype));
                    let found = cut_mix(features.clone(), cut.clone(), &partners, flows);
                    let expected = composed(wide(&features), cut.clone(), &partners, flows);
                    let what = format!("{shape:?} {partners:?} {flows}");
                    let leaves = Leaves::of(&[&features], &[]);
                    agree(&what, [&found, &expected], &leaves, allowed);
                }
            }
        }
    }
}

/// Operands whose memory is shared are not overwritten; those that are not shared may be.
#[test]
fn shared_operands_keep_their_values() {
    let device = Device::default();
    for shape in SHAPES {
        let [left, right] = [(); 2].map(|()| random(shape, &device));
        let before = [&left, &right].map(Tensor::to_data);
        let held = add_relu(left.clone(), right.clone()).into_data();
        assert_eq!([&left, &right].map(Tensor::to_data), before);
        let sum = add_relu(left * 1.0, right * 1.0).into_data();
        assert_eq!(sum, held);
        for gate in gates(shape) {
            let (features, gate) = (random(shape, &device), random(gate, &device));
            let before = [&features, &gate].map(Tensor::to_data);
            let held = mul_gate(features.clone(), gate.clone()).into_data();
            assert_eq!([&features, &gate].map(Tensor::to_data), before);
            // An operand that is not shared is overwritten, with the same result.
            let product = mul_gate(features.clone() * 1.0, gate.clone()).into_data();
            assert_eq!(product, held);
            let gate_and_add = |features: Tensor<4>| {
                let epilogue = Epilogue::AddRelu(features.clone().flip([0]) * 1.0);
                mul_gate_epilogue(features, gate.clone(), epilogue).into_data()
            };
            assert_eq!(
                gate_and_add(features.clone()),
                gate_and_add(features.clone() * 1.0)
            );
            assert_eq!(features.to_data(), before[0]);
        }
    }
}

/// Both operands of a sum receive the same gradient tensor, and neither may overwrite it for the other.
#[test]
fn both_operands_of_a_sum_get_the_right_gradient() {
    let device = Device::default().autodiff();
    let features = random([2, 3, 4, 5], &device).require_grad();
    let gates = [random([2, 3, 1, 1], &device), random([2, 1, 4, 5], &device)];
    let leaves = Leaves::of(&[&features], &[]);
    let [one, other] = gates.clone().map(|gate| mul_gate(features.clone(), gate));
    let [left, right] = gates.map(|gate| wide(&features) * wide(&gate));
    let sums = [add_relu(one, other), relu(left + right)];
    agree("gates", [&sums[0], &sums[1]], &leaves, 1e-5);

    let parameters = [(); 4].map(|()| random::<1>([3], &device));
    let [gamma, bias, other_gamma, other_bias] = &parameters;
    let norm = |gamma: &Tensor<1>, bias: &Tensor<1>| {
        let of = (features.clone(), gamma.clone(), bias.clone());
        batch_norm_train(of.0, of.1, of.2, 1e-5, Epilogue::None).output
    };
    let found = add_relu(norm(gamma, bias), norm(other_gamma, other_bias));
    let norm = |gamma, bias| {
        module::batch_norm_train(wide(&features), wide(gamma), wide(bias), 1e-5).output
    };
    let expected = relu(norm(gamma, bias) + norm(other_gamma, other_bias));
    agree("normalisations", [&found, &expected], &leaves, 1e-5);
}
