//! Semantic segmentation: the confusion matrix of all pixels, and mean intersection over union (Everingham et
//! al., IJCV 2015; Cordts et al., Cityscapes, CVPR 2016, arXiv:1604.01685).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Counts how often pixels of each class are predicted as each class. It is filled image by image, and counts
/// are integers, so the result does not depend on the order of the images.
///
/// ```
/// use reid_eval::ConfusionMatrix;
///
/// let mut matrix = ConfusionMatrix::new(2);
/// // Three pixels of class 0, one of class 1, and one without a label.
/// matrix.add(&[0, 0, 0, 1, 255], &[0, 0, 1, 1, 0])?;
/// let report = matrix.report()?;
/// assert_eq!(report.classes[0].intersection_over_union, Some(2.0 / 3.0));
/// assert_eq!(report.classes[1].intersection_over_union, Some(0.5));
/// assert_eq!(report.pixel_accuracy, 0.75);
/// # Ok::<(), reid_eval::SegmentationError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfusionMatrix {
    classes: usize,
    /// The number of pixels for each label and prediction, row by row.
    counts: Vec<u64>,
}

impl ConfusionMatrix {
    /// The label of pixels that are not counted.
    pub const IGNORED: u8 = 255;

    /// Creates a matrix without pixels for `classes` classes.
    ///
    /// # Panics
    /// If `classes` is not 1 to 255.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        assert!(
            (1..=255).contains(&classes),
            "a confusion matrix needs 1 to 255 classes, found {classes}"
        );
        Self {
            classes,
            counts: vec![0; classes * classes],
        }
    }

    /// The number of classes.
    #[must_use]
    pub const fn classes(&self) -> usize {
        self.classes
    }

    /// The number of pixels of class `label` that were predicted as class `prediction`.
    ///
    /// # Panics
    /// If an index is not below the number of classes.
    #[must_use]
    pub fn count(&self, label: usize, prediction: usize) -> u64 {
        let classes = self.classes;
        assert!(
            label < classes && prediction < classes,
            "the confusion matrix has {classes} classes, found label {label} and prediction {prediction}"
        );
        self.counts[label * classes + prediction]
    }

    /// Counts the pixels of an image, or of several: the label and the prediction of each pixel, in the same
    /// order. Pixels with the label 255 are not counted, whatever their prediction.
    ///
    /// # Errors
    /// If there is not one prediction per label, or if a label or a prediction of a labelled pixel is not a
    /// class. No pixel is counted then.
    pub fn add(&mut self, labels: &[u8], predictions: &[u8]) -> Result<(), SegmentationError> {
        let (expected, found) = (labels.len(), predictions.len());
        if expected != found {
            return Err(SegmentationError::Predictions { expected, found });
        }
        let labelled = || {
            let pixels = labels.iter().zip(predictions).enumerate();
            pixels.filter(|(_, (label, _))| **label != Self::IGNORED)
        };
        let classes = self.classes;
        for (pixel, (&label, &prediction)) in labelled() {
            for (kind, found) in [("label", label), ("prediction", prediction)] {
                if usize::from(found) >= classes {
                    return Err(SegmentationError::Class {
                        kind,
                        pixel,
                        found,
                        classes,
                    });
                }
            }
        }
        for (_, (&label, &prediction)) in labelled() {
            self.counts[usize::from(label) * classes + usize::from(prediction)] += 1;
        }
        Ok(())
    }

    /// Adds the counts of another matrix, such as one that another thread filled.
    ///
    /// # Panics
    /// If it has another number of classes.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(
            self.classes, other.classes,
            "confusion matrices of {} and {} classes cannot be merged",
            self.classes, other.classes
        );
        for (count, other) in self.counts.iter_mut().zip(&other.counts) {
            *count += other;
        }
    }

    /// Computes the metrics.
    ///
    /// # Errors
    /// If no pixel was counted.
    pub fn report(&self) -> Result<SegmentationReport, SegmentationError> {
        let sum = |class: usize, by_label: bool| -> u64 {
            let others = 0..self.classes;
            let counts = others.map(|other| {
                if by_label {
                    self.count(class, other)
                } else {
                    self.count(other, class)
                }
            });
            counts.sum()
        };
        let classes = (0..self.classes).map(|class| {
            let (correct, labelled) = (self.count(class, class), sum(class, true));
            let predicted = sum(class, false);
            ClassScores {
                labelled,
                predicted,
                correct,
                accuracy: ratio(correct, labelled),
                intersection_over_union: ratio(correct, labelled + predicted - correct),
            }
        });
        let classes: Vec<_> = classes.collect();
        let total = |of: fn(&ClassScores) -> u64| classes.iter().map(of).sum::<u64>();
        let pixels = total(|class| class.labelled);
        let pixel_accuracy = ratio(total(|class| class.correct), pixels);
        let pixel_accuracy = pixel_accuracy.ok_or(SegmentationError::NoPixels)?;
        Ok(SegmentationReport {
            pixels,
            pixel_accuracy,
            mean_accuracy: mean(classes.iter().map(|class| class.accuracy)),
            mean_intersection_over_union: mean(
                classes.iter().map(|class| class.intersection_over_union),
            ),
            classes,
        })
    }
}

