//! `BlockThenHead`: a block and a head after it.

use burn::{module::Module, tensor::Tensor};
use reid_core::{FeatureShape, Problems, strict};
use serde::{Deserialize, Serialize};

use super::{Head, HeadConfig, OutputShape, ReidOutput, TrainingStep};
use crate::{
    block::{Block, BlockConfig, TRIAL_SHAPES},
    init::Init,
    similarity_map::EmbeddingTerms,
    stage_paths::StagePaths,
};

/// Configuration of [`BlockThenHead`], whose documentation has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    bound(deserialize = "B: Deserialize<'de>, H: Deserialize<'de>")
)]
pub struct BlockThenHeadConfig<B, H> {
    /// The configuration of the block.
    #[serde(deserialize_with = "strict")]
    pub block: B,
    /// The configuration of the head.
    #[serde(deserialize_with = "strict")]
    pub head: H,
}

/// A head after a block that no other head uses, such as the late stages or the attention of one branch.
///
/// ```text
/// head(block(x))
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Head, HeadConfig, Init, attention::FncSpatialConfig};
/// use reid_nn::head::{BlockThenHeadConfig, BnNeckConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// // Two necks on one feature map; attention is applied before the second.
/// let (block, head) = (FncSpatialConfig::new(), BnNeckConfig::new());
/// let heads = (BnNeckConfig::new(), BlockThenHeadConfig { block, head });
/// let heads = heads.init(FeatureShape::new(8, 4, 2), 10, &init);
/// assert_eq!(heads.forward(Tensor::ones([2, 8, 4, 2], &device)).embedding.dims(), [2, 16]);
/// ```
#[derive(Module, Debug)]
pub struct BlockThenHead<B, H> {
    /// Feature map → feature map.
    pub block: B,
    /// Feature map → embedding.
    pub head: H,
}

impl<B: BlockConfig, H: HeadConfig> HeadConfig for BlockThenHeadConfig<B, H> {
    type Head = BlockThenHead<B::Block, H::Head>;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> Self::Head {
        BlockThenHead {
            block: self.block.init(input, &init.named("block")),
            head: self
                .head
                .init(self.block.output(input), classes, &init.named("head")),
        }
    }

    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
        self.head.output(self.block.output(input), classes)
    }

    fn stage_paths(&self) -> StagePaths {
        let block = self.block.stage_paths().inside("block");
        block.and(self.head.stage_paths().inside("head"))
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        let fits = problems.at("block", |problems| self.block.validate(input, problems));
        problems.at("head", |problems| {
            if fits {
                self.head.validate(self.block.output(input), problems);
            } else {
                problems.nested_for_any(TRIAL_SHAPES, |map, problems| {
                    self.head.validate(map, problems);
                });
            }
        });
    }
}

impl<B: Block, H: Head> Head for BlockThenHead<B, H> {
    fn forward(&self, features: Tensor<4>) -> ReidOutput {
        self.head.forward(self.block.forward(features))
    }

    fn forward_train(&self, features: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput {
        self.head.forward_train(self.block.forward(features), step)
    }

    fn embedding_terms(&self, features: Tensor<4>) -> Option<EmbeddingTerms> {
        self.head.embedding_terms(self.block.forward(features))
    }

    fn fold_batch_norm(self) -> Self {
        Self {
            block: self.block.fold_batch_norm(),
            head: self.head.fold_batch_norm(),
        }
    }
}
