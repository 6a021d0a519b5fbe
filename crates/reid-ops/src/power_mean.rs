//! Generalised means (`GeM` pooling).
//!
//! The gradients are computed together with the value and relative to the largest value of a channel.
//! Automatic differentiation of the formula would raise the values themselves to a power, which leaves the
//! range of single precision where exponents are large or channels are 0.

use burn::tensor::Tensor;

#[cfg(native_flex)]
mod flex;

/// Computes the generalised mean of each channel (`GeM` pooling; Radenović et al., TPAMI 2018,
/// arXiv:1711.02512), in the dtype of the features.
///
/// ```text
/// y[n, c] = (mean_i max(x[n, c, i], 1e-6)^p)^(1/p)
/// ```
///
/// Value and gradients are finite for every exponent. A large exponent gives the maximum, 0 the geometric
/// mean, and a large negative exponent the minimum.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::default();
/// let maps = Tensor::<3>::from_data([[[1.0, 4.0]]], &device);
/// for (exponent, expected) in [(1e30, 4.0), (1.0, 2.5), (0.0, 2.0), (-1e30, 1.0)] {
///     let exponent = Tensor::<1>::from_data([exponent], &device);
///     let found = reid_ops::power_mean(maps.clone(), exponent).into_scalar::<f32>();
///     assert!((found - expected).abs() < 1e-5);
/// }
/// ```
///
/// # Shapes
/// - `features`: `[batch, channels, positions]`
/// - `exponent`: `[1]`
/// - result: `[batch, channels]`
///
/// # Panics
/// If the features are empty.
#[must_use]
pub fn power_mean(features: Tensor<3>, exponent: Tensor<1>) -> Tensor<2> {
    crate::expect_not_empty("pooling", &features.dims());
    let exponent = exponent.cast(features.dtype());
    let tracked = features.device().is_autodiff() || exponent.device().is_autodiff();
    let plain = (
        features.clone().without_autodiff(),
        exponent.clone().without_autodiff(),
    );
    if !tracked {
        return value(plain.0, plain.1);
    }
    let (value, [by_features, by_exponent]) = all(plain.0, plain.1);
    let along = (features * by_features).sum_dim(2) + exponent.unsqueeze::<3>() * by_exponent;
    // The second term has the value 0 and contributes only its gradient.
    (value + (along.clone() - along.detach())).squeeze_dim(2)
}

/// Computes the gradients of [`power_mean`] with respect to its features, `[batch, channels, positions]`,
/// and with respect to the exponent, `[batch, channels, 1]`. The gradient of a feature below 1e-6 is 0.
///
/// # Shapes
/// - `features`: `[batch, channels, positions]`, without autodiff
/// - `exponent`: `[1]`, without autodiff
///
/// # Panics
/// If the features are empty.
#[must_use]
pub fn power_mean_gradients(features: Tensor<3>, exponent: Tensor<1>) -> [Tensor<3>; 2] {
    crate::expect_not_empty("pooling", &features.dims());
    let exponent = exponent.cast(features.dtype());
    all(features, exponent).1
}

fn value(features: Tensor<3>, exponent: Tensor<1>) -> Tensor<2> {
    #[cfg(native_flex)]
    if crate::is_native(&features.device(), &[features.dtype()]) {
        return flex::value(features, exponent);
    }
    PowerMean::new(features, exponent).value.squeeze_dim(2)
}

/// The means, `[batch, channels, 1]`, and their gradients.
fn all(features: Tensor<3>, exponent: Tensor<1>) -> (Tensor<3>, [Tensor<3>; 2]) {
    #[cfg(native_flex)]
    if crate::is_native(&features.device(), &[features.dtype()]) {
        return flex::all(features, exponent);
    }
    composed(features, exponent)
}

fn composed(features: Tensor<3>, exponent: Tensor<1>) -> (Tensor<3>, [Tensor<3>; 2]) {
    let mean = PowerMean::new(features, exponent);
    let gradients = [mean.by_features(), mean.by_exponent()];
    (mean.value, gradients)
}

/// The smallest value that a mean is computed from, so that every logarithm is finite.
const FLOOR: f64 = 1e-6;
/// The smallest absolute exponent with which powers are computed; powers with smaller ones differ too
/// little from 1. Below it, the logarithm of the mean is interpolated linearly to that of the geometric
/// mean at 0. The error is at most 1e-3 of the mean; the worst case has some values below the
/// floor and others above.
const LEAST: f64 = 5e-3;
/// The largest absolute exponent: it gives the exact maximum or minimum, and products with logarithms do not
/// overflow.
const LARGEST: f64 = 1e30;

