//! Feature maps multiplied by a gate, and the gradients.
//!
//! One pass over the feature maps computes the product, and one pass computes both gradients. Large results
//! are built by all threads, which write whole cache lines once: a result that is first filled with zeros
//! would cost one more pass. Small inputs stay on the calling thread, because waking another thread takes
//! longer.

use std::array;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{
    ONE_THREAD, PART,
    relu::{add_relu, relu},
    sum::{single, sum},
};

/// The number of values that a thread writes at a time.
const LINE: usize = 64;

/// The dimension over which a value of the gate is broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// All positions of a channel share a value: the gate is `[batch, channels]`.
    Positions,
    /// All channels of a position share a value: the gate is `[batch, positions]`.
    Channels,
}

/// The product of feature maps, `[batch, channels, positions]`, and a gate of given sizes.
///
/// ```
/// use reid_kernels::{Gate, Broadcast};
///
/// let gate = Gate { batch: 1, channels: 2, positions: 2, broadcast: Broadcast::Channels };
/// let (maps, factors) = ([1.0, 2.0, 3.0, 4.0], [10.0, 100.0]);
/// let mut gated = maps;
/// gate.multiply(&mut gated, &factors);
/// assert_eq!(gated, [10.0, 200.0, 30.0, 400.0]);
///
/// assert_eq!(gate.multiplied(&maps, &factors, Some(&[-20.0; 4])), [0.0, 180.0, 10.0, 380.0]);
///
/// let mut gradient = [1.0; 4];
/// assert_eq!(gate.gradients(&maps, &factors, &mut gradient), [4.0, 6.0]);
/// assert_eq!(gradient, [10.0, 100.0, 10.0, 100.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The number of images.
    pub batch: usize,
    /// The number of channels.
    pub channels: usize,
    /// The number of positions of a feature map.
    pub positions: usize,
    /// The dimension over which the gate is broadcast.
    pub broadcast: Broadcast,
}

impl Gate {
    /// Multiplies feature maps, `[batch, channels, positions]`, by the gate `factors`, in place. The shape of the
    /// gate is that of [`Broadcast`].
    ///
    /// # Panics
    /// If the length of a slice does not match these sizes, or a size is 0.
    pub fn multiply(&self, maps: &mut [f32], factors: &[f32]) {
        self.expect(maps.len(), factors.len());
        let part = self.task() * self.positions;
        let write = |(task, maps): (usize, &mut [f32])| self.write(task, maps, factors, None);
        if maps.len() <= ONE_THREAD {
            maps.chunks_mut(part).enumerate().for_each(write);
        } else {
            maps.par_chunks_mut(part).enumerate().for_each(write);
        }
    }

    /// Computes `max(0, maps · gate + shortcut)` in place in `maps`, as at the end of a residual block. The
    /// shortcut is `[batch, channels, positions]`, like the feature maps.
    ///
    /// # Panics
    /// As [`multiply`](Self::multiply).
    pub fn multiply_add_relu(&self, maps: &mut [f32], factors: &[f32], shortcut: &[f32]) {
        self.expect(maps.len(), factors.len());
        self.expect(shortcut.len(), factors.len());
        let part = self.task() * self.positions;
        let write = |(task, (maps, shortcut)): (usize, (&mut [f32], &[f32]))| {
            self.write(task, maps, factors, Some(shortcut));
        };
        if maps.len() <= ONE_THREAD {
            let tasks = maps.chunks_mut(part).zip(shortcut.chunks(part));
            tasks.enumerate().for_each(write);
        } else {
            let tasks = maps.par_chunks_mut(part).zip(shortcut.par_chunks(part));
            tasks.enumerate().for_each(write);
        }
    }

    fn write(&self, task: usize, maps: &mut [f32], factors: &[f32], shortcut: Option<&[f32]>) {
        Arch::new().dispatch(Multiply {
            gate: *self,
            maps,
            factors: self.factors_of(task, factors),
            shortcut,
        });
    }

