//! The results of each epoch, and their sums over the steps of an epoch.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, Transaction};
use serde::{Deserialize, Serialize};

use crate::learner::StepOutput;

/// The results of an epoch. It holds no times, so two bit-identical runs have equal summaries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochSummary {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// The learning rate at the end of the epoch.
    pub learning_rate: f64,
    /// The mean over the steps of the sum of all losses.
    pub loss: f64,
    /// The name of each loss, and its mean over the steps in which it appeared.
    pub losses: Vec<(String, f64)>,
    /// The mean accuracy over the steps: the fraction of the images whose label was predicted. `None` if no
    /// loss uses the logits.
    pub accuracy: Option<f64>,
    /// The name of each diagnostic, and its mean over the steps in which it was reported. In half precision
    /// also `skipped`, the fraction of the steps that were skipped.
    #[serde(default, alias = "remarks", skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<(String, f64)>,
    /// The scores, if the model was evaluated after this epoch.
    pub scores: Option<Scores>,
}

/// The scores of an evaluation, from 0 to 1: those of retrieval if the data have queries, the accuracy if
/// they have test images, and the mIoU in segmentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The mean average precision (mAP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_average_precision: Option<f64>,
    /// The fraction of the queries whose nearest gallery image is a match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank_1: Option<f64>,
    /// The fraction of the test images whose class was predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// The mean intersection over union (mIoU) of the validation images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_intersection_over_union: Option<f64>,
}

impl Scores {
    /// The score by which the best epoch is chosen: the mAP, or the accuracy if the data have no queries, or
    /// the mIoU.
    pub(crate) fn best_by(&self) -> f64 {
        let score = self.mean_average_precision.or(self.accuracy);
        let score = score.or(self.mean_intersection_over_union);
        score.unwrap_or(f64::NEG_INFINITY)
    }
}

/// The losses, accuracy and diagnostics of a training step, on the host.
pub(crate) struct Measured {
    pub(crate) losses: Vec<(String, f64)>,
    pub(crate) accuracy: Option<f64>,
    pub(crate) diagnostics: Vec<(String, f64)>,
}

/// The losses, accuracy and diagnostics of a training step, still on the device.
pub(crate) struct Unread {
    losses: Vec<(String, Tensor<1>)>,
    accuracy: Option<Tensor<1>>,
    diagnostics: Vec<(String, Tensor<1>)>,
    /// ‖g‖² of each parameter's gradient, in one tensor.
    pub(crate) squares: Option<Tensor<1>>,
}

impl From<&StepOutput> for Unread {
    fn from(output: &StepOutput) -> Self {
        let detached = |value: &Tensor<1>| value.clone().without_autodiff();
        let losses = output.losses.iter();
        let diagnostics = output.diagnostics.iter();
        Self {
            losses: losses
                .map(|loss| (loss.name.to_string(), detached(&loss.value)))
                .collect(),
            accuracy: output.accuracy.as_ref().map(detached),
            diagnostics: diagnostics
                .map(|diagnostic| (diagnostic.name.to_string(), detached(&diagnostic.value)))
                .collect(),
            squares: None,
        }
    }
}

impl Measured {
    /// All values: losses, diagnostics, accuracy.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut f64> {
        let named = self.losses.iter_mut().chain(&mut self.diagnostics);
        named.map(|(_, value)| value).chain(&mut self.accuracy)
    }

    /// The means over the batches of a step.
    pub(crate) fn mean(batches: Vec<Self>) -> Self {
        let count = batches.len() as f64;
        let mut batches = batches.into_iter();
        let mut sum = batches.next().expect("a step has a batch");
        if batches.len() == 0 {
            return sum;
        }
        for batch in batches {
            sum.accuracy = sum.accuracy.zip(batch.accuracy).map(|(a, b)| a + b);
            for (sums, values) in [
                (&mut sum.losses, batch.losses),
                (&mut sum.diagnostics, batch.diagnostics),
            ] {
                for (name, value) in values {
                    match sums.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, sum)) => *sum += value,
                        None => sums.push((name, value)),
                    }
                }
            }
        }
        sum.accuracy = sum.accuracy.map(|sum| sum / count);
        let all = sum.losses.iter_mut().chain(&mut sum.diagnostics);
        all.for_each(|(_, value)| *value /= count);
        sum
    }
}

impl Unread {
    /// Reads all values from the device in one transfer: the measured values, and ‖g‖² of each gradient.
    pub(crate) fn read(self) -> (Measured, Vec<f64>) {
        let all = self.losses.iter().chain(&self.diagnostics);
        let all = all
            .map(|(_, value)| value)
            .chain(&self.accuracy)
            .chain(&self.squares);
        let reading = all.fold(Transaction::default(), |reading, value| {
            reading.register(value.clone())
        });
        let values = reading.execute().into_iter();
        let mut values = values.flat_map(|data| data.iter::<f64>().collect::<Vec<_>>());
        let mut number = || values.next().expect("one value per tensor");
        let mut named = |list: Vec<(String, Tensor<1>)>| {
            let list = list.into_iter();
            list.map(|(name, _)| (name, number())).collect::<Vec<_>>()
        };
        let (losses, diagnostics) = (named(self.losses), named(self.diagnostics));
        let measured = Measured {
            losses,
            diagnostics,
            accuracy: self.accuracy.map(|_| number()),
        };
        (measured, values.collect())
    }
}

