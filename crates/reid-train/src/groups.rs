//! Parameter groups: their own learning rate, optimizer or frozen epochs.

use std::collections::HashMap;

use burn::{module::ParamId, optim::ModuleOptimizer};
use reid_core::{Problems, Validate};
use serde::{Deserialize, Serialize};

use crate::{
    learner::{AnyLearner, Parameter},
    optimizer::OptimizerConfig,
    schedule::MAX_EPOCHS,
};

/// A group of parameters with its own learning rate, optimizer or frozen epochs.
///
/// A group names parameters by their paths, like the keys of a `PyTorch` state dict. `backbone` is the whole
/// backbone, `backbone.layer1` its first stage, `head` the head, and `criterion` the parameters of the
/// losses.
///
/// Where groups overlap, a parameter belongs to the last group that names it. Parameters in no group use the
/// optimizer and the schedule of the recipe.
///
/// ```
/// use reid_train::{OptimizerConfig, ParameterGroup};
///
/// // The backbone has a tenth of the learning rate and is frozen for five epochs.
/// let backbone = ParameterGroup::new(["backbone"]).with_rate_factor(0.1).with_frozen_epochs(5);
/// // The centres of a center loss are trained by plain SGD at 0.5, as in the strong baseline.
/// let centers = ParameterGroup::new(["criterion"])
///     .with_optimizer(OptimizerConfig::plain_sgd())
///     .with_fixed_rate(0.5);
/// # let _ = (backbone, centers);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ParameterGroup {
    /// The paths of parameters, or of modules with parameters.
    pub parameters: Vec<String>,
    /// The learning rate of the group.
    #[serde(default)]
    pub rate: GroupRate,
    /// The optimizer of the group; `None` for that of the recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerConfig>,
    /// The number of epochs from the start of the run in which the group is frozen, 0 to 1,000,000. Its batch
    /// normalisations then use their running statistics and do not update them.
    #[serde(default)]
    pub frozen_epochs: usize,
}

/// The learning rate of a group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupRate {
    /// The rate of the schedule times this factor, 0 to 1,000,000.
    Factor(f64),
    /// This rate in all epochs, 0 to 1,000,000.
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
    /// A group of the parameters at or below these paths, with the recipe's optimizer and schedule.
    pub fn new<P: Into<String>>(parameters: impl IntoIterator<Item = P>) -> Self {
        Self {
            parameters: parameters.into_iter().map(Into::into).collect(),
            rate: GroupRate::default(),
            optimizer: None,
            frozen_epochs: 0,
        }
    }

    /// Multiplies the rate of the schedule by a factor.
    #[must_use]
    pub fn with_rate_factor(self, factor: f64) -> Self {
        let rate = GroupRate::Factor(factor);
        Self { rate, ..self }
    }

    /// Sets a rate that is the same in all epochs.
    #[must_use]
    pub fn with_fixed_rate(self, rate: f64) -> Self {
        let rate = GroupRate::Fixed(rate);
        Self { rate, ..self }
    }

    /// Sets the optimizer of the group.
    #[must_use]
    pub fn with_optimizer(self, optimizer: OptimizerConfig) -> Self {
        Self {
            optimizer: Some(optimizer),
            ..self
        }
    }

    /// Freezes the group for this many epochs from the start of the run.
    #[must_use]
    pub fn with_frozen_epochs(self, frozen_epochs: usize) -> Self {
        Self {
            frozen_epochs,
            ..self
        }
    }

    /// The index of the first path of the group that names a parameter.
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

/// Adds a problem for each path that names no parameter.
pub(crate) fn validate_paths(
    groups: &[ParameterGroup],
    parameters: &[Parameter],
    problems: &mut Problems,
) {
    for (index, group) in groups.iter().enumerate() {
        for (at, name) in group.parameters.iter().enumerate() {
            let one_path = ParameterGroup::new([name.as_str()]);
            let found = parameters
                .iter()
                .any(|parameter| one_path.names(&parameter.path).is_some());
            problems.require(
                &format!("groups[{index}].parameters[{at}]"),
                found,
                "the path of a parameter or of a module with parameters, such as `backbone.layer1`",
                format_args!("`{name}`"),
            );
        }
    }
}

/// Adds a problem if all trained parameters are frozen in the first epoch.
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
        let expected = "a parameter that is trained in the first epoch";
        problems.require("groups", false, expected, "all of them frozen");
    }
}

/// The optimizers of a run: the recipe's, and one for each group.
pub(crate) struct Optimizers {
    groups: Vec<ParameterGroup>,
    /// The first is that of the recipe, followed by one per group.
    pub(crate) all: Vec<ModuleOptimizer>,
    /// The index in `all` for each parameter that belongs to a group.
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

    /// Finds the members of each group among the parameters of a learner. To be called again after the
    /// learner is loaded, which changes the identifiers of its parameters.
    pub(crate) fn find_members(&mut self, learner: &dyn AnyLearner) {
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

    /// Freezes the groups that are frozen in an epoch, counted from 0, and unfreezes the others.
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

    /// Updates the parameters of a learner, each by the optimizer and the rate of its group.
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
