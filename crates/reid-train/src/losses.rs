//! The losses of a recipe.

use reid_core::{Problems, strict};
use reid_nn::{
    CriterionConfig, Init, OutputShape,
    loss::{
        AnyPairLoss, AnyPairLossConfig, ArcFace, ArcFaceConfig, CenterLoss, CenterLossConfig,
        CircleLoss, CircleLossConfig, CosFace, CosFaceConfig, CrossBatchMemory,
        CrossBatchMemoryConfig, Distillation, DistillationConfig, IdentityLoss, IdentityLossConfig,
        MultiSimilarity, MultiSimilarityConfig, SupervisedContrastive, SupervisedContrastiveConfig,
        TripletLoss, TripletLossConfig, Weighted, WeightedConfig, WeightedRegularisedTriplet,
        WeightedRegularisedTripletConfig,
    },
};
use serde::{Deserialize, Serialize};

/// The losses of a recipe, which are added. Each may be absent.
///
/// Parameter groups name the weights of a loss by its index in the order of the fields: the centres of the
/// center loss are `criterion.2`, the class weights of `ArcFace` are `criterion.7`. Distillation has no weights and
/// no index.
///
/// ```
/// use burn::tensor::Device;
/// use reid_nn::{CriterionConfig, Init, OutputShape};
/// use reid_nn::loss::{CircleLossConfig, WeightedConfig};
/// use reid_train::LossesConfig;
///
/// let mut losses = LossesConfig::default();
/// losses.circle = Some(WeightedConfig { weight: 0.5, criterion: CircleLossConfig::new() });
/// let device = Device::default();
/// let criterion = losses.init(&OutputShape::single(64, 10), &Init::empty(&device));
/// assert!(criterion.0.is_some() && criterion.1.is_some() && criterion.2.is_none());
/// assert!(criterion.4.is_some());
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LossesConfig {
    /// Cross-entropy over the training identities.
    pub identity: Option<WeightedConfig<IdentityLossConfig>>,
    /// Triplet loss.
    pub triplet: Option<WeightedConfig<TripletLossConfig>>,
    /// Center loss, whose configuration includes its weight. Its centres use the recipe's optimizer, unless
    /// a parameter group names them: [`Recipe::with_center_loss`](crate::Recipe::with_center_loss) adds
    /// such a group.
    #[serde(default, deserialize_with = "strict")]
    pub center: Option<CenterLossConfig>,
    /// Multi-similarity loss; absent by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_similarity: Option<WeightedConfig<MultiSimilarityConfig>>,
    /// Circle loss; absent by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circle: Option<WeightedConfig<CircleLossConfig>>,
    /// Supervised contrastive loss; absent by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervised_contrastive: Option<WeightedConfig<SupervisedContrastiveConfig>>,
    /// Weighted regularised triplet loss; absent by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weighted_regularised_triplet: Option<WeightedConfig<WeightedRegularisedTripletConfig>>,
    /// `ArcFace`; absent by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arc_face: Option<WeightedConfig<ArcFaceConfig>>,
    /// `CosFace`; absent by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cos_face: Option<WeightedConfig<CosFaceConfig>>,
    /// A loss of the pairs of a batch and the images of earlier batches; absent by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_batch_memory: Option<WeightedConfig<CrossBatchMemoryConfig<AnyPairLossConfig>>>,
    /// Distillation from a teacher, which [`Trainer::with_teacher`](crate::Trainer::with_teacher) sets; absent by
    /// default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation: Option<WeightedConfig<DistillationConfig>>,
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
                criterion: TripletLossConfig::new(),
            }),
            center: None,
            multi_similarity: None,
            circle: None,
            supervised_contrastive: None,
            weighted_regularised_triplet: None,
            arc_face: None,
            cos_face: None,
            cross_batch_memory: None,
            distillation: None,
        }
    }
}

impl CriterionConfig for LossesConfig {
    // The indices are in checkpoints and parameter groups. Burn's tuples end at ten modules, so distillation, which
    // has no parameters, shares an index with another loss without parameters.
    type Criterion = (
        Option<Weighted<IdentityLoss>>,
        Option<Weighted<TripletLoss>>,
        Option<CenterLoss>,
        Option<Weighted<MultiSimilarity>>,
        Option<Weighted<CircleLoss>>,
        Option<Weighted<SupervisedContrastive>>,
        (
            Option<Weighted<WeightedRegularisedTriplet>>,
            Option<Weighted<Distillation>>,
        ),
        Option<Weighted<ArcFace>>,
        Option<Weighted<CosFace>>,
        Option<Weighted<CrossBatchMemory<AnyPairLoss>>>,
    );

    fn init(&self, output: &OutputShape, init: &Init<'_>) -> Self::Criterion {
        (
            self.identity.init(output, init),
            self.triplet.init(output, init),
            self.center.init(output, init),
            self.multi_similarity.init(output, init),
            self.circle.init(output, init),
            self.supervised_contrastive.init(output, init),
            (
                self.weighted_regularised_triplet.init(output, init),
                self.distillation.init(output, init),
            ),
            self.arc_face.init(output, init),
            self.cos_face.init(output, init),
            self.cross_batch_memory.init(output, init),
        )
    }

