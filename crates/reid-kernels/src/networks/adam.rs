//! A step of Adam (Kingma and Ba, ICLR 2015, arXiv:1412.6980) in one pass over the weights.
//!
//! The new weights are written over the gradient. There is then no result to fill with zeros and no fresh
//! memory page, and the end of the heap stays in use. Otherwise glibc would return it to the system after
//! every step.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// The number of weights in one task.
const PART: usize = 1 << 14;

/// One step of Adam with coupled weight decay: the decay is added to the gradient, as in PyTorch's `Adam`.
///
/// ```
/// use reid_kernels::Adam;
///
/// let step = Adam { rate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.0, time: 1 };
/// // The gradient, which becomes the new weights.
/// let (mut values, mut mean, mut square) = ([3.0, -0.5], [0.0; 2], [0.0; 2]);
/// step.apply(&[1.0, 1.0], &mut values, &mut mean, &mut square);
/// // Whatever the gradient, the first step is as long as the learning rate.
/// assert!((values[0] - 0.9).abs() < 1e-6 && (values[1] - 1.1).abs() < 1e-6);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// The learning rate, at least 0.
    pub rate: f32,
    /// β₁, the decay rate of the first moment, in `[0, 1)`.
    pub beta1: f32,
    /// β₂, the decay rate of the second moment, in `[0, 1)`.
    pub beta2: f32,
    /// ε, added to the square root of the second moment; above 0.
    pub epsilon: f32,
    /// The weight decay, at least 0: this multiple of each weight is added to its gradient.
    pub decay: f32,
    /// t, the index of the step, counted from 1.
    pub time: i32,
}

impl Adam {
    /// Updates the moments `mean` (m) and `square` (v), and writes the new weights over `gradient`. All are
    /// `[weights]`.
    ///
    /// ```text
    /// g += decay·w        m = β₁·m + (1 - β₁)·g        v = β₂·v + (1 - β₂)·g²
    /// w -= rate · m/(1 - β₁ᵗ) / (√(v/(1 - β₂ᵗ)) + ε)
    /// ```
    ///
    /// # Panics
    /// If the slices have different lengths.
    pub fn apply(
        &self,
        weights: &[f32],
        gradient: &mut [f32],
        mean: &mut [f32],
        square: &mut [f32],
    ) {
        let lengths = [gradient.len(), mean.len(), square.len()];
        assert_eq!(
            lengths,
            [weights.len(); 3],
            "lengths of gradient, mean and square for {} weights",
            weights.len()
        );
        let arch = Arch::new();
        weights
            .par_chunks(PART)
            .zip(gradient.par_chunks_mut(PART))
            .zip(mean.par_chunks_mut(PART).zip(square.par_chunks_mut(PART)))
            .for_each(|((weights, gradient), (mean, square))| {
                arch.dispatch(Part {
                    step: *self,
                    weights,
                    gradient,
                    mean,
                    square,
                });
            });
    }
}

struct Part<'a> {
    step: Adam,
    weights: &'a [f32],
    /// The gradient, overwritten with the new weights.
    gradient: &'a mut [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
}

impl WithSimd for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Adam {
            rate,
            beta1,
            beta2,
            epsilon,
            decay,
            time,
        } = self.step;
        let root = (1.0 - beta2.powi(time)).sqrt();
        let rate = rate * root / (1.0 - beta1.powi(time));
        let epsilon = epsilon * root;
        let means = self.mean.iter_mut().zip(self.square);
        let weights = self.weights.iter().zip(self.gradient);
        for ((weight, value), (mean, square)) in weights.zip(means) {
            let gradient = *value + decay * weight;
            *mean = beta1 * *mean + (1.0 - beta1) * gradient;
            *square = beta2 * *square + (1.0 - beta2) * gradient * gradient;
            *value = weight - rate * *mean / (square.sqrt() + epsilon);
        }
    }
}
