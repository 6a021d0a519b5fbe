//! Weights drawn at the same time do not disturb each other. Alone in its process, since nobody else
//! may draw meanwhile.

use std::thread;

use burn::{nn::LinearConfig, tensor::Device};
use reid_core::Seed;
use reid_nn::drawing::from_seed;

fn draw(number: u64) -> Vec<f32> {
    let device = Device::default();
    let build = || LinearConfig::new(16, 16).init(&device);
    let linear = from_seed(Seed::new(number), &device, build);
    linear.weight.to_data().iter::<f32>().collect()
}

#[test]
fn threads_do_not_draw_from_each_other() {
    let alone = [draw(0), draw(1)];
    assert_ne!(alone[0], alone[1]);
    let draw_often =
        |number: u64| move || -> Vec<_> { (0..20).map(|_| draw(number % 2)).collect() };
    let threads: Vec<_> = (0..8)
        .map(|number| thread::spawn(draw_often(number)))
        .collect();
    for (number, thread) in threads.into_iter().enumerate() {
        for weights in thread.join().expect("no panic") {
            assert_eq!(weights, alone[number % 2], "thread {number}");
        }
    }
}
