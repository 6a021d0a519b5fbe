//! Distillation: a student learns to reproduce the embeddings of a teacher (Park et al., Relational Knowledge
//! Distillation, CVPR 2019, arXiv:1904.05068; Tung and Mori, Similarity-Preserving Knowledge Distillation, ICCV
//! 2019, arXiv:1907.09682).

use burn::{
    config::Config,
    module::Module,
    tensor::{Bool, Int, Tensor},
};
use reid_core::Problems;
use serde::{Deserialize, Serialize};

use crate::{
    criterion::{Criterion, CriterionConfig, NamedLoss},
    distance::Distance,
    head::{OutputShape, ReidOutput},
    init::Init,
    targets::Targets,
};

/// Which property of its teacher's embeddings a student reproduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DistillationObjective {
    /// The cosine similarities of all pairs of images of a batch. The embeddings may differ in dimensions.
    Similarities,
    /// The Euclidean distances of all pairs, relative to their mean (Park et al., eq. 5 to 8). The embeddings may
    /// differ in dimensions.
    Distances,
    /// The direction of each embedding.
    Cosine,
    /// The values of each embedding.
    SquaredError,
}

impl DistillationObjective {
    /// Whether embeddings are compared with each other, so that their dimensions must be equal.
    const fn compares_values(self) -> bool {
        matches!(self, Self::Cosine | Self::SquaredError)
    }
}

/// Configuration of [`Distillation`], whose documentation has an example.
#[derive(Config, Debug)]
pub struct DistillationConfig {
    /// The objective; by default the cosine similarities of all pairs.
    #[config(default = "DistillationObjective::Similarities")]
    pub objective: DistillationObjective,
}

/// Compares the embeddings of a batch with those of a teacher ([`Targets::teacher`]).
///
/// ```text
/// similarities    L = mean_{i ≠ j} (cos(s_i, s_j) - cos(t_i, t_j))²
/// distances       L = mean_{i ≠ j} h(d(s_i, s_j)/μ_s - d(t_i, t_j)/μ_t)       μ: mean_{i ≠ j} d
///                 h(x) = x²/2 for |x| ≤ 1, otherwise |x| - 1/2
/// cosine          L = mean_i (1 - cos(s_i, t_i))
/// squared-error   L = mean_{i, k} (s_ik - t_ik)²
/// ```
///
/// `s` are the embeddings of the student, and `t` those of the teacher, without a gradient. The loss of pairs is 0
/// for a batch of one image. In the authors' code, the mean of the second objective includes the pairs of an image
/// with itself.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::{Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets};
/// use reid_nn::loss::DistillationConfig;
///
/// let device = Device::default();
/// let criterion = DistillationConfig::new().init(&OutputShape::single(2, 2), &Init::empty(&device));
/// let student = Tensor::<2>::from_data([[1.0, 0.0], [0.0, 2.0]], &device);
/// let teacher = Tensor::<2>::from_data([[1.0, 0.0, 0.0], [3.0, 0.0, 4.0]], &device);
/// let targets = Targets::new(&[0, 1], &device).with_teacher(teacher);
/// // The similarity of the pair is 0, and that of the teacher 0.6.
/// let loss = criterion.forward(&ReidOutput::single(student.clone(), student), &targets);
/// assert!((loss.into_scalar::<f32>() - 0.36).abs() < 1e-6);
/// ```
#[derive(Module, Debug)]
pub struct Distillation {
    #[module(skip)]
    objective: DistillationObjective,
}

impl CriterionConfig for DistillationConfig {
    type Criterion = Distillation;

    fn init(&self, _output: &OutputShape, _init: &Init<'_>) -> Distillation {
        let objective = self.objective;
        Distillation { objective }
    }

    fn uses_teacher(&self) -> bool {
        true
    }

    fn validate_teacher(&self, student: usize, teacher: Option<usize>, problems: &mut Problems) {
        let Some(teacher) = teacher else {
            problems.add(
                "a run with a teacher (`Trainer::with_teacher`)",
                "no teacher",
            );
            return;
        };
        let holds = student == teacher || !self.objective.compares_values();
        let expected = format_args!(
            "similarities or distances for embeddings of {student} dimensions and a teacher of {teacher}"
        );
        let found = if self.objective == DistillationObjective::Cosine {
            "cosine"
        } else {
            "squared-error"
        };
        problems.require("objective", holds, expected, found);
    }
}

impl Criterion for Distillation {
    fn uses_logits(&self) -> bool {
        false
    }

