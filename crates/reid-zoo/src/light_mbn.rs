//! `LightMBN`: a small network of three branches (Herzog et al., Lightweight Multi-Branch Network for Person
//! Re-Identification, ICIP 2021, arXiv:2101.10774).

use reid_core::{InputSize, Problems, strict};
use reid_nn::{
    BlockConfig, HeadConfig, Init, Network, OutputShape, ReidModel, StagePaths,
    backbone::{OsNet, OsNetConfig, OsNetEarlyStagesConfig, OsNetLateStagesConfig, SplitPoint},
    block::{Block, Identity, TRIAL_SHAPES},
    head::{LightMbnBranches, LightMbnHead, LightMbnHeadConfig},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Configuration of [`LightMbn`]. `A` is attention after the stages of the `OSNet`.
///
/// ```
/// use reid_core::InputSize;
/// use reid_nn::Network;
/// use reid_zoo::LightMbnConfig;
///
/// let shape = LightMbnConfig::osnet().output(InputSize::new(384, 128), 751);
/// assert_eq!((shape.embedding, shape.features.len()), (3584, 3));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "A: Deserialize<'de>"))]
pub struct LightMbnConfig<A = ()> {
    /// The whole `OSNet`, before it is split.
    pub network: OsNetConfig<A>,
    /// The split point; before block 1 of stage 2 in the paper.
    pub split: SplitPoint,
    /// The heads of the branches.
    #[serde(deserialize_with = "strict")]
    pub branches: LightMbnBranches,
}

/// An `OSNet` whose early stages three branches share. They embed the whole feature map, in training without its
/// most active rows, stripes of it, and groups of its channels.
///
/// ```text
/// g = [g₁, …, g₇]           the embedding     [batch, 7·512]
/// ```
///
/// The head is [`LightMbnHead`]. [`load_published`](crate::weights::load_published) loads the authors' weights.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Init, Network, backbone::OsNetConfig};
/// use reid_zoo::LightMbnConfig;
///
/// let mut config = LightMbnConfig::from_network(OsNetConfig::x0_25());
/// config.branches.dimensions = 8;
/// let (size, device) = (InputSize::new(64, 32), Device::default());
/// let model = config.init(size, 751, &Init::new(Seed::new(1), &device));
/// assert_eq!(model.embed(Tensor::ones([2, 3, 64, 32], &device)).dims(), [2, 7 * 8]);
/// ```
pub type LightMbn<A = Identity> = ReidModel<OsNet<A>, LightMbnHead<A>>;

impl LightMbnConfig {
    /// The paper's network, an OSNet x1.0 with parts of 512 dimensions: 9,152,280 parameters with 751 classes.
    #[must_use]
    pub fn osnet() -> Self {
        Self::from_network(OsNetConfig::x1_0())
    }
}

impl<A> LightMbnConfig<A> {
    /// The same with any `OSNet`. The height of its last feature map must be even.
    #[must_use]
    pub fn from_network(network: OsNetConfig<A>) -> Self {
        Self {
            network,
            split: SplitPoint { stage: 2, block: 1 },
            branches: LightMbnBranches::new(),
        }
    }
}

impl<A: BlockConfig + Clone> LightMbnConfig<A> {
    /// Configuration of the early stages, which the branches share.
    #[must_use]
    pub fn backbone(&self) -> OsNetEarlyStagesConfig<A> {
        OsNetEarlyStagesConfig {
            network: self.network.clone(),
            split: self.split,
        }
    }

    /// Configuration of the head, which contains the late stages of all branches.
    #[must_use]
    pub fn head(&self) -> LightMbnHeadConfig<A> {
        LightMbnHeadConfig {
            late_stages: OsNetLateStagesConfig {
                network: self.network.clone(),
                split: self.split,
            },
            branches: self.branches.clone(),
        }
    }

    /// Copies weights, such as pretrained ones, from a whole `OSNet` into a model.
    ///
    /// The early stages of `whole` become the backbone, and each branch gets its own copy of the late stages. `whole`
    /// must be a network of the configuration [`network`](Self::network), on the device of the model.
    ///
    /// # Panics
    /// If `whole` has no block at the split point.
    pub fn start_from(&self, model: &mut LightMbn<A::Block>, whole: OsNet<A::Block>)
    where
        A::Block: Block,
    {
        let (early_stages, late_stages) = whole.split(self.split);
        model.backbone = early_stages;
        model.head.set_late_stages(&late_stages);
    }
}

impl<A: BlockConfig + Clone + Serialize + DeserializeOwned> Network for LightMbnConfig<A> {
    type Model = LightMbn<A::Block>;

    fn init(&self, input: InputSize, classes: usize, init: &Init<'_>) -> LightMbn<A::Block> {
        ReidModel::new(&self.backbone(), &self.head(), input, classes, init)
    }

    fn output(&self, input: InputSize, classes: usize) -> OutputShape {
        let map = self.backbone().output(input.rgb());
        self.head().output(map, classes)
    }

    fn stage_paths(&self) -> StagePaths {
        StagePaths::of_model(self.backbone().stage_paths(), self.head().stage_paths())
    }

    fn validate_network(&self, input: InputSize, problems: &mut Problems) {
        let (network, image) = (&self.network, input.rgb());
        let fits = problems.at("network", |problems| network.validate(image, problems));
        problems.at("split", |problems| {
            self.split.validate(network.blocks_per_stage(), problems);
        });
        problems.at("branches", |problems| {
            if fits {
                self.branches.validate(network.output(image), problems);
            } else {
                problems.nested_for_any(TRIAL_SHAPES, |map, problems| {
                    self.branches.validate(map, problems);
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use reid_nn::parameters;

    use super::*;

    /// The published network, with 751 classes.
    #[test]
    fn the_parameter_count_matches_a_calculation_by_hand() {
        let size = InputSize::new(384, 128);
        let model = LightMbnConfig::osnet().init(size, 751, &Init::empty(&Device::default()));
        // An omni-scale block from i to o channels, with m = o/4: a 1 x 1 convolution, ten light convolutions, the
        // gate with m/16 hidden units, a 1 x 1 convolution, and the shortcut. Normalisations have 2 parameters per
        // channel.
        let block = |i: usize, o: usize| {
            let (m, h) = (o / 4, o / 64);
            let shortcut = if i == o { 0 } else { i * o + 2 * o };
            let light = m * m + 9 * m + 2 * m;
            (i * m + 2 * m) + 10 * light + (2 * m * h + h + m) + (m * o + 2 * o) + shortcut
        };
        let pointwise = |from: usize, to: usize| from * to + 2 * to;
        let stem = 3 * 64 * 49 + 2 * 64;
        let first = block(64, 256) + block(256, 256) + pointwise(256, 256);
        let early = stem + first + block(256, 384);
        let late = block(384, 384) + pointwise(384, 384) + block(384, 512) + block(512, 512);
        let late = late + pointwise(512, 512);
        assert_eq!(early + late, 1_905_828); // OSNet x1.0
        // Seven classifiers without bias; five reductions without bias; seven necks; the shared layer.
        let heads = 7 * 512 * 751 + 5 * 512 * 512 + 7 * 2 * 512 + pointwise(256, 512);
        let expected = early + 3 * late + block(512, 512) + heads;
        assert_eq!(expected, 9_152_280);
        assert_eq!(parameters::count(&model), expected);
    }
}
