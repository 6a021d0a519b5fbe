//! The phases of the gradient of a convolution with respect to its input.

use std::borrow::Cow;

use rayon::prelude::*;

use super::Convolution;
use crate::{
    memory::zeros,
    networks::{correlate::Target, sweep::Phase, transpose::transpose, window::Window},
};

/// The phase of input positions that begins at `begin`; `None` if no tap reads it.
pub(super) fn input_phase(
    convolution: &Convolution,
    weights: &[f32],
    begin: [usize; 2],
) -> Option<Phase<'static>> {
    let [from, _] = convolution.per_group();
    let stride = convolution.stride;
    let pairs = convolution.taps_reaching(begin);
    let taps: Vec<[isize; 2]> = pairs.iter().map(|(_, tap)| *tap).collect();
    let grid = [0, 1].map(|axis| (convolution.input[axis] - begin[axis]).div_ceil(stride[axis]));
    (!pairs.is_empty()).then(|| Phase {
        window: Window::for_results(convolution.output(), grid, [1, 1], &taps, from),
        weights: Cow::Owned(transposed(convolution, weights, &pairs)),
        target: Target {
            width: convolution.input[1],
            begin,
            step: stride,
        },
    })
}

/// The weights of the given taps, transposed: `[groups · from, to, taps]`.
fn transposed(
    convolution: &Convolution,
    weights: &[f32],
    taps: &[(usize, [isize; 2])],
) -> Vec<f32> {
    /// The number of input channels in a task, so that reads are close together.
    const BLOCK: usize = 16;
    let [from, to] = convolution.per_group();
    let (terms, all) = (to * taps.len(), convolution.taps());
    let mut transposed = zeros(convolution.groups * from * terms);
    let groups = transposed
        .par_chunks_mut(from * terms)
        .zip(weights.par_chunks(to * from * all));
    groups.for_each(|(transposed, weights)| {
        if all == 1 {
            return transpose(weights, from, transposed);
        }
        let blocks = transposed.par_chunks_mut(BLOCK * terms).enumerate();
        blocks.for_each(|(block, transposed)| {
            for (result, weights) in weights.chunks_exact(from * all).enumerate() {
                let weights = weights[BLOCK * block * all..].chunks_exact(all);
                for (transposed, weights) in transposed.chunks_exact_mut(terms).zip(weights) {
                    let transposed = &mut transposed[result * taps.len()..][..taps.len()];
                    if taps.len() == all {
                        // All taps, in their original order.
                        transposed.copy_from_slice(weights);
                        continue;
                    }
                    for (to, (tap, _)) in transposed.iter_mut().zip(taps) {
                        *to = weights[*tap];
                    }
                }
            }
        });
    });
    transposed
}
