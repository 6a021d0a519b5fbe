//! Groups of parameters that learn differently: another rate, another optimizer, or not at all at first.

use std::collections::HashMap;

use burn::{module::ParamId, optim::ModuleOptimizer};
use reid_core::{Problems, Validate};
use serde::{Deserialize, Serialize};

use crate::{
    learner::{AnyLearner, Parameter},
    optimizer::OptimizerConfig,
    schedule::MAX_EPOCHS,
};

/// A group of parameters, and how they learn.
///
/// A group names parameters by their paths, as a checkpoint of `PyTorch` would: `backbone` is all of the
/// backbone, `backbone.layer1` its first stage, `head`, and `criterion` the parameters of the losses. A
/// parameter is in the last group that names it, where groups overlap; what no group names learns by the recipe's optimizer and
/// schedule.
///
/// ```
/// use reid_train::{OptimizerConfig, ParameterGroup};
///
/// // A tenth of the rate for the backbone, which is frozen for five epochs.
/// let backbone = ParameterGroup::new(["backbone"]).with_rate_factor(0.1).with_frozen_epochs(5);
/// // Centres of a center loss by plain SGD at 0.5, as in the strong baseline.
/// let centers = ParameterGroup::new(["criterion"])
///     .with_optimizer(OptimizerConfig::plain_sgd())
///     .with_fixed_rate(0.5);
/// # let _ = (backbone, centers);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ParameterGroup {
    /// Paths of parameters, or of the modules that they are in.
    pub parameters: Vec<String>,
    /// The group's learning rate.
    #[serde(default)]
    pub rate: GroupRate,
    /// The group's optimizer; the recipe's if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerConfig>,
    /// For how many epochs from the start of the run the group does not learn, 0 to 1,000,000; its batch
    /// normalisation then uses running statistics and does not move them.
    #[serde(default)]
    pub frozen_epochs: usize,
}

/// The learning rate of a group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupRate {
    /// The schedule's rate times a factor, from 0.
    Factor(f64),
    /// A rate of its own, from 0, the same in all epochs.
    Fixed(f64),
}

impl Default for GroupRate {
    fn default() -> Self {
        Self::Factor(1.0)
    }
}

impl GroupRate {
    fn apply(self, scheduled: f64) -> f64 {
        match self {
            Self::Factor(factor) => scheduled * factor,
            Self::Fixed(rate) => rate,
        }
    }
}

impl ParameterGroup {
    /// The parameters at these paths and below, which learn like all others.
    pub fn new<P: Into<String>>(parameters: impl IntoIterator<Item = P>) -> Self {
        Self {
            parameters: parameters.into_iter().map(Into::into).collect(),
            rate: GroupRate::default(),
            optimizer: None,
            frozen_epochs: 0,
        }
    }

    /// The schedule's rate times a factor.
    #[must_use]
    pub fn with_rate_factor(self, factor: f64) -> Self {
        let rate = GroupRate::Factor(factor);
        Self { rate, ..self }
    }

    /// A rate of its own.
    #[must_use]
    pub fn with_fixed_rate(self, rate: f64) -> Self {
        let rate = GroupRate::Fixed(rate);
        Self { rate, ..self }
    }

    /// An optimizer of its own.
    #[must_use]
    pub fn with_optimizer(self, optimizer: OptimizerConfig) -> Self {
        Self {
            optimizer: Some(optimizer),
            ..self
        }
    }

    /// Frozen for this many epochs from the start.
    #[must_use]
    pub fn with_frozen_epochs(self, frozen_epochs: usize) -> Self {
        Self {
            frozen_epochs,
            ..self
        }
    }

