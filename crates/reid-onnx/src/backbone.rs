//! Backbones in the graph.

mod densenet;
mod mobilenet_v2;
mod osnet;
mod resnet;

pub(crate) use osnet::layer;
use reid_nn::backbone::{MaxPool, Stem};

use crate::graph::{Scope, Value};

/// Adds the max pooling after the convolution of a stem, if the stem has one.
fn stem_pool(scope: &mut Scope<'_>, stem: Stem, features: Value<3>) -> Value<3> {
    let [_, height, width] = features.dims;
    match stem.max_pool() {
        None => features,
        Some(MaxPool::Padded) => scope.max_pool(&features, 3, 2, [[1, 1]; 2]),
        // Rounding the output size up is padding after the last row and column of an even size.
        Some(MaxPool::Ceil) => {
            let after = [height, width].map(|side| usize::from(side % 2 == 0));
            scope.max_pool(&features, 3, 2, [[0, 0], after])
        }
    }
}
