//! The loss of semantic segmentation: cross-entropy at every pixel that has a label.

use burn::tensor::{Tensor, activation::log_softmax};
use reid_core::{Problems, Validate};
use serde::{Deserialize, Serialize};

use super::{LabelMaps, SegmentationOutput};
use crate::{criterion::NamedLoss, precision::widened};

/// The largest weight of a class or of the auxiliary loss.
const MAX_WEIGHT: f64 = 1e6;

/// Cross-entropy averaged over the pixels that have a label, with weights of classes, and that of the
/// auxiliary head. The mean is weighted, as in PyTorch:
///
/// ```text
/// L(y) = Σ_p w[label_p] · (-log softmax(y_p)[label_p]) / Σ_p w[label_p]        over labels other than 255
/// L = L(y_head) + auxiliary_weight · L(y_auxiliary)
/// ```
///
/// Without any labelled pixel the loss is 0, where PyTorch's is NaN.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::segmentation::{LabelMaps, PixelLoss};
///
/// let device = Device::default();
/// // Two pixels with the logits (2, 0) and (0, 0); the second has no label.
/// let logits = Tensor::<4>::from_data([[[[2.0, 0.0]], [[0.0, 0.0]]]], &device);
/// let labels = LabelMaps::new(vec![0, 255], [1, 1, 2], &device);
/// let loss = PixelLoss::new().loss(logits, &labels);
/// assert!((loss.into_scalar::<f32>() - 0.126_928).abs() < 1e-6); // log(1 + exp(-2))
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PixelLoss {
    /// The weight of each class, from 0 to 1e6; 1 for all by default.
    pub class_weights: Option<Vec<f64>>,
    /// The weight of the auxiliary head, from 0 to 1e6; 0.4 in `PSPNet` and OCNet.
    pub auxiliary_weight: f64,
}

impl PixelLoss {
    /// The class weights of OCNet for the 19 classes of Cityscapes, from road to bicycle.
    pub const CITYSCAPES_WEIGHTS: [f64; 19] = [
        0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023, 0.9539,
        0.9843, 1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
    ];

    /// Equal weights of all classes, and 0.4 for the auxiliary head.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            class_weights: None,
            auxiliary_weight: 0.4,
        }
    }

    /// Sets the weight of each class.
    #[must_use]
    pub fn with_class_weights(mut self, weights: Vec<f64>) -> Self {
        self.class_weights = Some(weights);
        self
    }

    /// Sets the weight of the auxiliary head.
    #[must_use]
    pub const fn with_auxiliary_weight(mut self, weight: f64) -> Self {
        self.auxiliary_weight = weight;
        self
    }

    /// Computes the losses of a training step, whose sum is minimised: `pixel`, and `auxiliary` if the model
    /// has an auxiliary head.
    ///
    /// # Panics
    /// As [`loss`](Self::loss).
    #[must_use]
    pub fn losses(&self, output: SegmentationOutput, labels: &LabelMaps) -> Vec<NamedLoss> {
        let mut losses = vec![NamedLoss::new("pixel", self.loss(output.logits, labels))];
        if let Some(logits) = output.auxiliary {
            let loss = self.loss(logits, labels) * self.auxiliary_weight;
            losses.push(NamedLoss::new("auxiliary", loss));
        }
        losses
    }

    /// Computes the mean cross-entropy of logits, in at least single precision.
    ///
    /// # Shapes
    /// - `logits`: `[batch, classes, height, width]`
    /// - `labels`: `[batch, height, width]`
    /// - result: `[1]`
    ///
    /// # Panics
    /// If the sizes differ, if a label is neither 255 nor below the number of classes, or if there is another
    /// number of class weights.
    #[must_use]
    pub fn loss(&self, logits: Tensor<4>, labels: &LabelMaps) -> Tensor<1> {
        let [batch, classes, height, width] = logits.dims();
        assert_eq!(
            labels.maps.dims(),
            [batch, height, width],
            "the logits have shape {:?} and the label maps {:?}",
            logits.dims(),
            labels.maps.dims()
        );
        labels.check_classes(classes);
        let log_probability = log_softmax(widened(logits), 1);
        let maps = labels.maps.clone().unsqueeze_dim::<4>(1);
        let ignored = maps.clone().equal_elem(i32::from(LabelMaps::IGNORED));
        let known = maps.mask_fill(ignored.clone(), 0);
        let right = log_probability.gather(1, known.clone());
        let options = (&right.device(), right.dtype());
        let weights = match &self.class_weights {
            None => Tensor::ones([batch, 1, height, width], options),
            Some(weights) => {
                let found = weights.len();
                assert_eq!(
                    found, classes,
                    "logits of {classes} classes need {classes} class weights, found {found}"
                );
                let weights = Tensor::<1>::from_data(weights.as_slice(), options);
                let weights = weights.select(0, known.flatten::<1>(0, 3));
                weights.reshape([batch, 1, height, width])
            }
        };
        let weights = weights.mask_fill(ignored, 0.0);
        let total = weights
            .clone()
            .sum()
            .clamp_min(f64::from(f32::MIN_POSITIVE));
        (right * weights).sum().neg() / total
    }
}