    /// # Panics
    /// If the targets have no embeddings of a teacher, or their shape does not fit.
    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        let student = output.embedding.clone();
        let teacher = targets.teacher().clone().cast(student.dtype());
        let teacher = if student.is_autodiff() {
            teacher.autodiff().detach()
        } else {
            teacher.without_autodiff()
        };
        let (found, expected) = (teacher.dims(), student.dims());
        let fits = if self.objective.compares_values() {
            found == expected
        } else {
            found[0] == expected[0]
        };
        assert!(
            fits,
            "distillation of {:?}: the embeddings have the shape {expected:?}, and those of the teacher \
             {found:?}",
            self.objective
        );
        vec![NamedLoss::new("distillation", self.loss(student, teacher))]
    }
}

impl Distillation {
    fn loss(&self, student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        match self.objective {
            DistillationObjective::Similarities => {
                let pairs = OtherImages::new(&student);
                let distances = |rows| Distance::Cosine.pairwise(rows);
                // The difference of the similarities, with the other sign.
                pairs.mean((distances(student) - distances(teacher)).square())
            }
            DistillationObjective::Distances => {
                let pairs = OtherImages::new(&student);
                let relative = |rows| {
                    let distances = Distance::Euclidean.pairwise(rows);
                    let mean = pairs.mean(distances.clone()).clamp_min(1e-12);
                    distances / mean.unsqueeze::<2>()
                };
                pairs.mean(huber(relative(student) - relative(teacher)))
            }
            DistillationObjective::Cosine => Distance::Cosine.between(student, teacher).mean(),
            DistillationObjective::SquaredError => (student - teacher).square().mean(),
        }
    }
}

/// Computes `x²/2` for values up to 1, and `|x| - 1/2` for larger ones.
fn huber(values: Tensor<2>) -> Tensor<2> {
    let values = values.abs();
    let small = values.clone().clamp_max(1.0);
    small.clone().square() / 2.0 + (values - small)
}

/// The pairs of two different images of a batch.
struct OtherImages {
    itself: Tensor<2, Bool>,
    count: usize,
}

impl OtherImages {
    fn new(rows: &Tensor<2>) -> Self {
        let [images, _] = rows.dims();
        Self {
            itself: Tensor::<2, Int>::eye(images, &rows.device()).bool(),
            count: images * images.saturating_sub(1),
        }
    }

