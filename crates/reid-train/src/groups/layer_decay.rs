//! Learning rates that decay from the output to the input, with the formula of `BEiT` (Bao et al., ICLR 2022,
//! arXiv:2106.08254) and timm. They count blocks, here stages are counted.

use std::collections::BTreeSet;

use reid_core::Problems;
use reid_nn::StagePaths;

use crate::learner::Parameter;

/// The factor of the learning rate of each stage.
///
/// ```text
/// factor = decay^d        d: the number of stages after that of the parameter
/// ```
///
/// The stem and the head count as stages ([`StagePaths`]), and a stage without parameters does not. The parameters
/// of the criterion have the factor 1.
#[derive(Clone, Debug)]
pub(crate) struct LayerDecay {
    pub(crate) decay: f64,
    pub(crate) stages: StagePaths,
}

impl LayerDecay {
    /// The factor of each parameter, in order.
    pub(super) fn factors(&self, parameters: &[Parameter]) -> Vec<f64> {
        let stages = self.stages(parameters);
        let factor = |parameter: &Parameter| match self.stage(parameter) {
            Some(stage) => stages.range(stage + 1..).map(|_| self.decay).product(),
            None => 1.0,
        };
        parameters.iter().map(factor).collect()
    }

    /// Adds a problem if a network has a single stage.
    pub(crate) fn validate(&self, parameters: &[Parameter], problems: &mut Problems) {
        let stages = self.stages(parameters).len();
        let expected = "null, or a network with at least 2 stages";
        problems.require("layer_decay", stages > 1, expected, stages);
    }

    /// The stages that have parameters.
    fn stages(&self, parameters: &[Parameter]) -> BTreeSet<usize> {
        let stages = parameters.iter();
        stages.filter_map(|one| self.stage(one)).collect()
    }

    /// The stage of a parameter of the model; `None` for one of the criterion.
    fn stage(&self, parameter: &Parameter) -> Option<usize> {
        let of_criterion = parameter.path.starts_with("criterion.");
        (!of_criterion).then(|| self.stages.stage_of(&parameter.path))
    }
}
