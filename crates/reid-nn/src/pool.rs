//! Global pooling: average, maximum and generalised mean (`GeM`).

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor, activation::softmax},
};
use reid_core::{Problems, Validate};
use serde::{Deserialize, Serialize};

use crate::precision::widened;

/// Computes the average over all positions: `[batch, channels, height, width]` → `[batch, channels]`.
#[must_use]
pub fn average(features: Tensor<4>) -> Tensor<2> {
    reid_ops::global_avg_pool2d(features)
}

/// Computes the maximum over all positions: `[batch, channels, height, width]` → `[batch, channels]`.
#[must_use]
pub fn max(features: Tensor<4>) -> Tensor<2> {
    flat(features).max_dim(2).squeeze_dim(2)
}

/// Flattens the positions, in at least single precision, which all later steps keep.
fn flat(features: Tensor<4>) -> Tensor<3> {
    let [batch, channels, height, width] = features.dims();
    widened(features).reshape([batch, channels, height * width])
}

/// The kind of global pooling and its hyper-parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PoolConfig {
    /// The mean over positions.
    Average,
    /// The maximum over positions.
    Max,
    /// The generalised mean with a learnt exponent (Radenović et al., TPAMI 2018,
    /// arXiv:1711.02512).
    GeneralisedMean {
        /// The initial exponent, above 0; 3 in the paper.
        exponent: f64,
    },
}

impl PoolConfig {
    /// The generalised mean with the initial exponent 3.
    pub const GEM: Self = Self::GeneralisedMean { exponent: 3.0 };

    /// Builds the pooling.
    ///
    /// # Panics
    /// If the exponent is out of range.
    #[must_use]
    pub fn init(&self, device: &Device) -> Pool {
        Problems::refuse("global pooling", |problems| self.validate(problems));
        let (kind, p) = match *self {
            Self::Average => (Kind::Average, None),
            Self::Max => (Kind::Max, None),
            Self::GeneralisedMean { exponent } => {
                let start = Tensor::full([1], exponent, device);
                (Kind::GeneralisedMean, Some(Param::from_tensor(start)))
            }
        };
        Pool { kind, p }
    }
}

impl Validate for PoolConfig {
    fn validate(&self, problems: &mut Problems) {
        if let Self::GeneralisedMean { exponent } = *self {
            let range = f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX);
            let expected = "a value above 0 and within single precision";
            let holds = range.contains(&exponent);
            problems.require("generalised-mean.exponent", holds, expected, exponent);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Average,
    Max,
    GeneralisedMean,
}

/// Global pooling.
///
/// ```text
/// average   f = mean_hw(x)
/// max       f = max_hw(x)
/// GeM       f = (mean_hw(max(x, 1e-6)^p))^(1/p)        [batch, channels]
/// ```
///
/// The value and the gradients of `GeM` are finite for every exponent. It approaches the maximum for large
/// exponents, the geometric mean at 0 and the minimum for large negative exponents.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::pool::PoolConfig;
///
/// let device = Device::default();
/// let features = Tensor::<4>::from_data([[[[1.0, 2.0]]]], &device);
/// let pooled = PoolConfig::GEM.init(&device).forward(features);
/// // ((1³ + 2³) / 2)^(1/3) = 1.651
/// assert!((pooled.into_scalar::<f32>() - 1.651).abs() < 1e-3);
/// ```
#[derive(Module, Debug)]
pub struct Pool {
    #[module(skip)]
    kind: Kind,
    /// The learnt exponent of the generalised mean, `[1]`; absent in the other kinds.
    pub p: Option<Param<Tensor<1>>>,
}

impl Pool {
    /// Pools over all positions.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    /// - result: `[batch, channels]`
    #[must_use]
    pub fn forward(&self, features: Tensor<4>) -> Tensor<2> {
        match (&self.p, self.kind) {
            (Some(p), _) => reid_ops::power_mean(flat(features), p.val()),
            (None, Kind::Max) => max(features),
            (None, _) => average(features),
        }
    }

