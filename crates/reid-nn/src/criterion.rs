//! Criteria: losses computed from the output of a head and the labels.

use std::borrow::Cow;

use burn::{
    module::{Module, ModuleDisplay},
    tensor::Tensor,
};

use reid_core::Problems;

use crate::{
    head::{OutputShape, ReidOutput},
    init::Init,
    targets::Targets,
};

/// A loss on the output of a head for a batch.
///
/// A tuple or a `Vec` is the sum of its criteria, an `Option` may be absent (a loss of 0), and
/// [`Weighted`](crate::loss::Weighted) scales a criterion. A custom criterion only implements
/// [`losses`](Self::losses).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::Seed;
/// use reid_nn::{Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets};
/// use reid_nn::loss::{IdentityLossConfig, TripletLossConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let shape = OutputShape::single(2, 2);
/// let losses = (IdentityLossConfig::new(), TripletLossConfig::new());
/// let criterion = losses.init(&shape, &init);
///
/// let features = Tensor::<2>::from_data([[0.0, 0.0], [0.0, 1.0], [9.0, 0.0], [9.0, 1.0]], &device);
/// let output = ReidOutput::single(features.clone(), features.zeros_like());
/// let loss = criterion.forward(&output, &Targets::new(&[0, 0, 1, 1], &device));
/// // Equal logits cost ln 2; the triplet loss is 0, since all positives are much nearer than negatives.
/// assert!((loss.into_scalar::<f32>() - 2.0_f32.ln()).abs() < 1e-6);
/// ```
pub trait Criterion: Module + ModuleDisplay {
    /// Computes the named losses of a batch, whose sum is minimised. Most criteria have one loss, or one per
    /// branch.
    ///
    /// # Shapes
    /// - value of each loss: `[1]`
    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss>;

    /// Whether a loss depends on [`ReidOutput::logits`], so that the accuracy of the logits is worth reporting.
    /// `true` by default.
    fn uses_logits(&self) -> bool {
        true
    }

    /// Computes the sum of the [losses](Self::losses), `[1]`; 0 if there are none.
    fn forward(&self, output: &ReidOutput, targets: &Targets) -> Tensor<1> {
        let losses = self.losses(output, targets).into_iter();
        let embedding = &output.embedding;
        let zero = || Tensor::zeros([1], (&embedding.device(), embedding.dtype()));
        losses
            .map(|loss| loss.value)
            .reduce(Tensor::add)
            .unwrap_or_else(zero)
    }
}

/// A loss of a batch and its name.
#[derive(Clone, Debug)]
pub struct NamedLoss {
    /// The name in progress reports.
    pub name: Cow<'static, str>,
    /// The value, `[1]`.
    pub value: Tensor<1>,
}

impl NamedLoss {
    /// Creates a loss of value `[1]` with its name in progress reports.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, value: Tensor<1>) -> Self {
        let name = name.into();
        Self { name, value }
    }
}

/// Names the loss of each branch. Several branches are numbered from 0, by their index in
/// [`ReidOutput::features`] or in [`ReidOutput::logits`], which may list different branches.
pub(crate) fn by_branch(
    name: impl Into<Cow<'static, str>>,
    losses: impl ExactSizeIterator<Item = Tensor<1>>,
) -> Vec<NamedLoss> {
    let (name, several) = (name.into(), losses.len() > 1);
    let loss = |(branch, value)| {
        let name = if several {
            Cow::Owned(format!("{name} {branch}"))
        } else {
            name.clone()
        };
        NamedLoss { name, value }
    };
    losses.enumerate().map(loss).collect()
}

/// The configuration of a [`Criterion`]. Dimensions are not part of it; they come from the output of the
/// head.
///
/// ```
/// use burn::{module::Module, tensor::{Device, Tensor}};
/// use reid_core::Seed;
/// use reid_nn::{Criterion, CriterionConfig, Init, NamedLoss, OutputShape, ReidOutput, Targets};
///
/// /// The mean square of the values of the embeddings.
/// #[derive(Module, Debug)]
/// struct MeanSquare {}
///
/// impl Criterion for MeanSquare {
///     fn losses(&self, output: &ReidOutput, _: &Targets) -> Vec<NamedLoss> {
///         vec![NamedLoss::new("mean square", output.embedding.clone().square().mean())]
///     }
/// }
///
/// struct MeanSquareConfig;
///
/// impl CriterionConfig for MeanSquareConfig {
///     type Criterion = MeanSquare;
///
///     fn init(&self, _: &OutputShape, _: &Init<'_>) -> MeanSquare {
///         MeanSquare {}
///     }
/// }
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let criterion = MeanSquareConfig.init(&OutputShape::single(2, 3), &init);
/// let embedding = Tensor::from_data([[3.0, 1.0]], &device);
/// let output = ReidOutput::single(embedding, Tensor::zeros([1, 3], &device));
/// let loss = criterion.forward(&output, &Targets::new(&[0], &device));
/// assert_eq!(loss.into_scalar::<f32>(), 5.0); // (3² + 1²) / 2
/// ```
pub trait CriterionConfig {
    /// The criterion that is built.
    type Criterion: Criterion;