    /// Computes the product of feature maps, `[batch, channels, positions]`, and the gate in a new buffer.
    /// With a shortcut, the result is that of [`multiply_add_relu`](Self::multiply_add_relu).
    ///
    /// # Panics
    /// As [`multiply`](Self::multiply).
    #[must_use]
    pub fn multiplied(&self, maps: &[f32], factors: &[f32], shortcut: Option<&[f32]>) -> Vec<f32> {
        self.expect(maps.len(), factors.len());
        if maps.len() <= ONE_THREAD || !self.positions.is_multiple_of(LINE) {
            let mut gated = self.multiplied_serially(maps, factors);
            if let Some(shortcut) = shortcut {
                add_relu(&mut gated, shortcut);
            }
            return gated;
        }
        // All threads write whole lines, once each.
        let (lines, _) = maps.as_chunks::<LINE>();
        let per_map = self.positions / LINE;
        let line = |(at, line): (usize, &[f32; LINE])| match self.broadcast {
            Broadcast::Positions => line.map(|value| value * factors[at / per_map]),
            Broadcast::Channels => {
                let image = at / (per_map * self.channels);
                let factors = &factors[(image * per_map + at % per_map) * LINE..][..LINE];
                array::from_fn(|position| line[position] * factors[position])
            }
        };
        let lines = lines.par_iter().enumerate().with_min_len(PART / LINE);
        let gated: Vec<[f32; LINE]> = match shortcut {
            None => lines.map(line).collect(),
            Some(shortcut) => {
                self.expect(shortcut.len(), factors.len());
                let (others, _) = shortcut.as_chunks::<LINE>();
                let with_shortcut = |(at, values): (usize, &[f32; LINE])| {
                    let (gated, others) = (line((at, values)), &others[at]);
                    array::from_fn(|position| relu(gated[position] + others[position]))
                };
                lines.map(with_shortcut).collect()
            }
        };
        gated.into_flattened()
    }

    /// Computes the product on the calling thread.
    fn multiplied_serially(&self, maps: &[f32], factors: &[f32]) -> Vec<f32> {
        let mut gated = Vec::with_capacity(maps.len());
        for (at, map) in maps.chunks_exact(self.positions).enumerate() {
            match self.broadcast {
                Broadcast::Positions => gated.extend(map.iter().map(|value| value * factors[at])),
                Broadcast::Channels => {
                    let factors = &factors[at / self.channels * self.positions..];
                    let pairs = map.iter().zip(factors);
                    gated.extend(pairs.map(|(value, factor)| value * factor));
                }
            }
        }
        gated
    }

    /// Computes the gradients of a loss from the gradient with respect to the product, `dy`. Returns the
    /// gradient with respect to the gate, in the shape of the gate, and overwrites `gradient`,
    /// `[batch, channels, positions]`, with the gradient with respect to the feature maps.
    ///
    /// ```text
    /// dg = Σ dy·x over the broadcast dimension        dx = dy·g
    /// ```
    ///
    /// # Panics
    /// As [`multiply`](Self::multiply), and if `gradient` and `maps` have different lengths.
    #[must_use]
    pub fn gradients(&self, maps: &[f32], factors: &[f32], gradient: &mut [f32]) -> Vec<f32> {
        self.expect(maps.len(), factors.len());
        assert_eq!(
            maps.len(),
            gradient.len(),
            "lengths of the feature maps and of the gradient"
        );
        let part = self.task() * self.positions;
        let backward = |(task, (gradient, maps)): (usize, (&mut [f32], &[f32]))| {
            self.backward(task, maps, factors, gradient)
        };
        let sums: Vec<Vec<f64>> = if maps.len() <= ONE_THREAD {
            let tasks = gradient.chunks_mut(part).zip(maps.chunks(part));
            tasks.enumerate().map(backward).collect()
        } else {
            let tasks = gradient.par_chunks_mut(part).zip(maps.par_chunks(part));
            tasks.enumerate().map(backward).collect()
        };
        self.by_factors(&sums)
    }

    fn backward(
        &self,
        task: usize,
        maps: &[f32],
        factors: &[f32],
        gradient: &mut [f32],
    ) -> Vec<f64> {
        Arch::new().dispatch(Gradients {
            gate: *self,
            maps,
            factors: self.factors_of(task, factors),
            gradient,
        })
    }