/// The quotient of two counts; `None` if the second is 0.
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The mean of the values that are defined, of which there is at least one.
fn mean(values: impl Iterator<Item = Option<f64>>) -> f64 {
    let (sum, count) = values
        .flatten()
        .fold((0.0, 0_usize), |(sum, count), value| {
            (sum + value, count + 1)
        });
    sum / count as f64
}

/// The metrics of a semantic segmentation. `Display` prints a table.
///
/// All metrics are fractions from 0 to 1. A class with `labelled` pixels, of which `correct` are predicted as
/// this class, and `predicted` predictions has
///
/// ```text
/// accuracy = correct / labelled        IoU = correct / (labelled + predicted - correct)
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SegmentationReport {
    /// The number of pixels with a label.
    pub pixels: u64,
    /// The fraction of these pixels whose class is predicted.
    pub pixel_accuracy: f64,
    /// The mean accuracy of the classes that have a label.
    pub mean_accuracy: f64,
    /// The mean intersection over union (mIoU) of the classes that have a label or a prediction. As in the
    /// script of Cityscapes, other classes are left out.
    pub mean_intersection_over_union: f64,
    /// The metrics of each class.
    pub classes: Vec<ClassScores>,
}

/// The metrics of one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClassScores {
    /// The number of pixels of this class.
    pub labelled: u64,
    /// The number of labelled pixels that were predicted as this class.
    pub predicted: u64,
    /// The number of pixels of this class that were predicted as this class.
    pub correct: u64,
    /// The fraction of the pixels of this class that were predicted as this class; `None` without such
    /// pixels.
    pub accuracy: Option<f64>,
    /// Intersection over union (IoU); `None` without labels and predictions.
    pub intersection_over_union: Option<f64>,
}

impl SegmentationReport {
    /// Formats the table with the names of the classes. A class without a name has its index.
    #[must_use]
    pub fn table(&self, names: &[&str]) -> String {
        let percent = |value: Option<f64>| match value {
            Some(value) => format!("{:6.2} %", 100.0 * value),
            None => "     -  ".to_owned(),
        };
        let width = names.iter().map(|name| name.chars().count()).max();
        let width = width.unwrap_or(0).max("pixels correct".len());
        let mut lines = vec![format!(
            "{:width$}  {:>8}  {:>8}",
            "class", "IoU", "accuracy"
        )];
        let mut line = |name: &str, iou: Option<f64>, accuracy: Option<f64>| {
            let (iou, accuracy) = (percent(iou), percent(accuracy));
            let line = format!("{name:width$}  {iou}  {accuracy}");
            lines.push(line.trim_end().to_owned());
        };
        for (index, class) in self.classes.iter().enumerate() {
            let number = index.to_string();
            let name = names.get(index).copied().unwrap_or(&number);
            line(name, class.intersection_over_union, class.accuracy);
        }
        let iou = Some(self.mean_intersection_over_union);
        line("mean", iou, Some(self.mean_accuracy));
        lines.push(format!(
            "{:width$}  {}",
            "pixels correct",
            percent(Some(self.pixel_accuracy))
        ));
        lines.join("\n")
    }
}

impl fmt::Display for SegmentationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.table(&[]))
    }
}