/// The generalised mean as a composition of Burn's operations. It is computed relative to the largest value
/// `x₀` of a channel, or the smallest if the exponent is negative, so that no power exceeds 1.
///
/// ```text
/// d = ln(x/x₀)      f = x₀·exp(A)      A = ln(mean_hw(exp(p·d)))/p      w = exp(p·d)/Σ exp(p·d)
/// ∂f/∂x = f·w/x     ∂f/∂p = f·(Σ w·d - A)/p
/// ```
struct PowerMean {
    /// The features, `[batch, channels, positions]`.
    features: Tensor<3>,
    /// d.
    logarithms: Tensor<3>,
    /// exp(p·d), with the exponent clamped to the range of the constants above.
    powers: Tensor<3>,
    /// Their mean, `[batch, channels, 1]`.
    mean: Tensor<3>,
    /// A at the clamped exponent, and at an exponent of 0, `[batch, channels, 1]`.
    relative: [Tensor<3>; 2],
    /// The clamped exponent, and the ratio of the given to the clamped exponent, at most 1; `[1, 1, 1]`.
    exponent: [Tensor<3>; 2],
    /// f, `[batch, channels, 1]`.
    value: Tensor<3>,
}

impl PowerMean {
    fn new(features: Tensor<3>, exponent: Tensor<1>) -> Self {
        let exponent: Tensor<3> = exponent.unsqueeze();
        let negative = exponent.clone().lower_elem(0.0);
        let size = exponent.clone().abs();
        let within = size.clone().clamp(LEAST, LARGEST);
        let share = (size / within.clone()).clamp_max(1.0);
        let exponent = within.clone().mask_where(negative.clone(), within.neg());

        let above = features.clone().clamp_min(FLOOR);
        let first = above.clone().max_dim(2);
        let least = above.clone().min_dim(2);
        let first = first.mask_where(negative.expand(least.dims()), least);
        let logarithms = (above / first.clone()).log();
        let powers = (logarithms.clone() * exponent.clone()).exp();
        let mean = powers.clone().mean_dim(2);
        let relative = mean.clone().log() / exponent.clone();
        let geometric = logarithms.clone().mean_dim(2);
        let way = (relative.clone() - geometric.clone()) * share.clone();
        let value = first * (geometric.clone() + way).exp();
        Self {
            features,
            logarithms,
            powers,
            mean,
            relative: [relative, geometric],
            exponent: [exponent, share],
            value,
        }
    }

    /// The gradient of each mean with respect to its features; 0 where they are below the floor.
    fn by_features(&self) -> Tensor<3> {
        let [_, share] = &self.exponent;
        let positions = self.features.dims()[2] as f64;
        let each = self.value.clone() / positions;
        let weight = each.clone() * share.clone() / self.mean.clone();
        let rest = each * (share.clone().neg() + 1.0);
        let by_logarithms = self.powers.clone() * weight + rest;
        let clamped = self.features.clone().lower_elem(FLOOR);
        (by_logarithms / self.features.clone().clamp_min(FLOOR)).mask_fill(clamped, 0.0)
    }

