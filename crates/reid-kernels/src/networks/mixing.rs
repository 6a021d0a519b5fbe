//! Places of maps that are filled from other maps of the batch, and the gradient.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::PART;
use crate::memory::zeros;

/// Which places of each image give way to those of another, and to whose.
///
/// ```
/// use reid_kernels::Mixing;
///
/// // Two images of one channel and two positions; the second position of the first is the second's.
/// let mixing = Mixing { cut: vec![false, true, false, false], partners: vec![1, 0] };
/// assert_eq!(mixing.forward(&[1.0, 2.0, 3.0, 4.0]), [1.0, 4.0, 3.0, 4.0]);
/// assert_eq!(mixing.gradient(&[0.1, 0.2, 0.3, 0.4], true), [0.1, 0.0, 0.3, 0.6]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mixing {
    /// Whether a place is filled by the donor, `[batch, positions]`, the same for all channels.
    pub cut: Vec<bool>,
    /// The place of each image's donor in the batch, `[batch]`.
    pub partners: Vec<usize>,
}

impl Mixing {
    /// The mixed maps, `[batch, channels, positions]`, of maps in the same order.
    ///
    /// # Panics
    /// If the numbers are no whole maps of this batch and these places, or a donor is not in it.
    #[must_use]
    pub fn forward(&self, features: &[f32]) -> Vec<f32> {
        let (sizes, arch) = (self.sizes(features), Arch::new());
        sizes.for_each_map(|image, channel, mixed| {
            let donor = sizes.map(self.partners[image], channel, features);
            mixed.copy_from_slice(sizes.map(image, channel, features));
            arch.dispatch(Zip {
                values: mixed,
                others: donor,
                cut: self.cut_of(image),
                of: |own, donor, cut| if cut { donor } else { own },
            });
        })
    }

    /// The gradient of a loss by the maps, from that by the mixed ones: what was kept gets its own, and,
    /// `to_donors`, what was given gets those of all who took it, in the order of the batch.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    #[must_use]
    pub fn gradient(&self, gradient: &[f32], to_donors: bool) -> Vec<f32> {
        let (sizes, arch) = (self.sizes(gradient), Arch::new());
        let mut takers = vec![Vec::new(); self.partners.len()];
        for (image, &donor) in self.partners.iter().enumerate().filter(|_| to_donors) {
            takers[donor].push(image);
        }
        sizes.for_each_map(|image, channel, passed| {
            arch.dispatch(Zip {
                values: passed,
                others: sizes.map(image, channel, gradient),
                cut: self.cut_of(image),
                of: |none, own, cut| if cut { none } else { own },
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
            "{count} numbers are no maps of {batch} images with {cut} places in all"
        );
        assert!(
            self.partners.iter().all(|&donor| donor < batch),
            "donors of {batch} images, found {:?}",
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

    /// New maps, each written from zeros, given its image and channel.
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
        for (number, (other, cut)) in self.values.iter_mut().zip(others) {
            *number = (self.of)(*number, *other, *cut);
        }
    }
}
