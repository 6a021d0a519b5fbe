//! Classification: top-k error and confusion of a classifier, from streamed scores.

use std::{cmp::Ordering, fmt};

use serde::Serialize;

use crate::Error;

/// The results of a classifier on test images.
///
/// ```text
/// rank of an image = number of classes with a higher score than its true class,
///                    or an equal score and a lower index
/// top-k error      = fraction of the images with a rank of k or more
/// ```
///
/// The predicted class is the one with the highest score, and the first of several.
///
/// Scores are streamed: [`add`](Self::add) takes those of one batch, and only two numbers per image are kept.
///
/// ```
/// use reid_eval::Classification;
///
/// let mut results = Classification::new(3);
/// let scores = [0.1, 0.7, 0.2, 5.0, 4.0, 3.0]; // two images, three classes
/// results.add(&scores, &[1, 2])?;
/// assert_eq!(results.predictions(), [1, 0]);
/// assert_eq!((results.error(), results.top_k_error(2), results.top_k_error(3)), (0.5, 0.5, 0.0));
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Classification {
    classes: usize,
    labels: Vec<usize>,
    predictions: Vec<usize>,
    /// The number of images of each rank.
    ranks: Vec<usize>,
}

impl Classification {
    /// Creates empty results of a classifier with this many classes.
    ///
    /// # Panics
    /// If there are no classes.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        assert!(classes > 0, "a classifier needs at least 1 class, found 0");
        Self {
            classes,
            labels: Vec::new(),
            predictions: Vec::new(),
            ranks: vec![0; classes],
        }
    }

    /// Adds images: their scores, `[images, classes]` in rows, and the class index of each.
    ///
    /// # Errors
    /// [`Error::Scores`] if a score is not finite, or a label is not below the number of classes; the error
    /// names the index of the image. Nothing is added then.
    ///
    /// # Panics
    /// If the number of scores is not that of labels times that of classes.
    pub fn add(&mut self, scores: &[f32], labels: &[usize]) -> Result<(), Error> {
        let expected = labels.len() * self.classes;
        assert_eq!(
            scores.len(),
            expected,
            "{} images of {} classes need {expected} scores, found {}",
            labels.len(),
            self.classes,
            scores.len()
        );
        let mut results = Vec::with_capacity(labels.len());
        for (row, (scores, &label)) in scores.chunks_exact(self.classes).zip(labels).enumerate() {
            let image = self.labels.len() + row;
            if label >= self.classes {
                let expected = format!("a class index below {}", self.classes);
                return Err(refused(image, expected, label.to_string()));
            }
            if let Some(score) = scores.iter().find(|score| !score.is_finite()) {
                return Err(refused(
                    image,
                    "finite scores".to_owned(),
                    score.to_string(),
                ));
            }
            results.push(ranked(scores, label));
        }
        for ((prediction, rank), &label) in results.into_iter().zip(labels) {
            self.predictions.push(prediction);
            self.labels.push(label);
            self.ranks[rank] += 1;
        }
        Ok(())
    }

    /// The number of images.
    #[must_use]
    pub fn images(&self) -> usize {
        self.labels.len()
    }

    /// The number of classes.
    #[must_use]
    pub const fn classes(&self) -> usize {
        self.classes
    }

    /// The class index of each image, in the order in which they were added.
    #[must_use]
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The predicted class of each image, in the same order.
    #[must_use]
    pub fn predictions(&self) -> &[usize] {
        &self.predictions
    }

    /// The fraction of the images whose class was not predicted, from 0 to 1; NaN without images.
    #[must_use]
    pub fn error(&self) -> f64 {
        self.top_k_error(1)
    }

    /// The fraction of the images whose class is not among the `k` with the highest scores, from 0 to 1. It
    /// is 0 if there are not more than `k` classes, and NaN without images.
    #[must_use]
    pub fn top_k_error(&self, k: usize) -> f64 {
        let missed: usize = self.ranks.iter().skip(k).sum();
        missed as f64 / self.images() as f64
    }

    /// The fraction of the images whose class was predicted, from 0 to 1; NaN without images.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        1.0 - self.error()
    }

    /// Counts the images by their true class (row) and the predicted one (column): `[classes][classes]`.
    ///
    /// ```
    /// use reid_eval::Classification;
    ///
    /// let mut results = Classification::new(2);
    /// results.add(&[1.0, 0.0, 3.0, 2.0], &[0, 1])?;
    /// assert_eq!(results.confusion(), [[1, 0], [1, 0]]);
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    #[must_use]
    pub fn confusion(&self) -> Vec<Vec<usize>> {
        let mut counts = vec![vec![0; self.classes]; self.classes];
        for (&label, &prediction) in self.labels.iter().zip(&self.predictions) {
            counts[label][prediction] += 1;
        }
        counts
    }
}

