//! The gradient of a convolution with respect to its weights.
//!
//! There are two algorithms. [`Outer`] sums outer products over positions, with input channels interleaved
//! in SIMD vectors. Where a group has too few input channels to fill the vectors, [`Inner`] computes inner
//! products of shifted feature maps instead.
//!
//! For inner products, a task has some of the images. It lays out a few of them at a time, one after another: the
//! input as the taps read it, and the gradient with zeros wherever a shifted read leaves its image. The copies stay in
//! the caches. A 1 x 1 convolution without a stride needs no copies. The sums of all tasks are added in order, and the
//! images of a task depend only on the sizes, so the result does not depend on the number of threads.

use std::{cell::RefCell, ops::Range};

use rayon::prelude::*;

use super::{
    convolution::{Convolution, area},
    inner_products::{Inner, Stretch},
    outer_products::Outer,
    transpose::transpose,
    window::Window,
};

/// The number of positions that are laid out together; at least one image.
const POSITIONS: usize = 1536;

thread_local! {
    static COPIES: RefCell<[Vec<f32>; 2]> = RefCell::default();
}

/// Computes the gradient of a loss with respect to the weights from the gradient with respect to the output.
pub(crate) fn weight_gradient(
    convolution: &Convolution,
    input: &[f32],
    gradient: &[f32],
) -> Vec<f32> {
    if Outer::pays(convolution) {
        return Outer::new(convolution, input, gradient).run();
    }
    let operands = Operands {
        convolution,
        window: convolution.window(),
        input,
        gradient,
    };
    operands.run()
}

struct Operands<'a> {
    convolution: &'a Convolution,
    window: Window,
    input: &'a [f32],
    gradient: &'a [f32],
}