    /// The mean of the values of these pairs; 0 without any.
    fn mean(&self, values: Tensor<2>) -> Tensor<1> {
        let sum = values.mask_fill(self.itself.clone(), 0.0).sum();
        sum / self.count.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::fixtures;

    static STUDENT: [[f64; 2]; 4] = [[1.0, 0.5], [-0.3, 2.0], [0.9, 0.7], [2.5, 0.1]];
    static TEACHER: [[f64; 3]; 4] = [
        [0.2, 1.0, -0.4],
        [1.5, -0.2, 0.3],
        [-5.6, 0.8, 0.9],
        [0.1, 0.3, 2.0],
    ];
    /// Embeddings of the teacher with the dimensions of the student.
    static NARROW: [[f64; 2]; 4] = [[0.2, 1.0], [1.5, -0.2], [-0.6, 0.8], [0.1, 2.0]];

    fn loss<const T: usize>(objective: DistillationObjective, teacher: [[f64; T]; 4]) -> f64 {
        let device = Device::default();
        let config = DistillationConfig::new().with_objective(objective);
        let criterion = config.init(&OutputShape::single(2, 2), &fixtures::init(&device));
        let student = Tensor::<2>::from_data(STUDENT, &device);
        let targets = Targets::new(&[0, 0, 1, 1], &device);
        let targets = targets.with_teacher(Tensor::from_data(teacher, &device));
        let output = ReidOutput::single(student.clone(), student);
        criterion.forward(&output, &targets).into_scalar::<f64>()
    }

    fn dot(one: &[f64], other: &[f64]) -> f64 {
        one.iter().zip(other).map(|(one, other)| one * other).sum()
    }

    fn cosine(one: &[f64], other: &[f64]) -> f64 {
        dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
    }

    fn distance(one: &[f64], other: &[f64]) -> f64 {
        let squares = one
            .iter()
            .zip(other)
            .map(|(one, other)| (one - other).powi(2));
        squares.sum::<f64>().sqrt()
    }

    /// The values of the 12 pairs of different rows.
    fn pairs<const D: usize>(
        rows: [[f64; D]; 4],
        value: impl Fn(&[f64], &[f64]) -> f64,
    ) -> Vec<f64> {
        let mut values = Vec::new();
        for (i, one) in rows.iter().enumerate() {
            for (j, other) in rows.iter().enumerate() {
                if i != j {
                    values.push(value(one, other));
                }
            }
        }
        values
    }

    fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
        let count = values.len() as f64;
        values.sum::<f64>() / count
    }

    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-5, "{found}, {expected}");
    }

    #[test]
    fn relations_equal_the_formulas() {
        let (student, teacher) = (pairs(STUDENT, cosine), pairs(TEACHER, cosine));
        let squares = student.iter().zip(&teacher).map(|(s, t)| (s - t).powi(2));
        let found = loss(DistillationObjective::Similarities, TEACHER);
        assert_near(found, mean(squares));

        let relative = |distances: Vec<f64>| {
            let mean = mean(distances.iter().copied());
            distances.into_iter().map(move |distance| distance / mean)
        };
        let student = relative(pairs(STUDENT, distance));
        let differences: Vec<f64> = student
            .zip(relative(pairs(TEACHER, distance)))
            .map(|(s, t)| (s - t).abs())
            .collect();
        // Both forms of the Huber loss occur.
        assert!(differences.iter().any(|x| *x > 1.0) && differences.iter().any(|x| *x < 1.0));
        let huber = |x: &f64| if *x <= 1.0 { x * x / 2.0 } else { x - 0.5 };
        let found = loss(DistillationObjective::Distances, TEACHER);
        assert_near(found, mean(differences.iter().map(huber)));
    }

    #[test]
    fn embeddings_of_one_size_are_compared_directly() {
        let rows = || STUDENT.iter().zip(&NARROW);
        let found = loss(DistillationObjective::Cosine, NARROW);
        assert_near(found, mean(rows().map(|(s, t)| 1.0 - cosine(s, t))));
        let squares = rows().map(|(s, t)| distance(s, t).powi(2) / 2.0);
        let found = loss(DistillationObjective::SquaredError, NARROW);
        assert_near(found, mean(squares));
    }

    #[test]
    fn a_batch_of_one_image_and_equal_embeddings_have_finite_losses() {
        let device = Device::default().autodiff();
        for objective in [
            DistillationObjective::Similarities,
            DistillationObjective::Distances,
        ] {
            for (images, value) in [(1, 1.0), (3, 1.0), (3, 0.0)] {
                let config = DistillationConfig::new().with_objective(objective);
                let criterion = config.init(&OutputShape::single(2, 2), &fixtures::init(&device));
                let student = Tensor::<2>::full([images, 2], value, &device).require_grad();
                let targets = Targets::new(&vec![0; images], &device);
                let targets = targets.with_teacher(Tensor::ones([images, 3], &Device::default()));
                let output = ReidOutput::single(student.clone(), student.clone());
                let loss = criterion.forward(&output, &targets);
                let gradient = student.grad(&loss.clone().backward());
                let gradient = gradient.map_or(0.0, |of| of.abs().sum().into_scalar::<f32>());
                let loss = loss.into_scalar::<f32>();
                assert!(gradient.is_finite() && loss.is_finite(), "{objective:?}");
                assert!(images > 1 || loss.abs() < 1e-6, "{objective:?}: {loss}");
            }
        }
    }

    #[test]
    fn a_teacher_must_exist_and_fit() {
        let problems = |objective, teacher| {
            let mut problems = Problems::new();
            let config = DistillationConfig::new().with_objective(objective);
            config.validate_teacher(64, teacher, &mut problems);
            problems.to_string()
        };
        let similarities = DistillationObjective::Similarities;
        assert_eq!(
            problems(similarities, None),
            "expected a run with a teacher (`Trainer::with_teacher`), found no teacher"
        );
        assert_eq!(problems(similarities, Some(512)), "");
        assert_eq!(problems(DistillationObjective::Cosine, Some(64)), "");
        assert_eq!(
            problems(DistillationObjective::SquaredError, Some(512)),
            "objective: expected similarities or distances for embeddings of 64 dimensions and a teacher of \
             512, found squared-error"
        );
    }

    #[test]
    #[should_panic(expected = "have the shape [4, 2], and those of the teacher [4, 3]")]
    fn directions_of_other_dimensions_panic() {
        let _ = loss(DistillationObjective::Cosine, TEACHER);
    }
}