/// An error of counting pixels.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentationError {
    /// The number of predictions differs from the number of labels.
    #[error("expected {expected} predictions, one per label, found {found}")]
    Predictions {
        /// The number of labels.
        expected: usize,
        /// The number of predictions.
        found: usize,
    },
    /// A label or a prediction is not a class.
    #[error(
        "the {kind} of pixel {pixel} (from 0) is {found}, expected below the {classes} classes{}",
        if *kind == "label" { " or 255, which is ignored" } else { "" }
    )]
    Class {
        /// `label` or `prediction`.
        kind: &'static str,
        /// The index of the pixel.
        pixel: usize,
        /// The value.
        found: u8,
        /// The number of classes.
        classes: usize,
    },
    /// There is nothing to compute metrics from.
    #[error("mIoU needs at least 1 pixel with a label, found none")]
    NoPixels,
}

/// Formats the message like [`reid_core::debug_error`].
impl fmt::Debug for SegmentationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels and predictions of 10 pixels of 4 classes; class 3 has neither.
    fn example() -> ConfusionMatrix {
        let mut matrix = ConfusionMatrix::new(4);
        let labels = [0, 0, 0, 0, 1, 1, 1, 255, 2, 255];
        let predictions = [0, 0, 0, 1, 1, 1, 0, 3, 1, 77];
        matrix.add(&labels, &predictions).expect("pixels");
        matrix
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "fractions of small counts are exact")]
    fn metrics_match_hand_computed_ones() {
        let report = example().report().expect("labelled pixels");
        assert_eq!(report.pixels, 8);
        assert_eq!(report.pixel_accuracy, 5.0 / 8.0);
        // Class 0: 3 of 4 and one false positive; class 1: 2 of 3 and two; class 2: 0 of 1.
        let ious = report
            .classes
            .iter()
            .map(|class| class.intersection_over_union);
        let expected = [Some(3.0 / 5.0), Some(2.0 / 5.0), Some(0.0), None];
        assert_eq!(ious.collect::<Vec<_>>(), expected);
        let mean = report.mean_intersection_over_union;
        assert!((mean - 1.0 / 3.0).abs() < 1e-15, "{mean}");
        let expected = (0.75 + 2.0 / 3.0) / 3.0;
        assert!((report.mean_accuracy - expected).abs() < 1e-15);
    }

    #[test]
    fn images_in_any_order_and_merged_matrices_give_the_same_counts() {
        let mut one = ConfusionMatrix::new(4);
        one.add(&[1, 255, 2], &[0, 3, 1]).expect("pixels");
        let mut other = ConfusionMatrix::new(4);
        other.add(&[0, 0, 0], &[0, 1, 0]).expect("pixels");
        other.add(&[0, 1, 1], &[0, 1, 1]).expect("pixels");
        one.merge(&other);
        assert_eq!(one, example());
    }

    #[test]
    fn pixels_that_are_no_class_are_rejected_and_nothing_is_counted() {
        let mut matrix = ConfusionMatrix::new(2);
        let error = matrix.add(&[0, 2], &[0, 0]).expect_err("label 2");
        let expected = "the label of pixel 1 (from 0) is 2, expected below the 2 classes \
                        or 255, which is ignored";
        assert_eq!(error.to_string(), expected);
        let error = matrix.add(&[0, 1], &[0, 9]).expect_err("prediction 9");
        let expected = "the prediction of pixel 1 (from 0) is 9, expected below the 2 classes";
        assert_eq!(error.to_string(), expected);
        let error = matrix.add(&[0], &[]).expect_err("no prediction");
        assert_eq!(
            error.to_string(),
            "expected 1 predictions, one per label, found 0"
        );
        assert_eq!(matrix, ConfusionMatrix::new(2));
        let error = matrix.report().expect_err("no pixels");
        assert_eq!(
            error.to_string(),
            "mIoU needs at least 1 pixel with a label, found none"
        );
    }

    #[test]
    fn the_table_names_the_classes() {
        let table = example()
            .report()
            .expect("pixels")
            .table(&["road", "car", "sky"]);
        let expected = "\
class                IoU  accuracy
road             60.00 %   75.00 %
car              40.00 %   66.67 %
sky               0.00 %    0.00 %
3                    -         -
mean             33.33 %   47.22 %
pixels correct   62.50 %";
        assert_eq!(table, expected);
    }
}
