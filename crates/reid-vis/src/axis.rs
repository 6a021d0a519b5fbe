//! Axis: the value range of a chart and its ticks at round numbers.

/// How values are spread along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    /// Equal ratios are equally far apart. Only positive values can be drawn.
    Logarithmic,
}

/// The value range of a chart and the distance between its ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    scale: Scale,
    /// Ends of the range, as logarithms on a logarithmic axis.
    low: f64,
    high: f64,
    /// Distance between ticks, as a logarithm on a logarithmic axis.
    step: f64,
}

/// A tick of an axis: a round number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    /// Position on the axis: 0 at the low end, 1 at the high end.
    pub(crate) position: f64,
    pub(crate) label: String,
}

/// Padding at either end, as a share of the value range, so that marks are not clipped.
const PADDING: f64 = 0.04;
/// The approximate maximum number of ticks.
const TICKS: f64 = 8.0;
/// Values of a larger magnitude are skipped, so that sums and differences stay finite.
const LARGEST: f64 = 1e100;

impl Scale {
    /// The value itself, or its logarithm on a logarithmic axis; `None` if the value cannot be drawn.
    fn coordinate(self, value: f64) -> Option<f64> {
        let coordinate = match self {
            Self::Linear => value,
            Self::Logarithmic => value.log10(),
        };
        (coordinate.abs() <= LARGEST).then_some(coordinate)
    }
}

impl Axis {
    /// An axis whose range covers the values. Values that cannot be drawn are skipped: those that are not
    /// finite, too large, or not positive on a logarithmic axis. Without any value the range is 0 to 1.
    pub(crate) fn over(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut whole = true;
        for coordinate in values.filter_map(|value| scale.coordinate(value)) {
            low = low.min(coordinate);
            high = high.max(coordinate);
            whole &= coordinate.fract() == 0.0;
        }
        if low > high {
            (low, high, whole) = (0.0, 1.0, false);
        }
        if scale == Scale::Logarithmic {
            // Whole decades, so that the ticks are powers of ten.
            (low, high, whole) = (low.floor(), high.ceil(), true);
        }
        let magnitude = low.abs().max(high.abs());
        let room = if high - low > magnitude * 1e-9 + 1e-90 {
            (high - low) * PADDING
        } else if whole {
            magnitude.mul_add(1e-3, 1.0)
        } else {
            magnitude.mul_add(0.1, 1e-30)
        };
        (low, high) = (low - room, high + room);
        let step = round_step((high - low) / TICKS);
        let step = if whole { step.max(1.0) } else { step };
        Self {
            scale,
            low,
            high,
            step,
        }
    }

    /// The position of a value: 0 at the low end, 1 at the high end; `None` if it cannot be drawn.
    pub(crate) fn position(&self, value: f64) -> Option<f64> {
        let coordinate = self.scale.coordinate(value)?;
        let position = (coordinate - self.low) / (self.high - self.low);
        (0.0..=1.0).contains(&position).then_some(position)
    }

    /// The ticks in increasing order.
    pub(crate) fn ticks(&self) -> Vec<Tick> {
        let first = (self.low / self.step).ceil();
        let count = ((self.high - self.low) / self.step).floor();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the number of ticks is about TICKS"
        )]
        let count = count as usize;
        (0..=count)
            .map(|index| (first + index as f64) * self.step)
            .filter(|coordinate| (self.low..=self.high).contains(coordinate))
            .map(|coordinate| Tick {
                position: (coordinate - self.low) / (self.high - self.low),
                label: self.label(coordinate),
            })
            .collect()
    }

    fn label(&self, coordinate: f64) -> String {
        match self.scale {
            // Adding 0 converts -0 to 0.
            Scale::Linear => label(coordinate + 0.0, self.step),
            Scale::Logarithmic => format!("1e{:.0}", coordinate + 0.0),
        }
    }
}

/// The smallest step of 1, 2 or 5 times a power of ten that is at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|factor| factor * power);
    let next = steps.into_iter().find(|step| *step >= least);
    next.unwrap_or(10.0 * power)
}

/// Formats a multiple of `step` with enough digits to distinguish it from the neighbouring ticks.
fn label(value: f64, step: f64) -> String {
    let order = step.log10().floor();
    if (-4.0..6.0).contains(&order) && value.abs() < 1e7 {
        let decimals = digits(-order);
        format!("{value:.decimals$}")
    } else if value == 0.0 {
        "0".to_owned()
    } else {
        let decimals = digits(value.abs().log10().floor() - order);
        format!("{value:.decimals$e}")
    }
}

