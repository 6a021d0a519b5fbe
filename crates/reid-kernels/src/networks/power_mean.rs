//! Generalised means of maps, with their gradients.

use rayon::prelude::*;

use super::PART;
use crate::memory::zeros;

/// What values are raised to, so that the logarithm of 0 is a number.
const FLOOR: f32 = 1e-6;

/// Below this exponent the slope is that of the series at 0, which is right to 1e-4 there; a quotient of
/// small differences is not.
const SERIES: f64 = 1e-6;

/// The generalised mean of each of many maps of as many positions.
///
/// ```text
/// f = (mean(max(x, 1e-6)^p))^(1/p)        the geometric mean at p = 0
/// ```
///
/// It is finite for every exponent: powers are taken of quotients by the largest value, or by the least
/// where the exponent is negative, in double precision.
///
/// ```
/// let [near_largest, geometric] = [1e30, 0.0].map(|p| reid_kernels::power_means(&[1.0, 4.0], 2, p)[0]);
/// assert_eq!((near_largest, geometric), (4.0, 2.0));
/// ```
///
/// # Panics
/// If the numbers are no whole maps.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "as large as the values")]
pub fn power_means(maps: &[f32], positions: usize, exponent: f32) -> Vec<f32> {
    expect_whole(maps, positions);
    let maps = maps.par_chunks_exact(positions);
    let maps = maps.with_min_len(PART.div_ceil(positions));
    maps.map(|map| Powers::of(map, exponent, |_| {}).value() as f32)
        .collect()
}

/// The generalised means of maps, and their gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct PowerMeans {
    /// The mean of each map.
    pub means: Vec<f32>,
    /// Its gradient by each value of the map; 0 below the floor.
    pub by_maps: Vec<f32>,
    /// Its gradient by the exponent.
    pub by_exponent: Vec<f32>,
}

impl PowerMeans {
    /// Those of many maps of as many positions.
    ///
    /// ```
    /// // At p = 1 a share of 1/2 for each of two values.
    /// let found = reid_kernels::PowerMeans::new(&[1.0, 3.0], 2, 1.0);
    /// assert_eq!((found.means, found.by_maps), (vec![2.0], vec![0.5, 0.5]));
    /// ```
    ///
    /// # Panics
    /// If the numbers are no whole maps.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "as large as the values and their quotients"
    )]
    pub fn new(maps: &[f32], positions: usize, exponent: f32) -> Self {
        expect_whole(maps, positions);
        let mut by_maps = zeros(maps.len());
        let each = by_maps.par_chunks_exact_mut(positions);
        let each = each.zip(maps.par_chunks_exact(positions));
        let each = each.with_min_len(PART.div_ceil(positions));
        let (means, by_exponent) = each
            .map_init(Vec::new, |powers, (by_map, map)| {
                powers.clear();
                let sums = Powers::of(map, exponent, |power| powers.push(power));
                let value = sums.value();
                let share = value / (sums.count * sums.mean());
                for ((by, &x), power) in by_map.iter_mut().zip(map).zip(powers) {
                    // A value that is no number has a gradient that is none.
                    *by = if x < FLOOR {
                        0.0
                    } else {
                        (share * *power / f64::from(x)) as f32
                    };
                }
                (value as f32, (value * sums.slope()) as f32)
            })
            .unzip();
        Self {
            means,
            by_maps,
            by_exponent,
        }
    }
}

/// Sums over the values of a map, with `d = ln(x/x0)` and `e = exp(p·d)`, which is 1 at most.
struct Powers {
    exponent: f64,
    first: f64,
    count: f64,
    /// Of `e - 1`: exact where the exponent is small.
    below: f64,
    /// Of `d` and `d²`.
    logarithms: [f64; 2],
    /// Of `e·d`.
    weighted: f64,
}

impl Powers {
    /// Tells every `e` to `see`.
    fn of(map: &[f32], exponent: f32, mut see: impl FnMut(f64)) -> Self {
        // Not `max`, which would make the floor of what is no number.
        let floored = |x: f32| f64::from(if x < FLOOR { FLOOR } else { x });
        let mut first = floored(map[0]);
        for &x in map {
            let x = floored(x);
            let further = if exponent < 0.0 { x < first } else { x > first };
            first = if further { x } else { first };
        }
        let mut sums = Self {
            exponent: f64::from(exponent),
            first,
            count: map.len() as f64,
            below: 0.0,
            logarithms: [0.0; 2],
            weighted: 0.0,
        };
        for &x in map {
            let d = (floored(x) / first).ln();
            let (power, below) = power(sums.exponent * d);
            sums.below += below;
            sums.logarithms[0] += d;
            sums.logarithms[1] += d * d;
            sums.weighted += power * d;
            see(power);
        }
        sums
    }

    /// The mean of `e`.
    fn mean(&self) -> f64 {
        1.0 + self.below / self.count
    }

    /// ln(f/x0).
    fn relative(&self) -> f64 {
        if self.exponent == 0.0 {
            self.logarithms[0] / self.count
        } else {
            (self.below / self.count).ln_1p() / self.exponent
        }
    }

    fn value(&self) -> f64 {
        self.first * self.relative().exp()
    }

    /// The slope of ln(f) by the exponent: half of the variance of `d` where that is 0.
    fn slope(&self) -> f64 {
        if self.exponent.abs() < SERIES {
            let [mean, square] = self.logarithms.map(|sum| sum / self.count);
            return (square - mean * mean) / 2.0;
        }
        (self.weighted / self.count / self.mean() - self.relative()) / self.exponent
    }
}

/// `exp(x)` and `exp(x) - 1`, both to all digits: the one where `x` is far below 0, the other where it is near.
fn power(x: f64) -> (f64, f64) {
    if x.abs() < 0.5 {
        let below = x.exp_m1();
        (1.0 + below, below)
    } else {
        let power = x.exp();
        (power, power - 1.0)
    }
}

fn expect_whole(maps: &[f32], positions: usize) {
    assert!(
        positions > 0 && maps.len().is_multiple_of(positions),
        "{} numbers are no whole maps of {positions}",
        maps.len()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside dead values, where the power of a live one is far below what 1 can be told from.
    #[test]
    fn a_small_gradient_keeps_its_digits() {
        let found = PowerMeans::new(&[0.0, 0.0, 0.0, 5.0], 4, -3.0).by_maps[3];
        // f = (3/4·(1e-6)^-3)^(-1/3) but for 1e-20 of it, and ∂f/∂x = f·(x/f)^-3/(4·x).
        let mean = 1e-6 * 0.75_f64.powf(-1.0 / 3.0);
        let expected = mean * (5.0 / mean).powi(-3) / (4.0 * 5.0);
        assert!(
            (f64::from(found) / expected - 1.0).abs() < 1e-5,
            "{found}, not {expected}"
        );
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for map in [[f32::NAN, 1.0], [1.0, f32::NAN], [f32::NAN; 2]] {
            for exponent in [-3.0, 0.0, 3.0] {
                assert!(power_means(&map, 2, exponent)[0].is_nan());
                assert!(PowerMeans::new(&map, 2, exponent).means[0].is_nan());
            }
        }
    }
}