    /// Which of the group's paths names a parameter.
    fn names(&self, path: &str) -> Option<usize> {
        self.parameters.iter().position(|name| {
            let rest = path.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

impl Validate for ParameterGroup {
    fn validate(&self, problems: &mut Problems) {
        let found = format_args!("none");
        let holds = !self.parameters.is_empty();
        problems.require("parameters", holds, "at least one path", found);
        match self.rate {
            GroupRate::Factor(factor) => problems.number("rate.factor", factor, 0.0..=1e6),
            GroupRate::Fixed(rate) => problems.number("rate.fixed", rate, 0.0..=1e6),
        }
        problems.nested("optimizer", &self.optimizer);
        problems.count("frozen_epochs", self.frozen_epochs, 0..=MAX_EPOCHS);
    }
}

/// Adds the paths that name no parameter.
pub(crate) fn validate_paths(
    groups: &[ParameterGroup],
    parameters: &[Parameter],
    problems: &mut Problems,
) {
    for (index, group) in groups.iter().enumerate() {
        for (at, name) in group.parameters.iter().enumerate() {
            let alone = ParameterGroup::new([name.as_str()]);
            let found = parameters
                .iter()
                .any(|parameter| alone.names(&parameter.path).is_some());
            problems.require(
                &format!("groups[{index}].parameters[{at}]"),
                found,
                "the path of a parameter or of a module with parameters, such as `backbone.layer1`",
                format_args!("`{name}`"),
            );
        }
    }
}

/// Adds that nothing learns in the first epoch.
pub(crate) fn validate_freezing(
    groups: &[ParameterGroup],
    parameters: &[Parameter],
    problems: &mut Problems,
) {
    let frozen = |parameter: &Parameter| {
        let group = groups
            .iter()
            .rfind(|group| group.names(&parameter.path).is_some());
        group.is_some_and(|group| group.frozen_epochs > 0)
    };
    let mut trained = parameters
        .iter()
        .filter(|parameter| parameter.trained)
        .peekable();
    if trained.peek().is_some() && trained.all(frozen) {
        let expected = "a parameter that learns in the first epoch";
        problems.require("groups", false, expected, "all of them frozen");
    }
}

/// The optimizers of a run: the recipe's, and one for each group.
pub(crate) struct Optimizers {
    groups: Vec<ParameterGroup>,
    /// The first is the recipe's.
    pub(crate) all: Vec<ModuleOptimizer>,
    /// The group of each parameter that is not the recipe's.
    members: HashMap<ParamId, usize>,
}

impl Optimizers {
    pub(crate) fn new(base: &ModuleOptimizer, groups: &[ParameterGroup]) -> Self {
        let own = groups.iter().map(|group| match &group.optimizer {
            Some(optimizer) => optimizer.init(),
            None => base.clone(),
        });
        Self {
            groups: groups.to_vec(),
            all: std::iter::once(base.clone()).chain(own).collect(),
            members: HashMap::new(),
        }
    }

    /// Finds the members of each group among the parameters of a learner, whose identifiers change when it is
    /// loaded.
    pub(crate) fn join(&mut self, learner: &dyn AnyLearner) {
        let group = |path: &str| {
            self.groups
                .iter()
                .rposition(|group| group.names(path).is_some())
        };
        let parameters = learner.parameters().into_iter();
        let members =
            parameters.filter_map(|one| group(&one.path).map(|group| (one.id, group + 1)));
        self.members = members.collect();
    }

    /// Freezes the groups that do not learn in an epoch, counted from 0, and thaws the others.
    pub(crate) fn freeze(&self, learner: &mut dyn AnyLearner, epoch: usize) {
        if self.groups.iter().all(|group| group.frozen_epochs == 0) {
            return;
        }
        learner.set_trained(&|path| {
            let group = self
                .groups
                .iter()
                .rfind(|group| group.names(path).is_some());
            group.is_none_or(|group| epoch >= group.frozen_epochs)
        });
    }

    /// Moves a learner's parameters along their gradients.
    pub(crate) fn step(
        &mut self,
        learner: &mut dyn AnyLearner,
        gradients: burn::optim::GradientsParams,
        scheduled: f64,
    ) {
        let [base, own @ ..] = self.all.as_mut_slice() else {
            return;
        };
        if own.is_empty() {
            learner.update(base, scheduled, gradients);
            return;
        }
        let mut parts = learner.split(gradients, &self.members).into_iter();
        if let Some(part) = parts.next() {
            learner.update(base, scheduled, part);
        }
        for ((optimizer, group), part) in own.iter_mut().zip(&self.groups).zip(parts) {
            if !part.is_empty() {
                learner.update(optimizer, group.rate.apply(scheduled), part);
            }
        }
    }
}