    /// The gradient of each mean with respect to the exponent.
    fn by_exponent(&self) -> Tensor<3> {
        let [exponent, share] = &self.exponent;
        let [relative, geometric] = &self.relative;
        let weighted = (self.powers.clone() * self.logarithms.clone()).mean_dim(2);
        let slope = weighted / self.mean.clone() - relative.clone();
        let line = relative.clone() - geometric.clone();
        let on_line = share.clone().lower_elem(1.0).expand(line.dims());
        self.value.clone() * (slope.mask_where(on_line, line) / exponent.clone())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// A channel of zeros, an ordinary one, a constant one, one with a single nonzero value, and one with
    /// values of many magnitudes.
    const MAPS: [[f64; 4]; 5] = [
        [0.0, 0.0, 0.0, 0.0],
        [1.0, 2.0, 3.0, 0.5],
        [7.0, 7.0, 7.0, 7.0],
        [0.0, 0.0, 0.0, 5.0],
        [1e-3, 20.0, 300.0, 4.0],
    ];

    /// Value, gradient with respect to the features and to the exponent, in double precision.
    fn reference(map: [f64; 4], p: f64) -> (f64, [f64; 4], f64) {
        let logarithms = map.map(|x| x.max(FLOOR).ln());
        let extreme = |a: f64, b: f64| if p < 0.0 { a.min(b) } else { a.max(b) };
        let first = logarithms.into_iter().reduce(extreme).expect("four");
        let below = logarithms.map(|l| l - first);
        let powers = below.map(|d| (p * d).exp());
        let sum: f64 = powers.iter().sum();
        let weights = powers.map(|power| power / sum);
        let expect = |of: &dyn Fn(f64) -> f64| -> f64 {
            below.iter().zip(weights).map(|(d, w)| of(*d) * w).sum()
        };
        let centre = expect(&|d| d);
        let variance = expect(&|d| (d - centre).powi(2));
        // Near 0, use the first two terms of the series.
        let (relative, slope) = if p.abs() < 1e-5 {
            (centre - p * variance / 2.0, variance / 2.0)
        } else {
            let relative = (sum / 4.0).ln() / p;
            (relative, (centre - relative) / p)
        };
        let value = (first + relative).exp();
        let mut by_features = [0.0; 4];
        for ((by, x), w) in by_features.iter_mut().zip(map).zip(weights) {
            *by = if x < FLOOR { 0.0 } else { value * w / x };
        }
        (value, by_features, value * slope)
    }

    fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }

    /// Value, gradient with respect to the features and to the exponent of one channel.
    type Found = (f64, Vec<f64>, f64);

    fn input(map: [f64; 4], p: f64, device: &Device) -> (Tensor<3>, Tensor<1>) {
        let features = Tensor::<1>::from_data(map, device).reshape([1, 1, 4]);
        (features, Tensor::full([1], p, device))
    }

    fn by_autodiff(map: [f64; 4], p: f64) -> Found {
        let (features, exponent) = input(map, p, &Device::default().autodiff());
        let (features, exponent) = (features.require_grad(), exponent.require_grad());
        let value = power_mean(features.clone(), exponent.clone());
        let gradients = value.clone().sum().backward();
        (
            read(value)[0],
            read(features.grad(&gradients).expect("a gradient")),
            read(exponent.grad(&gradients).expect("a gradient"))[0],
        )
    }

    fn by_composition(map: [f64; 4], p: f64) -> Found {
        let (features, exponent) = input(map, p, &Device::default());
        let (value, [by_features, by_exponent]) = composed(features, exponent);
        (read(value)[0], read(by_features), read(by_exponent)[0])
    }

    #[test]
    fn every_exponent_has_a_value_and_gradients() {
        let sizes: [f64; 17] = [
            1e-40, 1e-30, 1e-10, 1e-4, 3e-3, 5e-3, 1e-2, 0.1, 1.0, 3.0, 6.5, 9.0, 100.0, 1e4, 1e20,
            1e30, 3e38,
        ];
        for p in sizes.into_iter().chain([0.0]).chain(sizes.map(|p| -p)) {
            // Tolerances: linear interpolation near 0, and rounding of small differences.
            let (allowed, of_exponent) = match p.abs() {
                size if size < 6e-3 => (1e-3, 2e-2),
                size if size < 0.2 => (2e-5, 2e-3),
                _ => (4e-6, 1e-4),
            };
            let ways = MAPS
                .iter()
                .flat_map(|&map| [by_autodiff, by_composition].map(|found| (map, found(map, p))));
            for (map, found) in ways {
                let (value, by_features, by_exponent) = reference(map, p);
                let off = (found.0 - value).abs();
                assert!(
                    off <= allowed * value,
                    "{map:?}, p = {p}: found {}, expected {value}",
                    found.0
                );
                let largest = by_features.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
                for (by, expected) in found.1.iter().zip(by_features) {
                    let off = (by - expected).abs();
                    // A power of 1e4 amplifies the rounding error of a logarithm.
                    let allowed = allowed.max(1e-7 * p.abs().min(1e4));
                    let allowed = allowed * largest + f64::from(f32::MIN_POSITIVE);
                    assert!(off <= allowed, "{map:?}, p = {p}: {:?}", found.1);
                }
                let off = (found.2 - by_exponent).abs();
                let least = 1e-7 * value / p.abs().max(LEAST);
                let allowed = of_exponent * by_exponent.abs() + 4.0 * least;
                assert!(
                    off <= allowed,
                    "{map:?}, p = {p}: found {}, expected {by_exponent}",
                    found.2
                );
            }
        }
    }
}
