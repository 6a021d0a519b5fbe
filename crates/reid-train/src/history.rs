//! History: what each epoch came to.

use burn::tensor::{Tensor, Transaction};
use reid_eval::Report;
use serde::{Deserialize, Serialize};

use crate::trainee::Judgement;

/// What an epoch came to. It holds no times, so that runs that repeat compare equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochSummary {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Its learning rate.
    pub learning_rate: f64,
    /// Mean of the whole loss over the steps.
    pub loss: f64,
    /// Mean of each loss over the steps, by name.
    pub losses: Vec<(String, f64)>,
    /// Share of the training images whose identity was named.
    pub accuracy: f64,
    /// Mean of what the head told of each step, by name, and in half precision the share that was left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<(String, f64)>,
    /// Scores, where the epoch ended with an evaluation.
    pub scores: Option<Scores>,
}

/// The scores of an evaluation, as fractions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Mean average precision.
    pub mean_average_precision: f64,
    /// Share of queries whose nearest image is right.
    pub rank_1: f64,
}

impl From<&Report> for Scores {
    fn from(report: &Report) -> Self {
        Self {
            mean_average_precision: report.mean_average_precision,
            rank_1: report.rank(1),
        }
    }
}

/// The numbers of a step, on the host.
pub(crate) struct Measured {
    pub(crate) losses: Vec<(String, f64)>,
    pub(crate) accuracy: f64,
    pub(crate) remarks: Vec<(String, f64)>,
}

/// The numbers of a step, still on the device.
pub(crate) struct Unread {
    losses: Vec<(String, Tensor<1>)>,
    accuracy: Tensor<1>,
    remarks: Vec<(String, Tensor<1>)>,
    /// ‖g‖² of each parameter's gradient, in one tensor.
    pub(crate) squares: Option<Tensor<1>>,
}

impl From<&Judgement> for Unread {
    fn from(judgement: &Judgement) -> Self {
        let number = |value: &Tensor<1>| value.clone().without_autodiff();
        let losses = judgement.losses.iter();
        let remarks = judgement.remarks.iter();
        Self {
            losses: losses
                .map(|loss| (loss.name.to_string(), number(&loss.value)))
                .collect(),
            accuracy: number(&judgement.accuracy),
            remarks: remarks
                .map(|remark| (remark.name.to_string(), number(&remark.value)))
                .collect(),
            squares: None,
        }
    }
}

impl Unread {
    /// Waits for the values, once for all of them: what is measured, and ‖g‖² of each gradient.
    pub(crate) fn read(self) -> (Measured, Vec<f64>) {
        let all = self.losses.iter().chain(&self.remarks);
        let all = all
            .map(|(_, value)| value)
            .chain([&self.accuracy])
            .chain(&self.squares);
        let reading = all.fold(Transaction::default(), |reading, value| {
            reading.register(value.clone())
        });
        let values = reading.execute().into_iter();
        let mut values = values.flat_map(|data| data.iter::<f64>().collect::<Vec<_>>());
        let mut number = || values.next().expect("a number of each tensor");
        let mut named = |list: Vec<(String, Tensor<1>)>| {
            let list = list.into_iter();
            list.map(|(name, _)| (name, number())).collect::<Vec<_>>()
        };
        let (losses, remarks) = (named(self.losses), named(self.remarks));
        let measured = Measured {
            losses,
            remarks,
            accuracy: number(),
        };
        (measured, values.collect())
    }
}

/// Sums over the steps of an epoch that is under way; part of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(crate) steps: usize,
    pub(crate) losses: Vec<(String, f64)>,
    pub(crate) accuracy: f64,
    #[serde(default)]
    pub(crate) remarks: Vec<(String, f64)>,
}

impl Sums {
    pub(crate) fn add(&mut self, measured: &Measured) {
        add(&mut self.losses, &measured.losses);
        add(&mut self.remarks, &measured.remarks);
        self.accuracy += measured.accuracy;
        self.steps += 1;
    }

    /// Means over the steps so far.
    pub(crate) fn summary(&self, epoch: usize, learning_rate: f64) -> EpochSummary {
        let steps = self.steps.max(1) as f64;
        let mean = |(name, sum): &(String, f64)| (name.clone(), sum / steps);
        let losses: Vec<(String, f64)> = self.losses.iter().map(mean).collect();
        EpochSummary {
            epoch,
            learning_rate,
            loss: losses.iter().map(|(_, loss)| loss).sum(),
            losses,
            accuracy: self.accuracy / steps,
            remarks: self.remarks.iter().map(mean).collect(),
            scores: None,
        }
    }
}

/// Adds named values to named sums.
fn add(sums: &mut Vec<(String, f64)>, values: &[(String, f64)]) {
    if sums.is_empty() {
        *sums = values.iter().map(|(name, _)| (name.clone(), 0.0)).collect();
    }
    for ((_, sum), (_, value)) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}
