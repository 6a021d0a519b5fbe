//! Generalised means (`GeM` pooling; Radenović et al., TPAMI 2018, arXiv:1711.02512) of feature maps, with their
//! gradients.
//!
//! The gradients are computed together with the value and relative to the largest value of a feature map.
//! Powers of the values themselves would leave the range of single precision.

use rayon::prelude::*;

use super::PART;
use crate::memory::zeros;

/// The smallest value that a mean is computed from, so that every logarithm is finite.
const FLOOR: f32 = 1e-6;

/// Below this exponent, the derivative by the exponent is taken from the series at 0, whose relative error is
/// at most 1e-4 there. The quotient of small differences would be less exact.
const SERIES: f64 = 1e-6;

/// Computes the generalised mean of each feature map: `[maps, positions]` to `[maps]`.
///
/// ```text
/// f = (mean(max(x, 1e-6)^p))^(1/p)        the geometric mean at p = 0
/// ```
///
/// The result is finite for every exponent. Powers are computed in double precision, after each value is
/// divided by the largest value of the feature map, or by the smallest if the exponent is negative.
///
/// ```
/// let [near_largest, geometric] = [1e30, 0.0].map(|p| reid_kernels::power_means(&[1.0, 4.0], 2, p)[0]);
/// assert_eq!((near_largest, geometric), (4.0, 2.0));
/// ```
///
/// # Panics
/// If `positions` is 0, or the length of `maps` is not a multiple of `positions`.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "results are in single precision"
)]
pub fn power_means(maps: &[f32], positions: usize, exponent: f32) -> Vec<f32> {
    expect_whole(maps, positions);
    let maps = maps.par_chunks_exact(positions);
    let maps = maps.with_min_len(PART.div_ceil(positions));
    maps.map(|map| Powers::new(map, exponent, |_| {}).value() as f32)
        .collect()
}

/// The generalised means of feature maps, with their gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct PowerMeans {
    /// The generalised mean of each feature map, `[maps]`.
    pub means: Vec<f32>,
    /// The gradient of each mean with respect to the values of its feature map, `[maps, positions]`; 0 for
    /// values below 1e-6.
    pub by_maps: Vec<f32>,
    /// The gradient of each mean with respect to the exponent, `[maps]`.
    pub by_exponent: Vec<f32>,
}

impl PowerMeans {
    /// Computes the generalised means of feature maps, `[maps, positions]`, and their gradients.
    ///
    /// ```
    /// // With p = 1, each of two values has the gradient 1/2.
    /// let found = reid_kernels::PowerMeans::new(&[1.0, 3.0], 2, 1.0);
    /// assert_eq!((found.means, found.by_maps), (vec![2.0], vec![0.5, 0.5]));
    /// ```
    ///
    /// # Panics
    /// If `positions` is 0, or the length of `maps` is not a multiple of `positions`.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "results are in single precision"
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
                let sums = Powers::new(map, exponent, |power| powers.push(power));
                let value = sums.value();
                let share = value / (sums.count * sums.mean());
                for ((by, &x), power) in by_map.iter_mut().zip(map).zip(powers) {
                    // The gradient of NaN is NaN: `x < FLOOR` is false.
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

/// Sums over the values of a feature map. `d = ln(x/x0)`, and `e = exp(p·d)`, which is at most 1.
struct Powers {
    exponent: f64,
    /// `x0`: the largest value, or the smallest if the exponent is negative.
    first: f64,
    count: f64,
    /// The sum of `e - 1`, which is exact where the exponent is small.
    below: f64,
    /// The sums of `d` and of `d²`.
    logarithms: [f64; 2],
    /// The sum of `e·d`.
    weighted: f64,
}

impl Powers {
    /// Computes the sums of a feature map, and passes every `e` to `visit`.
    fn new(map: &[f32], exponent: f32, mut visit: impl FnMut(f64)) -> Self {
        // Not `f32::max`, which would replace NaN by the floor.
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
            visit(power);
        }
        sums
    }

    /// The mean of `e`.
    fn mean(&self) -> f64 {
        1.0 + self.below / self.count
    }

    /// `ln(f/x0)`.
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

    /// The derivative of `ln(f)` with respect to the exponent: half the variance of `d` where the exponent
    /// is 0.
    fn slope(&self) -> f64 {
        if self.exponent.abs() < SERIES {
            let [mean, square] = self.logarithms.map(|sum| sum / self.count);
            return (square - mean * mean) / 2.0;
        }
        (self.weighted / self.count / self.mean() - self.relative()) / self.exponent
    }
}

/// Computes `exp(x)` and `exp(x) - 1`, both to full precision: the first for `x` far below 0, the second
/// near 0.
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
        "{} values, expected whole feature maps of {positions} positions",
        maps.len()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Next to values below the floor, the power of an ordinary value is below the precision of 1.
    #[test]
    fn a_small_gradient_is_exact() {
        let found = PowerMeans::new(&[0.0, 0.0, 0.0, 5.0], 4, -3.0).by_maps[3];
        // f = (3/4·(1e-6)^-3)^(-1/3) up to 1e-20 of it, and ∂f/∂x = f·(x/f)^-3/(4·x).
        let mean = 1e-6 * 0.75_f64.powf(-1.0 / 3.0);
        let expected = mean * (5.0 / mean).powi(-3) / (4.0 * 5.0);
        assert!(
            (f64::from(found) / expected - 1.0).abs() < 1e-5,
            "found {found}, expected {expected}"
        );
    }

    #[test]
    fn nan_gives_nan() {
        for map in [[f32::NAN, 1.0], [1.0, f32::NAN], [f32::NAN; 2]] {
            for exponent in [-3.0, 0.0, 3.0] {
                assert!(power_means(&map, 2, exponent)[0].is_nan());
                assert!(PowerMeans::new(&map, 2, exponent).means[0].is_nan());
            }
        }
    }
}