impl Default for PixelLoss {
    fn default() -> Self {
        Self::new()
    }
}

impl Validate for PixelLoss {
    fn validate(&self, problems: &mut Problems) {
        problems.at("class_weights", |problems| {
            let weights = self.class_weights.iter().flatten().enumerate();
            for (class, &weight) in weights {
                problems.number(&format!("[{class}]"), weight, 0.0..=MAX_WEIGHT);
            }
        });
        problems.number("auxiliary_weight", self.auxiliary_weight, 0.0..=MAX_WEIGHT);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Three pixels with the logits (2, 0), (0, 0) and (0, 1), and the labels 0, ignored and 1.
    fn case() -> (Tensor<4>, LabelMaps) {
        let device = Device::default();
        let logits = [[[[2.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]]];
        let labels = LabelMaps::new(vec![0, 255, 1], [1, 1, 3], &device);
        (Tensor::from_data(logits, &device), labels)
    }

    #[test]
    fn losses_match_hand_computed_ones() {
        let (logits, labels) = case();
        // log(1 + e⁻²) = 0.126928 and log(1 + e⁻¹) = 0.313262.
        let loss = PixelLoss::new().loss(logits.clone(), &labels);
        assert!((loss.into_scalar::<f32>() - 0.220_095).abs() < 1e-6);
        // (1·0.126928 + 3·0.313262) / 4 = 0.266679
        let weighted = PixelLoss::new().with_class_weights(vec![1.0, 3.0]);
        let loss = weighted.loss(logits.clone(), &labels);
        assert!((loss.into_scalar::<f32>() - 0.266_679).abs() < 1e-6);
        let output = SegmentationOutput::new(logits.clone(), Some(logits));
        let losses = PixelLoss::new().losses(output, &labels);
        let names: Vec<_> = losses.iter().map(|loss| loss.name.as_ref()).collect();
        assert_eq!(names, ["pixel", "auxiliary"]);
        let auxiliary = losses[1].value.clone().into_scalar::<f32>();
        assert!((auxiliary - 0.4 * 0.220_095).abs() < 1e-6);
    }

    #[test]
    #[should_panic(expected = "label 2 is neither below the 2 classes of the logits nor 255")]
    fn a_label_beyond_the_classes_panics() {
        let (logits, _) = case();
        let labels = LabelMaps::new(vec![0, 255, 2], [1, 1, 3], &Device::default());
        let _ = PixelLoss::new().loss(logits, &labels);
    }

    #[test]
    #[should_panic(expected = "the logits have shape [1, 2, 1, 3] and the label maps [1, 3, 1]")]
    fn label_maps_of_another_size_panic() {
        let (logits, _) = case();
        let labels = LabelMaps::new(vec![0; 3], [1, 3, 1], &Device::default());
        let _ = PixelLoss::new().loss(logits, &labels);
    }

    #[test]
    #[should_panic(expected = "logits of 2 classes need 2 class weights, found 19")]
    fn another_number_of_class_weights_panics() {
        let (logits, labels) = case();
        let weights = PixelLoss::CITYSCAPES_WEIGHTS.to_vec();
        let _ = PixelLoss::new()
            .with_class_weights(weights)
            .loss(logits, &labels);
    }

    #[test]
    fn weights_out_of_range_are_problems() {
        let loss = PixelLoss::new()
            .with_class_weights(vec![1.0, -1.0])
            .with_auxiliary_weight(f64::NAN);
        let mut problems = Problems::new();
        loss.validate(&mut problems);
        let expected = "class_weights[1]: expected 0 to 1000000, found -1\n\
                        auxiliary_weight: expected 0 to 1000000, found NaN";
        assert_eq!(problems.to_string(), expected);
    }
}
