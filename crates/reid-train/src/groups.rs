//! Parameter groups: their own learning rate, optimizer or frozen epochs.

mod layer_decay;

use std::collections::HashMap;

use burn::{module::ParamId, optim::ModuleOptimizer};
use reid_core::{Problems, Validate};
use serde::{Deserialize, Serialize};

use crate::{
    learner::{AnyLearner, Parameter},
    optimizer::OptimizerConfig,
    schedule::MAX_EPOCHS,
};

pub(crate) use layer_decay::LayerDecay;

/// A group of parameters with its own learning rate, optimizer or frozen epochs.
///
/// A group names parameters by their paths, like the keys of a `PyTorch` state dict. `backbone` is the whole
/// backbone, `backbone.layer1` its first stage, `head` the head, and `criterion` the parameters of the
/// losses.
///
/// Where groups overlap, a parameter belongs to the last group that names it. Parameters in no group use the
/// optimizer and the schedule of the recipe. The [layer decay](crate::Recipe::layer_decay) of a recipe multiplies the
/// rates of all of them, except those that are fixed.
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
    /// The learning rate of the group; by default that of the schedule.
    #[serde(default)]
    pub rate: GroupRate,
    /// The optimizer of the group; `None` for that of the recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerConfig>,
    /// The number of epochs from the start of the run in which the group is frozen, 0 to 1,000,000, by default 0. Its
    /// batch normalisations then use their running statistics and do not update them.
    #[serde(default)]
    pub frozen_epochs: usize,
}

/// The learning rate of a group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupRate {
    /// The rate of the schedule times this factor, 0 to 1,000,000.
    Factor(f64),
    /// This rate in all epochs and stages, 0 to 1,000,000.
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

    /// Groups for gradual unfreezing (Howard and Ruder, ACL 2018, arXiv:1801.06146, §3.3): one group per path, in
    /// the order in which they are unfrozen. The first is frozen for `epochs` epochs, the second for twice as many,
    /// and so on. What no path names is trained from the start.
    ///
    /// ```
    /// use reid_train::ParameterGroup;
    ///
    /// // The head learns alone for 2 epochs, then the last stage joins it, then the whole backbone.
    /// let groups = ParameterGroup::gradual(["backbone.layer4", "backbone.layer3", "backbone"], 2);
    /// let frozen: Vec<usize> = groups.iter().map(|group| group.frozen_epochs).collect();
    /// assert_eq!(groups[0].parameters, ["backbone"]); // a later group takes its parameters from an earlier one
    /// assert_eq!(frozen, [6, 4, 2]);
    /// ```
    pub fn gradual<P: Into<String>>(
        paths: impl IntoIterator<Item = P>,
        epochs: usize,
    ) -> Vec<Self> {
        let groups = paths.into_iter().zip(1..);
        let groups =
            groups.map(|(path, index)| Self::new([path]).with_frozen_epochs(index * epochs));
        let mut groups: Vec<Self> = groups.collect();
        groups.reverse();
        groups
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
    layer_decay: Option<LayerDecay>,
    /// The first is that of the recipe, followed by one per group.
    pub(crate) all: Vec<ModuleOptimizer>,
    /// The sets of parameters that are updated together.
    shares: Vec<Share>,
    /// The index in `shares` for each parameter.
    members: HashMap<ParamId, usize>,
}

/// Parameters with one optimizer and one learning rate.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Share {
    /// The index of the optimizer.
    optimizer: usize,
    /// The factor of the stage.
    factor: f64,
}

impl Share {
    const FIRST: Self = Self {
        optimizer: 0,
        factor: 1.0,
    };
}

impl Optimizers {
    pub(crate) fn new(
        base: &ModuleOptimizer,
        groups: &[ParameterGroup],
        layer_decay: Option<LayerDecay>,
    ) -> Self {
        let own = groups.iter().map(|group| match &group.optimizer {
            Some(optimizer) => optimizer.init(),
            None => base.clone(),
        });
        Self {
            groups: groups.to_vec(),
            layer_decay,
            all: std::iter::once(base.clone()).chain(own).collect(),
            shares: vec![Share::FIRST],
            members: HashMap::new(),
        }
    }

