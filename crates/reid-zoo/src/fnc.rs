//! Further non-local and channel attention for vehicles (Liu et al., Vehicle Re-Identification based on
//! further non-local and channel attention, AI City 2020).

use reid_core::{InputSize, Problems, strict};
use reid_nn::{
    BlockConfig, HeadConfig, Init, Network, OutputShape, ReidModel, StagePaths,
    attention::{SqueezeExcitation, SqueezeExcitationConfig},
    backbone::{EarlyStagesConfig, LateStagesConfig, ResNet, ResNetConfig, SplitPoint},
    block::{Block, TRIAL_SHAPES},
    head::{FncBranches, FncHead, FncHeadConfig},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Configuration of [`Fnc`]: a `ResNet` that is split, and two branches with their own late stages.
///
/// | row of Tables 2 to 6 | configuration |
/// |---|---|
/// | Baseline | [`NetworkConfig`](crate::NetworkConfig) of a backbone and a `BnNeckConfig`; the backbone is `resnet50`, `resnet101`, `with_ibn(Ibn::A)` or `se_resnext101` |
/// | MGN, BFE | [`MgnConfig::from_network`](crate::MgnConfig::from_network) with the backbone; the backbone and [`batch_drop_block`](reid_nn::head::BranchedHeadConfig::batch_drop_block) of 1 branch |
/// | Baseline + CAB, + SAB | the baseline [`with_attention`](crate::NetworkConfig::with_attention) after stage 4 |
/// | FNC, not separate | [`with_split(None)`](Self::with_split) |
/// | FNC, separate | [`se_resnext101`](Self::se_resnext101) |
/// | add, multiply | `combine` of both attentions in [`branches`](Self::branches) |
/// | FNC + BFE | [`Ensemble`](reid_nn::Ensemble) of both models |
///
/// The paper does not say clearly where the network is split. The default takes "after `conv4_1`" as the split point
/// before block 1 of stage 3, as in MGN. Figure 1 can be read as before stage 3 or before stage 4. If `conv4` means
/// stage 4, the text means before block 1 of stage 4.
///
/// ```
/// use reid_core::InputSize;
/// use reid_nn::{Network, BlockConfig, backbone::SplitPoint};
/// use reid_zoo::FncConfig;
///
/// let config = FncConfig::se_resnext101();
/// assert_eq!(config.output(InputSize::new(288, 384), 333).embedding, 1536);
/// let late = config.with_split(Some(SplitPoint { stage: 4, block: 0 })); // another reading
/// assert_eq!(late.backbone().output(InputSize::new(288, 384).rgb()).to_string(), "1024x18x24");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "I: Deserialize<'de>"))]
pub struct FncConfig<I = SqueezeExcitationConfig> {
    /// The whole `ResNet`, before it is split.
    pub network: ResNetConfig<I>,
    /// The split point. If it is `None`, the branches share all stages.
    #[serde(deserialize_with = "Option::deserialize")]
    pub split: Option<SplitPoint>,
    /// The attention and the neck of each branch, after its late stages.
    #[serde(deserialize_with = "strict")]
    pub branches: FncBranches,
}

/// A network of two branches, each with its own late stages, attention and neck.
///
/// ```text
/// x = early_stages(image)                                   up to the split point
/// f = [neck_S(SAB(late_S(x))), neck_C(CAB(late_C(x)))]      the embedding    [batch, 1024 + 512]
/// ```
///
/// The head is [`FncHead`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Network, Init};
/// use reid_zoo::FncConfig;
///
/// let mut config = FncConfig::se_resnext50();
/// config.network = config.network.with_width(16);
/// let (size, device) = (InputSize::new(32, 48), Device::default());
/// let init = Init::new(Seed::new(1), &device);
/// let model = config.init(size, 333, &init);
/// assert_eq!(model.embed(Tensor::ones([2, 3, 32, 48], &device)).dims(), [2, 1536]);
/// ```
pub type Fnc<I = SqueezeExcitation> = ReidModel<ResNet<I>, FncHead<I>>;

impl FncConfig {
    /// The paper's network: an SE-ResNeXt-101 with a last stride of 1, split before the second block of
    /// stage 3.
    #[must_use]
    pub fn se_resnext101() -> Self {
        Self::from_network(ResNetConfig::se_resnext101().with_last_stride(1))
    }

    /// The same with an SE-ResNeXt-50.
    #[must_use]
    pub fn se_resnext50() -> Self {
        Self::from_network(ResNetConfig::se_resnext50().with_last_stride(1))
    }
}

impl<I> FncConfig<I> {
    /// The same with any `ResNet`, split at the same point.
    #[must_use]
    pub fn from_network(network: ResNetConfig<I>) -> Self {
        Self {
            network,
            split: Some(SplitPoint { stage: 3, block: 1 }),
            branches: FncBranches::new(),
        }
    }

    /// Replaces the split point. With `None`, the branches share all stages.
    #[must_use]
    pub fn with_split(self, split: Option<SplitPoint>) -> Self {
        Self { split, ..self }
    }
}

impl<I: BlockConfig + Clone> FncConfig<I> {
    /// Configuration of the early stages, which both branches share.
    #[must_use]
    pub fn backbone(&self) -> EarlyStagesConfig<I> {
        EarlyStagesConfig {
            network: self.network.clone(),
            split: self.split,
        }
    }

    /// Configuration of the head, which contains the late stages of both branches.
    #[must_use]
    pub fn head(&self) -> FncHeadConfig<I> {
        let late_stages = |split| LateStagesConfig {
            network: self.network.clone(),
            split,
        };
        FncHeadConfig {
            late_stages: self.split.map(late_stages),
            branches: self.branches.clone(),
        }
    }

    /// Copies weights, such as pretrained ones, from a whole `ResNet` into a model.
    ///
    /// The early stages of `whole` become the backbone, and each branch gets its own copy of the late stages. `whole`
    /// must be a network of the configuration [`network`](Self::network), on the device of the model. Without a split point,
    /// `whole` becomes the backbone.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use reid_core::{InputSize, Seed};
    /// use reid_nn::{BlockConfig, Init, Network};
    /// use reid_zoo::{FncConfig, weights};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("se_resnext50.safetensors");
    /// let mut config = FncConfig::se_resnext50();
    /// config.network = config.network.with_width(16);
    /// let (size, device) = (InputSize::new(32, 48), Device::default());
    /// let init = Init::new(Seed::new(1), &device);
    /// let mut whole = config.network.init(size.rgb(), &init);
    /// # weights::save(&whole, &path)?;
    /// weights::load_backbone(&mut whole, path)?;
    ///
    /// let mut model = config.init(size, 333, &init);
    /// config.start_from(&mut model, whole);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// If `whole` has no block at the split point.
    pub fn start_from(&self, model: &mut Fnc<I::Block>, whole: ResNet<I::Block>)
    where
        I::Block: Block,
    {
        match self.split {
            None => model.backbone = whole,
            Some(split) => {
                let (early_stages, late_stages) = whole.split(split);
                model.backbone = early_stages;
                model.head.set_late_stages(&late_stages);
            }
        }
    }
}

impl<I: BlockConfig + Clone + Serialize + DeserializeOwned> Network for FncConfig<I> {
    type Model = Fnc<I::Block>;

    fn init(&self, input: InputSize, classes: usize, init: &Init<'_>) -> Fnc<I::Block> {
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
        if let Some(split) = self.split {
            problems.at("split", |problems| split.validate(network.blocks, problems));
        }
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
    use reid_core::Seed;
    use reid_nn::{Head, head::FncBranch, parameters};

    use super::*;

    /// The whole backbone has 46,906,416 parameters. Each split point adds a second copy of its late stages.
    #[test]
    fn parameter_counts_match_a_calculation_by_hand() {
        let size = InputSize::new(288, 384);
        let stages = [231_216, 1_330_304, 29_211_072, 16_124_288];
        let config = FncConfig::se_resnext101();
        let first = {
            let head = config.head();
            let map = config.backbone().output(size.rgb());
            let late_stages = head
                .late_stages
                .expect("separate")
                .init(map, &Init::empty(&Device::default()));
            parameters::count(&late_stages)
        };
        let cases = [
            (None, 0),
            (
                Some(SplitPoint { stage: 3, block: 0 }),
                stages[2] + stages[3],
            ),
            (Some(SplitPoint { stage: 3, block: 1 }), first),
            (Some(SplitPoint { stage: 4, block: 0 }), stages[3]),
        ];
        assert!((43_700_000..43_900_000).contains(&first), "{first}");
        for (split, more) in cases {
            let config = config.clone().with_split(split);
            let model = config.init(size, 333, &Init::empty(&Device::default()));
            let attention: usize = 8_393_728 + 5_019_776;
            let neck = |dimensions: usize| 2049 * dimensions + 4 * dimensions + 333 * dimensions;
            let heads = attention + neck(1024) + neck(512);
            let expected = 46_906_416 + more + heads;
            assert_eq!(parameters::count(&model), expected, "{split:?}");
        }
    }

    #[test]
    fn the_configuration_is_plain_json() {
        let config = FncConfig::se_resnext101();
        let json = serde_json::to_value(&config).expect("plain data");
        assert_eq!(json["split"], serde_json::json!({ "stage": 3, "block": 1 }));
        assert_eq!(json["branches"]["spatial"]["combine"], "multiply");
        let read: FncConfig = serde_json::from_value(json).expect("its own JSON");
        assert_eq!(read, config);
    }

    #[test]
    fn branches_start_equal_and_are_trained_separately() {
        let mut config = FncConfig::se_resnext50();
        config.network = config.network.with_width(16);
        let (size, device) = (InputSize::new(32, 32), Device::default().autodiff());
        let model = config.init(size, 3, &Init::new(Seed::new(1), &device));
        let [spatial, channel] = [
            first_weight(&model.head.branches.0),
            first_weight(&model.head.branches.1),
        ];
        assert_eq!(spatial.to_data(), channel.to_data());

        let images = burn::tensor::Tensor::<4>::ones([2, 3, 32, 32], &device);
        let features = model.backbone.forward(images);
        let output = model.head.branches.0.forward(features);
        let gradients = output.embedding.sum().backward();
        assert!(spatial.grad(&gradients).is_some());
        assert!(channel.grad(&gradients).is_none());
    }

    fn first_weight<A>(branch: &FncBranch<SqueezeExcitation, A>) -> burn::tensor::Tensor<4> {
        let late_stages = branch.block.0.as_ref().expect("separate");
        late_stages.stages[0][0].conv1.weight.val()
    }
}