/// The predicted class, and the rank of the true one. The scores are finite.
fn ranked(scores: &[f32], label: usize) -> (usize, usize) {
    let own = scores[label];
    let before = |&(class, score): &(usize, &f32)| match score.partial_cmp(&own) {
        Some(Ordering::Greater) => true,
        Some(Ordering::Equal) => class < label,
        _ => false,
    };
    let rank = scores.iter().enumerate().filter(before).count();
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }
    (best, rank)
}

fn refused(image: usize, expected: String, found: String) -> Error {
    Error::Scores {
        image,
        expected,
        found,
    }
}

impl fmt::Display for Classification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, fifth] = [1, 5].map(|k| 100.0 * self.top_k_error(k));
        write!(
            f,
            "{} images of {} classes: error {first:.2} %, top-5 error {fifth:.2} %",
            self.images(),
            self.classes
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_counted_and_batches_add_up() {
        let mut results = Classification::new(6);
        let scores = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
        for label in 0..6 {
            results.add(&scores, &[label]).unwrap();
        }
        assert_eq!(results.predictions(), [0; 6]);
        assert_eq!(results.labels(), [0, 1, 2, 3, 4, 5]);
        for (k, missed) in [(1, 5.0), (2, 4.0), (5, 1.0), (6, 0.0)] {
            assert!((results.top_k_error(k) - missed / 6.0).abs() < 1e-12);
        }
        let mut once = Classification::new(6);
        once.add(&scores.repeat(6), &[0, 1, 2, 3, 4, 5]).unwrap();
        assert_eq!(once, results);
        let text = "6 images of 6 classes: error 83.33 %, top-5 error 16.67 %";
        assert_eq!(results.to_string(), text);
        assert_eq!(results.confusion()[3], [1, 0, 0, 0, 0, 0]);
        assert!((results.accuracy() - 1.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn of_equal_scores_the_first_class_comes_first() {
        let mut results = Classification::new(3);
        results.add(&[1.0; 6], &[0, 2]).unwrap();
        assert_eq!(results.predictions(), [0, 0]);
        for (k, error) in [(1, 0.5), (2, 0.5), (3, 0.0)] {
            assert!((results.top_k_error(k) - error).abs() < 1e-12);
        }
        assert!(Classification::new(3).error().is_nan());
    }

    #[test]
    fn bad_scores_and_labels_name_the_image_and_add_nothing() {
        let mut results = Classification::new(2);
        results.add(&[1.0, 0.0], &[0]).unwrap();
        let error = results
            .add(&[0.0, 1.0, f32::NAN, 0.0], &[1, 0])
            .expect_err("NaN");
        let expected = "image 2: expected finite scores, found NaN";
        assert_eq!(error.to_string(), expected);
        let error = results.add(&[0.0, 1.0], &[2]).expect_err("two classes");
        let expected = "image 1: expected a class index below 2, found 2";
        assert_eq!(error.to_string(), expected);
        assert_eq!(results.images(), 1);
    }

    #[test]
    #[should_panic(expected = "2 images of 3 classes need 6 scores, found 5")]
    fn a_missing_score_panics() {
        let _ = Classification::new(3).add(&[0.0; 5], &[0, 1]);
    }
}