    /// Finds the optimizer and the factor of each parameter of a learner. To be called when a run starts: loading or
    /// replacing a model changes the identifiers of its parameters.
    pub(crate) fn find_members(&mut self, learner: &dyn AnyLearner) {
        let parameters = learner.parameters();
        let shares = self.shares_of(&parameters);
        (self.shares, self.members) = (vec![Share::FIRST], HashMap::new());
        for (parameter, share) in parameters.iter().zip(shares) {
            let known = self.shares.iter().position(|known| *known == share);
            let index = known.unwrap_or_else(|| {
                self.shares.push(share);
                self.shares.len() - 1
            });
            self.members.insert(parameter.id, index);
        }
    }

    /// The optimizer and the factor of each parameter, in order.
    fn shares_of(&self, parameters: &[Parameter]) -> Vec<Share> {
        let factors = match &self.layer_decay {
            Some(layer_decay) => layer_decay.factors(parameters),
            None => vec![1.0; parameters.len()],
        };
        let share = |(parameter, factor): (&Parameter, f64)| {
            let names = |group: &ParameterGroup| group.names(&parameter.path).is_some();
            let group = self.groups.iter().rposition(names);
            let is_fixed = |group: usize| matches!(self.groups[group].rate, GroupRate::Fixed(_));
            Share {
                optimizer: group.map_or(0, |group| group + 1),
                factor: if group.is_some_and(is_fixed) {
                    1.0
                } else {
                    factor
                },
            }
        };
        parameters.iter().zip(factors).map(share).collect()
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

    /// Updates the parameters of a learner, each by the optimizer and the rate of its group and its stage. The state
    /// of an optimizer is one of each parameter, so that it can update them in several calls.
    pub(crate) fn step(
        &mut self,
        learner: &mut dyn AnyLearner,
        gradients: burn::optim::GradientsParams,
        scheduled: f64,
    ) {
        if self.shares == [Share::FIRST] {
            learner.update(&mut self.all[0], scheduled, gradients);
            return;
        }
        let parts = learner.split(gradients, &self.members);
        for (share, part) in self.shares.iter().zip(parts) {
            if part.is_empty() {
                continue;
            }
            let rate = scheduled * share.factor;
            let rate = match share.optimizer.checked_sub(1) {
                Some(group) => self.groups[group].rate.apply(rate),
                None => rate,
            };
            learner.update(&mut self.all[share.optimizer], rate, part);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        module::{Module, ModuleVisitor, Param},
        tensor::{Device, Tensor},
    };
    use reid_core::InputSize;
    use reid_nn::{
        Init, Network, StagePaths,
        backbone::{OsNetConfig, ResNetConfig},
        head::BnNeckConfig,
        traversal,
    };

    use super::*;

    /// Collects the parameters of a model, and adds one of a criterion.
    #[derive(Default)]
    struct Collect {
        path: Vec<String>,
        found: Vec<Parameter>,
    }

    impl ModuleVisitor for Collect {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.push(Parameter {
                path: self.path.join("."),
                id: param.id,
                trained: true,
            });
        }
    }

    fn parameters(model: &impl Module) -> Vec<Parameter> {
        let mut collect = Collect::default();
        traversal::visit(model, &mut collect);
        collect.found.push(Parameter {
            path: "criterion.2.centers.0".to_owned(),
            id: ParamId::new(),
            trained: true,
        });
        collect.found
    }

    /// The shares of the parameters of a network with a decay of 0.5, by path.
    fn shares<N: Network>(network: &N, groups: &[ParameterGroup]) -> Vec<(String, Share)> {
        let device = Device::default();
        let model = network.init(InputSize::new(64, 32), 3, &Init::empty(&device));
        let parameters = parameters(&model);
        let layer_decay = LayerDecay {
            decay: 0.5,
            stages: network.stage_paths(),
        };
        let mut problems = Problems::new();
        layer_decay.validate(&parameters, &mut problems);
        assert!(problems.is_empty(), "{problems}");
        let base = OptimizerConfig::adam().init();
        let optimizers = Optimizers::new(&base, groups, Some(layer_decay));
        let shares = optimizers.shares_of(&parameters);
        assert_eq!(shares.len(), parameters.len());
        let paths = parameters.into_iter().map(|parameter| parameter.path);
        paths.zip(shares).collect()
    }

    /// Compares the factor of each parameter with that of the first prefix of its path.
    fn assert_factors(shares: &[(String, Share)], expected: &[(&str, f64)]) {
        let mut used = vec![0; expected.len()];
        for (path, share) in shares {
            let found = expected
                .iter()
                .position(|(prefix, _)| path.starts_with(prefix));
            let index = found.unwrap_or_else(|| panic!("{path} has no expected factor"));
            let factor = expected[index].1;
            assert_eq!(share.factor.to_bits(), f64::to_bits(factor), "{path}");
            used[index] += 1;
        }
        assert!(
            used.iter().all(|used| *used > 0),
            "{used:?} of {expected:?}"
        );
    }

    #[test]
    fn the_rate_of_a_stage_decays_with_its_distance_to_the_head() {
        let backbone = ResNetConfig::resnet18().with_width(4).after(&[2], ());
        let resnet = shares(&(backbone, BnNeckConfig::new()), &[]);
        let expected = [
            ("backbone.conv1.", 1.0 / 32.0),
            ("backbone.bn1.", 1.0 / 32.0),
            ("backbone.layer1.", 1.0 / 16.0),
            ("backbone.layer2.", 1.0 / 8.0),
            ("backbone.layer3.", 1.0 / 4.0),
            ("backbone.layer4.", 1.0 / 2.0),
            ("head.", 1.0),
            ("criterion.", 1.0),
        ];
        assert_factors(&resnet, &expected);
        assert!(resnet.iter().all(|(_, share)| share.optimizer == 0));

        let osnet = OsNetConfig::x0_25().with_channels([4, 8, 12, 16]);
        let expected = [
            ("backbone.conv1.", 1.0 / 32.0),
            ("backbone.conv2.", 1.0 / 16.0),
            ("backbone.pool2.", 1.0 / 8.0),
            ("backbone.conv3.", 1.0 / 8.0),
            ("backbone.pool3.", 1.0 / 4.0),
            ("backbone.conv4.", 1.0 / 4.0),
            ("backbone.conv5.", 1.0 / 2.0),
            ("head.", 1.0),
            ("criterion.", 1.0),
        ];
        assert_factors(&shares(&(osnet, BnNeckConfig::new()), &[]), &expected);

        // A network for CIFAR has no stage 4, so that stage 3 is the one before the head.
        let cifar = ResNetConfig::cifar(8).with_width(2);
        let expected = [
            ("backbone.conv1.", 1.0 / 16.0),
            ("backbone.bn1.", 1.0 / 16.0),
            ("backbone.layer1.", 1.0 / 8.0),
            ("backbone.layer2.", 1.0 / 4.0),
            ("backbone.layer3.", 1.0 / 2.0),
            ("head.", 1.0),
            ("criterion.", 1.0),
        ];
        assert_factors(&shares(&(cifar, BnNeckConfig::new()), &[]), &expected);
    }

    #[test]
    fn layer_decay_multiplies_the_factors_of_groups_and_leaves_fixed_rates() {
        let network = (ResNetConfig::resnet18().with_width(4), BnNeckConfig::new());
        let groups = [
            ParameterGroup::new(["backbone"]).with_frozen_epochs(2),
            ParameterGroup::new(["backbone.layer1", "criterion"]).with_fixed_rate(0.1),
        ];
        for (path, share) in shares(&network, &groups) {
            let expected = match path.split('.').take(2).collect::<Vec<_>>()[..] {
                ["backbone", "layer1"] | ["criterion", _] => (2, 1.0),
                ["backbone", "layer2"] => (1, 0.125),
                ["backbone", "layer4"] => (1, 0.5),
                ["head", _] => (0, 1.0),
                _ => continue,
            };
            let found = (share.optimizer, share.factor.to_bits());
            assert_eq!(found, (expected.0, f64::to_bits(expected.1)), "{path}");
        }
    }

    #[test]
    fn a_network_of_one_stage_has_no_layer_decay() {
        let mut problems = Problems::new();
        let parameter = |path: &str| Parameter {
            path: path.to_owned(),
            id: ParamId::new(),
            trained: true,
        };
        let layer_decay = LayerDecay {
            decay: 0.5,
            stages: StagePaths::default(),
        };
        let parameters = [parameter("encoder.weight"), parameter("criterion.weight")];
        layer_decay.validate(&parameters, &mut problems);
        assert_eq!(
            problems.to_string(),
            "layer_decay: expected null, or a network with at least 2 stages, found 1"
        );
    }
}
