//! Maps multiplied by a gate, and the gradients.

use std::array;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{
    ALONE, PART,
    relu::{add_relu, relu},
    sum::{single, sum},
};

/// Numbers that one thread writes at once.
const LINE: usize = 64;

/// What shares a number of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// All places of a channel: a gate is `[batch, channels]`.
    Positions,
    /// All channels of a place: a gate is `[batch, positions]`.
    Channels,
}

/// The sizes of maps and of the gate that multiplies them.
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
    /// Images.
    pub batch: usize,
    /// Maps of an image.
    pub channels: usize,
    /// Numbers of a map.
    pub positions: usize,
    /// What shares a number of the gate.
    pub broadcast: Broadcast,
}

impl Gate {
    /// Multiplies maps, `[batch, channels, positions]`, in place.
    ///
    /// # Panics
    /// If a slice has another length than these sizes say, or is empty.
    pub fn multiply(&self, maps: &mut [f32], factors: &[f32]) {
        self.expect(maps.len(), factors.len());
        let part = self.task() * self.positions;
        let write = |(task, maps): (usize, &mut [f32])| self.write(task, maps, factors, None);
        if maps.len() <= ALONE {
            maps.chunks_mut(part).enumerate().for_each(write);
        } else {
            maps.par_chunks_mut(part).enumerate().for_each(write);
        }
    }

    /// The same, with a shortcut added before negative numbers become 0, as a residual block ends.
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
        if maps.len() <= ALONE {
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

    /// The products of maps, `[batch, channels, positions]`, and the gate; joined with a shortcut, if there is one,
    /// as in [`multiply_add_relu`](Self::multiply_add_relu).
    ///
    /// # Panics
    /// As [`multiply`](Self::multiply).
    #[must_use]
    pub fn multiplied(&self, maps: &[f32], factors: &[f32], shortcut: Option<&[f32]>) -> Vec<f32> {
        self.expect(maps.len(), factors.len());
        if maps.len() <= ALONE || !self.positions.is_multiple_of(LINE) {
            let mut gated = self.multiplied_alone(maps, factors);
            if let Some(shortcut) = shortcut {
                add_relu(&mut gated, shortcut);
            }
            return gated;
        }
        // By all threads, which write whole lines once: zeros to write over would be one pass more.
        let (lines, _) = maps.as_chunks::<LINE>();
        let per_map = self.positions / LINE;
        let line = |(at, line): (usize, &[f32; LINE])| match self.broadcast {
            Broadcast::Positions => line.map(|number| number * factors[at / per_map]),
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
                let joined = |(at, values): (usize, &[f32; LINE])| {
                    let (gated, others) = (line((at, values)), &others[at]);
                    array::from_fn(|position| relu(gated[position] + others[position]))
                };
                lines.map(joined).collect()
            }
        };
        gated.into_flattened()
    }

    /// The products by the calling thread.
    fn multiplied_alone(&self, maps: &[f32], factors: &[f32]) -> Vec<f32> {
        let mut gated = Vec::with_capacity(maps.len());
        for (at, map) in maps.chunks_exact(self.positions).enumerate() {
            match self.broadcast {
                Broadcast::Positions => gated.extend(map.iter().map(|number| number * factors[at])),
                Broadcast::Channels => {
                    let factors = &factors[at / self.channels * self.positions..];
                    let pairs = map.iter().zip(factors);
                    gated.extend(pairs.map(|(number, factor)| number * factor));
                }
            }
        }
        gated
    }

    /// The gradient of a loss by the gate, from those by the result; these become those by the maps.
    ///
    /// ```text
    /// by the gate: Σ dy·x over what shares a number        by the maps: dy·g
    /// ```
    ///
    /// # Panics
    /// As [`multiply`](Self::multiply).
    #[must_use]
    pub fn gradients(&self, maps: &[f32], factors: &[f32], gradient: &mut [f32]) -> Vec<f32> {
        self.expect(maps.len(), factors.len());
        assert_eq!(maps.len(), gradient.len(), "numbers of the gradient");
        let part = self.task() * self.positions;
        let pull = |(task, (gradient, maps)): (usize, (&mut [f32], &[f32]))| {
            self.pull(task, maps, factors, gradient)
        };
        let sums: Vec<Vec<f64>> = if maps.len() <= ALONE {
            let tasks = gradient.chunks_mut(part).zip(maps.chunks(part));
            tasks.enumerate().map(pull).collect()
        } else {
            let tasks = gradient.par_chunks_mut(part).zip(maps.par_chunks(part));
            tasks.enumerate().map(pull).collect()
        };
        self.by_factors(&sums)
    }

    fn pull(&self, task: usize, maps: &[f32], factors: &[f32], gradient: &mut [f32]) -> Vec<f64> {
        Arch::new().dispatch(Gradients {
            gate: *self,
            maps,
            factors: self.factors_of(task, factors),
            gradient,
        })
    }

    /// The sums of all tasks: as many for each image. Where they have a number for the same place, these are
    /// summed up in the order of channels.
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

    /// The maps of one task: a divisor of an image's, so that none has maps of two.
    fn task(&self) -> usize {
        let wanted = PART.div_ceil(self.positions).min(self.channels);
        let divides = |maps: &usize| self.channels.is_multiple_of(*maps);
        (1..=wanted).rev().find(divides).expect("1 divides all")
    }

    /// What the maps of a task are multiplied by: a number for each of them, or for each place.
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
        assert!(expected > 0, "a gate of no numbers: {self:?}");
        assert_eq!(
            [maps, factors],
            [expected, broadcast],
            "numbers of {self:?}"
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
                    for number in map {
                        *number *= factor;
                    }
                }
                (Broadcast::Positions, Some(shortcut)) => {
                    let factor = self.factors[at];
                    for (number, other) in map.iter_mut().zip(shortcut) {
                        *number = relu(*number * factor + other);
                    }
                }
                (Broadcast::Channels, None) => {
                    for (number, factor) in map.iter_mut().zip(self.factors) {
                        *number *= factor;
                    }
                }
                (Broadcast::Channels, Some(shortcut)) => {
                    let operands = self.factors.iter().zip(shortcut);
                    for (number, (factor, other)) in map.iter_mut().zip(operands) {
                        *number = relu(*number * factor + other);
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
                let pulled = |((gradient, map), factor): ((&mut [f32], &[f32]), &f32)| {
                    let pulled = sum(gradient, map, |dy, x| dy * x);
                    for dy in gradient {
                        *dy *= factor;
                    }
                    pulled
                };
                pairs.zip(self.factors).map(pulled).collect()
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
