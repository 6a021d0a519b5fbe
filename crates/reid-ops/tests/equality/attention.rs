//! Attention in chunks of queries equals attention with the full matrix of weights, forward and backward.

use burn::tensor::{Device, Tensor, TensorData, activation::softmax};
use reid_ops::attention;

use crate::{TYPES, close, gradients_agree, leaf, random, wide};

/// Attention with the full matrix of weights, in double precision.
fn with_full_matrix([query, key, value]: [&Tensor<3>; 3]) -> Tensor<3> {
    let [query, key, value] = [query, key, value].map(wide);
    let weights = softmax(query.transpose().matmul(key), 2);
    value.matmul(weights.transpose())
}

/// Asserts that attention and its gradients equal those with the full matrix of weights.
fn agree(what: &str, maps: [&Tensor<3>; 3], allowed: f64) {
    let [query, key, value] = maps.map(Clone::clone);
    let (found, expected) = (attention(query, key, value), with_full_matrix(maps));
    close(what, &found, &expected, allowed);
    let upstream = random(found.dims(), &found.device());
    let [found, expected] = [found, expected].map(|of| {
        (of.clone() * upstream.clone().cast(of.dtype()))
            .sum()
            .backward()
    });
    for (map, name) in maps.iter().zip(["query", "key", "value"]) {
        let what = format!("{what}, gradient of {name}");
        gradients_agree(&what, map, [&found, &expected], allowed);
    }
}

/// Batch size, key channels, queries, value channels, positions. The last two cases have more than one
/// chunk, whose size is at most 512 queries.
const CASES: [[usize; 5]; 8] = [
    [1, 1, 1, 1, 1],
    [2, 3, 7, 5, 11],
    [3, 8, 16, 8, 16],
    [1, 16, 12, 4, 1],
    [2, 1, 5, 9, 130],
    [1, 5, 260, 6, 513],
    [2, 4, 600, 3, 5],
    [1, 2, 1100, 4, 9],
];

#[test]
fn attention_and_its_gradients_equal_those_with_the_full_matrix() {
    let device = Device::default().autodiff();
    for (dtype, allowed) in TYPES {
        for [batch, key_channels, queries, value_channels, positions] in CASES {
            let leaf = |shape| leaf(shape, (&device, dtype));
            let maps = [
                leaf([batch, key_channels, queries]),
                leaf([batch, key_channels, positions]),
                leaf([batch, value_channels, positions]),
            ];
            let what = format!("{dtype:?} {queries} x {positions}");
            agree(&what, maps.each_ref(), allowed);
        }
    }
}

#[test]
fn large_scores_do_not_overflow() {
    let device = Device::default();
    let query = Tensor::<3>::full([1, 1, 2], 300.0, &device);
    let key = Tensor::<3>::from_data([[[300.0, -300.0, 299.0]]], &device);
    let value = Tensor::<3>::from_data([[[1.0, 2.0, 3.0]]], &device);
    let found = attention(query, key, value).into_data();
    assert_eq!(found.try_to_vec::<f32>().expect("values"), [1.0, 1.0]);
}

/// Where most weights vanish, no gradient is subnormal: CPUs are slow with such values.
#[test]
fn vanishing_weights_give_no_subnormal_gradients() {
    let device = Device::default().autodiff();
    let map = |times: f32| {
        (random([1, 8, 64], &device) * times)
            .detach()
            .require_grad()
    };
    let maps = [map(6.0), map(6.0), map(1.0)];
    let [query, key, value] = maps.clone();
    let scores = query.clone().transpose().matmul(key.clone()).inner();
    let least = softmax(scores, 2).min().into_scalar::<f32>();
    assert!(
        least < f32::MIN_POSITIVE,
        "the test needs a subnormal weight, found at least {least:e}"
    );
    let gradients = (attention(query, key, value) * random([1, 8, 64], &device))
        .sum()
        .backward();
    for map in &maps {
        let gradient = map.grad(&gradients).expect("a gradient").into_data();
        assert!(gradient.iter::<f32>().all(|value| !value.is_subnormal()));
    }
    agree("vanishing", maps.each_ref(), 1e-5);
}

#[test]
fn views_are_read_correctly() {
    let device = Device::default().autodiff();
    let view = |of: Tensor<3>| of.detach().require_grad();
    let transposed = || view(random([2, 9, 4], &device).swap_dims(1, 2));
    let part = || view(random([4, 7, 12], &device).slice([1..3, 2..6, 1..10]));
    let expanded = || view(random([1, 4, 9], &device).expand([2, 4, 9]));
    for maps in [
        [transposed(), transposed(), transposed()],
        [part(), transposed(), expanded()],
        [expanded(), part(), transposed()],
        [transposed(), expanded(), part()],
    ] {
        agree("views", maps.each_ref(), 1e-5);
    }
}

#[test]
fn results_are_bit_identical_on_any_number_of_threads() {
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("a thread pool").install(|| {
            let device = Device::default().autodiff();
            let map = |channels: usize| {
                let value = |index: usize| ((index * 7919 + channels) % 101) as f32 / 50.0 - 1.0;
                let values = (0..2 * channels * 590).map(value).collect::<Vec<f32>>();
                let data = TensorData::new(values, [2, channels, 590]);
                Tensor::<3>::from_data(data, &device).require_grad()
            };
            let (query, key, value) = (map(6), map(6), map(7));
            let output = attention(query.clone(), key.clone(), value.clone());
            let gradients = output.clone().powi_scalar(3).sum().backward();
            let by = |map: &Tensor<3>| map.grad(&gradients).expect("a gradient").into_data();
            vec![output.into_data(), by(&query), by(&key), by(&value)]
        })
    };
    let one = with(1);
    assert_eq!(one, with(2));
    assert_eq!(one, with(7));
}

#[test]
#[should_panic(expected = "keys and values the same number of positions")]
fn shapes_that_do_not_match_are_rejected() {
    let device = Device::default();
    let map = |positions| Tensor::<3>::ones([1, 2, positions], &device);
    let _ = attention(map(4), map(5), map(4));
}