    /// Combines the sums of all tasks to the gradient with respect to the gate. If tasks of one image have
    /// sums for the same positions, these are added in the order of the channels.
    fn by_factors(&self, sums: &[Vec<f64>]) -> Vec<f32> {
        let at_once = match self.broadcast {
            Broadcast::Positions => 1,
            Broadcast::Channels => self.channels / self.task(),
        };
        let images = sums.chunks_exact(at_once).flat_map(|parts| {
            let mut total = parts[0].clone();
            for part in &parts[1..] {
                total.iter_mut().zip(part).for_each(|(to, sum)| *to += sum);
            }
            total
        });
        images.map(single).collect()
    }

    /// The number of feature maps in a task: a divisor of `channels`, so that a task belongs to one image.
    fn task(&self) -> usize {
        let wanted = PART.div_ceil(self.positions).min(self.channels);
        let divides = |maps: &usize| self.channels.is_multiple_of(*maps);
        (1..=wanted)
            .rev()
            .find(divides)
            .expect("1 divides every number")
    }

    /// The part of the gate that a task needs: one value per feature map, or one per position.
    fn factors_of<'a>(&self, task: usize, factors: &'a [f32]) -> &'a [f32] {
        let first = task * self.task();
        match self.broadcast {
            Broadcast::Positions => &factors[first..][..self.task()],
            Broadcast::Channels => {
                &factors[first / self.channels * self.positions..][..self.positions]
            }
        }
    }

    fn expect(&self, maps: usize, factors: usize) {
        let broadcast = match self.broadcast {
            Broadcast::Positions => self.batch * self.channels,
            Broadcast::Channels => self.batch * self.positions,
        };
        let expected = self.batch * self.channels * self.positions;
        assert!(
            expected > 0,
            "the sizes of a gate must be above 0: {self:?}"
        );
        assert_eq!(
            [maps, factors],
            [expected, broadcast],
            "lengths of feature maps and gate for {self:?}"
        );
    }
}

struct Multiply<'a> {
    gate: Gate,
    maps: &'a mut [f32],
    factors: &'a [f32],
    shortcut: Option<&'a [f32]>,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let positions = self.gate.positions;
        for (at, map) in self.maps.chunks_exact_mut(positions).enumerate() {
            let shortcut = self.shortcut.map(|shortcut| &shortcut[at * positions..]);
            match (self.gate.broadcast, shortcut) {
                (Broadcast::Positions, None) => {
                    let factor = self.factors[at];
                    for value in map {
                        *value *= factor;
                    }
                }
                (Broadcast::Positions, Some(shortcut)) => {
                    let factor = self.factors[at];
                    for (value, other) in map.iter_mut().zip(shortcut) {
                        *value = relu(*value * factor + other);
                    }
                }
                (Broadcast::Channels, None) => {
                    for (value, factor) in map.iter_mut().zip(self.factors) {
                        *value *= factor;
                    }
                }
                (Broadcast::Channels, Some(shortcut)) => {
                    let operands = self.factors.iter().zip(shortcut);
                    for (value, (factor, other)) in map.iter_mut().zip(operands) {
                        *value = relu(*value * factor + other);
                    }
                }
            }
        }
    }
}

struct Gradients<'a> {
    gate: Gate,
    maps: &'a [f32],
    factors: &'a [f32],
    gradient: &'a mut [f32],
}

impl WithSimd for Gradients<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<f64> {
        let positions = self.gate.positions;
        let pairs = self.gradient.chunks_exact_mut(positions);
        let pairs = pairs.zip(self.maps.chunks_exact(positions));
        match self.gate.broadcast {
            Broadcast::Positions => {
                let backward = |((gradient, map), factor): ((&mut [f32], &[f32]), &f32)| {
                    let by_factor = sum(gradient, map, |dy, x| dy * x);
                    for dy in gradient {
                        *dy *= factor;
                    }
                    by_factor
                };
                pairs.zip(self.factors).map(backward).collect()
            }
            Broadcast::Channels => {
                let mut sums = vec![0.0; positions];
                for (gradient, map) in pairs {
                    let all = sums.iter_mut().zip(self.factors);
                    for ((sum, factor), (dy, x)) in all.zip(gradient.iter_mut().zip(map)) {
                        *sum += f64::from(*dy * x);
                        *dy *= factor;
                    }
                }
                sums
            }
        }
    }
}