impl Operands<'_> {
    fn run(&self) -> Vec<f32> {
        let Convolution { batch, groups, .. } = *self.convolution;
        let ([from, to], taps) = (self.convolution.per_group(), self.convolution.taps());
        let per_task = images_per_task(batch, groups);
        let tasks: Vec<(usize, Range<usize>)> = (0..groups)
            .flat_map(|group| {
                let begins = (0..batch).step_by(per_task);
                begins.map(move |first| (group, first..(first + per_task).min(batch)))
            })
            .collect();
        // [from · taps, to] for every task: in this order, the results of a tile are contiguous.
        let sums: Vec<Vec<f32>> = tasks
            .into_par_iter()
            .map(|(group, images)| self.sums(group, images))
            .collect();
        let mut weights = vec![0.0; groups * to * from * taps];
        let tasks = batch.div_ceil(per_task);
        let of_groups = weights
            .chunks_exact_mut(to * from * taps)
            .zip(sums.chunks_exact(tasks));
        for (weights, sums) in of_groups {
            let mut total = vec![0.0; to * from * taps];
            for sums in sums {
                for (total, sum) in total.iter_mut().zip(sums) {
                    *total += sum;
                }
            }
            transpose(&total, to, weights);
        }
        weights
    }

    /// The sums of one group over some images, `[input channels · taps, output channels]`.
    fn sums(&self, group: usize, images: Range<usize>) -> Vec<f32> {
        let ([from, to], taps) = (self.convolution.per_group(), self.convolution.taps());
        let mut sums = vec![0.0; from * taps * to];
        if self.convolution.is_pointwise() {
            self.add_in_place(group, images, &mut sums);
            return sums;
        }
        let together = (POSITIONS / self.window.area()).max(1);
        COPIES.with_borrow_mut(|copies| {
            for first in images.clone().step_by(together) {
                let images = first..(first + together).min(images.end);
                self.add_copied(group, images, copies, &mut sums);
            }
        });
        sums
    }

    /// Adds the sums of a 1 x 1 convolution without a stride, which reads the feature maps where they are.
    fn add_in_place(&self, group: usize, images: Range<usize>, sums: &mut [f32]) {
        let Convolution { channels, .. } = *self.convolution;
        let [from, to] = self.convolution.per_group();
        let positions = area(self.convolution.input);
        let stretches: Vec<Stretch> = images
            .map(|image| Stretch {
                in_row: image * channels[1] * positions,
                in_column: image * channels[0] * positions,
                length: positions,
            })
            .flat_map(Stretch::parts)
            .collect();
        let begins = |channels: usize| {
            let channels = group * channels..(group + 1) * channels;
            channels.map(|channel| channel * positions).collect()
        };
        let (row_begins, column_begins): (Vec<usize>, Vec<usize>) = (begins(to), begins(from));
        let inner = Inner {
            rows: self.gradient,
            row_begins: &row_begins,
            columns: self.input,
            column_begins: &column_begins,
            stretches: &stretches,
            results: sums,
        };
        inner.run();
    }

    /// Adds the sums over some images, which are laid out in `copies`.
    fn add_copied(
        &self,
        group: usize,
        images: Range<usize>,
        [rows, columns]: &mut [Vec<f32>; 2],
        sums: &mut [f32],
    ) {
        let window = &self.window;
        let [from, to] = self.convolution.per_group();
        let length = images.len() * window.area();
        let stretch = window.phases() * length;
        let rows = first(rows, to * length);
        self.lay_out_gradient(group, images.clone(), rows);
        let columns = first(columns, from * stretch + window.reach());
        self.lay_out_input(group, images, columns);
        let row_begins: Vec<usize> = (0..to).map(|channel| channel * length).collect();
        let shifts = window.shifts().iter();
        let shifts: Vec<usize> = shifts
            .map(|(phase, shift)| phase * length + shift)
            .collect();
        let column_begins: Vec<usize> = (0..from)
            .flat_map(|channel| shifts.iter().map(move |shift| channel * stretch + shift))
            .collect();
        let whole = Stretch {
            in_row: 0,
            in_column: 0,
            length,
        };
        let stretches: Vec<Stretch> = whole.parts().collect();
        let inner = Inner {
            rows,
            row_begins: &row_begins,
            columns,
            column_begins: &column_begins,
            stretches: &stretches,
            results: sums,
        };
        inner.run();
    }

    /// Lays out the gradient with respect to the output, `[channels, images, area]`, with zeros between its rows.
    fn lay_out_gradient(&self, group: usize, images: Range<usize>, rows: &mut [f32]) {
        let ([_, to], [_, channels]) = (self.convolution.per_group(), self.convolution.channels);
        let [height, width] = self.convolution.output();
        let pitch = self.window.pitch();
        let maps = rows.chunks_exact_mut(self.window.area());
        let sources = (0..to).flat_map(|channel| images.clone().map(move |image| (image, channel)));
        for (map, (image, channel)) in maps.zip(sources) {
            let begin = (image * channels + group * to + channel) * height * width;
            let source = self.gradient[begin..][..height * width].chunks_exact(width);
            for (row, source) in map.chunks_exact_mut(pitch).zip(source) {
                row[..width].copy_from_slice(source);
                row[width..].fill(0.0);
            }
            map[height * pitch..].fill(0.0);
        }
    }

    /// Lays out the input, `[channels, phases, images, area]`, followed by as many zeros as the largest tap offset.
    fn lay_out_input(&self, group: usize, images: Range<usize>, columns: &mut [f32]) {
        let ([from, _], [channels, _]) = (self.convolution.per_group(), self.convolution.channels);
        let map = area(self.convolution.input);
        let (phases, begin) = (self.window.phases(), group * from);
        let mut copies = columns.chunks_exact_mut(self.window.area());
        for channel in begin..begin + from {
            for phase in 0..phases {
                for (image, copy) in images.clone().zip(&mut copies) {
                    let map = &self.input[(image * channels + channel) * map..][..map];
                    self.window.lay_out(phase, 0, map, copy);
                }
            }
        }
        let count = from * phases * images.len() * self.window.area();
        columns[count..].fill(0.0);
    }
}

/// The number of images in a task, of which there are about sixteen in all.
fn images_per_task(batch: usize, groups: usize) -> usize {
    batch.div_ceil(16_usize.div_ceil(groups).max(2))
}

/// The first values of scratch memory, which grows if it is too short.
fn first(memory: &mut Vec<f32>, count: usize) -> &mut [f32] {
    if memory.len() < count {
        memory.resize(count, 0.0);
    }
    &mut memory[..count]
}