    /// Builds the criterion for outputs of shape `output`.
    ///
    /// # Panics
    /// If a hyper-parameter is out of range; see [`validate`](Self::validate).
    fn init(&self, output: &OutputShape, init: &Init<'_>) -> Self::Criterion;

    /// Whether the loss compares images of a batch, so that a batch needs at least two identities with two
    /// images each. `false` by default.
    fn compares_images(&self) -> bool {
        false
    }

    /// Whether the loss uses the embeddings of a teacher ([`Targets::teacher`]), so that a run needs one. `false` by
    /// default.
    fn uses_teacher(&self) -> bool {
        false
    }

    /// Adds the problems of the hyper-parameters, each with its path from here: everything that
    /// [`init`](Self::init) rejects. The default adds nothing.
    fn validate(&self, problems: &mut Problems) {
        let _ = problems;
    }

    /// Adds a problem if a loss that [uses a teacher](Self::uses_teacher) does not fit that of a run. `student` is
    /// the number of dimensions of the embeddings, and `teacher` that of the teacher's, or `None` without a teacher.
    /// The default adds nothing.
    fn validate_teacher(&self, student: usize, teacher: Option<usize>, problems: &mut Problems) {
        let _ = (student, teacher, problems);
    }
}

impl<C: Criterion> Criterion for Option<C> {
    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        let part = self.as_ref();
        part.map_or_else(Vec::new, |part| part.losses(output, targets))
    }

    fn uses_logits(&self) -> bool {
        self.as_ref().is_some_and(C::uses_logits)
    }
}

impl<C: CriterionConfig> CriterionConfig for Option<C> {
    type Criterion = Option<C::Criterion>;

    fn init(&self, output: &OutputShape, init: &Init<'_>) -> Self::Criterion {
        self.as_ref().map(|config| config.init(output, init))
    }

    fn compares_images(&self) -> bool {
        self.as_ref().is_some_and(C::compares_images)
    }

    fn uses_teacher(&self) -> bool {
        self.as_ref().is_some_and(C::uses_teacher)
    }

    fn validate(&self, problems: &mut Problems) {
        if let Some(config) = self {
            config.validate(problems);
        }
    }

    fn validate_teacher(&self, student: usize, teacher: Option<usize>, problems: &mut Problems) {
        if let Some(config) = self {
            config.validate_teacher(student, teacher, problems);
        }
    }
}

impl<C: Criterion> Criterion for Vec<C> {
    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        let parts = self.iter();
        parts
            .flat_map(|part| part.losses(output, targets))
            .collect()
    }

    fn uses_logits(&self) -> bool {
        self.iter().any(C::uses_logits)
    }
}

impl<C: CriterionConfig> CriterionConfig for Vec<C> {
    type Criterion = Vec<C::Criterion>;

    fn init(&self, output: &OutputShape, init: &Init<'_>) -> Self::Criterion {
        let configs = self.iter().enumerate();
        configs
            .map(|(index, config)| config.init(output, &init.at(index)))
            .collect()
    }

    fn compares_images(&self) -> bool {
        self.iter().any(C::compares_images)
    }

    fn uses_teacher(&self) -> bool {
        self.iter().any(C::uses_teacher)
    }

    fn validate(&self, problems: &mut Problems) {
        for (index, config) in self.iter().enumerate() {
            problems.at(&format!("[{index}]"), |problems| config.validate(problems));
        }
    }

    fn validate_teacher(&self, student: usize, teacher: Option<usize>, problems: &mut Problems) {
        for (index, config) in self.iter().enumerate() {
            problems.at(&format!("[{index}]"), |problems| {
                config.validate_teacher(student, teacher, problems);
            });
        }
    }
}

macro_rules! tuple_of_criteria {
    ($first:ident 0 $(, $name:ident $index:tt)+) => {
        impl<$first: Criterion, $($name: Criterion),+> Criterion for ($first, $($name),+) {
            fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
                let mut losses = self.0.losses(output, targets);
                $(losses.extend(self.$index.losses(output, targets));)+
                losses
            }

            fn uses_logits(&self) -> bool {
                self.0.uses_logits() $(|| self.$index.uses_logits())+
            }
        }

        impl<$first: CriterionConfig, $($name: CriterionConfig),+> CriterionConfig
            for ($first, $($name),+)
        {
            type Criterion = ($first::Criterion, $($name::Criterion),+);

            fn init(&self, output: &OutputShape, init: &Init<'_>) -> Self::Criterion {
                (
                    self.0.init(output, &init.at(0)),
                    $(self.$index.init(output, &init.at($index))),+
                )
            }

            fn compares_images(&self) -> bool {
                self.0.compares_images() $(|| self.$index.compares_images())+
            }

            fn uses_teacher(&self) -> bool {
                self.0.uses_teacher() $(|| self.$index.uses_teacher())+
            }

            fn validate(&self, problems: &mut Problems) {
                problems.at("[0]", |problems| self.0.validate(problems));
                $(problems.at(concat!("[", stringify!($index), "]"), |problems| {
                    self.$index.validate(problems);
                });)+
            }

            fn validate_teacher(
                &self,
                student: usize,
                teacher: Option<usize>,
                problems: &mut Problems,
            ) {
                problems.at("[0]", |problems| {
                    self.0.validate_teacher(student, teacher, problems);
                });
                $(problems.at(concat!("[", stringify!($index), "]"), |problems| {
                    self.$index.validate_teacher(student, teacher, problems);
                });)+
            }
        }
    };
}

tuple_of_criteria!(A 0, B 1);
tuple_of_criteria!(A 0, B 1, C 2);
tuple_of_criteria!(A 0, B 1, C 2, D 3);
tuple_of_criteria!(A 0, B 1, C 2, D 3, E 4);
tuple_of_criteria!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple_of_criteria!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple_of_criteria!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuple_of_criteria!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuple_of_criteria!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