/// The number of decimals to print, clamped to 0..=12.
fn digits(wanted: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value is from 0 to 12"
    )]
    let digits = wanted.clamp(0.0, 12.0) as usize;
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, values: &[f64]) -> Vec<String> {
        let axis = Axis::over(scale, values.iter().copied());
        axis.ticks().into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        // -0.04 to 1.04: 1.08 / 8 = 0.135 → 0.2.
        let fractions = labels(Scale::Linear, &[0.0, 0.25, 1.0]);
        assert_eq!(fractions, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        // 1 - 4.76 to 120 + 4.76: 128.5 / 8 = 16.1 → 20.
        let epochs = labels(Scale::Linear, &[1.0, 120.0]);
        assert_eq!(epochs, ["0", "20", "40", "60", "80", "100", "120"]);
        // 0.0005 · 1.08 / 8 = 7e-5 → 1e-4.
        let small = labels(Scale::Linear, &[0.0, 0.000_5]);
        assert_eq!(small[..3], ["0.0000", "0.0001", "0.0002"]);
    }

    #[test]
    fn whole_numbers_have_whole_ticks() {
        assert_eq!(labels(Scale::Linear, &[1.0, 2.0, 3.0]), ["1", "2", "3"]);
        assert_eq!(labels(Scale::Linear, &[7.0]), ["6", "7", "8"]);
    }

    #[test]
    fn a_logarithmic_axis_has_whole_decades() {
        let learning_rates = labels(Scale::Logarithmic, &[3.5e-6, 3.5e-4, 0.0]);
        assert_eq!(learning_rates, ["1e-6", "1e-5", "1e-4", "1e-3"]);
        // -8.48 to 4.48 in the exponent: 12.96 / 8 = 1.6 → 2.
        let wide = labels(Scale::Logarithmic, &[1e-8, 1e4]);
        assert_eq!(wide, ["1e-8", "1e-6", "1e-4", "1e-2", "1e0", "1e2", "1e4"]);
    }

    #[test]
    fn positions_go_from_0_at_the_low_end_to_1_at_the_high_end() {
        // 4 % of 10 at either end: 0 is at 0.4 / 10.8.
        let axis = Axis::over(Scale::Linear, [0.0, 10.0].into_iter());
        let at = |value| axis.position(value).expect("in range");
        assert!((at(0.0) - 0.4 / 10.8).abs() < 1e-12);
        assert!((at(5.0) - 0.5).abs() < 1e-12);
        assert_eq!(axis.position(f64::NAN), None);
        assert_eq!(axis.position(11.0), None);
        let axis = Axis::over(Scale::Logarithmic, [0.01, 1.0].into_iter());
        assert!((axis.position(0.1).expect("in range") - 0.5).abs() < 1e-12);
        assert_eq!(axis.position(0.0), None);
    }

    #[test]
    fn any_values_make_an_axis() {
        let all = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            1.0 + f64::EPSILON,
            0.1,
            1e-320,
            1e-90,
            1e-8,
            1e8,
            1e15,
            1e15 + 1.0,
            1e99,
            -1e100,
            1e300,
            f64::MIN_POSITIVE,
            f64::MAX,
            f64::MIN,
            f64::NAN,
            f64::INFINITY,
        ];
        for scale in [Scale::Linear, Scale::Logarithmic] {
            for pair in all.iter().flat_map(|a| all.iter().map(move |b| [*a, *b])) {
                let axis = Axis::over(scale, pair.into_iter());
                let ticks = axis.ticks();
                assert!(
                    !ticks.is_empty() && ticks.len() <= 9,
                    "{scale:?} {pair:?}: {axis:?} {ticks:?}"
                );
                for Tick { position, label } in ticks {
                    assert!((0.0..=1.0).contains(&position), "{pair:?}: {label}");
                    assert!(label.len() <= 20, "{pair:?}: {label}");
                }
                for value in pair.into_iter().filter(|v| scale.coordinate(*v).is_some()) {
                    assert!(axis.position(value).is_some(), "{pair:?}: {axis:?}");
                }
            }
        }
    }
}