    /// The kind of pooling, with the current exponent.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use reid_nn::pool::PoolConfig;
    ///
    /// assert_eq!(PoolConfig::GEM.init(&Device::default()).config(), PoolConfig::GEM);
    /// ```
    #[must_use]
    pub fn config(&self) -> PoolConfig {
        match (&self.p, self.kind) {
            (Some(p), _) => {
                let exponent = p.val().into_scalar::<f64>();
                PoolConfig::GeneralisedMean { exponent }
            }
            (None, Kind::Max) => PoolConfig::Max,
            (None, _) => PoolConfig::Average,
        }
    }

    /// Computes the gradient of each pooled value with respect to its channel, averaged over positions, for
    /// Grad-CAM.
    ///
    /// ```text
    /// average, max   1 / (H·W)
    /// GeM            mean_hw((x/f)^(p-1)) / (H·W)        0 where x is clamped
    /// ```
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`, on a plain device, in at least single precision
    /// - result: `[batch, channels]`, or `[1, 1]` if all values are equal
    pub(crate) fn mean_gradient(&self, features: Tensor<4>) -> Tensor<2> {
        let [_, _, height, width] = features.dims();
        let share = 1.0 / (height * width) as f64;
        let Some(p) = &self.p else {
            return Tensor::full([1, 1], share, (&features.device(), features.dtype()));
        };
        let [by_features, _] =
            reid_ops::power_mean_gradients(flat(features), p.val().without_autodiff());
        by_features.mean_dim(2).squeeze_dim(2)
    }

    /// Splits each pooled value into one term per position.
    ///
    /// ```text
    /// average   x / (H·W)
    /// max       x where it is the maximum, 0 elsewhere; equal maxima share it equally
    /// GeM       f·w      w = max(x, 1e-6)^p / Σ_hw max(x, 1e-6)^p
    /// ```
    ///
    /// For `GeM`, f·w = x·∂f/∂x where x is not clamped: it is homogeneous of degree 1, so that these products
    /// add up to f (Euler's theorem).
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`, on a plain device
    /// - result: the same, in at least single precision; the sum over positions is that of
    ///   [`forward`](Self::forward)
    pub(crate) fn terms(&self, features: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = features.dims();
        let values = flat(features);
        let terms = match (&self.p, self.kind) {
            (Some(p), _) => {
                let exponent = p.val().without_autodiff().cast(values.dtype());
                let pooled = reid_ops::power_mean(values.clone(), exponent.clone());
                // Within this range, products with logarithms do not overflow.
                let exponent = exponent.clamp(-1e30, 1e30).unsqueeze::<3>();
                softmax(values.clamp_min(1e-6).log() * exponent, 2) * pooled.unsqueeze_dim::<3>(2)
            }
            (None, Kind::Max) => {
                let largest = values.clone().max_dim(2).expand(values.dims());
                let at = values.clone().equal(largest).float().cast(values.dtype());
                values * at.clone() / at.sum_dim(2)
            }
            (None, _) => values / (height * width) as f64,
        };
        terms.reshape([batch, channels, height, width])
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::*;

    #[test]
    fn a_channel_of_zeros_has_finite_gradients_in_every_precision() {
        let device = Device::default().autodiff();
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            for exponent in [1e-30, 3.0, 6.5, 9.0, 100.0, 1e30] {
                let pool = PoolConfig::GeneralisedMean { exponent }.init(&device);
                let features = Tensor::<4>::from_data([[[[0.0, 0.0]], [[1.0, 2.0]]]], &device);
                let features = features.cast(dtype).require_grad();
                let value = pool.forward(features.clone());
                let gradients = value.clone().sum().backward();
                let exponent = pool.p.expect("an exponent").val();
                let check = |values: Vec<f64>| {
                    let finite = values.iter().all(|x| x.is_finite());
                    assert!(finite, "{dtype:?}: {values:?}");
                };
                check(value.into_data().iter().collect());
                check(
                    exponent
                        .grad(&gradients)
                        .expect("a gradient")
                        .into_data()
                        .iter()
                        .collect(),
                );
                check(
                    features
                        .grad(&gradients)
                        .expect("a gradient")
                        .into_data()
                        .iter()
                        .collect(),
                );
            }
        }
    }

    #[test]
    #[should_panic(
        expected = "exponent: expected a value above 0 and within single precision, found -1"
    )]
    fn a_negative_exponent_panics() {
        let _ = PoolConfig::GeneralisedMean { exponent: -1.0 }.init(&Device::default());
    }
}
