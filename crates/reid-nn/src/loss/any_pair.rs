//! Any pair loss of the library, chosen at run time.

use burn::{module::Module, tensor::Tensor};
use reid_core::{Problems, strict};
use serde::{Deserialize, Serialize};

use super::{
    CircleLoss, CircleLossConfig, MultiSimilarity, MultiSimilarityConfig, PairLoss, PairLossConfig,
    Pairs, SupervisedContrastive, SupervisedContrastiveConfig, TripletLoss, TripletLossConfig,
    WeightedRegularisedTriplet, WeightedRegularisedTripletConfig,
};
use crate::{
    criterion::{Criterion, CriterionConfig, NamedLoss},
    head::{OutputShape, ReidOutput},
    init::Init,
    targets::Targets,
};

macro_rules! any_pair_loss {
    ($($(#[doc = $doc:literal])+ $name:ident($config:ident) $field:literal,)+) => {
        /// Configuration of any [`PairLoss`] of the library, such as that of the
        /// [`CrossBatchMemory`](super::CrossBatchMemory) of a recipe. As JSON it is an object with one field,
        /// the name of the loss: `{ "circle": { "margin": 0.25, "gamma": 64.0 } }`.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum AnyPairLossConfig {
            $(
                $(#[doc = $doc])+
                #[serde(rename = $field)]
                $name(#[serde(deserialize_with = "strict")] $config),
            )+
        }

        /// A pair loss of the library, chosen at run time by [`AnyPairLossConfig`].
        ///
        /// ```
        /// use burn::tensor::{Device, Tensor};
        /// use reid_core::Seed;
        /// use reid_nn::{Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets};
        /// use reid_nn::loss::{AnyPairLossConfig, TripletLossConfig};
        ///
        /// let device = Device::default();
        /// let config = AnyPairLossConfig::from(TripletLossConfig::new());
        /// let criterion = config.init(&OutputShape::single(1, 2), &Init::new(Seed::new(1), &device));
        /// let features = Tensor::<2>::from_data([[0.0], [1.0], [1.5]], &device);
        /// let output = ReidOutput::single(features.clone(), features);
        /// // Anchor 0: 1 - 1.5 + 0.3 < 0 → 0; anchor 1: 1 - 0.5 + 0.3 = 0.8; anchor 2 has no positive.
        /// let loss = criterion.forward(&output, &Targets::new(&[0, 0, 1], &device));
        /// assert!((loss.into_scalar::<f32>() - 0.4).abs() < 1e-6);
        /// ```
        #[derive(Module, Debug)]
        #[non_exhaustive]
        pub enum AnyPairLoss {
            $($(#[doc = $doc])+ $name($name),)+
        }

        $(impl From<$config> for AnyPairLossConfig {
            fn from(config: $config) -> Self {
                Self::$name(config)
            }
        })+

        impl CriterionConfig for AnyPairLossConfig {
            type Criterion = AnyPairLoss;

            fn init(&self, output: &OutputShape, init: &Init<'_>) -> AnyPairLoss {
                match self {
                    $(Self::$name(config) => AnyPairLoss::$name(config.init(output, init)),)+
                }
            }

            fn compares_images(&self) -> bool {
                match self {
                    $(Self::$name(config) => config.compares_images(),)+
                }
            }

            fn validate(&self, problems: &mut Problems) {
                match self {
                    $(Self::$name(config) => {
                        problems.at($field, |problems| config.validate(problems));
                    })+
                }
            }
        }

        impl PairLossConfig for AnyPairLossConfig {
            fn validate_for_memory(&self, problems: &mut Problems) {
                match self {
                    $(Self::$name(config) => {
                        problems.at($field, |problems| config.validate_for_memory(problems));
                    })+
                }
            }
        }

        impl Criterion for AnyPairLoss {
            fn uses_logits(&self) -> bool {
                match self {
                    $(Self::$name(loss) => loss.uses_logits(),)+
                }
            }

            fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
                match self {
                    $(Self::$name(loss) => loss.losses(output, targets),)+
                }
            }
        }

        impl PairLoss for AnyPairLoss {
            fn loss_name(&self) -> &'static str {
                match self {
                    $(Self::$name(loss) => loss.loss_name(),)+
                }
            }

            fn pair_loss(
                &self,
                anchors: &Tensor<2>,
                references: &Tensor<2>,
                pairs: &Pairs,
            ) -> Tensor<1> {
                match self {
                    $(Self::$name(loss) => loss.pair_loss(anchors, references, pairs),)+
                }
            }
        }
    };
}

any_pair_loss! {
    /// Triplet loss.
    TripletLoss(TripletLossConfig) "triplet",
    /// Multi-similarity loss.
    MultiSimilarity(MultiSimilarityConfig) "multi-similarity",
    /// Circle loss.
    CircleLoss(CircleLossConfig) "circle",
    /// Supervised contrastive loss.
    SupervisedContrastive(SupervisedContrastiveConfig) "supervised-contrastive",
    /// Weighted regularised triplet loss of AGW.
    WeightedRegularisedTriplet(WeightedRegularisedTripletConfig) "weighted-regularised-triplet",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_have_the_path_of_the_loss() {
        let mut problems = Problems::new();
        let config = AnyPairLossConfig::from(CircleLossConfig::new().with_gamma(-1.0));
        config.validate(&mut problems);
        let expected = "circle.gamma: expected 0.000001 to 1000000, found -1";
        assert_eq!(problems.to_string(), expected);
    }
}
