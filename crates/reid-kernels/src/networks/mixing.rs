//! Feature `CutMix` (Yun et al., ICCV 2019, arXiv:1905.04899, on features): positions of feature maps that are
//! filled from other images of the batch, and the gradient.
//!
//! The backward pass needs only the cut positions and the mix partners, so no feature maps are kept for it.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::PART;
use crate::memory::zeros;

/// The positions of each image that are replaced, and the image that each takes them from.
///
/// ```
/// use reid_kernels::Mixing;
///
/// // Two images of one channel and two positions. The first image takes its second position from the second.
/// let mixing = Mixing { cut: vec![false, true, false, false], partners: vec![1, 0] };
/// assert_eq!(mixing.forward(&[1.0, 2.0, 3.0, 4.0]), [1.0, 4.0, 3.0, 4.0]);
/// assert_eq!(mixing.gradient(&[0.1, 0.2, 0.3, 0.4], true), [0.1, 0.0, 0.3, 0.6]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mixing {
    /// Whether a position is filled from the mix partner, `[batch, positions]`; the same for all channels.
    pub cut: Vec<bool>,
    /// For each image, the index of its mix partner in the batch, `[batch]`.
    pub partners: Vec<usize>,
}

impl Mixing {
    /// Computes the mixed features from `features`; both are `[batch, channels, positions]`.
    ///
    /// # Panics
    /// If the sizes of `cut`, `partners` and `features` do not fit each other, or an index in `partners` is
    /// not below the batch size.
    #[must_use]
    pub fn forward(&self, features: &[f32]) -> Vec<f32> {
        let (sizes, arch) = (self.sizes(features), Arch::new());
        sizes.for_each_map(|image, channel, mixed| {
            let partner = sizes.map(self.partners[image], channel, features);
            mixed.copy_from_slice(sizes.map(image, channel, features));
            arch.dispatch(Zip {
                values: mixed,
                others: partner,
                cut: self.cut_of(image),
                of: |own, partner, cut| if cut { partner } else { own },
            });
        })
    }

    /// Computes the gradient of a loss with respect to the features from the gradient with respect to the
    /// mixed features; both are `[batch, channels, positions]`.
    ///
    /// Positions that an image kept receive its gradient. If `to_partners` is true, each position also
    /// receives the gradients of all images that took it, added in the order of the batch.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    #[must_use]
    pub fn gradient(&self, gradient: &[f32], to_partners: bool) -> Vec<f32> {
        let (sizes, arch) = (self.sizes(gradient), Arch::new());
        let mut takers = vec![Vec::new(); self.partners.len()];
        for (image, &partner) in self.partners.iter().enumerate().filter(|_| to_partners) {
            takers[partner].push(image);
        }
        sizes.for_each_map(|image, channel, passed| {
            arch.dispatch(Zip {
                values: passed,
                others: sizes.map(image, channel, gradient),
                cut: self.cut_of(image),
                of: |zero, own, cut| if cut { zero } else { own },
            });
            for &taker in &takers[image] {
                arch.dispatch(Zip {
                    values: passed,
                    others: sizes.map(taker, channel, gradient),
                    cut: self.cut_of(taker),
                    of: |sum, taken, cut| if cut { sum + taken } else { sum },
                });
            }
        })
    }

    fn cut_of(&self, image: usize) -> &[bool] {
        let positions = self.cut.len() / self.partners.len();
        &self.cut[image * positions..][..positions]
    }

    fn sizes(&self, features: &[f32]) -> Sizes {
        let (batch, cut, count) = (self.partners.len(), self.cut.len(), features.len());
        assert!(
            batch > 0 && cut > 0 && cut.is_multiple_of(batch) && count.is_multiple_of(cut),
            "{count} values, expected whole channels of {batch} images with {cut} positions in total"
        );
        assert!(
            self.partners.iter().all(|&partner| partner < batch),
            "mix partners of {batch} images must be indices below {batch}, found {:?}",
            self.partners
        );
        Sizes {
            count,
            channels: count / cut,
            positions: cut / batch,
        }
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    count: usize,
    channels: usize,
    positions: usize,
}

impl Sizes {
    fn map(self, image: usize, channel: usize, features: &[f32]) -> &[f32] {
        &features[(image * self.channels + channel) * self.positions..][..self.positions]
    }

    /// Creates feature maps of zeros and calls `write` for each one, with its image and channel.
    fn for_each_map(self, write: impl Fn(usize, usize, &mut [f32]) + Sync) -> Vec<f32> {
        let mut maps = zeros(self.count);
        let at_once = PART.div_ceil(self.positions);
        maps.par_chunks_exact_mut(self.positions)
            .with_min_len(at_once)
            .enumerate()
            .for_each(|(at, map)| write(at / self.channels, at % self.channels, map));
        maps
    }
}

struct Zip<'a, F> {
    values: &'a mut [f32],
    others: &'a [f32],
    cut: &'a [bool],
    of: F,
}

impl<F: Fn(f32, f32, bool) -> f32> WithSimd for Zip<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let others = self.others.iter().zip(self.cut);
        for (value, (other, cut)) in self.values.iter_mut().zip(others) {
            *value = (self.of)(*value, *other, *cut);
        }
    }
}
