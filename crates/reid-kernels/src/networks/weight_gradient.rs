//! The gradient of a convolution with respect to its weights.
//!
//! There are two algorithms. [`Outer`] sums outer products over positions, with input channels interleaved
//! in SIMD vectors. Where a group has too few input channels to fill the vectors, [`Inner`] computes inner
//! products of shifted feature maps instead. The images are laid out one after another, and the gradient
//! has zeros wherever a shifted read leaves its image. The gradient of each weight is then one inner
//! product over all images.

use rayon::prelude::*;

use crate::memory::zeros;

use super::{
    convolution::{Convolution, area},
    inner_products::Inner,
    outer_products::Outer,
    transpose::transpose,
    window::Window,
};

/// Computes the gradient of a loss with respect to the weights from the gradient with respect to the output.
pub(crate) fn weight_gradient(
    convolution: &Convolution,
    input: &[f32],
    gradient: &[f32],
) -> Vec<f32> {
    if Outer::pays(convolution) {
        return Outer::new(convolution, input, gradient).run();
    }
    let [from, to] = convolution.per_group();
    let (taps, window) = (convolution.taps(), convolution.window());
    let length = convolution.batch * window.area();
    let stretch = window.phases() * length;
    let rows = rows(convolution, &window, gradient);
    let copy = copy(convolution, &window, input);
    let shifts: Vec<usize> = window
        .shifts()
        .iter()
        .map(|(phase, shift)| phase * length + shift)
        .collect();
    // [groups, from · taps, to]: in this order, the results of a task are contiguous.
    let mut transposed = vec![0.0; convolution.groups * from * taps * to];
    let tasks = (4 * rayon::current_num_threads()).div_ceil(convolution.groups);
    let per_task = from.div_ceil(tasks).max(6_usize.div_ceil(taps)).min(from);
    let mut parts = Vec::new();
    let mut rest = transposed.as_mut_slice();
    for group in 0..convolution.groups {
        for first in (0..from).step_by(per_task) {
            let channels = first..(first + per_task).min(from);
            let (results, after) = rest.split_at_mut(channels.len() * taps * to);
            rest = after;
            parts.push((group, channels, results));
        }
    }
    parts
        .into_par_iter()
        .for_each(|(group, channels, results)| {
            let begin: Vec<usize> = channels
                .flat_map(|channel| {
                    let begin = (group * from + channel) * stretch;
                    shifts.iter().map(move |shift| begin + shift)
                })
                .collect();
            let inner = Inner {
                rows: &rows[group * to * length..][..to * length],
                length,
                copy: &copy,
                begin: &begin,
                results,
            };
            inner.run();
        });
    transpose_blocks(&transposed, [from * taps, to])
}

/// Lays out the gradient with respect to the output, `[channels, batch, area]`, with zeros between its rows.
fn rows(convolution: &Convolution, window: &Window, gradient: &[f32]) -> Vec<f32> {
    let [_, channels] = convolution.channels;
    let [height, width] = convolution.output();
    let length = convolution.batch * window.area();
    let mut rows = zeros(channels * length);
    let each = rows.par_chunks_mut(length).enumerate();
    each.for_each(|(channel, row)| {
        for (image, row) in row.chunks_exact_mut(window.area()).enumerate() {
            let source = &gradient[(image * channels + channel) * height * width..];
            for y in 0..height {
                let target = &mut row[y * window.pitch()..][..width];
                target.copy_from_slice(&source[y * width..][..width]);
            }
        }
    });
    rows
}

/// Lays out the input, `[channels, phases, batch, area]`, followed by as many zeros as the largest tap
/// offset.
fn copy(convolution: &Convolution, window: &Window, input: &[f32]) -> Vec<f32> {
    let [channels, _] = convolution.channels;
    let map = area(convolution.input);
    let length = convolution.batch * window.area();
    let stretch = window.phases() * length;
    let mut copy = zeros(channels * stretch + window.reach());
    let each = copy[..channels * stretch]
        .par_chunks_mut(stretch)
        .enumerate();
    each.for_each(|(channel, copy)| {
        for (phase, copy) in copy.chunks_exact_mut(length).enumerate() {
            for (image, copy) in copy.chunks_exact_mut(window.area()).enumerate() {
                let map = &input[(image * channels + channel) * map..][..map];
                window.lay_out(phase, 0, map, copy);
            }
        }
    });
    copy
}

/// Transposes `[groups, terms, results]` to `[groups, results, terms]`.
fn transpose_blocks(transposed: &[f32], [terms, results]: [usize; 2]) -> Vec<f32> {
    let mut weights = vec![0.0; transposed.len()];
    let groups = weights
        .par_chunks_mut(terms * results)
        .zip(transposed.par_chunks(terms * results));
    groups.for_each(|(weights, transposed)| transpose(transposed, results, weights));
    weights
}
