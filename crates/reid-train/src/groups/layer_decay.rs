//! Learning rates that decay from the output to the input (Bao et al., `BEiT`, ICLR 2022, arXiv:2106.08254; as in
//! timm).

use std::collections::BTreeSet;

use reid_core::Problems;
use reid_nn::StagePaths;

use crate::learner::Parameter;

/// The factor of the learning rate of each layer.
///
/// ```text
/// factor = decay^d        d: the number of layers after that of the parameter
/// ```
///
/// The layers are the stem, the stages and the head; a stage without parameters is none. The parameters of the
/// criterion have the factor 1.
#[derive(Clone, Debug)]
pub(crate) struct LayerDecay {
    pub(crate) decay: f64,
    pub(crate) stages: StagePaths,
}

impl LayerDecay {
    /// The factor of each parameter, in order.
    pub(super) fn factors(&self, parameters: &[Parameter]) -> Vec<f64> {
        let layers = self.layers(parameters);
        let factor = |parameter: &Parameter| match self.layer(parameter) {
            Some(layer) => layers.range(layer + 1..).map(|_| self.decay).product(),
            None => 1.0,
        };
        parameters.iter().map(factor).collect()
    }

    /// Adds a problem if a network has a single layer.
    pub(crate) fn validate(&self, parameters: &[Parameter], problems: &mut Problems) {
        let layers = self.layers(parameters).len();
        let expected = "null, or a network with at least 2 layers";
        problems.require("layer_decay", layers > 1, expected, layers);
    }

    /// The layers that have parameters.
    fn layers(&self, parameters: &[Parameter]) -> BTreeSet<usize> {
        let layers = parameters.iter();
        layers.filter_map(|one| self.layer(one)).collect()
    }

    /// The layer of a parameter of the model; `None` for one of the criterion.
    fn layer(&self, parameter: &Parameter) -> Option<usize> {
        let of_criterion = parameter.path.starts_with("criterion.");
        (!of_criterion).then(|| self.stages.stage_of(&parameter.path))
    }
}
