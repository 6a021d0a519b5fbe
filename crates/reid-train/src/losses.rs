//! The losses of a recipe.

use reid_core::{Problems, strict};
use reid_nn::{
    CriterionConfig, Init, OutputShape,
    loss::{
        BatchHardTriplet, BatchHardTripletConfig, CenterLoss, CenterLossConfig, IdentityLoss,
        IdentityLossConfig, Weighted, WeightedConfig,
    },
};
use serde::{Deserialize, Serialize};

/// The losses of a recipe: identity, triplet and center loss. Each may be absent.
///
/// ```
/// use burn::tensor::Device;
/// use reid_nn::{CriterionConfig, Init, OutputShape};
/// use reid_train::LossesConfig;
///
/// let device = Device::default();
/// let criterion = LossesConfig::default().init(&OutputShape::single(64, 10), &Init::empty(&device));
/// assert!(criterion.0.is_some() && criterion.1.is_some() && criterion.2.is_none());
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossesConfig {
    /// Cross-entropy over the training identities.
    pub identity: Option<WeightedConfig<IdentityLossConfig>>,
    /// Batch-hard triplet loss.
    pub triplet: Option<WeightedConfig<BatchHardTripletConfig>>,
    /// Center loss, whose configuration includes its weight. Its centres use the recipe's optimizer, unless
    /// a parameter group names them: [`Recipe::with_center_loss`](crate::Recipe::with_center_loss) adds
    /// such a group.
    #[serde(default, deserialize_with = "strict")]
    pub center: Option<CenterLossConfig>,
}

impl Default for LossesConfig {
    /// The losses of the strong baseline without center loss: label smoothing 0.1, margin 0.3, and
    /// weight 1 for both.
    fn default() -> Self {
        Self {
            identity: Some(WeightedConfig {
                weight: 1.0,
                criterion: IdentityLossConfig::new().with_smoothing(0.1),
            }),
            triplet: Some(WeightedConfig {
                weight: 1.0,
                criterion: BatchHardTripletConfig::new(),
            }),
            center: None,
        }
    }
}

impl CriterionConfig for LossesConfig {
    type Criterion = (
        Option<Weighted<IdentityLoss>>,
        Option<Weighted<BatchHardTriplet>>,
        Option<CenterLoss>,
    );

    fn init(&self, output: &OutputShape, init: &Init<'_>) -> Self::Criterion {
        (
            self.identity.init(output, init),
            self.triplet.init(output, init),
            self.center.init(output, init),
        )
    }

    fn compares_images(&self) -> bool {
        let triplet = self.triplet.as_ref();
        triplet.is_some_and(WeightedConfig::compares_images)
    }

    fn validate(&self, problems: &mut Problems) {
        problems.at("identity", |problems| self.identity.validate(problems));
        problems.at("triplet", |problems| self.triplet.validate(problems));
        problems.at("center", |problems| self.center.validate(problems));
        let weights = [
            self.identity.as_ref().map(|loss| loss.weight),
            self.triplet.as_ref().map(|loss| loss.weight),
            self.center.as_ref().map(|loss| loss.weight),
        ];
        // A negative weight or NaN was already reported above.
        if weights.iter().flatten().all(|&weight| weight == 0.0) {
            problems.add("at least one loss with a weight above 0", "none");
        }
    }
}