/// Sums over the steps of the current epoch, which a checkpoint contains.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(crate) steps: usize,
    pub(crate) losses: Vec<(String, f64)>,
    #[serde(default)]
    pub(crate) accuracy: Option<f64>,
    #[serde(default, alias = "remarks")]
    pub(crate) diagnostics: Vec<(String, f64)>,
    /// The number of steps in which a loss or diagnostic was absent, by name; without zeros.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    absent: BTreeMap<String, usize>,
}

impl Sums {
    pub(crate) fn add(&mut self, measured: &Measured) {
        for (sums, values) in [
            (&mut self.losses, &measured.losses),
            (&mut self.diagnostics, &measured.diagnostics),
        ] {
            add(sums, values, self.steps, &mut self.absent);
        }
        self.accuracy = match (self.accuracy, measured.accuracy) {
            (Some(sum), Some(accuracy)) => Some(sum + accuracy),
            (None, accuracy) if self.steps == 0 => accuracy,
            _ => None,
        };
        self.steps += 1;
    }

    /// The means over the steps so far.
    pub(crate) fn summary(&self, epoch: usize, learning_rate: f64) -> EpochSummary {
        let steps = self.steps.max(1) as f64;
        let mean = |(name, sum): &(String, f64)| {
            let absent = self.absent.get(name).copied().unwrap_or(0);
            (
                name.clone(),
                sum / self.steps.saturating_sub(absent).max(1) as f64,
            )
        };
        EpochSummary {
            epoch,
            learning_rate,
            loss: self.losses.iter().map(|(_, sum)| sum).sum::<f64>() / steps,
            losses: self.losses.iter().map(mean).collect(),
            accuracy: self.accuracy.map(|sum| sum / steps),
            diagnostics: self.diagnostics.iter().map(mean).collect(),
            scores: None,
        }
    }
}

/// Adds the values of a step to the sums of the same names over the previous `steps` steps. Values of one
/// step with the same name are added up.
fn add(
    sums: &mut Vec<(String, f64)>,
    values: &[(String, f64)],
    steps: usize,
    absent: &mut BTreeMap<String, usize>,
) {
    for (name, value) in values {
        if let Some((_, sum)) = sums.iter_mut().find(|(of, _)| of == name) {
            *sum += value;
            continue;
        }
        sums.push((name.clone(), *value));
        if steps > 0 {
            absent.insert(name.clone(), steps);
        }
    }
    for (name, _) in &*sums {
        if !values.iter().any(|(of, _)| of == name) {
            *absent.entry(name.clone()).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(losses: &[(&str, f64)], diagnostics: &[(&str, f64)]) -> Measured {
        let named = |list: &[(&str, f64)]| {
            let list = list.iter();
            list.map(|(name, value)| ((*name).to_owned(), *value))
                .collect()
        };
        Measured {
            losses: named(losses),
            accuracy: Some(0.5),
            diagnostics: named(diagnostics),
        }
    }

    fn means(list: &[(String, f64)]) -> Vec<(&str, f64)> {
        list.iter().map(|(name, value)| (&**name, *value)).collect()
    }

    #[test]
    fn each_loss_has_the_mean_of_the_steps_in_which_it_appeared() {
        let mut sums = Sums::default();
        for measured in [
            step(
                &[("identity", 1.0), ("triplet", 8.0)],
                &[("empty CAM", 0.5)],
            ),
            step(&[("triplet", 4.0), ("identity", 2.0)], &[]),
            step(&[("center", 6.0), ("identity", 6.0)], &[("skipped", 1.0)]),
        ] {
            sums.add(&measured);
            // As saved by a checkpoint inside the epoch.
            let json = serde_json::to_string(&sums).expect("JSON");
            sums = serde_json::from_str(&json).expect("sums");
        }
        let summary = sums.summary(1, 0.1);
        assert_eq!(
            means(&summary.losses),
            [("identity", 3.0), ("triplet", 6.0), ("center", 6.0)]
        );
        assert_eq!(
            means(&summary.diagnostics),
            [("empty CAM", 0.5), ("skipped", 1.0)]
        );
        // The sums of the losses of the three steps are 9, 6 and 12.
        assert_eq!(
            (summary.loss.to_bits(), summary.accuracy.map(f64::to_bits)),
            (9.0_f64.to_bits(), Some(0.5_f64.to_bits()))
        );
    }

    #[test]
    fn losses_with_the_same_name_are_added() {
        let mut sums = Sums::default();
        for _ in 0..2 {
            sums.add(&step(&[("loss", 1.0), ("loss", 2.0)], &[]));
        }
        assert_eq!(means(&sums.summary(1, 0.1).losses), [("loss", 3.0)]);
    }

    #[test]
    fn sums_without_absent_counts_cover_all_steps() {
        let json = r#"{"steps":2,"losses":[["identity",3.0]],"accuracy":1.0}"#;
        let sums: Sums = serde_json::from_str(json).expect("sums");
        assert_eq!(means(&sums.summary(1, 0.1).losses), [("identity", 1.5)]);
    }
}
