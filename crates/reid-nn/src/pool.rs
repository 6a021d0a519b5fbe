//! Global pooling: average, maximum and generalised mean.

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use crate::precision::widened;

/// Average over all positions: `[batch, channels, height, width]` → `[batch, channels]`.
#[must_use]
pub fn average(features: Tensor<4>) -> Tensor<2> {
    reid_ops::means(features)
}

/// Maximum over all positions: `[batch, channels, height, width]` → `[batch, channels]`.
#[must_use]
pub fn max(features: Tensor<4>) -> Tensor<2> {
    flat(features).max_dim(2).squeeze_dim(2)
}

/// In at least single precision, as all that follows.
fn flat(features: Tensor<4>) -> Tensor<3> {
    let [batch, channels, height, width] = features.dims();
    widened(features).reshape([batch, channels, height * width])
}

/// Which global pooling, and its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolConfig {
    /// The mean over positions.
    Average,
    /// The maximum over positions.
    Max,
    /// The generalised mean with a learnt exponent (Radenović et al., TPAMI 2018,
    /// arXiv:1711.02512).
    GeneralisedMean {
        /// The exponent at the start, above 0; 3 in the paper.
        exponent: f64,
    },
}

impl PoolConfig {
    /// The generalised mean that starts with exponent 3.
    pub const GEM: Self = Self::GeneralisedMean { exponent: 3.0 };

    /// Builds the pooling.
    ///
    /// # Panics
    /// If the exponent is not a finite number above 0.
    #[must_use]
    pub fn init(&self, device: &Device) -> Pool {
        let (kind, p) = match *self {
            Self::Average => (Kind::Average, None),
            Self::Max => (Kind::Max, None),
            Self::GeneralisedMean { exponent } => {
                assert!(
                    exponent.is_finite() && exponent > 0.0,
                    "the generalised mean needs an exponent above 0, found {exponent}"
                );
                let start = Tensor::full([1], exponent, device);
                (Kind::GeneralisedMean, Some(Param::from_tensor(start)))
            }
        };
        Pool { kind, p }
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
    /// The learnt exponent of the generalised mean.
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
            (Some(p), _) => {
                // x^p as exp(p·ln x), so that the gradient reaches p.
                let logarithm = flat(features).clamp_min(1e-6).log();
                let p = p.val().cast(logarithm.dtype()).unsqueeze();
                let [batch, channels, _] = logarithm.dims();
                let mean = (logarithm * p.clone()).exp().mean_dim(2);
                (mean.log() / p).exp().reshape([batch, channels])
            }
            (None, Kind::Max) => max(features),
            (None, _) => average(features),
        }
    }

    /// The mean over places of the gradient of each pooled value by its map: what Grad-CAM asks for.
    ///
    /// ```text
    /// average, max   1 / (H·W)
    /// GeM            mean_hw((x/f)^(p-1)) / (H·W)        0 where x is clamped
    /// ```
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`, on a plain device, in at least single precision
    /// - result: `[batch, channels]`, or what expands to it
    pub(crate) fn mean_gradient(&self, features: Tensor<4>) -> Tensor<2> {
        let [_, _, height, width] = features.dims();
        let share = 1.0 / (height * width) as f64;
        let Some(p) = &self.p else {
            return Tensor::full([1, 1], share, (&features.device(), features.dtype()));
        };
        let p = p.val().without_autodiff().cast(features.dtype());
        let features = flat(features);
        let clamped = features.clone().lower_elem(1e-6);
        // In logarithms, relative to the largest: powers of a dead channel are no numbers.
        let logarithm = features.clamp_min(1e-6).log();
        let largest = logarithm.clone().max_dim(2);
        let below = (logarithm - largest) * p.clone().unsqueeze();
        let mean = below.clone().exp().mean_dim(2).log();
        let relative = (below - mean) * ((p.clone() - 1.0) / p).unsqueeze();
        let powers = relative.exp().mask_fill(clamped, 0.0);
        powers.mean_dim(2).squeeze_dim::<2>(2) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "an exponent above 0, found -1")]
    fn a_negative_exponent_is_refused() {
        let _ = PoolConfig::GeneralisedMean { exponent: -1.0 }.init(&Device::default());
    }
}
