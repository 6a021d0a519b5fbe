//! Attention of places to places, some queries at a time: the weights of all of them are never held
//! together.

use std::ops::Range;

use rayon::prelude::*;

use super::{Geometry, convolve, weight_gradient};

/// Weights that are held at a time.
const HELD: usize = 1 << 20;

/// The sizes of an attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention {
    pub(crate) batch: usize,
    /// Numbers by which places are compared.
    pub(crate) embedded: usize,
    /// Numbers that places give.
    pub(crate) given: usize,
    /// Places that ask.
    pub(crate) queries: usize,
    /// Places that answer.
    pub(crate) places: usize,
}

/// Query, key and value; or the gradients by them.
pub(crate) struct Maps<T> {
    pub(crate) query: T,
    pub(crate) key: T,
    pub(crate) value: T,
}

impl Attention {
    /// `value · softmax(queryᵀ · key)ᵀ` of each image.
    pub(crate) fn forward(&self, maps: &Maps<&[f32]>) -> Vec<f32> {
        let mut output = vec![0.0; self.batch * self.given * self.queries];
        let images = output.chunks_mut(self.given * self.queries);
        for (image, output) in images.enumerate() {
            let maps = self.image(maps, image);
            for block in self.blocks() {
                let weights = self.weights(&maps, &block);
                let answers = outer(&weights, maps.value, [block.len(), self.given], self.places);
                self.put_columns(&answers, output, block);
            }
        }
        output
    }

    /// The gradients by query, key and value; the weights are computed again.
    pub(crate) fn gradients(&self, maps: &Maps<&[f32]>, gradient: &[f32]) -> Maps<Vec<f32>> {
        let zeros = |of: &[f32]| vec![0.0; of.len()];
        let mut gradients = Maps {
            query: zeros(maps.query),
            key: zeros(maps.key),
            value: zeros(maps.value),
        };
        for image in 0..self.batch {
            let (of, by) = (self.image(maps, image), &mut gradients);
            let gradient = part(gradient, image, self.given * self.queries);
            let [asked, compared] = [self.queries, self.places].map(|n| n * self.embedded);
            let by_query = &mut by.query[image * asked..][..asked];
            let by_key = &mut by.key[image * compared..][..compared];
            let given = self.given * self.places;
            let by_value = &mut by.value[image * given..][..given];
            for block in self.blocks() {
                let rows = block.len();
                let weights = self.weights(&of, &block);
                let back = rows_of(gradient, self.queries, &block);
                let back_columns = columns_of(gradient, self.queries, &block);
                let sizes = [rows, self.given];
                add(
                    by_value,
                    &product(&back_columns, &weights, [self.given, rows], self.places),
                );
                let mut by_scores = product(&back, of.value, sizes, self.places);
                through_softmax(&mut by_scores, &weights, self.places);
                let sizes = [rows, self.embedded];
                let by_rows = outer(&by_scores, of.key, sizes, self.places);
                self.put_columns(&by_rows, by_query, block.clone());
                let query = columns_of(of.query, self.queries, &block);
                let sizes = [self.embedded, rows];
                add(by_key, &product(&query, &by_scores, sizes, self.places));
            }
        }
        gradients
    }

    fn image<'a>(&self, maps: &Maps<&'a [f32]>, image: usize) -> Maps<&'a [f32]> {
        Maps {
            query: part(maps.query, image, self.embedded * self.queries),
            key: part(maps.key, image, self.embedded * self.places),
            value: part(maps.value, image, self.given * self.places),
        }
    }

    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let (rows, queries) = ((HELD / self.places).clamp(1, 256), self.queries);
        (0..queries)
            .step_by(rows)
            .map(move |start| start..queries.min(start + rows))
    }

    /// The weights of some queries, a row for each.
    fn weights(&self, maps: &Maps<&[f32]>, block: &Range<usize>) -> Vec<f32> {
        let query = rows_of(maps.query, self.queries, block);
        let sizes = [block.len(), self.embedded];
        let mut weights = product(&query, maps.key, sizes, self.places);
        weights.par_chunks_mut(self.places).for_each(softmax);
        weights
    }

    /// Writes rows as the columns of some queries.
    fn put_columns(&self, rows: &[f32], output: &mut [f32], block: Range<usize>) {
        let channels = rows.len() / block.len();
        for (channel, output) in output.chunks_mut(self.queries).enumerate() {
            let column = rows[channel..].iter().step_by(channels);
            for (output, value) in output[block.clone()].iter_mut().zip(column) {
                *output = *value;
            }
        }
    }
}

fn part(of: &[f32], image: usize, size: usize) -> &[f32] {
    &of[image * size..][..size]
}

/// Some columns of a matrix, as a matrix.
fn columns_of(matrix: &[f32], columns: usize, block: &Range<usize>) -> Vec<f32> {
    let rows = matrix.chunks(columns);
    rows.flat_map(|row| &row[block.clone()]).copied().collect()
}

/// Some columns of a matrix, as rows.
fn rows_of(matrix: &[f32], columns: usize, block: &Range<usize>) -> Vec<f32> {
    let rows = |column: usize| matrix[column..].iter().step_by(columns).copied();
    block.clone().flat_map(rows).collect()
}

/// `left · right`, of which `left` is `rows x inner` and `right` is `inner x columns`.
fn product(left: &[f32], right: &[f32], [rows, inner]: [usize; 2], columns: usize) -> Vec<f32> {
    convolve(&pointwise([inner, rows], columns), right, left, None, false)
}

/// `left · rightᵀ`, of which `left` is `rows x inner` and `right` is `columns x inner`.
fn outer(left: &[f32], right: &[f32], [rows, columns]: [usize; 2], inner: usize) -> Vec<f32> {
    weight_gradient(&pointwise([columns, rows], inner), right, left)
}

/// A matrix product is a convolution of 1 x 1.
fn pointwise(channels: [usize; 2], places: usize) -> Geometry {
    Geometry {
        batch: 1,
        channels,
        groups: 1,
        input: [1, places],
        kernel: [1, 1],
        stride: [1, 1],
        padding: [0, 0],
    }
}

fn softmax(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in row.iter_mut() {
        *value = (*value - largest).exp();
        sum += *value;
    }
    for value in row {
        *value /= sum;
    }
}

/// Turns gradients by weights into gradients by scores: `wᵢ·(gᵢ - Σⱼ wⱼ·gⱼ)`.
fn through_softmax(gradients: &mut [f32], weights: &[f32], places: usize) {
    let rows = gradients.par_chunks_mut(places);
    rows.zip(weights.par_chunks(places))
        .for_each(|(gradients, weights)| {
            let pairs = gradients.iter().zip(weights);
            let mean: f32 = pairs.map(|(gradient, weight)| gradient * weight).sum();
            for (gradient, weight) in gradients.iter_mut().zip(weights) {
                *gradient = weight * (*gradient - mean);
            }
        });
}

fn add(sums: &mut [f32], values: &[f32]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}