    fn compares_images(&self) -> bool {
        self.triplet.compares_images()
            || self.multi_similarity.compares_images()
            || self.circle.compares_images()
            || self.supervised_contrastive.compares_images()
            || self.weighted_regularised_triplet.compares_images()
    }

    fn uses_teacher(&self) -> bool {
        self.distillation.uses_teacher()
    }

    fn validate(&self, problems: &mut Problems) {
        validate("identity", &self.identity, problems);
        validate("triplet", &self.triplet, problems);
        validate("center", &self.center, problems);
        validate("multi_similarity", &self.multi_similarity, problems);
        validate("circle", &self.circle, problems);
        validate(
            "supervised_contrastive",
            &self.supervised_contrastive,
            problems,
        );
        validate(
            "weighted_regularised_triplet",
            &self.weighted_regularised_triplet,
            problems,
        );
        validate("arc_face", &self.arc_face, problems);
        validate("cos_face", &self.cos_face, problems);
        validate("cross_batch_memory", &self.cross_batch_memory, problems);
        validate("distillation", &self.distillation, problems);
        let weights = [
            self.identity.as_ref().map(|loss| loss.weight),
            self.triplet.as_ref().map(|loss| loss.weight),
            self.center.as_ref().map(|loss| loss.weight),
            self.multi_similarity.as_ref().map(|loss| loss.weight),
            self.circle.as_ref().map(|loss| loss.weight),
            self.supervised_contrastive.as_ref().map(|loss| loss.weight),
            self.weighted_regularised_triplet
                .as_ref()
                .map(|loss| loss.weight),
            self.arc_face.as_ref().map(|loss| loss.weight),
            self.cos_face.as_ref().map(|loss| loss.weight),
            self.cross_batch_memory.as_ref().map(|loss| loss.weight),
            self.distillation.as_ref().map(|loss| loss.weight),
        ];
        // A negative weight or NaN was already reported above.
        if weights.iter().flatten().all(|&weight| weight == 0.0) {
            problems.add("at least one loss with a weight above 0", "none");
        }
    }

    fn validate_teacher(&self, student: usize, teacher: Option<usize>, problems: &mut Problems) {
        problems.at("distillation", |problems| {
            let loss = &self.distillation;
            loss.validate_teacher(student, teacher, problems);
        });
    }
}

fn validate(field: &str, loss: &impl CriterionConfig, problems: &mut Problems) {
    problems.at(field, |problems| loss.validate(problems));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The losses of a recipe from before the other losses and the mining of triplets were added.
    const OLD: &str = r#"{
        "identity": null,
        "triplet": {
            "weight": 1.0,
            "criterion": { "margin": "soft", "distance": "cosine", "reduction": "sum" }
        },
        "center": null
    }"#;

    #[test]
    fn old_recipes_are_read_and_written_unchanged() {
        let losses: LossesConfig = serde_json::from_str(OLD).expect("losses");
        let expected: serde_json::Value = serde_json::from_str(OLD).expect("JSON");
        let found = serde_json::to_value(&losses).expect("plain data");
        assert_eq!(found, expected);
    }

    #[test]
    fn problems_have_their_path() {
        let old = OLD.trim_end().trim_end_matches('}');
        let json = format!(
            r#"{old},
            "arc_face": {{ "weight": 1.0, "criterion": {{ "scale": 0.0, "margin": 0.5 }} }},
            "cross_batch_memory": {{
                "weight": -1.0,
                "criterion": {{
                    "capacity": 0, "start": 0,
                    "criterion": {{ "triplet": {{
                        "margin": {{ "hard": -0.5 }}, "distance": "euclidean", "reduction": "mean", "mining": "all"
                    }} }}
                }}
            }} }}"#
        );
        let losses: LossesConfig = serde_json::from_str(&json).expect("losses");
        let mut problems = Problems::new();
        losses.validate(&mut problems);
        assert_eq!(
            problems.to_string(),
            "arc_face.criterion.scale: expected 0.000001 to 1000000, found 0\n\
             cross_batch_memory.weight: expected 0 to 1000000, found -1\n\
             cross_batch_memory.criterion.capacity: expected 1 to 1048576, found 0\n\
             cross_batch_memory.criterion.criterion.triplet.margin.hard: expected 0 to 1000000, found -0.5\n\
             cross_batch_memory.criterion.criterion.triplet.mining: expected batch-hard for a loss with a \
             memory, found all"
        );
        let unknown = json.replace("\"capacity\": 0,", "\"capacity\": 1, \"colour\": 1,");
        let error = serde_json::from_str::<LossesConfig>(&unknown).expect_err("unknown");
        assert!(error.to_string().contains("colour"), "{error}");
    }
}
