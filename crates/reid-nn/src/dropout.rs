//! `Dropout`: random features are set to 0 in training (Srivastava et al., JMLR 2014; Tompson et al., CVPR
//! 2015, arXiv:1411.4280).

use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use reid_core::{Problems, Seed, Validate};
use serde::{Deserialize, Serialize};

/// What dropout keeps or sets to 0 as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropoutUnit {
    /// Each value; PyTorch's `Dropout`.
    Value,
    /// Each channel of each image; PyTorch's `Dropout2d`.
    Channel,
}

/// Sets random features to 0, and divides the others by the probability of keeping them, so that means stay
/// the same. The random numbers come from a seed; there is no hidden generator.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::Seed;
/// use reid_nn::dropout::Dropout;
///
/// let features = Tensor::<4>::ones([1, 8, 2, 2], &Device::default());
/// let dropped = Dropout::channels(0.5).apply(features, Seed::new(1));
/// let values = dropped.into_data().try_to_vec::<f32>()?;
/// assert!(values.chunks(4).all(|channel| channel == [0.0; 4] || channel == [2.0; 4]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// The probability of setting a unit to 0, at least 0 and below 1.
    pub probability: f64,
    /// What is set to 0 as a whole.
    pub unit: DropoutUnit,
}

impl Dropout {
    /// Drops values.
    #[must_use]
    pub const fn values(probability: f64) -> Self {
        let unit = DropoutUnit::Value;
        Self { probability, unit }
    }

    /// Drops whole channels.
    #[must_use]
    pub const fn channels(probability: f64) -> Self {
        let unit = DropoutUnit::Channel;
        Self { probability, unit }
    }

    /// Drops random units of a feature map. They are chosen on the host, so the same seed chooses the same
    /// ones on every device.
    ///
    /// # Shapes
    /// - `features` and result: `[batch, channels, height, width]`
    ///
    /// # Panics
    /// If the probability is not at least 0 and below 1.
    #[must_use]
    pub fn apply(&self, features: Tensor<4>, seed: Seed) -> Tensor<4> {
        Problems::refuse("dropout", |problems| self.validate(problems));
        if self.probability == 0.0 {
            return features;
        }
        let [batch, channels, height, width] = features.dims();
        let shape = match self.unit {
            DropoutUnit::Value => [batch, channels, height, width],
            DropoutUnit::Channel => [batch, channels, 1, 1],
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "single precision is enough for a factor"
        )]
        let kept = (1.0 / (1.0 - self.probability)) as f32;
        let mut stream = seed.stream();
        let factor = |_| {
            if stream.random::<f64>() < self.probability {
                0.0
            } else {
                kept
            }
        };
        let factors: Vec<f32> = (0..shape.iter().product()).map(factor).collect();
        let options = (&features.device(), features.dtype());
        features * Tensor::from_data(TensorData::new(factors, shape), options)
    }
}

impl Validate for Dropout {
    fn validate(&self, problems: &mut Problems) {
        problems.number("probability", self.probability, 0.0..1.0);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn values_are_dropped_or_scaled_and_the_seed_decides() {
        let features = Tensor::<4>::full([4, 5, 10, 10], 3.0, &Device::default());
        let draw = |seed| {
            let dropped = Dropout::values(0.25).apply(features.clone(), Seed::new(seed));
            let dropped = dropped.into_data();
            dropped.try_to_vec::<f32>().expect("f32 values")
        };
        let values = draw(1);
        assert!(
            values
                .iter()
                .all(|&value| value == 0.0 || (value - 4.0).abs() < 1e-6)
        );
        let zeros = values.iter().filter(|&&value| value == 0.0).count();
        // 2000 · 0.25 = 500, within 5 standard deviations of 19.4.
        assert!((403..=597).contains(&zeros), "{zeros}");
        assert_eq!(draw(1), values);
        assert_ne!(draw(2), values);
    }

    #[test]
    #[should_panic(expected = "dropout: probability: expected at least 0 and below 1, found 1")]
    fn a_probability_of_1_panics() {
        let _ = Dropout::values(1.0).apply(Tensor::ones([1; 4], &Device::default()), Seed::new(1));
    }

    #[test]
    fn a_fraction_of_the_values_is_dropped_and_the_mean_stays() {
        let features = Tensor::<4>::ones([2, 8, 25, 25], &Device::default());
        let drop = |seed| Dropout::values(0.2).apply(features.clone(), Seed::new(seed));
        let mean = drop(1).mean().into_scalar::<f32>();
        // The standard deviation of the mean of 10,000 values is 0.005.
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert_eq!(drop(1).to_data(), drop(1).to_data());
        assert_ne!(drop(1).to_data(), drop(2).to_data());
        let none = Dropout::channels(0.0).apply(features.clone(), Seed::new(1));
        assert_eq!(none.to_data(), features.to_data());
    }
}
